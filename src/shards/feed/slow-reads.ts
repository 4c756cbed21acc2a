/**
 * Questions from a place that memory does not reach: the slabs are read again from there, one question after
 * another, a slice at a time, and only for a part of the thread's time, so that many who are far behind cost
 * the others little. Between two slices a question is a place.
 */
import { LogChanges, type TakeChange } from "../../engine/feed/log-changes.ts";
import type { ShardPlace } from "../../engine/feed/place.ts";
import type { ShardLookup } from "../../engine/state/lookup.ts";
import type { ShardMemory } from "../../engine/state/memory.ts";
import { ballotAt } from "../../format/record.ts";
import { nameOf } from "../../util/bytes.ts";
import { VaultError } from "../../util/errors.ts";
import { AnswerText } from "./answer-text.ts";
import type { ChangeTeller } from "./change.ts";
import type { FeedAnswer, FeedRefusal } from "./messages.ts";
import { blind, refusalOf, STOPPING } from "./refusals.ts";
import type { Pending } from "./waiting.ts";

/** Longest that one slice keeps the thread. */
const SLICE_MS = 3;
/** Of the thread's time, slices take at most one part in so many. */
const SHARE = 3;
/** Records of each shard that are read in one step. */
const STEP_RECORDS = 64;
/** A question that has met nothing for so long is answered with its place. */
const SILENT_MS = 1000;

export type SlowAnswer = FeedAnswer | FeedRefusal;

export interface SlowSetup {
  memories: readonly ShardMemory[];
  lookups: readonly ShardLookup[];
  entries: ChangeTeller;
  warn: (message: string) => void;
}

export interface SlowEnds {
  /** A place as text. */
  textOf: (places: readonly ShardPlace[]) => string;
  /** Where to go on in memory for who has met all this; -1: it is behind. */
  cursorAt: (changes: LogChanges) => number;
  /** Whether nothing is there yet from a cursor on. */
  isHead: (cursor: number) => boolean;
  done: (pending: Pending, answer: SlowAnswer) => void;
}

interface Reading {
  readonly pending: Pending;
  readonly sinceMs: number;
  places: readonly ShardPlace[];
}

export class SlowReads {
  private readonly setup: SlowSetup;
  private readonly ends: SlowEnds;
  private queue: Reading[] = [];
  private timer: NodeJS.Timeout | null = null;

  constructor(setup: SlowSetup, ends: SlowEnds) {
    this.setup = setup;
    this.ends = ends;
  }

  get count(): number {
    return this.queue.length;
  }

  begin(pending: Pending, places: readonly ShardPlace[]): void {
    this.queue.push({ pending, places, sinceMs: performance.now() });
    this.timer ??= setTimeout(this.beat, 0);
  }

  cancel(front: number, id: number): void {
    this.queue = this.queue.filter(({ pending }) => pending.front !== front || pending.id !== id);
  }

  private readonly beat = (): void => {
    this.timer = null;
    const reading = this.queue.shift();
    if (reading === undefined) return;
    const startMs = performance.now();
    let answer: SlowAnswer | null;
    try {
      answer = this.slice(reading, startMs);
    } catch (error) {
      answer = refusalOf(error as Error, this.setup.warn);
    }
    if (answer === null) this.queue.push(reading);
    const tookMs = performance.now() - startMs;
    if (this.queue.length > 0) this.timer ??= setTimeout(this.beat, tookMs * (SHARE - 1));
    if (answer !== null) this.ends.done(reading.pending, answer);
  };

  /** Reads on; null: there is nothing to answer yet. */
  private slice(reading: Reading, startMs: number): FeedAnswer | null {
    const { lookups, memories, entries } = this.setup;
    const { question } = reading.pending;
    const changes = new LogChanges(lookups, memories, reading.places);
    const text = new AnswerText(question);
    const take: TakeChange = (key, map, unit) => {
      if (!text.wants(nameOf(key))) return;
      const change = entries.change(key, ballotAt(map, unit), question.values);
      if (change === null) return;
      text.add(change);
      if (text.isFull) changes.stop();
    };
    let isDone = false;
    while (!isDone && !text.isFull && performance.now() - startMs < SLICE_MS) {
      isDone = changes.read(STEP_RECORDS, take);
      if (!isDone && changes.isBlind(take)) break;
    }
    if (changes.isBlind(take)) throw blind();
    if (changes.areDeletesGone()) throw new VaultError("place_too_old");
    reading.places = changes.places;
    const cursor = this.ends.cursorAt(changes);
    const isSilent = startMs - reading.sinceMs > SILENT_MS;
    if (text.count === 0 && cursor < 0 && !isSilent) return null;
    const place = this.ends.textOf(reading.places);
    const more = !this.ends.isHead(cursor);
    return { kind: "changes", text: text.end(), count: text.count, place, cursor, more };
  }

  close(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    for (const { pending } of this.queue.splice(0)) this.ends.done(pending, STOPPING);
  }
}
