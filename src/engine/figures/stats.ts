/**
 * The figures of a shard that operators see, in one table: what each is called, what it is, and where in the
 * shard's memory it comes from. /_stats, /health and /_metrics are made from it.
 */
import { FIGURE, MISSING_IN_ALL } from "../slabs/figures.ts";
import type { ShardMemory } from "../state/memory.ts";

/** What of a shard a figure comes from. */
interface Source {
  figures: Float64Array;
  missingPages: Int32Array;
}

type Read = (source: Source) => number;

/** A counter only rises, a gauge goes up and down, a flag is true or false. */
type Kind = "counter" | "gauge" | "flag";

interface ShardFigure<Of extends Kind> {
  kind: Of;
  help: string;
  read: Read;
  /** Its name in /health; null: it is not there. */
  health: string | null;
}

const figure =
  <Of extends Kind>(kind: Of) =>
  (from: number | Read, help: string, health: string | null = null): ShardFigure<Of> => {
    const read: Read = typeof from === "number" ? ({ figures }) => figures[from] : from;
    return { kind, help, read, health };
  };
const gauge = figure("gauge");
const counter = figure("counter");
const flag = figure("flag");

/** So long what a write has met is told after it was last met. */
const LATELY_MS = 10_000;

/** Whether the time in a figure is that short ago. */
const lately =
  (from: number): Read =>
  ({ figures }) =>
    Number(Math.abs(Date.now() - figures[from]) < LATELY_MS);

/** By their names in /_stats. Sizes are in bytes. */
export const SHARD_FIGURES = {
  keys: gauge(FIGURE.keys, "Keys that there are.", "keys"),
  liveBytes: gauge(FIGURE.liveBytes, "Bytes of the records that count.", "bytes"),
  storedBytes: gauge(FIGURE.storedBytes, "Bytes that lie in the slabs."),
  slabs: gauge(FIGURE.slabs, "Slab files."),
  indexBytes: gauge(FIGURE.indexBytes, "Memory of the index."),
  indexGrowths: counter(FIGURE.indexGrowths, "How often a part of the index has grown."),
  tombstones: gauge(FIGURE.tombstones, "Marks of deleted keys, and of values that have ended."),
  endingKeys: gauge(FIGURE.ending, "Keys whose values will end."),
  endedValues: counter(FIGURE.marked, "Values that were marked as ended."),
  calendarEntries: gauge(FIGURE.calendar, "Ends in the calendar, those of replaced values included."),
  damagedRecords: gauge(FIGURE.damaged, "Records that are damaged.", "damagedRecords"),
  missingSlabs: gauge(
    FIGURE.missingSlabs,
    "Slab files that are missing, or not the ones that were listed.",
    "missingSlabs",
  ),
  scrubbedBytes: counter(FIGURE.scrubbedBytes, "Bytes that the scrub has read.", "scrubbedBytes"),
  scrubPasses: counter(FIGURE.scrubPasses, "How often the scrub got through all slabs.", "scrubPasses"),
  scrubDamaged: counter(FIGURE.scrubDamaged, "Places that the scrub has found damaged.", "scrubDamaged"),
  brokenSlabs: gauge(
    FIGURE.brokenSlabs,
    "Slab files that were cut, whose header is damaged, or that the disk could not give.",
    "brokenSlabs",
  ),
  missingPages: counter(
    ({ missingPages }) => Atomics.load(missingPages, MISSING_IN_ALL),
    "How often a page of a slab file could not be read.",
  ),
  compactedBytes: counter(FIGURE.compactedBytes, "Live bytes that compaction has copied."),
  diskFull: flag(FIGURE.diskFull, "Whether the disk takes no more, so that writes answer 507.", "diskFull"),
  writesStopped: flag(
    FIGURE.writesStopped,
    "Whether writes are stopped, since the disk could not be written.",
    "writesStopped",
  ),
  directoryGone: flag(
    FIGURE.directoryGone,
    "Whether the data directory is not the one any more that was opened.",
    "directoryGone",
  ),
  inDoubt: flag(
    FIGURE.doubtSequence,
    "Whether records are damaged of which nobody knows the keys, so that absent ones answer 500.",
    "inDoubt",
  ),
  outOfDescriptors: flag(
    lately(FIGURE.outOfDescriptorsMs),
    "Whether a write could not open a file in the last ten seconds.",
  ),
  writesFail: flag(
    lately(FIGURE.writeFailedMs),
    "Whether the disk refused a write in the last ten seconds, not for want of room.",
    "writesFail",
  ),
} as const;

export type ShardFigureName = keyof typeof SHARD_FIGURES;
export const SHARD_FIGURE_NAMES = Object.keys(SHARD_FIGURES) as ShardFigureName[];

/** Figures of one shard. */
export type ShardStats = { shard: number } & {
  [Name in ShardFigureName]: (typeof SHARD_FIGURES)[Name]["kind"] extends "flag" ? boolean : number;
};

/** A shard's figures, now. */
export function readFigures(shard: number, memory: ShardMemory): ShardStats {
  const source: Source = {
    figures: new Float64Array(memory.figures),
    missingPages: new Int32Array(memory.missingPages),
  };
  const stats: Record<string, number | boolean> = { shard };
  for (const name of SHARD_FIGURE_NAMES) {
    const value = SHARD_FIGURES[name].read(source);
    stats[name] = SHARD_FIGURES[name].kind === "flag" ? value !== 0 : value;
  }
  return stats as ShardStats;
}

/**
 * What a figure of all shards makes together: whether any has it, or their sum. The scrub has got through as
 * often as it has where it got through least.
 */
export function overShards(shards: readonly ShardStats[], name: ShardFigureName): number | boolean {
  if (SHARD_FIGURES[name].kind === "flag") return shards.some((shard) => shard[name] === true);
  const values = shards.map((shard) => Number(shard[name]));
  return name === "scrubPasses" ? Math.min(...values) : values.reduce((sum, value) => sum + value, 0);
}
