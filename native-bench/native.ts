/**
 * `npm run bench:native`: benchmark.js on the real engine, in process. What counts is the median of the samples: a mean over a
 * shared machine says more about its neighbours.
 *
 *   --tiny        a few milliseconds for each operation: shows that it works, not how fast it is
 *   --sync MODE   always (default) or os
 *   --keys N      keys of 100 bytes that the reads go round (131072)
 *   --only TEXT   only operations whose name contains this
 *   --json FILE   write the figures there
 *   --write       write docs/bench/native.json and .md
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import Benchmark from "benchmark";
import { fileSystemOf } from "./contenders.ts";
import { measureDisk } from "./disk.ts";
import { describeMachine } from "./machine.ts";
import {
  type Case,
  hashCases,
  jsonCases,
  LARGE_BYTES,
  MEDIUM_BYTES,
  readCases,
  SMALL_BYTES,
  type Stored,
  shardCases,
  vaultWriteCases,
} from "./native-cases.ts";
import { openBenchPeers } from "./native-peers.ts";
import {
  fillVault,
  KEY_BYTES,
  makeKeys,
  openBenchShard,
  openBenchVault,
  uploadToVault,
} from "./native-stores.ts";
import { temporaryFolder } from "./processes.ts";
import { printReport, type Report, writeReport } from "./report.ts";
import { duration, median, percent, shortNumber } from "./statistics.ts";

interface NativeOptions {
  tiny: boolean;
  write: boolean;
  sync: "always" | "os";
  keys: number;
  only: string;
  json: string | null;
}

interface Figure {
  name: string;
  /** Of one operation, in seconds. */
  median: number;
  mean: number;
  /** Half of the samples lie within so much of the median. */
  interquartile: number;
  samples: number;
  /** The seed's promise in seconds, or null. */
  promise: number | null;
}

/** Keys written while the writes are measured. */
const WRITE_KEYS = 4096;
const TIMES = {
  normal: { minSamples: 20, maxTime: 1.5, initCount: 1 },
  tiny: { minSamples: 3, maxTime: 0.02, minTime: 0.002, initCount: 1 },
};

function readOptions(): NativeOptions {
  const { values } = parseArgs({
    options: {
      tiny: { type: "boolean", default: false },
      write: { type: "boolean", default: false },
      sync: { type: "string", default: "always" },
      keys: { type: "string" },
      only: { type: "string", default: "" },
      json: { type: "string" },
    },
  });
  const { tiny, write, sync, only } = values;
  if (sync !== "always" && sync !== "os") throw new Error("--sync is always or os");
  const keys = Number(values.keys ?? (tiny ? 1024 : 131_072));
  if (!Number.isInteger(keys) || keys < 1) throw new Error("--keys is a positive number");
  return {
    tiny: tiny === true,
    write: write === true,
    sync,
    keys,
    only: only ?? "",
    json: values.json ?? null,
  };
}

/** Runs one case to its end. */
function measure(one: Case, tiny: boolean): Promise<Figure> {
  const operations = one.operations ?? 1;
  const { run, runDeferred } = one;
  return new Promise((resolve, reject) => {
    const benchmark = new Benchmark(
      one.name,
      runDeferred === undefined
        ? (run as () => void)
        : (deferred: Benchmark.Deferred) => runDeferred(() => deferred.resolve()),
      {
        // Lets the event loop turn between samples: slabs are sealed and maps released there.
        async: true,
        defer: runDeferred !== undefined,
        ...(tiny ? TIMES.tiny : TIMES.normal),
        onComplete: () => {
          const { sample, mean } = benchmark.stats;
          const sorted = [...sample].sort((a, b) => a - b);
          const quartile = (share: number) => sorted[Math.floor((sorted.length - 1) * share)];
          resolve({
            name: one.name,
            median: median(sample) / operations,
            mean: mean / operations,
            interquartile: (quartile(0.75) - quartile(0.25)) / median(sample),
            samples: sample.length,
            promise: one.promise ?? null,
          });
        },
      },
    );
    benchmark.on("error", () => reject(new Error(`${one.name}: ${benchmark.error}`)));
    benchmark.run();
  });
}

