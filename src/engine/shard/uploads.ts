/**
 * A value that arrives in pieces, in the shard's thread: cuts it into chunks, checks JSON on the way, and
 * ends in a manifest, or in one plain record where it turned out small. Nothing of it can be read before its
 * manifest is committed.
 *
 * Between two pieces an upload holds only what does not fill a chunk yet, and that is put aside when memory
 * is short: a client may take hours.
 */

import { type ChunkRef, manifestBytes, writeManifest } from "../../format/manifest.ts";
import { MANIFEST_CHUNKS_MAX } from "../../format/offsets.ts";
import type { Ballot } from "../../format/record.ts";
import { createFrame, type Frame, frameBytes } from "../../format/write-record.ts";
import { failed, isOutvoted, type Outcome, type Write } from "../../rules/write.ts";
import { copyInto, NOTHING } from "../../util/bytes.ts";
import { type Gathering, Gatherings } from "../../util/gathering/gatherings.ts";
import { LeftMemory } from "../../util/left-memory.ts";
import { type BodyProblem, StoredCutter } from "../../value/stored.ts";
import type { Batch } from "../batch/batch.ts";
import { isDiskFull } from "../slabs/io.ts";
import { applyManifest, applyStored } from "./writes.ts";

/** Of the frame that a piece is cut in; no two uploads have one at a time. */
const memory = new LeftMemory();

/**
 * Memory of a shard for chunks that are not full between two pieces. The fronts bound how many uploads there
 * are.
 */
const RESTS = { bytesMax: 16 * 1024 * 1024, countMax: Number.POSITIVE_INFINITY };
const restsOfShards = new WeakMap<Batch, Gatherings>();

function restsOf(batch: Batch): Gatherings {
  let rests = restsOfShards.get(batch);
  if (rests === undefined) {
    rests = new Gatherings(batch.state.dataDirectory, RESTS);
    restsOfShards.set(batch, rests);
  }
  return rests;
}

export class UploadWriter {
  private readonly batch: Batch;
  private readonly write: Write;
  private readonly cutter: StoredCutter | null;
  private readonly keep = (bytes: Uint8Array): void => this.store(bytes);
  /** Of raw bodies: there is more than one chunk. */
  private readonly isLong: boolean;
  /** The chunk that is being filled, and its bytes; null between two pieces. */
  private frame: Frame | null = null;
  private buffer: Uint8Array = NOTHING;
  private filled = 0;
  /** Between two pieces: what the chunk has so far. */
  private rest: Gathering | null = null;
  private totalBytes = 0;
  private over = false;
  private readonly chunks: ChunkRef[] = [];
  private readonly slabs = new Set<number>();
  private failure: Outcome | null = null;
  private readonly lose = (outcome: Outcome): void => {
    this.failure ??= outcome;
  };

  /**
   * @param write kept until the upload ends: its arrays must not be reused
   * @param bodyBytesMin what is known of the body's length already
   */
  constructor(batch: Batch, write: Write, bodyBytesMin = 0) {
    this.batch = batch;
    this.write = write;
    // What other nodes send is in stored form already.
    this.cutter = write.json && write.ballot === null ? new StoredCutter() : null;
    this.isLong = this.cutter === null && bodyBytesMin > batch.state.store.chunkBytes;
  }

  /** Takes the next bytes of the body. Not null: the upload has failed. */
  part(bytes: Uint8Array): Outcome | null {
    if (this.failure !== null) return this.failure;
    this.takeFrame();
    if (this.cutter === null) this.store(bytes);
    else this.refuse(this.cutter.feed(bytes, this.keep));
    this.leaveFrame();
    return this.failure;
  }

  /** Goes on with the chunk that is being filled. */
  private takeFrame(): void {
    const { batch, write, rest } = this;
    const { chunkBytes } = batch.state.store;
    this.frame = createFrame(memory.take(frameBytes(chunkBytes)), write.key.length, chunkBytes);
    this.buffer = this.frame.value;
    if (rest === null || this.failure !== null) return;
    try {
      copyInto(this.buffer, 0, rest.whole());
    } catch (error) {
      this.lost(error as Error);
    }
    rest.empty();
  }

