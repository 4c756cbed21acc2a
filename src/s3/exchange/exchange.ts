/**
 * One request of S3 from its headers to its answer: whose it is, what it is about, its body, and the one
 * answer that it gets, or none where its client has gone.
 */
import type { Token } from "../../auth/tokens.ts";
import { stackOf } from "../../platform/system-error.ts";
import type { FrontContext, RequestNotes } from "../../server/http/context.ts";
import type { Res } from "../../server/http/http.ts";
import { Linger, SWALLOW_BYTES_MAX } from "../../server/http/linger.ts";
import { writePiece } from "../../server/lines/pieces.ts";
import type { HashPool } from "../hashing/hash-pool.ts";
import { knownError, S3Error } from "../protocol/errors.ts";
import { type Place, storeKey } from "../protocol/names.ts";
import { documentText, type Elements, XML_HEAD, XML_TYPE } from "../protocol/xml.ts";
import type { Buckets } from "../store/buckets.ts";
import type { S3Counters } from "../store/s3-memory.ts";
import { begin, errorText, type Lines, sendError } from "./answer.ts";
import type { Body } from "./body.ts";

/** How often a client that waits is sent a blank. */
const BEAT_MS = 5000;

/** What all requests share. */
export interface S3Context {
  readonly front: FrontContext;
  readonly buckets: Buckets;
  readonly counters: S3Counters;
  readonly hashing: HashPool;
}

/** What its headers say. */
export interface Asked extends Place {
  method: string;
  /** As it was sent, without the query. */
  path: string;
  /** Parameters of the query, decoded. */
  query: ReadonlyMap<string, string>;
  /** Names in small letters; lines of one name joined by commas. */
  headers: ReadonlyMap<string, string>;
  caller: Token;
  /** As the meter counts it. */
  verb: number;
  /** Of its body, as declared; at most 0: there is none; Infinity: nobody knows. */
  sentBytes: number;
}

export class Exchange {
  readonly context: S3Context;
  readonly asked: Asked;
  readonly requestId: string;
  readonly notes: RequestNotes | null;
  private readonly res: Res;
  private bodyOfRequest: Body | null = null;
  private isInHandler = true;
  private isOpen = true;
  private linger: Linger | null = null;
  private readonly startMs = performance.now();
  /** Called when the client has gone before its answer. */
  onGone: () => void = () => {};

  constructor(context: S3Context, res: Res, asked: Asked, requestId: string) {
    this.context = context;
    this.res = res;
    this.asked = asked;
    this.requestId = requestId;
    this.notes = context.front.notes;
    context.front.inFlight.enter();
    res.onAborted(() => this.aborted());
  }

  get front(): FrontContext {
    return this.context.front;
  }

  /** Whether its client still waits. */
  get isWaiting(): boolean {
    return this.isOpen;
  }

  get isHead(): boolean {
    return this.asked.method === "HEAD";
  }

  /** Its handler has returned. */
  handled(): void {
    this.isInHandler = false;
  }

  /** For its body. */
  get response(): Res {
    return this.res;
  }

  set body(body: Body) {
    this.bodyOfRequest = body;
  }

  get body(): Body {
    return this.bodyOfRequest as Body;
  }

  header(name: string): string {
    return this.asked.headers.get(name) ?? "";
  }

  parameter(name: string): string | null {
    return this.asked.query.get(name) ?? null;
  }

  /** The key of the store that the request is about. */
  get storeKey(): Uint8Array {
    return storeKey(this.asked.bucket, this.asked.key);
  }

  /**
   * The caller may do this with a key of the store.
   * @param bits permissions, as auth/tokens.ts has them
   * @throws S3Error AccessDenied
   */
  demand(bits: number, key: Uint8Array): void {
    const { caller } = this.asked;
    if (caller.allows(bits) && caller.covers(key, key.length)) return;
    this.denied();
  }

  /**
   * What the caller may do this with of all keys that begin with a prefix; null: all of them.
   * @throws S3Error AccessDenied where that is nothing
   */
  scopesOf(bits: number, prefix: Uint8Array): readonly Uint8Array[] | null {
    const { caller } = this.asked;
    const scopes = caller.allows(bits) ? caller.within(prefix) : [];
    if (scopes.length === 0) this.denied();
    // In memory of their own: a range is copied to other threads.
    return caller.covers(prefix, prefix.length) ? null : scopes.map((scope) => new Uint8Array(scope));
  }