/** Sets the stores up, and measures everything in them. */
async function measureAll(options: NativeOptions, folder: string): Promise<Figure[]> {
  const { tiny, sync, keys } = options;
  const figures: Figure[] = [];
  const runAll = async (cases: readonly Case[]) => {
    for (const one of cases) {
      if (!one.name.includes(options.only)) continue;
      const figure = await measure(one, tiny);
      console.error(`${figure.name}: ${duration(figure.median)}`);
      figures.push(figure);
    }
  };
  const stored: Stored = {
    small: makeKeys("small-", keys),
    absent: makeKeys("other-", keys),
    medium: makeKeys("medium-", 1),
    large: makeKeys("large-", 1),
  };
  const vault = await openBenchVault(folder, sync);
  try {
    await fillVault(vault, stored.small, Buffer.alloc(SMALL_BYTES, "v"));
    await fillVault(vault, stored.medium, Buffer.alloc(MEDIUM_BYTES, "v"));
    await uploadToVault(vault, stored.large, Buffer.alloc(LARGE_BYTES, "v"));
    await runAll(hashCases(stored));
    await runAll(readCases(vault, stored));
    await runAll(vaultWriteCases(vault, makeKeys("write-", WRITE_KEYS), sync));
    const peers = await openBenchPeers(vault);
    try {
      await runAll(peers.cases);
    } finally {
      await peers.close();
    }
  } finally {
    await vault.close();
  }
  const bench = await openBenchShard(folder, sync);
  try {
    for (let number = 0; number < keys; number++) {
      bench.aim(stored.small, number);
      bench.shard.apply(bench.write, new Uint8Array(SMALL_BYTES));
      if (number % 4096 === 4095 || number === keys - 1) bench.shard.commit();
    }
    bench.aim(stored.medium, 0);
    bench.shard.apply(bench.write, new Uint8Array(MEDIUM_BYTES));
    bench.shard.commit();
    await runAll(shardCases(bench, stored.small, stored, sync));
  } finally {
    await bench.shard.close();
  }
  await runAll(jsonCases());
  return figures;
}

function report(options: NativeOptions, figures: readonly Figure[], folder: string): Report {
  const { tiny, sync, keys } = options;
  const disk = measureDisk(folder, tiny ? 30 : 500);
  const rows = figures.map(({ name, median: middle, mean, interquartile, samples, promise }) => [
    name,
    duration(middle),
    duration(mean),
    percent(interquartile),
    shortNumber(1 / middle),
    String(samples),
    promise === null ? "" : duration(promise),
    promise === null ? "" : `${shortNumber(promise / middle)} ×`,
  ]);
  rows.push([
    "the disk alone: pwrite of 192 bytes and fdatasync",
    duration(disk.median),
    duration(1 / disk.perSecond),
    "",
    shortNumber(disk.perSecond),
    "1",
    "",
    "",
  ]);
  const notes = [
    `-sync ${sync}, data on ${fileSystemOf(folder)}, ${keys.toLocaleString("en-US")} keys of ${KEY_BYTES} bytes`,
    "promise: the seed's line for the operation (10,000 writes/s is 100 µs a write); the last column says how many times better the median is",
    ...(tiny ? ["TINY RUN: shows that the benchmark works; its figures mean nothing"] : []),
  ];
  const columns = ["operation", "median", "mean", "IQR", "per second", "samples", "promise", "better"];
  return {
    name: "native",
    title: "minivault in process",
    machine: describeMachine(),
    notes,
    tables: [{ title: "One operation", columns, rows }],
    data: { sync, keys, figures, disk },
  };
}

async function main(): Promise<void> {
  const options = readOptions();
  const folder = temporaryFolder();
  const finished = report(options, await measureAll(options, folder), folder);
  if (options.json !== null) writeFileSync(options.json, JSON.stringify(finished.data));
  printReport(finished);
  if (options.write) console.log(`\nwritten: ${writeReport(finished).join(", ")}`);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
