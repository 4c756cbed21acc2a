/**
 * The way to one other node: small operations travel in batches (frame-queue.ts), large values as streams of
 * their own (peer-streams.ts); probes measure the round trip and find out whether the node is there
 * (peer-pulse.ts).
 *
 * Invariants: every frame is settled exactly once; queue, batches and streams are bounded; a failure says
 * whether the node may have seen the frame ("unknown") or surely has not ("not_sent"); a pause of this
 * process is not taken for silence of the node.
 */

import { Receiver } from "../../auth/answer.ts";
import type { RequestSigner } from "../../auth/signature.ts";
import { OPERATION_MS_MAX, PEER_FRAME_BYTES_MAX, PEER_STREAMS_MAX } from "../../util/limits.ts";
import type { ExchangeError, Method, NodeAnswer } from "../link/exchange.ts";
import { NodeHttp } from "../link/node-http.ts";
import { PEER_BATCH_PATH } from "../link/paths.ts";
import type { PeerTls } from "../link/peer-tls.ts";
import type { PeerDownload } from "../link/value-stream.ts";
import { FrameQueue, WINDOW_MAX } from "./frame-queue.ts";
import { joinFrames, splitFrames } from "./frames.ts";
import { closedError, failedError, PeerError, refusedError } from "./peer-error.ts";
import { PeerPulse, type PeerState } from "./peer-pulse.ts";
import { PeerStreams } from "./peer-streams.ts";
import { type PeerIdentity, TELL_MS, Telling } from "./telling.ts";

/** Resolution of PeerLimits. */
const SWEEP_MS = TELL_MS;
/**
 * Batches to a node nearby that are under way: of frames that it answers by itself, and of operations that it
 * runs with the help of others, which take longer.
 */
const WINDOW_MIN = 2;
const HANDED_WINDOW_MIN = 8;
/**
 * What more an answer to the latter may take than twice the time of an operation: waiting in line, and
 * itself.
 */
const HANDED_SPARE_MS = 1000;
/** Connections beyond the windows: for probes and single requests. */
const CONNECTIONS_SPARE = 4;
/** For layout and the like. */
const REQUEST_MS = 5000;

export interface PeerLimits {
  /** Frames that wait for an answer, queued and in flight; of those that are handed on as many again. */
  framesMax: number;
  /** The same in bytes. */
  bytesMax: number;
  /** See FrameQueueSetup. */
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

export type { PeerDownload } from "../link/value-stream.ts";
export { PeerError, type PeerErrorCode } from "./peer-error.ts";
export type { PeerState } from "./peer-pulse.ts";
export type { PeerIdentity } from "./telling.ts";

export class PeerClient {
  readonly url: string;
  private readonly http: NodeHttp;
  private readonly streamHttp: NodeHttp;
  private readonly sweeper: NodeJS.Timeout;
  private readonly pulse: PeerPulse;
  private readonly telling: Telling;
  private readonly frames: FrameQueue;
  private readonly handed: FrameQueue;
  /** Both. */
  private readonly queues: readonly FrameQueue[];
  private readonly streams: PeerStreams;
  private closed = false;

