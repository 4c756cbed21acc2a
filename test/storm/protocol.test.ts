/**
 * The long form of test/sim/protocol.test.ts: a million histories, in two processes, and a million in which values end. SERIES=ends runs only those.
 */
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { fromSource } from "../../src/shards/thread/from-source.ts";
import { randomSeed } from "../random.ts";
import type { Summary } from "../sim/history.ts";

const HISTORIES = Number(process.env.HISTORIES ?? 1_000_000);
const PROCESSES = 2;
const CHUNK = 10_000;
const PARTS = 4;

const [program, options] = fromSource(path.join(__dirname, "../sim/chunk.ts"));

function runChunk(first: number, count: number, faults: readonly string[]): Promise<Summary> {
  return new Promise((resolve, reject) => {
    const child = fork(program, [String(first), String(count), ...faults], options);
    let summary: Summary | null = null;
    child.on("message", (message) => {
      summary = message as Summary;
    });
    child.on("error", reject);
    child.on("exit", (code) => {
      if (summary === null) reject(new Error(`the histories from seed ${first} on ended with ${code}`));
      else resolve(summary);
    });
  });
}

const ALL_SERIES: readonly { name: string; faults: readonly string[] }[] = [
  { name: "histories", faults: [] },
  { name: "histories with ends", faults: ["ends"] },
];
const only = process.env.SERIES;

for (const { name, faults } of ALL_SERIES.filter(
  (series) => only === undefined || series.faults.includes(only),
)) {
  const total = { histories: 0, operations: 0, unknown: 0, noQuorum: 0, moves: 0, bad: 0 };

  /** In parts, so that none comes near the runner's time limit on a busy machine. */
  for (let part = 1; part <= PARTS; part++)
    test(`simulator: a million ${name} are linearizable, part ${part} of ${PARTS}`, async (t) => {
      const share = Math.ceil(HISTORIES / PARTS);
      const first = randomSeed(t) + (part - 1) * share;
      const badSeeds: number[] = [];
      let firstBad = "";
      let started = 0;
      const work = async (): Promise<void> => {
        while (started < share) {
          const at = started;
          started += CHUNK;
          const summary = await runChunk(first + at, Math.min(CHUNK, share - at), faults);
          for (const figure of Object.keys(total) as (keyof typeof total)[]) total[figure] += summary[figure];
          badSeeds.push(...summary.badSeeds);
          if (firstBad === "") firstBad = summary.firstBad;
        }
      };
      await Promise.all(Array.from({ length: PROCESSES }, work));
      t.diagnostic(
        `so far ${total.histories} ${name}, ${total.operations} operations, ${total.unknown} of unknown outcome, ${total.noQuorum} without quorum, ${total.moves} finished moves, ${total.bad} bad`,
      );
      assert.ok(total.histories >= part * share);
      assert.deepEqual(badSeeds, [], firstBad);
    });
}
