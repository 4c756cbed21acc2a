/**
 * Which buckets there are: those that were made, which have their marker, and those that a key is in. That a
 * bucket is there is remembered for a moment, so that not every write has to ask; until one goes, at
 * whichever front of the node.
 */
import { rangeOf } from "../../engine/catalog/runs/listing.ts";
import type { FrontContext } from "../../server/http/context.ts";
import { sourceOf } from "../../server/list/list-source.ts";
import { sameBytes } from "../../util/bytes.ts";
import { S3Error, s3ErrorOf } from "../protocol/errors.ts";
import { markerOf } from "../protocol/names.ts";
import { factsAt } from "./objects.ts";
import type { S3Counters } from "./s3-memory.ts";

/** How long it is believed that a bucket is there. */
const KNOWN_MS = 5000;
const KNOWN_MAX = 10_000;

export class Buckets {
  private readonly context: FrontContext;
  private readonly counters: S3Counters;
  private readonly now: () => number;
  private readonly known = new Map<string, number>();
  /** What of `bucketsGone` is no longer in `known`. */
  private gone = 0;

  constructor(context: FrontContext, counters: S3Counters, now = () => performance.now()) {
    this.context = context;
    this.counters = counters;
    this.now = now;
  }

  /** Whether it is there, as far as that is remembered. */
  isKnown(bucket: string): boolean {
    const { bucketsGone } = this.counters;
    if (bucketsGone !== this.gone) this.known.clear();
    this.gone = bucketsGone;
    const untilMs = this.known.get(bucket);
    return untilMs !== undefined && this.now() < untilMs;
  }

  /** It is there. */
  note(bucket: string): void {
    if (this.known.size >= KNOWN_MAX) this.known.clear();
    this.known.set(bucket, this.now() + KNOWN_MS);
  }

  /** One has gone. */
  noteGone(): void {
    this.counters.noteGone();
  }

  /** @throws S3Error NoSuchBucket */
  async demand(bucket: string): Promise<void> {
    if (this.isKnown(bucket) || (await this.exists(bucket))) return;
    throw new S3Error("NoSuchBucket");
  }

  async exists(bucket: string): Promise<boolean> {
    const { bucketsGone } = this.counters;
    const isThere = (await factsAt(this.context, markerOf(bucket))) !== null || !(await this.isEmpty(bucket));
    if (!isThere) this.known.delete(bucket);
    else if (this.counters.bucketsGone === bucketsGone) this.note(bucket);
    return isThere;
  }

  /** Whether no object is in it. */
  async isEmpty(bucket: string): Promise<boolean> {
    const source = sourceOf(this.context);
    if ("code" in source) throw s3ErrorOf(source.code, source.detail);
    const marker = markerOf(bucket);
    for (let range = rangeOf(marker); ; ) {
      const answer = await source.ask({ kind: "names", range, limit: 2 }, null);
      if (answer.kind === "refused") throw s3ErrorOf(answer.code, answer.detail);
      if (answer.keys.some((key) => !sameBytes(key, marker))) return false;
      if (answer.left === null) return true;
      range = answer.left;
    }
  }
}
