/**
 * A value that another node streams here: checked piece by piece where there is a key, handed to a sink with
 * back-pressure, committed only after the last check. What it is comes first in its body
 * (cluster/link/value-stream.ts); the sink is opened for that.
 *
 * Invariants: exactly one answer, or none when the other node has gone; a body that breaks off, or is not
 * what was signed, is aborted.
 */
import type { Genuine } from "../../auth/signature.ts";
import { StreamVerifier } from "../../auth/signed-stream.ts";
import { HeadReader } from "../../cluster/link/value-stream.ts";
import type { PeerSink } from "../../cluster/peers/peer-handler.ts";
import { stackOf } from "../../platform/system-error.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { Linger } from "../http/linger.ts";
import { sendError, sendErrorAndStayOpen } from "../http/reply.ts";
import { BodyFlow, type BodyTaker } from "../writes/body-flow.ts";
import { BYTES_HEAD } from "./batch.ts";
import { refusalOf } from "./refusal.ts";

const BAD_HEAD = "the value's head is missing or malformed";

/**
 * The node that sends it judges its own client. It also lets this one wait while other replicas are slow, and
 * gives those up after a while (cluster/upload); who is not slow must not be gone before.
 */
const SLOW_BEATS_MAX = 10;

const RECEIVING = 0;
const COMMITTING = 1;
const ANSWERED = 2;
const GONE = 3;

export class PeerUpload implements BodyTaker {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly open: (head: Uint8Array) => PeerSink;
  /** null: its head has not come yet. */
  private sink: PeerSink | null = null;
  private readonly head = new HeadReader();
  /** Why it is not taken. */
  private refusal: { code: ErrorCode; detail: string } | null = null;
  /** null: there is no key. */
  private readonly verifier: StreamVerifier | null;
  private phase = RECEIVING;
  private valueBytes = 0;
  private readonly flow: BodyFlow;
  receivedBytes = 0;
  readonly slowBeatsMax = SLOW_BEATS_MAX;
  private wantsMore = true;
  private linger: Linger | null = null;

  /**
   * @param open takes the head, valid during the call; throws VaultError to refuse it
   * @param genuine null: there is no key
   */
  constructor(
    context: FrontContext,
    res: Res,
    open: (head: Uint8Array) => PeerSink,
    genuine: Genuine | null,
  ) {
    this.context = context;
    this.res = res;
    this.open = open;
    this.verifier = genuine === null ? null : new StreamVerifier(genuine.key.object, genuine.mac);
    context.inFlight.enter();
    this.flow = new BodyFlow(res, context.pacer, this);
  }

  get isReceiving(): boolean {
    return this.phase === RECEIVING;
  }

  /** A piece of the body. `chunk` is only valid during the call. */
  data(chunk: ArrayBuffer, last: boolean): void {
    if (this.phase !== RECEIVING) {
      this.linger?.drop(chunk.byteLength, last);
      return;
    }
    try {
      this.take(new Uint8Array(chunk), last);
    } catch (error) {
      this.context.log.error({ error: stackOf(error) }, "a value of another node could not be taken");
      if (this.phase === RECEIVING) this.fail("internal", "", last);
    }
  }

  private take(bytes: Uint8Array, last: boolean): void {
    this.receivedBytes += bytes.length;
    const isGenuine = this.verifier === null ? this.write(bytes) : this.verifier.feed(bytes, this.write);
    // The sink may have failed inside `write`.
    if (this.phase !== RECEIVING) return;
    if (this.refusal !== null) {
      this.fail(this.refusal.code, this.refusal.detail, last);
    } else if (this.valueBytes > this.context.maxValueBytes) {
      this.fail("too_large", "", last);
    } else if (!isGenuine || (last && this.verifier?.complete === false)) {
      this.context.log.error({}, "a value of another node was not what was signed");
      this.fail("unauthorized", "the body is not the one that was signed", last);
    } else if (last && this.sink === null) {
      this.fail("bad_request", BAD_HEAD, last);
    } else if (last) {
      // uWS reads on within one turn although it was paused. The next request must not find the socket deaf.
      this.flow.setPaused(false);
      this.phase = COMMITTING;
      this.sink?.commit((answer) => this.done(answer));
    } else if (!this.wantsMore) {
      this.flow.setPaused(true);
    }
  }

  private readonly write = (bytes: Uint8Array): boolean => {
    if (this.phase !== RECEIVING || this.refusal !== null) return true;
    if (this.sink === null) {
      this.begin(bytes);
      return true;
    }
    this.valueBytes += bytes.length;
    if (bytes.length > 0 && this.valueBytes <= this.context.maxValueBytes)
      this.wantsMore = this.sink.write(bytes);
    return true;
  };

  /** Bytes of the head, and perhaps of the value behind it. */
  private begin(bytes: Uint8Array): void {
    let begun: ReturnType<HeadReader["feed"]>;
    try {
      begun = this.head.feed(bytes);
    } catch {
      this.refusal = { code: "bad_request", detail: BAD_HEAD };
      return;
    }
    if (begun === null) return;
    try {
      this.follow(this.open(begun.head));
    } catch (error) {
      const { code, options } = refusalOf(this.context, error);
      this.refusal = { code, detail: options.detail ?? "" };
      return;
    }
    if (begun.rest.length > 0) this.write(begun.rest);
  }

  private follow(sink: PeerSink): void {
    this.sink = sink;
    sink.onDrain = () => {
      this.wantsMore = true;
      this.flow.setPaused(false);
    };
    sink.onFail = (code, detail) => {
      if (this.phase === RECEIVING) this.fail(code, detail, false);
    };
  }

  /** The other node has stopped sending: its own client has. */
  stalled(): void {
    if (this.phase === RECEIVING) this.fail("too_slow", "", false);
  }

  /** The connection is gone, at any stage. */
  aborted(): void {
    if (this.phase === ANSWERED) {
      this.linger?.aborted();
      return;
    }
    // While committing there is nothing to take back: the write happens, and nobody hears of it.
    if (this.phase === RECEIVING) this.sink?.abort();
    this.phase = GONE;
    this.flow.end();
    this.context.inFlight.leave();
  }

  private done(answer: Uint8Array): void {
    if (this.phase !== COMMITTING) return;
    this.phase = ANSWERED;
    this.flow.end();
    this.res.cork(() => {
      this.res.writeStatus(BYTES_HEAD);
      this.res.end(answer);
    });
    this.context.inFlight.leave();
  }

  private fail(code: ErrorCode, detail: string, last: boolean): void {
    // Reading must go on: what is still coming is dropped.
    this.flow.setPaused(false);
    this.phase = ANSWERED;
    this.sink?.abort();
    this.flow.end();
    this.res.cork(() => {
      if (last) {
        sendError(this.res, code, { detail });
        return;
      }
      this.linger = new Linger(this.res);
      sendErrorAndStayOpen(this.res, code, { detail });
    });
    this.context.inFlight.leave();
  }
}