  private leaveFrame(): void {
    if (this.frame === null) return;
    const bytes = this.buffer.subarray(0, this.filled);
    if (this.failure === null && this.filled > 0) {
      this.rest ??= restsOf(this.batch).open((error) => this.lost(error));
      try {
        if (this.rest === null || !this.rest.append(bytes)) this.failure = failed("overloaded");
      } catch (error) {
        this.lost(error as Error);
      }
    }
    memory.leave(this.frame.source.bytes);
    this.frame = null;
    this.buffer = NOTHING;
  }

  /** What was put aside cannot be had. */
  private lost(error: Error): void {
    this.failure ??= failed(isDiskFull(error) ? "disk_full" : "internal", error.message);
  }

  private refuse(problem: BodyProblem | null): void {
    if (problem !== null) this.failure ??= failed(problem.error, problem.detail);
  }

  private store(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && this.failure === null; ) {
      if (this.filled === this.buffer.length) this.writeChunk();
      const length = Math.min(bytes.length - at, this.buffer.length - this.filled);
      copyInto(this.buffer, this.filled, bytes.subarray(at, at + length));
      this.filled += length;
      at += length;
      // The first chunk waits for more where it may be all there is: then it becomes a plain record.
      if (this.filled === this.buffer.length && (this.isLong || this.chunks.length > 0)) this.writeChunk();
    }
  }

  /** Writes what the buffer has as the next chunk. */
  private writeChunk(): void {
    const frame = this.frame as Frame;
    const bytes = this.filled;
    this.filled = 0;
    if (this.chunks.length === MANIFEST_CHUNKS_MAX) {
      this.failure = failed("too_large");
      return;
    }
    if (this.chunks.length === 0 && this.batch.refusesKey(this.write)) {
      this.failure = failed("key_refused");
      return;
    }
    try {
      const ref = this.batch.appendChunk(this.write, this.chunks.length, frame, bytes, this.lose);
      this.chunks.push(ref);
      this.totalBytes += bytes;
      if (!this.slabs.has(ref.sequence)) {
        this.slabs.add(ref.sequence);
        this.batch.state.slabs.upload(ref.sequence, 1);
      }
    } catch (error) {
      const outcome = this.batch.log.failure(error);
      this.batch.fail(outcome);
      this.failure = outcome;
    }
  }

  /**
   * Ends the body and stages what makes it visible. What is refused for its ballot stays as it is, and may
   * come again under a higher one.
   * @param ballot of an accept
   * @param trailer fields to be kept with the value, where they were not known before
   */
  finish(ballot: Ballot | null = null, trailer = this.write.trailer): Outcome {
    const { cutter, batch, write } = this;
    write.ballot = ballot;
    write.trailer = trailer;
    this.takeFrame();
    if (this.failure === null && cutter !== null) this.refuse(cutter.finish(this.keep));
    if (this.failure === null && this.chunks.length === 0) {
      const outcome = applyStored(batch, write, this.buffer.subarray(0, this.filled));
      if (isOutvoted(outcome)) this.leaveFrame();
      else this.end();
      return outcome;
    }
    if (this.failure === null && this.filled > 0) this.writeChunk();
    if (this.failure !== null) {
      this.end();
      return this.failure;
    }
    const manifest = new Uint8Array(manifestBytes(this.chunks.length));
    writeManifest(manifest, 0, this.totalBytes, this.chunks);
    const outcome = applyManifest(batch, write, manifest, this.chunks);
    // Until it is published the chunks are only protected by not being compacted, and compaction never runs
    // inside a batch.
    if (isOutvoted(outcome)) this.leaveFrame();
    else this.end();
    // A write that failed in between took chunks back; the manifest must not outlive them.
    return this.failure ?? outcome;
  }

  /** Nothing is kept for it any more. */
  get isOver(): boolean {
    return this.over;
  }

  /**
   * Lets go of the slabs and the memory: no part may follow. Chunks that no manifest names are dead bytes.
   * Idempotent.
   */
  end(): void {
    if (this.over) return;
    this.over = true;
    for (const sequence of this.slabs) this.batch.state.slabs.upload(sequence, -1);
    this.rest?.close();
    if (this.frame !== null) memory.leave(this.frame.source.bytes);
    this.frame = null;
  }
}
