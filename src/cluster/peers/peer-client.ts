/**
 * The way to one other node: small operations (frames, opaque here) travel in batches, with a window of
 * batches in flight; large values as streams of their own; probes measure the round trip and find out whether
 * the node is there.
 *
 *   send ─► queue ─► batch ─► POST /_peer/batch ─┐      at most `window` of these at once; when one is answered,
 *                    batch ─► POST /_peer/batch ─┤      what has gathered since is the next
 *                    …                           ┘
 *
 * The window follows the link's round trip: a node nearby gets few batches, so that frames gather while one
 * is out (a batch costs about as much as fifty frames); over a long link so many that a frame never waits for
 * more than about PACE_MS to leave.
 *
 * Invariants: every frame is settled exactly once; queue, batches and streams are bounded; a failure says
 * whether the node may have seen the frame ("unknown") or surely has not ("not_sent"); a pause of this
 * process is not taken for silence of the node.
 */

import { Receiver } from "../../auth/answer.ts";
import type { RequestSigner } from "../../auth/signature.ts";
import {
  OPERATION_MS_MAX,
  PEER_BATCH_BYTES,
  PEER_BATCH_FRAMES_MAX,
  PEER_FRAME_BYTES_MAX,
  PEER_STREAMS_MAX,
} from "../../util/limits.ts";
import { FROM_PARAMETER, MARKS_PARAMETER, parameterOf, targetFrom } from "../identity/life.ts";
import { ExchangeError, type Method, type NodeAnswer, NodeHttp, reasonOf } from "../link/node-http.ts";
import { PEER_BATCH_PATH, PEER_PING_PATH, PEER_VALUE_PATH } from "../link/paths.ts";
import type { PeerTls } from "../link/peer-tls.ts";
import { downloadOf, type PeerDownload, withHead } from "../link/value-stream.ts";
import { FRAME_OVERHEAD_BYTES, joinFrames, splitFrames } from "../wire/frames.ts";
import { closedError, failedError, PeerError, refusedError } from "./peer-error.ts";
import { PeerPulse, type PeerState } from "./peer-pulse.ts";

/** Time between two batches that the window allows for. */
const PACE_MS = 2;
const WINDOW_MIN = 2;
const WINDOW_MAX = 96;
/** Window while the round trip is not known. */
const WINDOW_FIRST = 8;
/** Resolution of PeerLimits, and how soon a node hears how far the own log was answered. */
const SWEEP_MS = 100;
/** Sooner than that batches tell it, so that under load no requests of their own are needed for it. */
const BATCH_TELL_MS = SWEEP_MS / 2;
/** Connections beyond the window: for probes and single requests. */
const CONNECTIONS_SPARE = 4;
/** For layout and the like. */
const REQUEST_MS = 5000;

export interface PeerLimits {
  /** Frames that wait for an answer, queued and in flight. */
  framesMax: number;
  /** The same in bytes. */
  bytesMax: number;
  /** A frame that is not answered in this time has failed, and its batch with it. */
  operationMs: number;
  /** A node that has not answered anything for so long, though asked, is down. */
  silenceMs: number;
  /** Streams at once, both ways together. */
  streamsMax: number;
}

const PEER_LIMITS: PeerLimits = {
  framesMax: 64 * 1024,
  bytesMax: 64 * 1024 * 1024,
  operationMs: OPERATION_MS_MAX,
  silenceMs: 2000,
  streamsMax: PEER_STREAMS_MAX,
};

export interface PeerClientOptions {
  /** The node's public URL. */
  url: string;
  /** Where it is reached, when that is not its URL. */
  address?: string;
  /** Own address that connections leave from; left out: as the system chooses. */
  localAddress?: string;
  /** null: there is no key. */
  sign: RequestSigner | null;
  /** For https. */
  tls?: PeerTls;
  limits?: Partial<PeerLimits>;
  /** Milliseconds on a clock that only goes forward. */
  now?: () => number;
  /** See PulseOptions. */
  onClock?: (millis: number, roundTripMs: number) => void;
  /** Who this node is, for the other; left out: nobody says. */
  identity?: PeerIdentity;
}

