/** Hot reads beside a scan of data that is not in memory. */
import assert from "node:assert/strict";
import path from "node:path";
import { dropCache } from "../cold-files.ts";
import { fillStore } from "../engine/fill.ts";
import type { Diagnostic } from "../random.ts";
import { call } from "./client.ts";
import { type KeyLoad, type KeyLoadResult, keyLoad } from "./key-load.ts";
import { removeFolder, temporaryFolder, withServer } from "./server.ts";

export interface ColdLimits {
  keys: number;
  valueBytes: number;
  rounds: number;
  seconds: number;
  /** Hot GETs' p99 beside the scan, as a multiple of that without it. */
  slowdownMax: number;
}

const HOT_KEYS = 1000;
const HOT_CLIENTS = 8;
const SCAN_CLIENTS = 16;
/** Odd steps of about a slab's tenth, so that each page is met once. */
const SCAN_STRIDE = 104_729;

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

/** Measures the hot reads alone, beside a scan of cold keys, and, to know what the scan's processor time does, beside the same scan in memory. */
export async function hotBesideCold(
  t: Diagnostic & { skip(reason: string): void },
  { keys, valueBytes, rounds, seconds, slowdownMax }: ColdLimits,
): Promise<void> {
  const folder = temporaryFolder();
  try {
    const data = path.join(folder, "data");
    await fillStore(data, { keys, valueBytes });
    if (!dropCache(data)) {
      t.skip("this file system keeps its files in memory");
      return;
    }
    await withServer({ data }, async ({ port }) => {
      const hot: KeyLoad = {
        verb: "GET",
        port,
        connections: HOT_CLIENTS,
        seconds,
        first: 0,
        count: HOT_KEYS,
        stride: 7,
        valueBytes,
      };
      const coldKeys = keys - HOT_KEYS;
      const perRound = Math.floor(coldKeys / rounds);
      await keyLoad({ ...hot, seconds: 1 });
      const coldReads = async () => (await call(port, "GET", "/_stats")).json().coldReads as number;
      const alone: number[] = [];
      const besideCold: number[] = [];
      const besideWarm: number[] = [];
      const line = (what: string, { requests, p50, p99, max }: KeyLoadResult) =>
        t.diagnostic(
          `${what}: ${Math.round(requests / seconds)}/s, p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms, max ${max.toFixed(1)} ms`,
        );
      for (let round = 0; round < rounds; round++) {
        const first = HOT_KEYS + round * perRound;
        const scan = { ...hot, connections: SCAN_CLIENTS, first, count: perRound, stride: SCAN_STRIDE };
        const warm = { ...scan, count: HOT_KEYS, first: 0 };
        const quiet = await keyLoad(hot);
        const before = await coldReads();
        const [hotBeside, scanned] = await Promise.all([keyLoad(hot), keyLoad(scan)]);
        const cold = (await coldReads()) - before;
        const [hotBesideWarm, warmScanned] = await Promise.all([keyLoad(hot), keyLoad(warm)]);
        line(`round ${round}, hot alone`, quiet);
        line(`round ${round}, hot beside the cold scan`, hotBeside);
        line(`round ${round}, the cold scan (${cold} reads from the disk)`, scanned);
        line(`round ${round}, hot beside a scan in memory`, hotBesideWarm);
        for (const { wrong } of [quiet, hotBeside, scanned, hotBesideWarm, warmScanned])
          assert.equal(wrong, 0);
        assert.ok(cold > scanned.requests / 100, `only ${cold} reads from the disk`);
        alone.push(quiet.p99);
        besideCold.push(hotBeside.p99);
        besideWarm.push(hotBesideWarm.p99);
      }
      const ratio = median(besideCold) / median(alone);
      t.diagnostic(
        `p99 of hot GETs, median of ${rounds} rounds: alone ${median(alone).toFixed(2)} ms, beside the cold scan ${median(besideCold).toFixed(2)} ms (${ratio.toFixed(2)} times), beside a scan in memory ${median(besideWarm).toFixed(2)} ms`,
      );
      assert.ok(ratio <= slowdownMax, `${ratio.toFixed(2)} times`);
    });
  } finally {
    removeFolder(folder);
  }
}
