/** What each node holds and does, looked at again and again; and as lines of CSV. */
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import type { Worker } from "../cluster/workers.ts";
import { Random } from "../random.ts";
import { processMemory } from "../rest/process-memory.ts";
import type { Doors, Tally } from "./doors.ts";

/** Columns of the CSV, in their order. Empty: it could not be told then, or nothing was asked. */
export const FIGURES = [
  "rssBytes",
  "ownBytes",
  "heapBytes",
  "descriptors",
  "diskBytes",
  "keys",
  "gets",
  "getP50Ms",
  "getP99Ms",
  "puts",
  "putP50Ms",
  "putP99Ms",
] as const;
export type FigureName = (typeof FIGURES)[number];

export interface Sample extends Record<FigureName, number> {
  /** Since the beginning. */
  seconds: number;
  node: number;
  /** How often it was started until then. */
  run: number;
  errors: Record<string, number>;
}

const HEADER = ["seconds", "node", "run", ...FIGURES, "errors"].join(",");
const BLOCK_BYTES = 512;

/** Room that a folder's files take on the disk. */
export function diskBytes(folder: string): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    // It may be gone by now.
    bytes += (statSync(file, { throwIfNoEntry: false })?.blocks ?? 0) * BLOCK_BYTES;
  }
  return bytes;
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted.length === 0
    ? Number.NaN
    : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

function orNaN(look: () => number): number {
  try {
    return look();
  } catch {
    return Number.NaN;
  }
}

export async function sampleOf(
  worker: Worker,
  seconds: number,
  run: number,
  tally: Tally,
  doors: Doors,
): Promise<Sample> {
  const node = { number: worker.number, port: worker.port };
  const reply = worker.isRunning ? await doors.ask(new Random(0), "GET", "/_stats", { node }) : null;
  const stats =
    reply === null || "failed" in reply || reply.status !== 200 ? null : JSON.parse(reply.body.toString());
  const gets = tally.get.sort((a, b) => a - b);
  const puts = tally.put.sort((a, b) => a - b);
  return {
    ...{ seconds, node: worker.number, run },
    rssBytes: orNaN(() => processMemory(worker.pid).rss),
    ownBytes: orNaN(() => processMemory(worker.pid).own),
    heapBytes: stats?.memory?.heapUsed ?? Number.NaN,
    descriptors: worker.isRunning ? orNaN(() => readdirSync(`/proc/${worker.pid}/fd`).length) : Number.NaN,
    diskBytes: orNaN(() => diskBytes(worker.data)),
    keys: stats?.keys ?? Number.NaN,
    ...{ gets: gets.length, getP50Ms: percentile(gets, 0.5), getP99Ms: percentile(gets, 0.99) },
    ...{ puts: puts.length, putP50Ms: percentile(puts, 0.5), putP99Ms: percentile(puts, 0.99) },
    errors: Object.fromEntries(tally.errors),
  };
}

export function csvOf(samples: readonly Sample[]): string {
  const text = (value: number): string =>
    Number.isFinite(value) ? String(Math.round(value * 100) / 100) : "";
  const lines = samples.map(({ seconds, node, run, errors, ...figures }) =>
    [
      ...[text(seconds), node, run],
      ...FIGURES.map((name) => text(figures[name])),
      Object.entries(errors)
        .map(([kind, count]) => `${kind.replaceAll(/[,;=]/g, "")}=${count}`)
        .join(";"),
    ].join(","),
  );
  return `${[HEADER, ...lines].join("\n")}\n`;
}

/** The samples of a CSV that `csvOf` made. */
export function samplesOf(csv: string): Sample[] {
  const [header, ...lines] = csv.trimEnd().split("\n");
  if (header !== HEADER)
    throw new Error("these are no samples of a soak of this release: the first line differs");
  return lines.map((line) => {
    const [seconds, node, run, ...rest] = line.split(",");
    const number = (word: string): number => (word === "" ? Number.NaN : Number(word));
    const figures = FIGURES.map((name, index) => [name, number(rest[index])]);
    const errors = (rest[FIGURES.length] ?? "").split(";").filter((word) => word !== "");
    return {
      ...{ seconds: Number(seconds), node: Number(node), run: Number(run) },
      ...(Object.fromEntries(figures) as Record<FigureName, number>),
      errors: Object.fromEntries(errors.map((word) => [word.split("=")[0], Number(word.split("=")[1])])),
    };
  });
}
