/** Many keys that were chosen to meet in the index, on a running node, for a short form (test/rest) and a long one (test/storm). */
import assert from "node:assert/strict";
import path from "node:path";
import { keysForAnySeed, keysOfHashA, take } from "../colliding-keys.ts";
import { writeIdentity } from "../golden/store.ts";
import { type Diagnostic, Random, randomSeed } from "../random.ts";
import { call } from "./client.ts";
import { getMany, putMany } from "./load.ts";
import { removeFolder, temporaryFolder, withServer } from "./server.ts";

export interface CollidingLimits {
  /** Of each attack, and of keys that nobody has chosen. */
  keys: number;
  /** Latency of a GET, p99, against that of keys that nobody has chosen. */
  ratioMax: number;
}

/** GETs of each kind whose latencies are compared, in rounds by turns. */
const ROUNDS = 5;
const ROUND_GETS = 4000;

const ATTACKS: Record<string, (random: Random, count: number) => Buffer[]> = {
  "any seed": (random, count) => take(keysForAnySeed(random, Math.ceil(count ** 0.25)), count),
  "one hash A": (random, count) => take(keysOfHashA(random.word(), random), count),
};

/** The path of a key of any characters, without the leading slash. */
function pathOfKey(key: string): string {
  return `_kv/${encodeURIComponent(key)}`;
}

const valueText = (index: number): string => `value ${index}`;

/** Reads so many values, each checked; answers how long each took, in milliseconds, shortest first. */
async function timedGets(
  port: number,
  count: number,
  path: (i: number) => string,
  number: (i: number) => number,
) {
  const sent: number[] = [];
  const took: number[] = [];
  const send = (i: number): string => {
    sent[i] = performance.now();
    return path(i);
  };
  await getMany(port, count, send, (i, value) => {
    took.push(performance.now() - sent[i]);
    return value === valueText(number(i));
  });
  return took.sort((a, b) => a - b);
}

/** Stores both attacks' keys and as many others in a new directory; reads them all, also after kill -9, a clean stop and compaction. */
export async function collidingKeys(t: Diagnostic, { keys, ratioMax }: CollidingLimits): Promise<void> {
  const random = new Random(randomSeed(t));
  const kinds = new Map<string, string[]>([
    ["random", Array.from({ length: keys }, (_, i) => pathOfKey(`${random.word() >>> 0}-${i}-nobody-chose`))],
  ]);
  for (const [name, make] of Object.entries(ATTACKS))
    kinds.set(
      name,
      make(random, keys).map((key) => pathOfKey(key.toString("latin1"))),
    );
  await withServer({ sync: "os" }, async (server) => {
    for (const [name, paths] of kinds) {
      const begun = performance.now();
      await putMany(server.port, paths.length, (i) => paths[i], valueText);
      const seconds = (performance.now() - begun) / 1000;
      t.diagnostic(`${name}: ${paths.length} keys stored, ${Math.round(paths.length / seconds)}/s`);
    }
    const check = async (what: string): Promise<void> => {
      for (const paths of kinds.values())
        await getMany(
          server.port,
          paths.length,
          (i) => paths[i],
          (i, value) => value === valueText(i),
        );
      assert.equal((await call(server.port, "GET", "/health")).json().keys, keys * kinds.size, what);
    };
    await check("written");
    const ratios: Record<string, number[]> = Object.fromEntries(
      Object.keys(ATTACKS).map((name) => [name, []]),
    );
    for (let round = 0; round < ROUNDS; round++) {
      const p99s: Record<string, number> = {};
      for (const [name, paths] of kinds) {
        const number = (i: number): number => (i * 7919 + round) % paths.length;
        const times = await timedGets(server.port, ROUND_GETS, (i) => paths[number(i)], number);
        p99s[name] = times[Math.floor(times.length * 0.99)];
      }
      for (const name of Object.keys(ATTACKS)) ratios[name].push(p99s[name] / p99s.random);
    }
    for (const [name, all] of Object.entries(ratios)) {
      const median = all.sort((a, b) => a - b)[ROUNDS >> 1];
      t.diagnostic(`${name}: p99 of GET ${median.toFixed(2)} times that of random keys`);
      assert.ok(median <= ratioMax, `${name}: ${median}`);
    }
    await server.kill("SIGKILL");
    await server.restart();
    t.diagnostic(`start after kill -9: ${Math.round(server.startMs)} ms`);
    await check("after kill -9");
    await server.stop();
    await server.restart();
    t.diagnostic(`start after a stop: ${Math.round(server.startMs)} ms`);
    await check("after a stop");
  });
}

/** A directory of version 1, whose hash has such keys: all that is acknowledged is there after kill -9 too, the rest is refused, and the node lives. */
export async function collidingKeysOfOld(t: Diagnostic, keys: number): Promise<void> {
  const random = new Random(randomSeed(t));
  const folder = temporaryFolder();
  const data = path.join(folder, "data");
  try {
    await writeIdentity(data, 1);
    const names = ATTACKS["any seed"](random, keys).map((key) => pathOfKey(key.toString("latin1")));
    await withServer({ sync: "os", data }, async (server) => {
      const statuses = new Map<number, number[]>();
      for (const [i, name] of names.entries()) {
        const { status } = await call(server.port, "PUT", `/${name}`, { body: valueText(i) });
        const before = statuses.get(status);
        if (before === undefined) statuses.set(status, [i]);
        else before.push(i);
      }
      const stored = statuses.get(201) ?? [];
      t.diagnostic(`stored ${stored.length}, refused ${statuses.get(507)?.length ?? 0}`);
      assert.equal(stored.length + (statuses.get(507)?.length ?? 0), names.length);
      for (const how of ["SIGKILL", "SIGTERM"] as const) {
        await server.kill(how);
        await server.restart();
        await getMany(
          server.port,
          stored.length,
          (i) => names[stored[i]],
          (i, value) => value === valueText(stored[i]),
        );
        for (const i of (statuses.get(507) ?? []).slice(0, 100))
          assert.equal((await call(server.port, "GET", `/${names[i]}`)).status, 404);
      }
    });
  } finally {
    removeFolder(folder);
  }
}
