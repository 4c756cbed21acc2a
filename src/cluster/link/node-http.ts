/**
 * Requests to one node: the door to undici, the only file that loads it. One request a connection at a time
 * (uWS knows no pipelining); connections are opened as they are needed, and kept for a while.
 *
 * With a key, requests are signed, and an answer counts only with the node's signature (auth/answer.ts): any
 * other is a failure of which nobody knows what was done. A request that was signed before the node had
 * answered for the first time does nothing there; it is signed again, once, with what the answer says. So is
 * one for an earlier run of the node, where it does no harm that it may have been done by that one: each GET,
 * and all that goes to a master.
 *
 * Every failure says whether the request may have been received: `sent` is false only when not one byte of it
 * was written. There are no timers here except for connecting: who asks decides how long it waits, and
 * cancels.
 */
import type { Readable } from "node:stream";
import type { Dispatcher, Pool } from "undici";
import { Receiver, readTold } from "../../auth/answer.ts";
import {
  bodyDigest,
  NO_SESSION,
  type RequestSigner,
  SIGNATURE_AGE_MS,
  type Signed,
  STREAMED_BODY,
} from "../../auth/signature.ts";
import { StreamVerifier, signStream } from "../../auth/signed-stream.ts";
import { NOTHING } from "../../util/bytes.ts";
import {
  Exchange,
  ExchangeError,
  type ExchangeHandler,
  type Method,
  type NodeAnswer,
  reasonOf,
  signatureOf,
} from "./exchange.ts";
import { PEER_PING_PATH } from "./paths.ts";
import { madeOf, type PeerTls } from "./peer-tls.ts";

/** A node that does not complete the handshake in this time is not there. */
const CONNECT_MS = 2000;
/**
 * Far shorter than the 8 s after which uWS may close an idle connection, or a request could meet that: on a
 * busy machine the timer here is late, and of connections that were last used together all are closed
 * together.
 */
const KEEP_ALIVE_MS = 3000;
/** A stream that does not move, or a commit that is not answered, for so long is given up. */
const STREAM_STALL_MS = 30_000;
/** Codes of a connection that the other side has closed. */
const CLOSED: ReadonlySet<string> = new Set(["UND_ERR_SOCKET", "ECONNRESET"]);
/** Time for the answer that says for which run of the node a stream is to be signed. */
const GREETING_MS = 5000;

/** Loaded with the first request: it is a tenth of a second of a start, and a single node needs none. */
function loadUndici(): typeof import("undici") {
  return require("undici") as typeof import("undici");
}

export interface NodeHttpOptions {
  /** The node: its public URL, without a trailing slash. */
  url: string;
  /** Where it is reached, when that is not its URL. */
  address?: string | undefined;
  /** Own address that connections leave from; left out: as the system chooses. */
  localAddress?: string | undefined;
  /** null: there is no key, requests go out unsigned. */
  signer: RequestSigner | null;
  /** What is known of the node; left out: nothing yet. */
  receiver?: Receiver;
  /** For https; left out: what Node.js trusts, and nothing is shown. */
  tls?: PeerTls | undefined;
  /** Most connections at once. */
  connections: number;
  /** All requests may be done twice. Left out: only GET. */
  repeatable?: boolean;
  /** The header of that name of requests that are not signed, to who is no node; null: none. */
  authorization?: () => string | null;
}

/** An answer of 200 whose body is still coming. */
export interface NodeStream {
  status: 200;
  /** Checks the body, where it is signed; null: there is no key. */
  verifier: StreamVerifier | null;
  /** To be read to its end or destroyed. Fails when the value breaks off. */
  stream: Readable;
}

export class NodeHttp {
  readonly url: string;
  private readonly pool: Pool;
  private readonly signer: RequestSigner | null;
  private readonly receiver: Receiver;
  private readonly repeatable: boolean;
  private readonly authorization: (() => string | null) | undefined;
  private readonly tls: PeerTls | undefined;
  private hasAnswered = false;

