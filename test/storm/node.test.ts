/**
 * The long form of test/sim/node.test.ts: many histories of whole clusters, in two processes. HISTORIES says how many, or TIME_MS how long.
 */
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { fromSource } from "../../src/shards/thread/from-source.ts";
import { randomSeed } from "../random.ts";
import type { Outcome } from "../sim/node/history.ts";

const HISTORIES = Number(process.env.HISTORIES ?? 100_000);
const TIME_MS = Number(process.env.TIME_MS ?? 20 * 60_000);
const PROCESSES = 2;
const CHUNK = 50;

const [program, options] = fromSource(path.join(__dirname, "../sim/node/chunk.ts"));

function runChunk(first: number, count: number): Promise<Outcome[]> {
  return new Promise((resolve, reject) => {
    const child = fork(program, [String(first), String(count)], options);
    let outcomes: Outcome[] | null = null;
    child.on("message", (message) => {
      outcomes = message as Outcome[];
    });
    child.on("error", reject);
    child.on("exit", (code) => {
      if (outcomes === null) reject(new Error(`the histories from seed ${first} on ended with ${code}`));
      else resolve(outcomes);
    });
  });
}

test("simulated nodes: many histories hold, and all of them end well", {
  timeout: TIME_MS + 300_000,
}, async (t) => {
  const first = randomSeed(t);
  const total = { histories: 0, operations: 0, unknown: 0, silent: 0, refused: 0, healedMs: 0, events: 0 };
  const bad: Outcome[] = [];
  const endMs = performance.now() + TIME_MS;
  let started = 0;
  const work = async (): Promise<void> => {
    while (started < HISTORIES && performance.now() < endMs) {
      const at = started;
      started += CHUNK;
      for (const outcome of await runChunk(first + at, Math.min(CHUNK, HISTORIES - at))) {
        total.histories++;
        total.operations += outcome.operations;
        total.unknown += outcome.unknown;
        total.silent += outcome.silent;
        total.refused += outcome.refused;
        total.events += outcome.events;
        total.healedMs = Math.max(total.healedMs, outcome.healedMs);
        if (outcome.problem !== null) bad.push(outcome);
      }
    }
  };
  await Promise.all(Array.from({ length: PROCESSES }, work));
  t.diagnostic(JSON.stringify({ ...total, bad: bad.length }));
  assert.ok(total.histories > 0);
  assert.deepEqual(
    bad.map(({ seed }) => seed),
    [],
    bad[0]?.problem ?? "",
  );
});