/** What a node says of itself with every request, and hears. */
export interface PeerIdentity {
  /** See cluster/identity/life.ts. */
  life(): string;
  marks(): string;
  /** Whether it counts who has answered. */
  counts(life: string): boolean;
  /** The node refuses what carried this life. */
  refused(life: string, reason: string): void;
}

export type { PeerDownload } from "../link/value-stream.ts";
export { PeerError, type PeerErrorCode } from "./peer-error.ts";
export type { PeerState } from "./peer-pulse.ts";

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

export class PeerClient {
  readonly url: string;
  private readonly http: NodeHttp;
  private readonly streams: NodeHttp;
  private readonly limits: PeerLimits;
  private readonly sweeper: NodeJS.Timeout;
  private queue: Waiting[] = [];
  private queueBytes = 0;
  private outstandingFrames = 0;
  private outstandingBytes = 0;
  private readonly batches = new Set<Batch>();
  private scheduled = false;
  private streamCount = 0;
  private closed = false;
  private readonly pulse: PeerPulse;
  private readonly now: () => number;
  private readonly identity: PeerIdentity | null;
  /** What the node knows of the own life and marks, whether it is being told, and when it was last. */
  private toldWords = "";
  private telling = false;
  private tellMs = Number.NEGATIVE_INFINITY;

  constructor(options: PeerClientOptions) {
    const { url, address, localAddress, sign: signer, tls } = options;
    this.url = url;
    this.now = options.now ?? (() => performance.now());
    this.identity = options.identity ?? null;
    this.limits = { ...PEER_LIMITS, ...options.limits };
    const common = { url, address, localAddress, signer, tls, receiver: new Receiver(url) };
    this.http = new NodeHttp({ ...common, connections: WINDOW_MAX + CONNECTIONS_SPARE });
    this.streams = new NodeHttp({ ...common, connections: this.limits.streamsMax });
    this.pulse = new PeerPulse(this.http, {
      silenceMs: this.limits.silenceMs,
      now: this.now,
      isWaiting: () => this.batches.size > 0,
      onDown: (reason) => this.wentDown(reason),
      onClock: options.onClock,
      told: (target) => this.withMarks(target),
      counts: (life) => this.identity?.counts(life) ?? true,
      onRefusal: (target, status, body) => this.wasRefused(target, status, body),
    });
    this.sweeper = setInterval(() => this.sweep(), SWEEP_MS);
    this.sweeper.unref();
    this.pulse.start();
  }

  /** suspect: not heard of yet, or something failed since. */
  get state(): PeerState {
    return this.pulse.state;
  }

  /** Mean round trip of the probes, lately; 0 until the first. */
  get roundTripMs(): number {
    return this.pulse.roundTripMs;
  }

  get queuedFrames(): number {
    return this.queue.length;
  }

  get queuedBytes(): number {
    return this.queueBytes;
  }

  /** Batches that are on their way. */
  get inFlight(): number {
    return this.batches.size;
  }

  /** Whether the node knows how far the own log was answered. */
  get marksTold(): boolean {
    return this.words() === this.toldWords;
  }

  /** What went wrong last, for a person; empty while all is well. */
  get lastFailure(): string {
    return this.pulse.failure;
  }