  constructor(options: NodeHttpOptions) {
    const { url, address, localAddress, signer, receiver, tls, connections } = options;
    this.repeatable = options.repeatable === true;
    this.authorization = options.authorization;
    this.tls = tls;
    this.url = url;
    this.signer = signer;
    this.receiver = receiver ?? new Receiver(url);
    const { buildConnector, Pool } = loadUndici();
    const from = localAddress === undefined ? {} : { localAddress };
    const connector = madeOf(tls, (shown) => buildConnector({ timeout: CONNECT_MS, ...from, ...shown }));
    this.pool = new Pool(address ?? url, {
      connections,
      pipelining: 1,
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MS,
      ...from,
      connect: (target, done) => connector()(target, done),
    });
  }

  /**
   * Sends a request whose body is at hand. Answers a function that cancels it; `failed` is then called with
   * the reason.
   */
  exchange(
    method: Method,
    target: string,
    body: Uint8Array | null,
    handler: ExchangeHandler,
  ): (why: Error) => void {
    let exchange: Exchange;
    let mayRepeat = method === "GET" || this.repeatable;
    const send = (): void => {
      const signed = this.signer?.sign(this.receiver, method, target, body ?? NOTHING) ?? null;
      exchange = new Exchange({
        sent: handler.sent?.bind(handler),
        failed: (error, sent) => handler.failed(this.explained(error), sent),
        answered: (status, answer, header) => {
          this.hasAnswered = true;
          const verdict =
            signed === null ? "genuine" : this.judge(signed, status, header, bodyDigest(answer));
          if (verdict === "genuine") handler.answered(status, answer);
          else if (verdict === "again" || (verdict === "stale" && mayRepeat)) {
            mayRepeat = mayRepeat && verdict !== "stale";
            send();
          } else handler.failed(new Error(refusal(verdict, status, answer)), true);
        },
      });
      const shown = signed === null ? (this.authorization?.() ?? null) : signed.header;
      const headers = shown === null ? [] : ["authorization", shown];
      this.pool.dispatch({ path: target, method, headers, body }, exchange);
    };
    send();
    return (why) => exchange.cancel(why);
  }

