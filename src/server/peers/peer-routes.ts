/**
 * The routes between nodes, /_peer/*: who may use them, and what they do. They work on this node's own data
 * and never ask another node.
 *
 * With a key only signed requests pass (src/auth/signature.ts), and nothing of a body reaches the handler
 * before it is checked: a batch as a whole, a stream piece by piece. Their answers are signed, too, refusals
 * included. Without a key they are open, as the rest of the node is. A client's Bearer key opens nothing
 * here. Bodies being received are bounded, over all connections, by PEER_RECEIVING_BYTES_MAX.
 */

import { bodyMatches, type Genuine, type RequestVerifier, STREAMED_BODY } from "../../auth/signature.ts";
import { FROM_PARAMETER, MARKS_PARAMETER, parameterOf } from "../../cluster/identity/life.ts";
import {
  PEER_BATCH_PATH,
  PEER_HELLO_PATH,
  PEER_LAYOUT_PATH,
  PEER_PING_PATH,
  PEER_VALUE_PATH,
} from "../../cluster/link/paths.ts";
import type { PeerHandler } from "../../cluster/peers/peer-handler.ts";
import { joinFrames, splitFrames } from "../../cluster/wire/frames.ts";
import type { ErrorCode } from "../../util/errors.ts";
import {
  LAYOUT_BYTES_MAX,
  PEER_ANSWERING_BYTES_MAX,
  PEER_ANSWERS_BYTES_MAX,
  PEER_BATCH_BYTES_MAX,
  PEER_BATCH_FRAMES_MAX,
  PEER_HEAD_BYTES_MAX,
  PEER_RECEIVING_BYTES_MAX,
  REPLY_AT_ONCE_BYTES,
} from "../../util/limits.ts";
import { checkSignature, withSignature } from "../access/signed-answers.ts";
import { BAD_LENGTH, CHUNKED, declaredBytes } from "../http/body-length.ts";
import type { FrontContext } from "../http/context.ts";
import type { Handlers, Req, Res } from "../http/http.ts";
import { refuse } from "../http/linger.ts";
import { type ErrorOptions, sendError, statusLine } from "../http/reply.ts";
import { Download } from "../reads/download.ts";
import { documentOf } from "./documents.ts";
import { PeerUpload } from "./peer-upload.ts";
import { refusalOf } from "./refusal.ts";
import { sendValue } from "./value-answer.ts";

const BYTES_HEAD = Buffer.from(`${statusLine(200)}\r\nContent-Type: application/octet-stream`);
const JSON_HEAD = Buffer.from(
  `${statusLine(200)}\r\nContent-Type: application/json\r\nCache-Control: no-store`,
);

/** Refused requests are logged no more often than this. */
const REFUSAL_LOG_MS = 1000;

/** Every path with the methods that it has. */
const ALLOW: ReadonlyMap<string, string> = new Map([
  [PEER_BATCH_PATH, "POST"],
  [PEER_PING_PATH, "GET"],
  [PEER_HELLO_PATH, "GET"],
  [PEER_LAYOUT_PATH, "GET, POST"],
  [PEER_VALUE_PATH, "POST, PUT"],
]);

export interface PeerRoutes {
  handler: PeerHandler;
  /** null: there is no key, and the routes are open. */
  verifier: RequestVerifier | null;
}

/** A request that may pass, as far as its head tells. */
interface Admitted {
  /** Signs what is answered, where the request is signed. */
  res: Res;
  path: string;
  query: string;
  bodyBytes: number;
  /** null: not signed, since there is no key. */
  genuine: Genuine | null;
}