  denied(): never {
    this.front.meter.refused("forbidden");
    throw new S3Error("AccessDenied");
  }

  /** Answers, if the client is still there: `write` sends everything, and says the status. */
  send(write: (res: Res) => number): void {
    this.give((res) => {
      this.count(write(res));
      this.leave();
    });
  }

  /**
   * Hands the response over to who sends a long answer: what is written by `write`, or later, is counted
   * there. Does nothing when the client has gone.
   */
  handOver(write: (res: Res) => void): void {
    this.give((res) => {
      write(res);
      this.leave();
    });
  }

  private give(write: (res: Res) => void): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.bodyOfRequest?.end();
    if (this.isInHandler) write(this.res);
    else this.res.cork(() => write(this.res));
  }

  count(status: number): void {
    const { meter } = this.front;
    const { verb, method } = this.asked;
    meter.count(verb, status);
    const tookMs = performance.now() - this.startMs;
    if (method === "GET" || method === "HEAD") meter.readTook(tookMs);
    else meter.writeTook(tookMs);
  }

  private leave(): void {
    this.front.inFlight.leave();
  }

  /** Answers with a document. */
  sendXml(root: string, content: Elements, lines: Lines = []): void {
    this.sendText(documentText(root, content), lines);
  }

  sendText(text: string, lines: Lines = []): void {
    this.send((res) => {
      begin(res, 200, this.requestId, [["Content-Type", XML_TYPE], ...lines]);
      res.end(text);
      return 200;
    });
  }

  /** Answers with an element, as `elementText` makes it. */
  sendElement(element: string): void {
    this.sendText(XML_HEAD + element);
  }

  /**
   * Answers with the element that `work` makes. Where that takes long the answer begins before it is known,
   * and blanks keep the connection; what fails then is an error in a 200, as S3 has it.
   */
  async sendWhenDone(work: () => Promise<string>): Promise<void> {
    let isBegun = false;
    const beat = (): void => {
      if (!this.isOpen) return;
      this.res.cork(() => {
        if (!isBegun) begin(this.res, 200, this.requestId, [["Content-Type", XML_TYPE]]);
        this.res.write(isBegun ? "\n" : XML_HEAD);
      });
      isBegun = true;
    };
    const timer = setInterval(beat, BEAT_MS);
    let element: string;
    try {
      element = await work();
    } catch (error) {
      if (!isBegun) throw error;
      element = this.errorElement(error);
    } finally {
      clearInterval(timer);
    }
    if (!isBegun) {
      this.sendElement(element);
      return;
    }
    if (this.isOpen) writePiece(this.res, element);
    this.send((res) => {
      res.end();
      return 200;
    });
  }

  private errorElement(error: unknown): string {
    const known = this.known(error);
    return errorText(known, this.asked.path, this.requestId).slice(XML_HEAD.length);
  }

  private known(error: unknown): S3Error {
    const known = knownError(error);
    if (known !== null) return known;
    this.front.log.error({ error: stackOf(error) }, "a request failed");
    return new S3Error("InternalError");
  }

  /** Answers without a body. */
  sendEmpty(status: number, lines: Lines = []): void {
    this.send((res) => {
      begin(res, status, this.requestId, lines);
      if (status === 204 || this.isHead) res.endWithoutBody();
      else res.end();
      return status;
    });
  }

  /** Answers what went wrong. */
  failed(error: unknown): void {
    const known = this.known(error);
    this.send((res) => {
      const isOpen = this.dropBody(res);
      return sendError(res, known, {
        ...{ resource: this.asked.path, requestId: this.requestId, head: this.isHead, isOpen },
      });
    });
  }

  /** Lets what is still coming of the body go. False: nothing is. */
  private dropBody(res: Res): boolean {
    const body = this.bodyOfRequest;
    if (body?.isTouched === true) {
      if (body.isLeft) body.dropRest();
      return body.isLeft;
    }
    if (this.asked.sentBytes <= SWALLOW_BYTES_MAX) return false;
    const linger = new Linger(res);
    this.linger = linger;
    res.onData((chunk, last) => linger.drop(chunk.byteLength, last));
    return true;
  }

  private aborted(): void {
    this.linger?.aborted();
    this.bodyOfRequest?.aborted();
    if (!this.isOpen) return;
    this.isOpen = false;
    this.front.meter.countAborted(this.asked.verb);
    this.leave();
    this.onGone();
  }
}
