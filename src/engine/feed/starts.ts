/**
 * The file FEED: where each start found the end of the logs, so that it is known whether a place still means
 * what it meant when it was given. FORMAT.md, "FEED", says what it holds. Losing it, or not being able to
 * write it, makes places too old and nothing else.
 */
import { rmSync } from "node:fs";
import path from "node:path";
import { sentenceOf } from "../../platform/system-error.ts";
import { readSealed, writeSealed } from "../../util/sealed-file.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import { logPlace } from "../slabs/figures.ts";
import type { FeedPlace } from "./place.ts";

const FORMAT = "minivault-feed";
const VERSION = 1;
const FILE_NAME = "FEED";
/** Starts before this one whose places may be good. */
const STARTS_MAX = 64;

interface Start {
  incarnation: number;
  /** For each shard the lowest end of its log that a later start has found, as in `logPlace`. */
  ends: number[];
}

export class Starts {
  private readonly incarnation: number;
  /** Those before this one. */
  private readonly starts: readonly Start[];

  /**
   * Reads the file, and notes what this start has found.
   * @param ends of each shard, where its log ended when it was opened
   */
  constructor(
    dataDirectory: string,
    store: StoreIdentity,
    ends: readonly number[],
    readOnly: boolean,
    warn: (message: string) => void,
  ) {
    const file = path.join(dataDirectory, FILE_NAME);
    this.incarnation = store.incarnation;
    const found = readStarts(file, store, readOnly, warn);
    this.starts = found.map(({ incarnation, ends: before }) => ({
      incarnation,
      ends: before.map((end, shard) => Math.min(end, ends[shard])),
    }));
    if (readOnly) return;
    try {
      writeSealed(file, {
        format: FORMAT,
        version: VERSION,
        ...{ store: Buffer.from(store.id).toString("hex"), incarnation: store.incarnation },
        starts: this.starts.map((start) => ({ ...start, ends: start.ends.map(hexText).join(",") })),
      } as { format: string; version: number });
    } catch (error) {
      rmSync(`${file}.new`, { force: true });
      warn(
        `${file} cannot be written, so places in the feed of changes end with this start: ${sentenceOf(error as Error)}`,
      );
    }
  }

  /** Whether a place still means what it meant. */
  isGood({ incarnation, shards }: FeedPlace): boolean {
    if (incarnation === this.incarnation) return true;
    const start = this.starts.find((one) => one.incarnation === incarnation);
    return start !== undefined && shards.every((place, shard) => logPlace(place) <= start.ends[shard]);
  }
}

/** Why the file does not help the next start, for a person; null: it does, or there is none. */
export function startsProblem(dataDirectory: string, store: StoreIdentity): string | null {
  let problem: string | null = null;
  readStarts(path.join(dataDirectory, FILE_NAME), store, true, (text) => {
    problem = text;
  });
  return problem;
}

/** The starts before this one that count, the newest last, with no end found yet for the last of them. */
function readStarts(
  file: string,
  { id, incarnation, shards }: StoreIdentity,
  readOnly: boolean,
  warn: (message: string) => void,
): Start[] {
  const before = readOnly ? incarnation : incarnation - 1;
  try {
    const content = readSealed(file, FORMAT, VERSION);
    if (
      content === null ||
      content.store !== Buffer.from(id).toString("hex") ||
      content.incarnation !== before
    )
      return [];
    const starts = (content.starts as { incarnation: number; ends: string }[]).map((start) => ({
      incarnation: start.incarnation,
      ends: start.ends.split(",").map((text) => Number.parseInt(text, 16)),
    }));
    if (starts.some(({ ends }) => ends.length !== shards || ends.some(Number.isNaN)))
      throw new Error(`${file} says nothing of some shards`);
    const last = { incarnation: before, ends: new Array<number>(shards).fill(Number.POSITIVE_INFINITY) };
    return readOnly ? starts : [...starts, last].slice(-STARTS_MAX);
  } catch (error) {
    warn(`places in the feed of changes from earlier starts are too old: ${sentenceOf(error as Error)}`);
    return [];
  }
}

function hexText(place: number): string {
  return place.toString(16);
}