/** The handlers of everything below /_peer/. */
export function createPeerRoutes(context: FrontContext, { handler, verifier }: PeerRoutes): Handlers {
  let receivingBytes = 0;

  let refusals = 0;
  let loggedMs = Number.NEGATIVE_INFINITY;

  /** Logs a request that is refused, unless there are too many: strangers must not fill the disk. */
  const refused = (reason: string) => {
    refusals++;
    const nowMs = performance.now();
    if (nowMs - loggedMs < REFUSAL_LOG_MS) return;
    loggedMs = nowMs;
    context.log.info({ reason, refusals }, "a request between nodes was refused");
  };

  /** Judges the head. Null: answered. */
  const admit = (given: Res, req: Req, method: string): Admitted | null => {
    const head = method === "HEAD";
    const path = req.getUrl();
    const query = req.getQuery();
    const bodyBytes = declaredBytes(req);
    if (bodyBytes === BAD_LENGTH) {
      // uWS notices after this handler; until then nothing may happen.
      given.onAborted(nothingBegun);
      return null;
    }
    let genuine: Genuine | null = null;
    let res = given;
    if (verifier !== null) {
      const verdict = checkSignature(verifier, method, req);
      genuine = verdict.genuine;
      if (genuine !== null) res = withSignature(verifier, genuine, given);
      if (verdict.problem !== null) {
        // Who has the key finds out by itself for which run of this node to sign.
        if (genuine === null) refused(verdict.problem);
        refuse(res, "unauthorized", bodyBytes, { detail: verdict.problem, head });
        return null;
      }
    }
    const allow = ALLOW.get(path);
    if (allow === undefined) refuse(res, "not_found", bodyBytes, { detail: `there is no ${path}`, head });
    else if (!allow.split(", ").includes(method))
      refuse(res, "method_not_allowed", bodyBytes, { headers: [["Allow", allow]], head });
    else if (context.stopping) refuse(res, "stopping", bodyBytes);
    else if (path !== PEER_HELLO_PATH && !isHeard(res, query ?? "", bodyBytes)) return null;
    else return { res, path, query: query ?? "", bodyBytes, genuine };
    return null;
  };

  /** Judges who sends it, where the request says so. False: answered. */
  const isHeard = (res: Res, query: string, bodyBytes: number): boolean => {
    const from = parameterOf(query, FROM_PARAMETER);
    if (from === null) return true;
    try {
      const refusal = handler.hear(from, parameterOf(query, MARKS_PARAMETER));
      if (refusal === null) return true;
      refused(refusal);
      refuse(res, "conflict", bodyBytes, { detail: refusal });
    } catch (error) {
      const { code, options } = refusalOf(context, error);
      refuse(res, code, bodyBytes, options);
    }
    return false;
  };

  /** Receives a body of at most `most` bytes and hands it to `take` once it is whole and genuine. */
  const receive = (
    { res, bodyBytes, genuine }: Admitted,
    most: number,
    take: (body: Uint8Array, exchange: Exchange) => void,
  ): void => {
    if (bodyBytes === CHUNKED || bodyBytes < 0) {
      refuse(res, "length_required", bodyBytes);
      return;
    }
    if (bodyBytes > most) {
      refuse(res, "too_large", bodyBytes, { detail: `the body is limited to ${most} bytes` });
      return;
    }
    if (receivingBytes + bodyBytes > PEER_RECEIVING_BYTES_MAX) {
      refuse(res, "overloaded", bodyBytes, { detail: "too many requests of other nodes are being received" });
      return;
    }
    receivingBytes += bodyBytes;
    const exchange = new Exchange(context, res);
    exchange.onGone = () => {
      receivingBytes -= bodyBytes;
    };
    let gathered: Uint8Array | null = null;
    let gatheredBytes = 0;
    const whole = (body: Uint8Array) => {
      exchange.onGone = () => {};
      receivingBytes -= bodyBytes;
      if (genuine !== null && !bodyMatches(genuine, body)) {
        refused("another body than the one that was signed");
        exchange.refuse("unauthorized", { detail: "the body is not the one that was signed" });
        return;
      }
      try {
        take(body, exchange);
      } catch (error) {
        exchange.crashed(error);
      }
    };
    if (bodyBytes === 0) {
      // uWS says nothing more of an empty body when its head came in pieces.
      whole(EMPTY);
      return;
    }
    res.onData((chunk, last) => {
      const bytes = new Uint8Array(chunk);
      if (last && gatheredBytes === 0) {
        whole(bytes);
        return;
      }
      gathered ??= Buffer.allocUnsafeSlow(bodyBytes);
      gathered.set(bytes, gatheredBytes);
      gatheredBytes += bytes.length;
      if (last) whole(gathered);
    });
  };

  /** What answers take that are being made or sent. */
  let answeringBytes = 0;

  const batch = (body: Uint8Array, exchange: Exchange): void => {
    const frames = splitFrames(body, PEER_BATCH_FRAMES_MAX);
    if (frames === null) {
      exchange.refuse("bad_request", { detail: "the lengths of the frames do not add up" });
      return;
    }
    const answers = new Array<Uint8Array>(frames.length);
    let missing = frames.length;
    let answerBytes = 0;
    let takenBytes = 0;
    const room = {
      take(bytes: number): boolean {
        const fits =
          !exchange.over &&
          takenBytes + bytes <= PEER_ANSWERS_BYTES_MAX &&
          answeringBytes + bytes <= PEER_ANSWERING_BYTES_MAX;
        if (fits) {
          takenBytes += bytes;
          answeringBytes += bytes;
        }
        return fits;
      },
    };
    exchange.onOver = () => {
      answeringBytes -= takenBytes;
      takenBytes = 0;
    };
    const answer = (index: number, bytes: Uint8Array) => {
      if (answers[index] !== undefined) throw new Error("a frame was answered twice");
      answers[index] = bytes;
      answerBytes += bytes.length;
      if (--missing === 0) exchange.answer(BYTES_HEAD, joinFrames(answers, answerBytes));
    };
    if (frames.length === 0) exchange.answer(BYTES_HEAD, EMPTY);
    for (let index = 0; index < frames.length; index++)
      handler.frame(frames[index], (bytes) => answer(index, bytes), room);
  };

  const read = (given: Res, req: Req): void => {
    const admitted = admit(given, req, "GET");
    if (admitted === null) return;
    const { res, path, query } = admitted;
    try {
      const document = documentOf(handler, path, query);
      res.writeStatus(JSON_HEAD);
      res.end(document);
    } catch (error) {
      const { code, options } = refusalOf(context, error);
      sendError(res, code, options);
    }
  };

  const post = (res: Res, req: Req): void => {
    const admitted = admit(res, req, "POST");
    if (admitted === null) return;
    const { path, genuine } = admitted;
    const signed = genuine === null || verifier === null ? null : { verifier, genuine };
    if (path === PEER_BATCH_PATH) receive(admitted, PEER_BATCH_BYTES_MAX, batch);
    else if (path === PEER_VALUE_PATH)
      receive(admitted, PEER_HEAD_BYTES_MAX, (head, exchange) =>
        exchange.handOver((answer) => sendValue(context, handler, answer, head, BYTES_HEAD, signed)),
      );
    else
      receive(admitted, LAYOUT_BYTES_MAX, (body, exchange) =>
        handler.takeLayout(body, (document) => exchange.answer(JSON_HEAD, document)),
      );
  };

  const put = (given: Res, req: Req): void => {
    const admitted = admit(given, req, "PUT");
    if (admitted === null) return;
    const { res, bodyBytes, genuine } = admitted;
    if (genuine !== null && genuine.body !== STREAMED_BODY) {
      refuse(res, "unauthorized", bodyBytes, { detail: "a value is signed piece by piece" });
      return;
    }
    const upload = new PeerUpload(context, res, (head) => handler.openSink(head), genuine);
    res.onAborted(() => upload.aborted());
    if (bodyBytes === 0) upload.data(new ArrayBuffer(0), true);
    else res.onData((chunk, last) => upload.data(chunk, last));
  };

  const other = (res: Res, req: Req): void => {
    // No path has these methods, so this answers.
    admit(res, req, req.getCaseSensitiveMethod());
  };
  return { get: read, head: other, post, put, delete: other, other };
}

