/** What the fronts of S3 of one node have in common, in memory that their threads share. */
import { createRepeats } from "../signature/repeats.ts";

/** Places of the counters. */
const WHOLE_BYTES = 0;
const BUCKETS_GONE = 1;
const COUNTERS = 2;

/** As it goes from thread to thread. */
export interface S3Memory {
  /** Of `Repeats`. */
  repeats: SharedArrayBuffer;
  counters: SharedArrayBuffer;
}

export function createS3Memory(): S3Memory {
  return {
    repeats: createRepeats(),
    counters: new SharedArrayBuffer(COUNTERS * Int32Array.BYTES_PER_ELEMENT),
  };
}

/** The counters, as a thread uses them. */
export class S3Counters {
  private readonly words: Int32Array;

  constructor({ counters }: S3Memory) {
    this.words = new Int32Array(counters);
  }

  /** Bodies that are gathered whole hold so many bytes more, or fewer. Answers what they hold now. */
  addWhole(bytes: number): number {
    return Atomics.add(this.words, WHOLE_BYTES, bytes) + bytes;
  }

  /** How often a bucket has gone, at any front. */
  get bucketsGone(): number {
    return Atomics.load(this.words, BUCKETS_GONE);
  }

  /** A bucket has gone: who remembers that it is there is to ask again. */
  noteGone(): void {
    Atomics.add(this.words, BUCKETS_GONE, 1);
  }
}
