/**
 * More load than the disk takes, for a short form (test/rest) and a long one (test/storm). strace delays each fdatasync, so that
 * the capacity is low and steady: one batch of at most 4 MiB per sync.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { CHUNK_BYTES } from "../../src/util/limits.ts";
import type { Diagnostic } from "../random.ts";
import { type LoadResult, loadLine, offer, saturate } from "./offered-load.ts";
import { memoryLine, watchMemory } from "./process-memory.ts";
import { withServer } from "./server.ts";

const SYNC_DELAY_MS = 100;
const VALUE_BYTES = 64 * 1024;
/** Enough to fill every batch, and few enough never to be refused. */
const PEAK_CONNECTIONS = 160;
/** The queue may hold half a second of this load, and the arena. */
const ADDED_BYTES_MAX = 192 * CHUNK_BYTES;

/** strace in front of the program; -D keeps the program this process' own child. */
function slowDisk(delayMs: number): string[] {
  const inject = `inject=fdatasync:delay_exit=${delayMs * 1000}`;
  return [
    "strace",
    "-D",
    "-f",
    "--seccomp-bpf",
    "-qq",
    "-o",
    "/dev/null",
    "-e",
    "trace=fdatasync",
    "-e",
    inject,
  ];
}

export const canSlowDisk =
  spawnSync("strace", [...slowDisk(1).slice(1), process.execPath, "-e", "0"]).status === 0;

export interface OverloadLimits {
  rounds: number;
  secondsEach: number;
  /** Offered load, as a multiple of the peak. */
  multiples: number[];
  connections: number;
  throughputMin: number;
  p99MsMax: number;
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** Peak and overload in turn; medians of the rounds are judged. */
export async function overload(t: Diagnostic, limits: OverloadLimits): Promise<void> {
  await withServer({ flags: ["-threads", "1"], wrapper: slowDisk(SYNC_DELAY_MS) }, async (server) => {
    const { port, pid } = server;
    const load = { port, seconds: limits.secondsEach, valueBytes: VALUE_BYTES };
    const served = (result: LoadResult) => result.successes / result.seconds;
    const warm = await saturate({ ...load, connections: PEAK_CONNECTIONS, seconds: 0.5 });
    assert.deepEqual(warm.others, []);
    const watched = watchMemory(pid);
    const ratios = limits.multiples.map((): number[] => []);
    const p99s = limits.multiples.map((): number[] => []);
    for (let round = 0; round < limits.rounds; round++) {
      const peak = await saturate({ ...load, connections: PEAK_CONNECTIONS });
      assert.deepEqual([peak.others, peak.refusals], [[], 0]);
      t.diagnostic(`round ${round + 1}, peak: ${loadLine(peak)}`);
      for (const [number, multiple] of limits.multiples.entries()) {
        const connections = limits.connections;
        const result = await offer({ ...load, connections }, served(peak) * multiple);
        t.diagnostic(`round ${round + 1}, ${multiple} x peak: ${loadLine(result)}`);
        assert.deepEqual(result.others, []);
        assert.ok(result.refusals > 0, "more than the capacity is refused");
        ratios[number].push(served(result) / served(peak));
        p99s[number].push(result.successLatency.getValueAtPercentile(99) / 1000);
      }
    }
    const peak = watched.stop();
    t.diagnostic(`MiB: ${memoryLine(watched.start, peak)}`);
    for (const [number, multiple] of limits.multiples.entries()) {
      const ratio = median(ratios[number]);
      const p99 = median(p99s[number]);
      t.diagnostic(
        `${multiple} x peak: ${ratio.toFixed(2)} of the peak's throughput, p99 ${Math.round(p99)} ms (medians)`,
      );
      assert.ok(ratio >= limits.throughputMin, `${ratio} of the peak at ${multiple} x`);
      assert.ok(p99 <= limits.p99MsMax, `p99 ${p99} ms at ${multiple} x`);
    }
    assert.ok(peak.own - watched.start.own < ADDED_BYTES_MAX, memoryLine(watched.start, peak));
  });
}