const EMPTY = new Uint8Array(0);

/** One request whose answer may come later. */
class Exchange {
  /** Answered, or the other node has gone. */
  over = false;
  onGone: () => void = () => {};
  /** Called once, when the answer has been sent, or will not be. */
  onOver: () => void = () => {};
  private readonly context: FrontContext;
  private readonly res: Res;

  constructor(context: FrontContext, res: Res) {
    this.context = context;
    this.res = res;
    context.inFlight.enter();
    res.onAborted(() => {
      if (this.over) return;
      this.end();
      this.onGone();
    });
  }

  answer(head: Uint8Array, body: Uint8Array): void {
    if (this.over) return;
    this.over = true;
    this.res.cork(() => {
      this.res.writeStatus(head);
      this.res.beforeBody?.(body);
      if (body.length <= REPLY_AT_ONCE_BYTES) {
        this.res.end(body);
        this.left();
        return;
      }
      // No faster than the other node takes it: what a socket is given at once, it keeps in memory.
      const reader = {
        valueBytes: body.length,
        read: (offset: number) => body.subarray(offset),
        close: () => {},
      };
      new Download(this.context, this.res, reader, body, 0, body.length, () => this.left()).begin();
    });
  }

  /** Lets somebody else answer, at once; what becomes of that answer is their matter. */
  handOver(send: (res: Res) => void): void {
    if (this.over) return;
    this.over = true;
    this.res.cork(() => send(this.res));
    this.left();
  }

  refuse(code: ErrorCode, options: ErrorOptions = {}): void {
    if (this.over) return;
    this.end();
    this.res.cork(() => sendError(this.res, code, options));
  }

  crashed(error: unknown): void {
    const { code, options } = refusalOf(this.context, error);
    this.refuse(code, options);
  }

  private end(): void {
    this.over = true;
    this.left();
  }

  private left(): void {
    this.context.inFlight.leave();
    this.onOver();
  }
}

function nothingBegun(): void {
  // Nothing was done for this request.
}
