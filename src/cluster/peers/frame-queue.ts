/**
 * Small operations for one node (frames, opaque here) travel in batches, with a window of batches in flight.
 *
 *   send ─► queue ─► batch ─► POST /_peer/batch ─┐      at most `window` of these at once; when one is answered,
 *                    batch ─► POST /_peer/batch ─┤      what has gathered since is the next
 *                    …                           ┘
 *
 * The window follows the link's round trip: a node nearby gets few batches, so that frames gather while one
 * is out (a batch costs about as much as fifty frames); over a long link so many that a frame never waits for
 * more than about PACE_MS to leave.
 *
 * Invariants: every frame is settled exactly once; queue and batches are bounded; a failure says whether the
 * node may have seen the frame ("unknown") or surely has not ("not_sent").
 */
import { randomBytes } from "node:crypto";
import { PEER_BATCH_BYTES, PEER_BATCH_FRAMES_MAX } from "../../util/limits.ts";
import { withParameter } from "../identity/life.ts";
import { reasonOf } from "../link/exchange.ts";
import type { NodeHttp } from "../link/node-http.ts";
import { NAME_PARAMETER } from "../link/paths.ts";
import { FRAME_OVERHEAD_BYTES, joinFrames, splitFrames } from "./frames.ts";
import { PeerError, refusedError } from "./peer-error.ts";
import type { PeerPulse } from "./peer-pulse.ts";
import type { Telling } from "./telling.ts";

/** Time between two batches that the window allows for. */
const PACE_MS = 2;
export const WINDOW_MAX = 96;
/** Window while the round trip is not known. */
const WINDOW_FIRST = 8;

export interface FrameQueueSetup {
  http: NodeHttp;
  pulse: PeerPulse;
  telling: Telling;
  /** Frames that wait for an answer, queued and in flight, and the same in bytes. */
  framesMax: number;
  bytesMax: number;
  /**
   * A frame that has not left in this time has failed; so has one that is not answered, and its batch with
   * it.
   */
  operationMs: number;
  /** The latter only after this time, as long as the node is there; left out: the same. */
  answerMs?: number;
  /** The window of a node nearby, in batches. */
  windowMin: number;
  /** Its frames must not be done twice where a batch comes twice: each batch has a name. */
  onlyOnce?: boolean;
}

interface Waiting {
  frame: Uint8Array;
  /** When it was queued, on the patient clock. */
  sinceMs: number;
  resolve(answer: Uint8Array): void;
  reject(error: PeerError): void;
}

interface Batch {
  frames: Waiting[];
  bytes: number;
  cancel: (why: Error) => void;
}

export class FrameQueue {
  private readonly setup: FrameQueueSetup;
  private queue: Waiting[] = [];
  private queueBytes = 0;
  private outstandingFrames = 0;
  private outstandingBytes = 0;
  private readonly batches = new Set<Batch>();
  private scheduled = false;
  private closed = false;
  private readonly ownName = randomBytes(8).toString("hex");
  private named = 0;

  constructor(setup: FrameQueueSetup) {
    this.setup = setup;
  }

  /** Frames that wait to leave, and their bytes. */
  get waiting(): number {
    return this.queue.length;
  }

  get waitingBytes(): number {
    return this.queueBytes;
  }

  /** Batches that are on their way. */
  get inFlight(): number {
    return this.batches.size;
  }

  /** Whether there is no room for one more frame. */
  isFull(frameBytes: number): boolean {
    const { framesMax, bytesMax } = this.setup;
    return (
      this.outstandingFrames >= framesMax ||
      this.outstandingBytes + frameBytes > Math.max(bytesMax, frameBytes)
    );
  }

  send(frame: Uint8Array, resolve: Waiting["resolve"], reject: Waiting["reject"]): void {
    this.queue.push({ frame, sinceMs: this.setup.pulse.patientMs, resolve, reject });
    this.queueBytes += frame.length;
    this.outstandingFrames++;
    this.outstandingBytes += frame.length;
    this.schedule();
  }

  /** Every now and then: whatever has taken too long. */
  sweep(): void {
    const { pulse, operationMs, answerMs = operationMs } = this.setup;
    const isOlder = ({ sinceMs }: Waiting, ms: number) => pulse.patientMs - sinceMs >= ms;
    const sentMs = pulse.state === "down" ? operationMs : answerMs;
    // Frames left in the order in which they came.
    for (const batch of this.batches) {
      if (!isOlder(batch.frames[0], sentMs)) break;
      batch.cancel(this.lateError("unknown", sentMs));
    }
    if (this.queue.length > 0 && isOlder(this.queue[0], operationMs))
      this.failQueue(this.lateError("not_sent", operationMs), (waiting) => isOlder(waiting, operationMs));
  }