  /**
   * Sends one operation; answers the node's answer to it. Rejects with a PeerError.
   * @param frame at most PEER_FRAME_BYTES_MAX; must not change until this is settled
   */
  send(frame: Uint8Array): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const refusal = this.refusal(frame.length);
      if (refusal !== null) {
        reject(refusal);
        return;
      }
      this.queue.push({ frame, sinceMs: this.pulse.patientMs, resolve, reject });
      this.queueBytes += frame.length;
      this.outstandingFrames++;
      this.outstandingBytes += frame.length;
      this.schedule();
    });
  }

  /**
   * Sends one operation that may take its time by itself: the others of a batch would wait for its answer.
   * Rejects with a PeerError.
   */
  async sendAlone(frame: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (this.pulse.state === "down") throw this.downError();
    const target = this.from(PEER_BATCH_PATH);
    const { status, body } = await this.request("POST", target, joinFrames([frame], frame.length), timeoutMs);
    const answers = status === 200 ? splitFrames(body, 1) : null;
    if (answers?.length === 1) return answers[0];
    throw refusedError({ status, body });
  }

  /** A single request, for what is rare. Rejects with a PeerError; any status is an answer. */
  async request(
    method: Method,
    target: string,
    body: Uint8Array | null,
    timeoutMs = REQUEST_MS,
  ): Promise<NodeAnswer> {
    if (this.closed) throw closedError();
    try {
      return await this.http.request(method, target, body, timeoutMs);
    } catch (error) {
      throw failedError(error as ExchangeError);
    }
  }

  /**
   * Streams a value to the node; answers the node's answer. Reads `body` no faster than the node takes it;
   * what `body` throws ends the stream before its end, so that the node keeps nothing. Rejects with a
   * PeerError.
   * @param head what the node needs to know of the value, at most PEER_HEAD_BYTES_MAX
   * @param signal breaks it off
   */
  async putStream(
    head: Uint8Array,
    body: AsyncIterable<Uint8Array>,
    signal: AbortSignal | null = null,
  ): Promise<Buffer> {
    return this.stream(async () => {
      const target = this.from(PEER_VALUE_PATH);
      const answer = await this.streams.upload("PUT", target, withHead(head, body), signal);
      if (answer.status !== 200) throw refusedError(answer);
      return answer.body;
    });
  }

  /**
   * Asks for a value as a stream. Rejects with a PeerError whose `status` is 404 when the node does not have
   * it. It counts as a stream until its body has ended.
   */
  async getStream(head: Uint8Array): Promise<PeerDownload> {
    return this.stream(async () => {
      const answer = await this.streams.download(this.from(PEER_VALUE_PATH), head);
      if (!("stream" in answer)) throw refusedError(answer);
      this.streamCount++;
      answer.stream.once("close", () => this.streamCount--);
      return downloadOf(answer);
    });
  }

  /** Fails what waits ("not_sent") and what is under way ("unknown"). Idempotent. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.sweeper);
    this.failQueue(closedError());
    this.failBatches(new Error("closed"));
    this.pulse.close();
    await Promise.all([this.http.close(), this.streams.close()]);
  }

  /** A target with who sends it. */
  private from(target: string): string {
    return targetFrom(target, this.identity?.life() ?? null);
  }

  /** What is said of the own life and marks. */
  private words(): string {
    const marks = this.identity?.marks() ?? "";
    return marks === "" ? "" : `${this.identity?.life()}&${MARKS_PARAMETER}=${marks}`;
  }

  private withMarks(target: string): string {
    const words = this.words();
    return words === "" ? this.from(target) : targetFrom(target, words);
  }

  /** A batch tells how far the own log was answered, now and then. */
  private batchTarget(): { target: string; words: string | null } {
    const words = this.now() - this.tellMs < BATCH_TELL_MS ? "" : this.words();
    if (words === "" || words === this.toldWords) return { target: this.from(PEER_BATCH_PATH), words: null };
    this.tellMs = this.now();
    return { target: targetFrom(PEER_BATCH_PATH, words), words };
  }

  /** Where no batch has told it, a pulse of its own does, soon. */
  private tellMarks(): void {
    if (this.identity === null || this.telling || this.pulse.state !== "up") return;
    if (this.now() - this.tellMs < SWEEP_MS) return;
    const words = this.words();
    if (words === this.toldWords) return;
    this.telling = true;
    this.tellMs = this.now();
    const target = targetFrom(PEER_PING_PATH, words);
    const over = () => {
      this.telling = false;
    };
    const giveUp = this.http.exchange("GET", target, null, {
      answered: (status, body) => {
        clearTimeout(timer);
        over();
        if (status === 200) this.toldWords = words;
        else this.wasRefused(target, status, body);
      },
      failed: () => {
        clearTimeout(timer);
        over();
      },
    });
    const timer = setTimeout(() => giveUp(new Error("no answer to a pulse")), REQUEST_MS);
    timer.unref();
  }

  private wasRefused(target: string, status: number, body: Buffer): void {
    const life = parameterOf(target.slice(target.indexOf("?") + 1), FROM_PARAMETER);
    if (status !== 409 || life === null) return;
    try {
      this.identity?.refused(life, String(JSON.parse(body.toString()).error));
    } catch {
      // Not from a node of ours.
    }
  }

  private refusal(frameBytes: number): PeerError | null {
    if (frameBytes > PEER_FRAME_BYTES_MAX) throw new Error(`a frame of ${frameBytes} bytes is too long`);
    if (this.closed) return closedError();
    if (this.pulse.state === "down") return this.downError();
    const isFull =
      this.outstandingFrames >= this.limits.framesMax ||
      this.outstandingBytes + frameBytes > Math.max(this.limits.bytesMax, frameBytes);
    if (!isFull) return null;
    return new PeerError("peer_overloaded", "not_sent", `too much is waiting for ${this.url}`);
  }

  private async stream<Result>(run: () => Promise<Result>): Promise<Result> {
    if (this.closed) throw closedError();
    if (this.pulse.state === "down") throw this.downError();
    if (this.streamCount >= this.limits.streamsMax)
      throw new PeerError("peer_overloaded", "not_sent", `too many streams to ${this.url}`);
    this.streamCount++;
    try {
      return await run();
    } catch (error) {
      throw error instanceof ExchangeError ? failedError(error) : error;
    } finally {
      this.streamCount--;
    }
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
    const { linkMs } = this.pulse;
    if (linkMs === 0) return WINDOW_FIRST;
    return Math.min(WINDOW_MAX, Math.max(WINDOW_MIN, Math.ceil(linkMs / PACE_MS)));
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
    const { target, words } = this.batchTarget();
    batch.cancel = this.http.exchange("POST", target, body, {
      answered: (status, answer) => {
        if (status !== 200) this.wasRefused(target, status, answer);
        else if (words !== null) this.toldWords = words;
        this.batchAnswered(batch, status, answer);
      },
      failed: (error, sent) => this.batchFailed(batch, error, sent),
    });
  }

  private batchAnswered(batch: Batch, status: number, answer: Buffer): void {
    this.settled(batch);
    const answers = status === 200 ? splitFrames(answer, batch.frames.length) : null;
    if (answers !== null && answers.length === batch.frames.length) {
      this.pulse.heard();
      for (let index = 0; index < answers.length; index++) batch.frames[index].resolve(answers[index]);
      return;
    }
    const error =
      status === 200
        ? new PeerError("peer_failed", "unknown", `${this.url} answered another number of frames`, status)
        : refusedError({ status, body: answer });
    for (const waiting of batch.frames) waiting.reject(error);
    // Too busy, or stopping, is a sign of life; anything else is not how it should be.
    if (status === 503) this.pulse.heard();
    else this.pulse.failed(error.message, false);
  }

  private batchFailed(batch: Batch, error: Error, sent: boolean): void {
    this.settled(batch);
    const code = error instanceof PeerError ? error.code : this.closed ? "peer_closed" : "peer_failed";
    const own = new PeerError(code, sent ? "unknown" : "not_sent", reasonOf(error));
    for (const waiting of batch.frames) waiting.reject(own);
    this.pulse.failed(own.message, !sent && code === "peer_failed");
  }

  private settled(batch: Batch): void {
    this.batches.delete(batch);
    this.outstandingFrames -= batch.frames.length;
    this.outstandingBytes -= batch.bytes;
    if (this.queue.length > 0) this.schedule();
  }

  private wentDown(reason: string): void {
    this.failQueue(this.downError());
    this.failBatches(new PeerError("peer_timeout", "unknown", `${this.url} has gone silent: ${reason}`));
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

  private lateError(outcome: PeerError["outcome"]): PeerError {
    return new PeerError(
      "peer_timeout",
      outcome,
      `${this.url} did not answer in ${this.limits.operationMs} ms`,
    );
  }

  private failBatches(why: Error): void {
    for (const batch of [...this.batches]) batch.cancel(why);
  }

  /** Every SWEEP_MS: whatever has taken too long. */
  private sweep(): void {
    this.pulse.sweep();
    this.tellMarks();
    // Frames left in the order in which they came.
    const isLate = ({ sinceMs }: Waiting) => this.pulse.patientMs - sinceMs >= this.limits.operationMs;
    for (const batch of this.batches) {
      if (!isLate(batch.frames[0])) break;
      batch.cancel(this.lateError("unknown"));
    }
    if (this.queue.length > 0 && isLate(this.queue[0])) this.failQueue(this.lateError("not_sent"), isLate);
  }

  private downError(): PeerError {
    return new PeerError("peer_down", "not_sent", `${this.url} is down: ${this.pulse.failure}`);
  }
}
