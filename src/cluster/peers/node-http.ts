/**
 * Requests to one node, signed where there is a key: the door to undici, the only file that imports it. One
 * request a connection at a time (uWS knows no pipelining); connections are opened as they are needed, and
 * kept for a while.
 *
 * Every failure says whether the request may have been received: `sent` is false only when not one byte of it
 * was written. There are no timers here except for connecting: who asks decides how long it waits, and
 * cancels.
 */
import type { Readable } from "node:stream";
import type { Dispatcher, Pool } from "undici";
import { type RequestSigner, STREAMED_BODY } from "../../auth/signature.ts";
import { signStream } from "../../auth/signed-stream.ts";

/** A node that does not complete the handshake in this time is not there. */
export const CONNECT_MS = 2000;
/** Shorter than the 8 s after which uWS may close an idle connection, or a request could meet that. */
const KEEP_ALIVE_MS = 6000;
/** A stream that does not move, or a commit that is not answered, for so long is given up. */
const STREAM_STALL_MS = 30_000;
/** Largest answer that is taken into memory. */
export const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Loaded when the first request is to be made: it is a tenth of a second of every start, and a single node
 * never needs it.
 */
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
  /** Certificates (PEM) of the authorities to trust for https; left out: those that Node.js trusts. */
  ca?: string | undefined;
  /** Most connections at once. */
  connections: number;
}

/** What becomes of an exchange: exactly one of `answered` and `failed` is called, later. */
export interface ExchangeHandler {
  /** It is being written to a connection now. */
  sent?(): void;
  answered(status: number, body: Buffer): void;
  failed(error: Error, sent: boolean): void;
}

/** A request that failed before its answer was complete. */
export class ExchangeError extends Error {
  /** false: the node surely saw nothing of it. */
  readonly sent: boolean;
  constructor(cause: Error, sent: boolean) {
    super(reasonOf(cause), { cause });
    this.sent = sent;
  }
}

export interface NodeAnswer {
  status: number;
  body: Buffer;
}

export interface NodeStream {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  /** To be read to its end or destroyed. Fails when the value breaks off. */
  body: Readable;
}

export class NodeHttp {
  readonly url: string;
  private readonly pool: Pool;
  private readonly signer: RequestSigner | null;

  constructor({ url, address, localAddress, signer, ca, connections }: NodeHttpOptions) {
    this.url = url;
    this.signer = signer;
    this.pool = new (loadUndici().Pool)(address ?? url, {
      connections,
      pipelining: 1,
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MS,
      ...(localAddress === undefined ? {} : { localAddress }),
      connect: {
        timeout: CONNECT_MS,
        ...(ca === undefined ? {} : { ca }),
      },
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
    const exchange = new Exchange(handler);
    const headers = this.headers(method, target, body ?? EMPTY);
    this.pool.dispatch({ path: target, method, headers, body }, exchange);
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
    const signed = this.signer?.sign(this.url, method, target, STREAMED_BODY);
    const body =
      signed === undefined ? source : signStream((this.signer as RequestSigner).key, signed.mac, source);
    let sent = false;
    const begin = async function* (): AsyncGenerator<Uint8Array> {
      sent = true;
      yield* body;
    };
    try {
      const answer = await this.pool.request({
        path: target,
        method,
        headers: signed === undefined ? [] : ["authorization", signed.header],
        body: begin() as unknown as Readable,
        signal,
        headersTimeout: STREAM_STALL_MS,
        bodyTimeout: STREAM_STALL_MS,
      });
      return { status: answer.statusCode, body: Buffer.from(await answer.body.arrayBuffer()) };
    } catch (error) {
      throw new ExchangeError(error as Error, sent);
    }
  }

  /** Asks for a body of any length. Rejects with an ExchangeError. */
  async download(target: string): Promise<NodeStream> {
    try {
      const { statusCode, headers, body } = await this.pool.request({
        path: target,
        method: "GET",
        headers: this.headers("GET", target, EMPTY),
        headersTimeout: STREAM_STALL_MS,
        bodyTimeout: STREAM_STALL_MS,
      });
      return { status: statusCode, headers, body };
    } catch (error) {
      throw new ExchangeError(error as Error, true);
    }
  }

  /** Breaks off whatever is under way. */
  async close(): Promise<void> {
    await this.pool.destroy();
  }

  private headers(method: string, target: string, body: Uint8Array): string[] {
    return this.signer === null
      ? []
      : ["authorization", this.signer.sign(this.url, method, target, body).header];
  }
}

export type Method = "GET" | "POST" | "PUT";

const EMPTY = new Uint8Array(0);

/** One exchange, as undici calls it back. */
class Exchange implements Dispatcher.DispatchHandler {
  private readonly handler: ExchangeHandler;
  private controller: Dispatcher.DispatchController | null = null;
  private status = 0;
  private pieces: Buffer[] = [];
  private bytes = 0;
  private over = false;

  constructor(handler: ExchangeHandler) {
    this.handler = handler;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (this.over) {
      controller.abort(new Error("cancelled"));
      return;
    }
    this.controller = controller;
    this.handler.sent?.();
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number): void {
    this.status = status;
  }

  onResponseData(controller: Dispatcher.DispatchController, piece: Buffer): void {
    this.pieces.push(piece);
    this.bytes += piece.length;
    if (this.bytes > ANSWER_BYTES_MAX) controller.abort(new Error("the answer is too long"));
  }

  onResponseEnd(): void {
    if (this.over) return;
    this.over = true;
    const body = this.pieces.length === 1 ? this.pieces[0] : Buffer.concat(this.pieces, this.bytes);
    this.handler.answered(this.status, body);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.fail(error);
  }

  /** Waits for a connection, or is on its way: it is over in any case. */
  cancel(why: Error): void {
    if (this.over) return;
    this.fail(why);
    this.controller?.abort(why);
  }

  private fail(error: Error): void {
    if (this.over) return;
    this.over = true;
    this.handler.failed(error, this.controller !== null);
  }
}

/** What went wrong, in a few words: connecting to several addresses fails with an error that has none. */
export function reasonOf(error: Error): string {
  if (error.message !== "") return error.message;
  const first = (error as AggregateError).errors?.[0] as Error | undefined;
  return first?.message ?? (error as NodeJS.ErrnoException).code ?? error.name;
}