  /** Fails what waits to leave. */
  failWaiting(why: PeerError): void {
    this.failQueue(why);
  }

  /** Fails what waits, and what is under way. */
  fail(queued: PeerError, sent: Error): void {
    this.failWaiting(queued);
    for (const batch of [...this.batches]) batch.cancel(sent);
  }

  /** The same for good. */
  close(why: PeerError): void {
    this.closed = true;
    this.fail(why, new Error("closed"));
  }

  /** Batches leave at the end of the event loop's turn: what one turn brings goes together. */
  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(this.flush);
  }

  private readonly flush = (): void => {
    this.scheduled = false;
    while (this.queue.length > 0 && this.batches.size < this.window()) this.sendBatch();
  };

  private window(): number {
    const { pulse, windowMin } = this.setup;
    const { linkMs } = pulse;
    if (linkMs === 0) return WINDOW_FIRST;
    return Math.min(WINDOW_MAX, Math.max(windowMin, Math.ceil(linkMs / PACE_MS)));
  }

  private sendBatch(): void {
    let count = 0;
    let bytes = 0;
    while (count < this.queue.length && count < PEER_BATCH_FRAMES_MAX) {
      const length = this.queue[count].frame.length + FRAME_OVERHEAD_BYTES;
      if (count > 0 && bytes + length > PEER_BATCH_BYTES) break;
      bytes += length;
      count++;
    }
    const frames = count === this.queue.length ? this.queue : this.queue.slice(0, count);
    this.queue = count === this.queue.length ? [] : this.queue.slice(count);
    const frameBytes = bytes - count * FRAME_OVERHEAD_BYTES;
    this.queueBytes -= frameBytes;
    const body = joinFrames(
      frames.map(({ frame }) => frame),
      frameBytes,
    );
    const batch: Batch = { frames, bytes: frameBytes, cancel: () => {} };
    this.batches.add(batch);
    const { http, telling, onlyOnce = false } = this.setup;
    const { target: plain, words } = telling.batchTarget();
    const target = onlyOnce ? this.withName(plain) : plain;
    batch.cancel = http.exchange("POST", target, body, {
      answered: (status, answer) => {
        if (status !== 200) telling.wasRefused(target, status, answer);
        else if (words !== null) telling.told(words);
        this.batchAnswered(batch, status, answer);
      },
      failed: (error, sent) => this.batchFailed(batch, error, sent),
    });
  }

  private withName(target: string): string {
    return withParameter(target, NAME_PARAMETER, `${this.ownName}${(this.named++).toString(16)}`);
  }

  private batchAnswered(batch: Batch, status: number, answer: Buffer): void {
    this.settled(batch);
    const { http, pulse } = this.setup;
    const answers = status === 200 ? splitFrames(answer, batch.frames.length) : null;
    if (answers !== null && answers.length === batch.frames.length) {
      pulse.heard();
      for (let index = 0; index < answers.length; index++) batch.frames[index].resolve(answers[index]);
      return;
    }
    const error =
      status === 200
        ? new PeerError("peer_failed", "unknown", `${http.url} answered another number of frames`, status)
        : refusedError({ status, body: answer });
    for (const waiting of batch.frames) waiting.reject(error);
    // Too busy, or stopping, is a sign of life; anything else is not how it should be.
    if (status === 503) pulse.heard();
    else pulse.failed(error.message, false);
  }

  private batchFailed(batch: Batch, error: Error, sent: boolean): void {
    this.settled(batch);
    const code = error instanceof PeerError ? error.code : this.closed ? "peer_closed" : "peer_failed";
    const own = new PeerError(code, sent ? "unknown" : "not_sent", reasonOf(error));
    for (const waiting of batch.frames) waiting.reject(own);
    this.setup.pulse.failed(own.message, !sent && code === "peer_failed");
  }

  private settled(batch: Batch): void {
    this.batches.delete(batch);
    this.outstandingFrames -= batch.frames.length;
    this.outstandingBytes -= batch.bytes;
    if (this.queue.length > 0) this.schedule();
  }

  /** @param which those of the queue's front; all when left out */
  private failQueue(error: PeerError, which: (waiting: Waiting) => boolean = () => true): void {
    let count = 0;
    while (count < this.queue.length && which(this.queue[count])) count++;
    const failed = this.queue.slice(0, count);
    this.queue = this.queue.slice(count);
    this.outstandingFrames -= count;
    for (const { frame, reject } of failed) {
      this.queueBytes -= frame.length;
      this.outstandingBytes -= frame.length;
      reject(error);
    }
  }

  private lateError(outcome: PeerError["outcome"], ms: number): PeerError {
    return new PeerError("peer_timeout", outcome, `${this.setup.http.url} did not answer in ${ms} ms`);
  }
}