  /**
   * The same for who has time: rejects with an ExchangeError.
   * @param timeoutMs for all of it, the connection included
   */
  request(method: Method, target: string, body: Uint8Array | null, timeoutMs: number): Promise<NodeAnswer> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => cancel(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
      const cancel = this.exchange(method, target, body, {
        answered(status, answer) {
          clearTimeout(timer);
          resolve({ status, body: answer });
        },
        failed(error, sent) {
          clearTimeout(timer);
          reject(new ExchangeError(error, sent));
        },
      });
    });
  }

  /**
   * Sends a body of any length, no faster than the node takes it. Whatever `source` throws ends the request
   * before its end, so that nothing of it is kept there; so does the signal. Rejects with an ExchangeError.
   */
  async upload(
    method: Method,
    target: string,
    source: AsyncIterable<Uint8Array>,
    signal: AbortSignal | null = null,
  ): Promise<NodeAnswer> {
    await this.greet();
    const signed = this.signer?.sign(this.receiver, method, target, STREAMED_BODY) ?? null;
    const body = signed === null ? source : signStream(signed.key.object, signed.mac, source);
    let sent = false;
    const begin = async function* (): AsyncGenerator<Uint8Array> {
      sent = true;
      yield* body;
    };
    try {
      const answer = await this.pool.request({
        path: target,
        method,
        headers: signed === null ? [] : ["authorization", signed.header],
        body: begin() as unknown as Readable,
        signal,
        headersTimeout: STREAM_STALL_MS,
        bodyTimeout: STREAM_STALL_MS,
      });
      return await this.whole(signed, answer);
    } catch (error) {
      throw error instanceof ExchangeError ? error : new ExchangeError(error as Error, sent);
    }
  }

  /**
   * Asks for a body of any length, with a body that is at hand. An answer other than 200 comes whole. Rejects
   * with an ExchangeError.
   */
  async download(target: string, body: Uint8Array): Promise<NodeStream | NodeAnswer> {
    await this.greet();
    const signed = this.signer?.sign(this.receiver, "POST", target, body) ?? null;
    try {
      const answer = await this.pool.request({
        path: target,
        method: "POST",
        headers: signed === null ? [] : ["authorization", signed.header],
        body,
        headersTimeout: STREAM_STALL_MS,
        bodyTimeout: STREAM_STALL_MS,
      });
      if (answer.statusCode !== 200) return await this.whole(signed, answer);
      if (signed === null) return { status: 200, verifier: null, stream: answer.body };
      const told = readTold(signed, 200, signatureOf(answer.headers), STREAMED_BODY);
      if (told === null) {
        answer.body.destroy();
        throw new ExchangeError(new Error(refusal("forged", 200, NOTHING)), true);
      }
      this.receiver.learn(told);
      const verifier = new StreamVerifier(signed.key.object, told.mac);
      return { status: 200, verifier, stream: answer.body };
    } catch (error) {
      throw error instanceof ExchangeError ? error : new ExchangeError(error as Error, true);
    }
  }

  /**
   * Whoever refuses a certificate in the handshake says nothing and closes: an error that names it where that
   * may be so.
   */
  private explained(error: Error): Error {
    const isClosed = CLOSED.has(String((error as NodeJS.ErrnoException).code));
    if (!isClosed || this.hasAnswered || this.tls?.own == null) return error;
    const reason = `${reasonOf(error)}; it may not trust the certificate that this node shows`;
    return Object.assign(new Error(reason, { cause: error }), {
      code: (error as NodeJS.ErrnoException).code,
    });
  }

  /** Breaks off whatever is under way. */
  async close(): Promise<void> {
    await this.pool.destroy();
  }

  /** A stream cannot be sent twice: the node says beforehand for which run of it to sign. */
  private async greet(): Promise<void> {
    if (this.signer === null || this.receiver.session !== null) return;
    // What it answers does not matter: the signature does.
    await this.request("GET", PEER_PING_PATH, null, GREETING_MS);
  }

  /** Takes an answer of a stream into memory, if it is genuine. */
  private async whole(signed: Signed | null, answer: Dispatcher.ResponseData): Promise<NodeAnswer> {
    const { statusCode: status, headers } = answer;
    const body = Buffer.from(await answer.body.arrayBuffer());
    const verdict =
      signed === null ? "genuine" : this.judge(signed, status, signatureOf(headers), bodyDigest(body));
    if (verdict !== "genuine") throw new ExchangeError(new Error(refusal(verdict, status, body)), true);
    return { status, body };
  }

  private judge(signed: Signed, status: number, header: string, digest: string): Judgement {
    const told = readTold(signed, status, header, digest);
    if (told === null) return "forged";
    this.receiver.learn(told);
    if (status !== 401) return "genuine";
    if (signed.session === NO_SESSION) return "again";
    // Signed for another run, or too early or late: that run, or this one before, may have done it all the
    // same, and somebody else has repeated it to get this answer.
    const isStale = told.session !== signed.session || Math.abs(told.clock - signed.time) > SIGNATURE_AGE_MS;
    return isStale ? "stale" : "genuine";
  }
}

/** genuine: it counts; again: the request did nothing and is to be signed anew; else nobody knows. */
type Judgement = "genuine" | "again" | "stale" | "forged";

function refusal(verdict: Judgement, status: number, body: Uint8Array): string {
  if (verdict === "stale") return "the node has been started anew; what it did before is not known";
  const text = body.length <= 1024 ? Buffer.from(body).toString() : "";
  return `an answer without a valid signature (another key on one of the two, or somebody in between): ${status} ${text}`;
}
