/**
 * What the rest of the front may use of uWebSockets.js (../uws is its door): the interfaces below, which the
 * native objects satisfy, and its traps.
 *
 * Rules of uWS that every user of `Req` and `Res` keeps:
 * - `Req` lives on the C++ stack: read what you need before the handler returns.
 * - A handler that does not answer before it returns must have called `onAborted`, or uWS ends the process.
 * - `Res` is invalid after the answer is complete and after `onAborted`; every call on it then throws.
 * - Writes outside a handler go into `cork`, or each piece becomes a system call of its own. But a piece that
 *   is larger than the rest of its 16 KiB is lost there when the socket takes nothing at that moment: what is
 *   written by `write` goes by lines/pieces.ts.
 * - A chunk given to `onData` is detached when the callback returns.
 * - A request that arrives while the one before it on the same connection is unanswered closes the
 *   connection: documented, and never a wrong answer. So does the end of a client's sending side.
 * - Malformed framing (a bad Content-Length, Content-Length beside Transfer-Encoding, HTTP/1.0, headers above
 *   HEADER_BYTES_MAX) is answered by uWS itself: 400, 431 or 505 in HTML, then the connection closes. A bad
 *   Content-Length is only noticed AFTER the handler ran, so a handler must not act on such a request.
 * - What its parser does not do: a request line that arrives in pieces is a 505 when the cut is behind the
 *   path; of two Content-Length headers the first counts; chunk extensions are a 400; trailers close the
 *   connection; an empty chunk size counts as 0, and the line end behind a chunk is skipped unread; bytes
 *   above 127 at the end of a header are dropped. None of it can be seen from here.
 * - It reads on from one socket, also a paused one, for as long as each read fills its 512 KiB. A client on
 *   the same machine can keep that up for 100 MiB and more, and everybody else waits: receive-buffers.ts ends
 *   it where a body is paused.
 */

import { type AddressInfo, createServer } from "node:net";
import { addressText } from "../../platform/address.ts";
import type { Connections } from "./connections.ts";

/**
 * What the native code takes as text. Bytes are cheaper than a string, which is converted, and a buffer as a
 * whole is a little cheaper than a view.
 */
export type Text = string | Uint8Array | ArrayBuffer;

export interface Req {
  /** The path as sent, with its leading slash and without the query, decoded as UTF-8 with replacement. */
  getUrl(): string;
  /** The query without its question mark; undefined where there is none (the package's types say "empty"). */
  getQuery(): string | undefined;
  /** The first header of that name, or empty. */
  getHeader(lowerCaseName: Text): string;
  /** All headers, in lower case. Slow: a call for each. */
  forEach(each: (name: string, value: string) => void): void;
  getCaseSensitiveMethod(): string;
}

export interface Res {
  /** Also carries headers: the reply templates append "\r\nName: value" lines of their own to the status. */
  writeStatus(status: Text): Res;
  writeHeader(name: Text, value: Text): Res;
  /**
   * Not uWS': called, where it is there, by whoever writes a whole body by other means than `end`, before its
   * first byte (hooked-res.ts).
   */
  beforeBody?(body: Text): void;
  /**
   * Writes a piece of an answer whose length nobody knows; what the socket does not take is copied. False:
   * wait for `onWritable`. Never an empty piece: that ends the answer.
   */
  write(piece: Text): boolean;
  /** Completes the answer. What the socket does not take at once is copied and sent later (see uws.ts). */
  end(body?: Text, closeConnection?: boolean): Res;
  /**
   * Completes an answer to HEAD, or a 304. Takes no length: with one, this version of uWS keeps the request
   * open for ever. The caller writes Content-Length as a header.
   */
  endWithoutBody(): Res;
  /** Writes what the socket takes without buffering. Answers [all taken, answer complete]. */
  tryEnd(piece: Uint8Array, totalBytes: number): [boolean, boolean];
  /** Body bytes handed to the socket so far. */
  getWriteOffset(): number;
  onWritable(handler: (bodyOffset: number) => boolean): Res;
  onAborted(handler: () => void): Res;
  onData(handler: (chunk: ArrayBuffer, last: boolean) => void): Res;
  cork(write: () => void): Res;
  /**
   * Stops polling the socket, and uWS' idle timer: neither a closed peer nor room to write is noticed now.
   */
  pause(): void;
  /**
   * Undoes `pause` and arms uWS' idle timer (10 s). Only ever after `pause`: uWS keeps what to poll for in
   * ONE variable for all sockets, and a `resume` too many leaves this socket deaf for good.
   */
  resume(): void;
  /** Of the other end of the connection; only before the answer is complete. */
  getRemoteAddressAsText(): ArrayBuffer;
  /** Closes the connection at once; `onAborted` runs. */
  close(): Res;
}

export type Handler = (res: Res, req: Req) => void;

/** Every request goes to one of these, whatever its path. */
export interface Handlers {
  get: Handler;
  head: Handler;
  put: Handler;
  post: Handler;
  delete: Handler;
  /** Any other method. */
  other: Handler;
}

/** Files, in PEM, that make the server speak https. */
export interface TlsFiles {
  /** The certificate, followed by those between it and its authority. */
  certificate: string;
  key: string;
  /**
   * Authorities whose certificates those who connect may show: who shows another one is refused. Who shows
   * none is not, since clients have none. Left out, or null: nobody is asked.
   */
  ca?: string | null;
}

export interface HttpOptions {
  tls?: TlsFiles | null;
  /** Other listeners have the port, too, and the kernel deals connections out among them. */
  sharesPort?: boolean;
  /**
   * Handlers of their own for all paths below a prefix such as "/_peer/", as it is written there (no
   * percent-encoding).
   */
  below?: { prefix: string; handlers: Handlers };
  /** Called with each request, before its handler. */
  onRequest?: () => void;
  /** Told of each connection. Left out: all are taken. */
  connections?: Connections;
}

export interface HttpServer {
  /** Answers the actual port. Rejects with one clear sentence. */
  listen(host: string, port: number): Promise<number>;
  /**
   * Reads the certificate's files again: connections from now on get what they hold; those that are there
   * keep what they have. False: nothing has changed.
   * @throws Error with one sentence when the files cannot be used; then everything stays as it is
   */
  renewCertificate(): boolean;
  /** Takes no new connections; the ones there are go on. */
  stopAccepting(): void;
  /** Closes every connection at once, also those in the middle of an answer. */
  closeConnections(): void;
}

/** Why nothing listens: the system says no more. */
export function listenError(host: string, port: number): Error {
  return new Error(
    `cannot listen on ${addressText(host, port)}: the port is taken, or not allowed, or the host is wrong`,
  );
}

/**
 * Finds out that nobody else has the port; answers it, or a free one for 0. It is free again when this
 * returns. For ports with several listeners, where nobody would notice.
 */
export function reservePort(host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", () => reject(listenError(host, port)));
    probe.listen({ host, port, exclusive: true }, () => {
      const address = probe.address() as AddressInfo;
      probe.close(() => resolve(address.port));
    });
  });
}
