/**
 * kill -9 at random moments under load. Each writer has keys of its own and a log of what was acknowledged; after every restart all keys are read. What
 * was in flight when the process died may have happened or not; everything else must be exactly as acknowledged.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { type Diagnostic, Random } from "../random.ts";
import { call } from "./client.ts";
import { type Server, startServer } from "./server.ts";

const WRITERS = 8;
const KEYS = 10;
const LARGE_BYTES = 2_500_000;

type Value = Buffer | null;

interface Entry {
  acknowledged: Value;
  etag: string;
  /** What a request without an answer may have made of it. */
  possible: Value[];
}

interface Tally {
  operations: number;
  kills: number;
  killsDuringStart: number;
  lost: number;
  wrong: number;
  resurrected: number;
  unknown: number;
}

export interface StormOptions {
  seed: number;
  kills: number;
}

const same = (a: Value, b: Value): boolean => (a === null || b === null ? a === b : a.equals(b));

class Writer {
  readonly entries = new Map<string, Entry>();
  private readonly random: Random;
  private readonly name: string;
  private counter = 0;

  constructor(name: string, seed: number) {
    this.name = name;
    this.random = new Random(seed);
    for (let i = 0; i < KEYS; i++)
      this.entries.set(`/${name}/${i}`, { acknowledged: null, etag: "", possible: [] });
  }

  /** One request; false when the server is gone. */
  async step(port: number, tally: Tally): Promise<boolean> {
    const { random } = this;
    const path = `/${this.name}/${random.below(KEYS)}`;
    const entry = this.entries.get(path) as Entry;
    const bytes = random.below(40) === 0 ? LARGE_BYTES : random.below(2000);
    const value = Buffer.alloc(bytes, `${path} ${++this.counter};`);
    const choice = random.below(10);
    const [method, next]: [string, Value] =
      choice < 2 ? ["DELETE", null] : [choice < 4 ? "POST" : "PUT", value];
    const headers: Record<string, string> =
      choice >= 8 && entry.etag !== "" ? { "If-Match": entry.etag } : {};
    try {
      const reply = await call(port, method, path, next === null ? { headers } : { headers, body: value });
      tally.operations++;
      if (reply.status === 200 || reply.status === 201) {
        entry.acknowledged = next;
        entry.etag = next === null ? "" : String(reply.headers.etag);
      } else if (reply.status === 409)
        assert.ok(entry.acknowledged !== null, `${path}: 409 for an absent key`);
      else assert.fail(`${method} ${path} answered ${reply.status} ${reply.text}`);
      return true;
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      entry.possible.push(next);
      tally.unknown++;
      return false;
    }
  }

  /** Reads every key back and settles what was open. */
  async verify(port: number, tally: Tally): Promise<void> {
    for (const [path, entry] of this.entries) {
      const reply = await call(port, "GET", path);
      assert.ok(
        reply.status === 200 || reply.status === 404,
        `GET ${path} answered ${reply.status} ${reply.text}`,
      );
      const found: Value = reply.status === 200 ? reply.body : null;
      const allowed = [entry.acknowledged, ...entry.possible];
      if (!allowed.some((value) => same(value, found))) {
        if (found === null) tally.lost++;
        else if (entry.acknowledged === null) tally.resurrected++;
        else tally.wrong++;
      }
      entry.acknowledged = found;
      entry.etag = found === null ? "" : String(reply.headers.etag);
      entry.possible = [];
    }
  }
}

/** Runs the storm and prints its figures. Fails on anything lost, wrong or back from the dead. */
export async function killStorm(t: Diagnostic, options: StormOptions): Promise<void> {
  const random = new Random(options.seed);
  const writers = Array.from({ length: WRITERS }, (_, i) => new Writer(`w${i}`, options.seed + i));
  const tally: Tally = {
    operations: 0,
    kills: 0,
    killsDuringStart: 0,
    lost: 0,
    wrong: 0,
    resurrected: 0,
    unknown: 0,
  };
  const starts: number[] = [];
  const server: Server = await startServer({ sync: "always" });
  try {
    while (tally.kills < options.kills) {
      const load = Promise.all(
        writers.map(async (writer) => {
          while (await writer.step(server.port, tally));
        }),
      );
      await sleep(random.below(250));
      await server.kill("SIGKILL");
      tally.kills++;
      await load;
      if (random.below(8) === 0) {
        const start = server.restart();
        await sleep(50 + random.below(250));
        await server.kill("SIGKILL");
        await start.catch(() => {});
        tally.kills++;
        tally.killsDuringStart++;
      }
      await server.restart();
      starts.push(server.startMs);
      await Promise.all(writers.map((writer) => writer.verify(server.port, tally)));
    }
  } finally {
    await server.dispose();
  }
  starts.sort((a, b) => a - b);
  const p50 = Math.round(starts[starts.length >> 1]);
  const longest = Math.round(starts[starts.length - 1]);
  t.diagnostic(`${JSON.stringify(tally)}; start to 200: p50 ${p50} ms, max ${longest} ms`);
  assert.deepEqual([tally.lost, tally.wrong, tally.resurrected], [0, 0, 0]);
}
