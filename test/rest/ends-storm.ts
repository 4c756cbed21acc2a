/**
 * Many values that end within a short time, beside other traffic: nobody sees one after its end, lists show none, other clients wait little
 * longer, and what they took comes back.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { Diagnostic } from "../random.ts";
import { call } from "./client.ts";
import { startServer } from "./server.ts";

export interface EndsStorm {
  /** Values that end. */
  values: number;
  /** Within so many seconds of each other. */
  spreadSeconds: number;
  /** Clients that read and write other keys meanwhile. */
  clients: number;
  /** How much longer the slowest of a hundred may take while values end than before; Infinity: on any machine. */
  slowdownMax: number;
  /** How long after the last end the disk, and the keys, may take to be back; Infinity: on any machine. */
  backSecondsMax: number;
}

const BATCH = 5000;
const JSON_TYPE = { "content-type": "application/json" };

function p99(times: number[]): number {
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length * 0.99)] ?? 0;
}

export async function endsStorm(t: Diagnostic, options: EndsStorm): Promise<void> {
  const { values, spreadSeconds, clients, slowdownMax, backSecondsMax } = options;
  const server = await startServer({ flags: ["-history", "0"] });
  const { port } = server;
  try {
    const figures = async () => {
      const { shards } = (await call(port, "GET", "/_stats")).json();
      const sum = (name: string): number =>
        shards.reduce((total: number, shard: Record<string, number>) => total + shard[name], 0);
      return {
        keys: sum("keys"),
        live: sum("liveBytes"),
        ending: sum("endingKeys"),
        ended: sum("endedValues"),
      };
    };
    let times: { get: number[]; put: number[] } = { get: [], put: [] };
    let isOver = false;
    const client = async (number: number): Promise<void> => {
      for (let i = 0; !isOver; i++) {
        const key = `/other/${number}/${i % 50}`;
        const method = i % 2 === 0 ? "PUT" : "GET";
        const startMs = performance.now();
        const { status } = await call(port, method, key, method === "PUT" ? { body: `value ${i}` } : {});
        (method === "PUT" ? times.put : times.get).push(performance.now() - startMs);
        assert.ok([200, 201, 404, 503].includes(status), `${method} ${key}: ${status}`);
      }
    };
    const running = Array.from({ length: clients }, (_, number) => client(number));
    // Far enough ahead that all are stored by then, however slow the machine is: moved on while it is not so.
    let firstEnd = Date.now() + 5000 + values / 10;
    const endOf = (number: number): number => firstEnd + Math.floor((number / values) * spreadSeconds * 1000);
    for (let from = 0; from < values; from += BATCH) {
      if (from === 0) firstEnd = Math.max(firstEnd, Date.now() + 5000);
      const operations = Array.from({ length: Math.min(BATCH, values - from) }, (_, i) => ({
        ...{ op: "put", key: `ends/${String(from + i).padStart(8, "0")}`, value: "x".repeat(80) },
        ttl: `${Math.max(1, endOf(from + i) - Date.now())}ms`,
      }));
      for (;;) {
        const { status } = await call(port, "POST", "/_batch", {
          headers: JSON_TYPE,
          body: JSON.stringify({ operations }),
        });
        if (status === 200) break;
        await sleep(100);
      }
    }
    const before = await figures();
    const quiet = times;
    times = { get: [], put: [] };
    // Which are over by a clock of ours is told gone; ends of one batch are a little later than computed.
    const lagMs = 60_000;
    const lists = async (): Promise<void> => {
      while (!isOver) {
        const askedMs = Date.now();
        const { status, json } = await call(port, "GET", "/ends/?list&limit=1");
        if (status !== 200) continue;
        const [first] = json().keys;
        if (first !== undefined)
          assert.ok(
            first.ttl > 0 && endOf(Number(first.key.slice(5))) + lagMs > askedMs,
            `${first.key} is still listed`,
          );
        await sleep(20);
      }
    };
    const listing = lists();
    const lastEnd = endOf(values);
    while (Date.now() < lastEnd) await sleep(100);
    const ending = times;
    const endedMs = Date.now();
    for (let now = await figures(); now.ending > 0; now = await figures()) {
      assert.ok(Date.now() - endedMs < backSecondsMax * 1000, `${now.ending} values are not marked yet`);
      await sleep(100);
    }
    const markedMs = Date.now() - endedMs;
    isOver = true;
    await Promise.all([...running, listing]);
    for (let number = 0; number < values; number += Math.ceil(values / 200))
      assert.equal((await call(port, "GET", `/ends/${String(number).padStart(8, "0")}`)).status, 404);
    const after = await figures();
    assert.ok(after.keys <= clients * 50, `${after.keys} keys are left`);
    assert.ok(after.ended >= values);
    const ratio = { get: p99(ending.get) / p99(quiet.get), put: p99(ending.put) / p99(quiet.put) };
    t.diagnostic(
      JSON.stringify({
        values,
        spreadSeconds,
        markedMs,
        before: before.live,
        after: after.live,
        p99Ratio: ratio,
      }),
    );
    assert.ok(ratio.get <= slowdownMax && ratio.put <= slowdownMax, JSON.stringify(ratio));
    await server.kill("SIGKILL");
    await server.restart();
    assert.equal((await call(server.port, "GET", "/ends/?list&count")).json().count ?? 0, 0);
  } finally {
    await server.dispose();
  }
}
