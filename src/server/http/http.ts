/**
 * The door to uWebSockets.js: the only file that loads it, and the one that knows its traps. What the rest of
 * the front may use of a request and a response are the interfaces below; the native objects satisfy them.
 *
 * Rules of uWS that every user of `Req` and `Res` keeps:
 * - `Req` lives on the C++ stack: read what you need before the handler returns.
 * - A handler that does not answer before it returns must have called `onAborted`, or uWS ends the process.
 * - `Res` is invalid after the answer is complete and after `onAborted`; every call on it then throws.
 * - Writes outside a handler go into `cork`, or each piece becomes a system call of its own.
 * - A chunk given to `onData` is detached when the callback returns.
 * - A request that arrives while the one before it on the same connection is unanswered closes the
 *   connection: documented, and never a wrong answer.
 * - Malformed framing (a bad Content-Length, Content-Length beside Transfer-Encoding, HTTP/1.0, headers above
 *   HEADER_BYTES_MAX) is answered by uWS itself: 400, 431 or 505 in HTML, then the connection closes. A bad
 *   Content-Length is only noticed AFTER the handler ran, so a handler must not act on such a request.
 * - What its parser does not do: a request line that arrives in pieces is a 505 when the cut is behind the
 *   path; of two Content-Length headers the first counts; chunk extensions are a 400; trailers close the
 *   connection; an empty chunk size counts as 0, and the line end behind a chunk is skipped unread. None of
 *   it can be seen from here.
 * - It reads on from one socket, also a paused one, for as long as each read fills its 512 KiB. A client on
 *   the same machine can keep that up for 100 MiB and more, and everybody else waits. Receive windows below
 *   512 KiB (net.ipv4.tcp_rmem) end it.
 */

import type * as uWS from "uWebSockets.js";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { createSecureContext } from "node:tls";
import { loadAddon } from "../../platform/addon.ts";
import { addressText } from "../../platform/address.ts";

/** Request line and headers together. A key of 1,024 bytes takes 3,072 when every byte is percent-encoded. */
const HEADER_BYTES_MAX = 16 * 1024;
/** uWS' listen option for "fail when another process has the port", which is not its default on Linux. */
const LISTEN_EXCLUSIVE = 1;
const LISTEN_SHARED = 0;
/** How often it is tried to open the port again after a change of the certificate. */
const REOPEN_MS = 50;

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
  /** Completes the answer; copies what the socket does not take at once. */
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

/**
 * Builds the server. `onError` gets what a handler threw before it answered; it may still answer (the handler
 * is on the stack, so no `onAborted` is needed).
 */
export function createHttp(
  handlers: Handlers,
  onError: (method: keyof Handlers, res: Res, error: unknown) => void,
  { tls = null, sharesPort = false, below, onRequest = () => {} }: HttpOptions = {},
): HttpServer {
  const native = loadNative();
  let certificate = tls === null ? null : readCertificate(tls);
  const guarded = (all: Handlers, method: keyof Handlers) => {
    const handler = all[method];
    return (res: Res, req: Req) => {
      onRequest();
      try {
        handler(res, req);
      } catch (error) {
        onError(method, res, error);
      }
    };
  };
  const route = (app: uWS.TemplatedApp, pattern: string, all: Handlers) => {
    app.get(pattern, guarded(all, "get"));
    app.head(pattern, guarded(all, "head"));
    app.put(pattern, guarded(all, "put"));
    app.post(pattern, guarded(all, "post"));
    app.del(pattern, guarded(all, "delete"));
    app.any(pattern, guarded(all, "other"));
  };
  const createApp = (): uWS.TemplatedApp => {
    const app =
      tls === null
        ? native.App()
        : native.SSLApp({ cert_file_name: tls.certificate, key_file_name: tls.key });
    if (below !== undefined) route(app, `${below.prefix}*`, below.handlers);
    route(app, "/*", handlers);
    return app;
  };

  /** The last one listens; connections stay with the one that has accepted them. */
  const apps = [createApp()];
  let listening: uWS.us_listen_socket | null = null;
  let place: { host: string; port: number } | null = null;
  let isStopped = false;

  /** Listens with the last app, at once. False: the port cannot be had. */
  const open = (host: string, port: number): boolean => {
    const app = apps[apps.length - 1];
    // The native method takes (host, port, option, callback); the package's types lack that form.
    type Listen = (
      host: string,
      port: number,
      option: number,
      opened: (socket: ListenSocket) => void,
    ) => void;
    (app.listen as unknown as Listen).call(
      app,
      host,
      port,
      sharesPort ? LISTEN_SHARED : LISTEN_EXCLUSIVE,
      (socket) => {
        listening = socket === false ? null : socket;
      },
    );
    return listening !== null;
  };
  const stopAccepting = (): void => {
    if (listening !== null) native.us_listen_socket_close(listening);
    listening = null;
  };
  return {
    async listen(host, given) {
      // uWS lets a port be opened again while connections to it are there only if it was asked for by its
      // number.
      const port = tls !== null && given === 0 ? await reservePort(host, given) : given;
      if (!open(host, port)) throw listenError(host, port);
      place = { host, port: native.us_socket_local_port(listening as unknown as uWS.us_socket) };
      return place.port;
    },
    renewCertificate() {
      if (tls === null || place === null || listening === null) return false;
      const fresh = readCertificate(tls);
      if (fresh === certificate) return false;
      // Whoever waits to be accepted in this instant is refused, and comes again.
      apps.push(createApp());
      stopAccepting();
      certificate = fresh;
      const { host, port } = place;
      // Only somebody who takes the port, or the last descriptor, in this instant can be in the way.
      const reopen = (): void => {
        if (!isStopped && !open(host, port)) setTimeout(reopen, REOPEN_MS);
      };
      reopen();
      return true;
    },
    stopAccepting() {
      isStopped = true;
      stopAccepting();
    },
    closeConnections() {
      isStopped = true;
      stopAccepting();
      for (const app of apps) app.close();
    },
  };
}

/**
 * Certificate and key as text, to tell whether they have changed. uWS says nothing of what is wrong with the
 * files, so Node.js looks at them first.
 * @throws Error with a sentence for a person
 */
function readCertificate({ certificate, key }: TlsFiles): string {
  try {
    const [cert, secret] = [readFileSync(certificate), readFileSync(key)];
    createSecureContext({ cert, key: secret });
    return `${cert}${secret}`;
  } catch (error) {
    throw new Error(
      `cannot use the certificate ${certificate} with the key ${key}: ${(error as Error).message}`,
    );
  }
}

type ListenSocket = uWS.us_listen_socket | false;

let loaded: typeof uWS | null = null;

function loadNative(): typeof uWS {
  if (loaded === null) {
    // uWS reads this once, when its code is loaded; its default of 4,096 is less than one encoded key with an
    // If-Match.
    process.env.UWS_HTTP_MAX_HEADERS_SIZE ??= String(HEADER_BYTES_MAX);
    loaded = loadAddon("uws") as typeof uWS;
  }
  return loaded;
}