  constructor(options: PeerClientOptions) {
    const { url, address, localAddress, sign: signer, tls, identity = null, onClock } = options;
    const now = options.now ?? (() => performance.now());
    const { silenceMs, streamsMax, ...queueLimits } = { ...PEER_LIMITS, ...options.limits };
    this.url = url;
    const common = { url, address, localAddress, signer, tls, receiver: new Receiver(url) };
    this.http = new NodeHttp({ ...common, connections: 2 * WINDOW_MAX + CONNECTIONS_SPARE });
    this.streamHttp = new NodeHttp({ ...common, connections: streamsMax });
    this.telling = new Telling(this.http, identity, now);
    this.pulse = new PeerPulse(this.http, {
      ...{ silenceMs, now, onClock },
      isWaiting: () => this.inFlight > 0,
      onDown: (reason) => this.wentDown(reason),
      told: (target) => this.telling.withMarks(target),
      counts: (life) => this.telling.counts(life),
      onRefusal: (target, status, body) => this.telling.wasRefused(target, status, body),
    });
    const way = { http: this.http, pulse: this.pulse, telling: this.telling, ...queueLimits };
    this.frames = new FrameQueue({ ...way, windowMin: WINDOW_MIN });
    const answerMs = 2 * queueLimits.operationMs + HANDED_SPARE_MS;
    this.handed = new FrameQueue({ ...way, windowMin: HANDED_WINDOW_MIN, answerMs, onlyOnce: true });
    this.queues = [this.frames, this.handed];
    this.streams = new PeerStreams({
      ...{ http: this.streamHttp, streamsMax },
      from: (target) => this.telling.from(target),
      hindrance: () => this.hindrance(),
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
    return this.frames.waiting + this.handed.waiting;
  }

  get queuedBytes(): number {
    return this.frames.waitingBytes + this.handed.waitingBytes;
  }

  /** Batches that are on their way. */
  get inFlight(): number {
    return this.frames.inFlight + this.handed.inFlight;
  }

  /** Whether the node knows how far the own log was answered. */
  get marksTold(): boolean {
    return this.telling.isUpToDate;
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
    return this.sendBy(this.frames, frame);
  }

  /**
   * The same for an operation that the node asks others for in turn. It has a window of its own: what waits
   * for the answers of others must not be in the way of those.
   */
  handOn(frame: Uint8Array): Promise<Uint8Array> {
    return this.sendBy(this.handed, frame);
  }

  private sendBy(queue: FrameQueue, frame: Uint8Array): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const refusal = this.refusal(queue, frame.length);
      if (refusal !== null) reject(refusal);
      else queue.send(frame, resolve, reject);
    });
  }

  /**
   * Sends one operation that may take its time by itself: the others of a batch would wait for its answer.
   * Rejects with a PeerError.
   */
  async sendAlone(frame: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (this.pulse.state === "down") throw this.downError();
    const target = this.telling.from(PEER_BATCH_PATH);
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
  putStream(
    head: Uint8Array,
    body: AsyncIterable<Uint8Array>,
    signal: AbortSignal | null = null,
  ): Promise<Buffer> {
    return this.streams.put(head, body, signal);
  }

  /**
   * Asks for a value as a stream. Rejects with a PeerError whose `status` is 404 when the node does not have
   * it. It counts as a stream until its body has ended.
   */
  getStream(head: Uint8Array): Promise<PeerDownload> {
    return this.streams.get(head);
  }

  /** Fails what waits ("not_sent") and what is under way ("unknown"). Idempotent. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.sweeper);
    for (const queue of this.queues) queue.close(closedError());
    this.pulse.close();
    await Promise.all([this.http.close(), this.streamHttp.close()]);
  }

  private refusal(queue: FrameQueue, frameBytes: number): PeerError | null {
    if (frameBytes > PEER_FRAME_BYTES_MAX) throw new Error(`a frame of ${frameBytes} bytes is too long`);
    const hindrance = this.hindrance();
    if (hindrance !== null || !queue.isFull(frameBytes)) return hindrance;
    return new PeerError("peer_overloaded", "not_sent", `too much is waiting for ${this.url}`);
  }

  private hindrance(): PeerError | null {
    if (this.closed) return closedError();
    return this.pulse.state === "down" ? this.downError() : null;
  }

  private wentDown(reason: string): void {
    const silent = new PeerError("peer_timeout", "unknown", `${this.url} has gone silent: ${reason}`);
    this.frames.fail(this.downError(), silent);
    // A node that is busy with what it was handed seems silent, too, and votes can be had elsewhere; that
    // answer not.
    this.handed.failWaiting(this.downError());
  }

  /** Every SWEEP_MS: whatever has taken too long. */
  private sweep(): void {
    this.pulse.sweep();
    this.telling.tell(this.pulse.state === "up");
    for (const queue of this.queues) queue.sweep();
  }

  private downError(): PeerError {
    return new PeerError("peer_down", "not_sent", `${this.url} is down: ${this.pulse.failure}`);
  }
}
