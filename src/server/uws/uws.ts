/**
 * The door to uWebSockets.js: the only file that loads it. http.ts says what the rest of the front sees.
 *
 * What is written in a handler is gathered, by uWebSockets, in 16 KiB for all requests that one read of
 * the socket has brought. A piece that does not fit behind what is gathered is lost where the socket takes
 * nothing at that moment (its commit 6b7f354, of 2026, mends it; the releases here are older): then the
 * request stays unanswered, and once its handler has returned, that ends the process. And `end` keeps in
 * memory what a client does not read, for as many requests as it sends.
 *
 * So `end` is used for as long as all that can be gathered is known to fit, and `tryEnd` behind that: it
 * keeps nothing, and tells.
 */
import type * as uWS from "uWebSockets.js";
import { createSecureContext } from "node:tls";
import { loadAddon } from "../../platform/addon.ts";
import { sentenceOf } from "../../platform/system-error.ts";
import { readAgain } from "../../util/brief-read.ts";
import {
  type Handlers,
  type HttpOptions,
  type HttpServer,
  listenError,
  type Req,
  type Res,
  reservePort,
  type Text,
  type TlsFiles,
} from "../http/http.ts";
import { sendRest } from "./rest.ts";

/** Request line and headers together. A key of 1,024 bytes takes 3,072 when every byte is percent-encoded. */
const HEADER_BYTES_MAX = 16 * 1024;
/** uWS' listen option for "fail when another process has the port", which is not its default on Linux. */
const LISTEN_EXCLUSIVE = 1;
const LISTEN_SHARED = 0;
/** How often it is tried to open the port again after a change of the certificate. */
const REOPEN_MS = 50;
/** What is known to fit. uWS has 16 KiB. */
const GATHERED_MAX = 15 * 1024;
/** So much is enough to have the count begin anew, which is free until then. */
const GATHERED_MANY = GATHERED_MAX / 2;
/** An answer's head without what goes by `writeHeader`: what uWS writes itself, and our longest status. */
const HEAD_BYTES = 640;
/** What stands between a header's name and value, and behind them. */
const BETWEEN_BYTES = 4;
/** UTF-8 of each unit of a string, at most. */
const UTF8_BYTES_MAX = 3;

/** Gets what a handler threw before it answered, and may still answer it. */
export type OnError = (method: keyof Handlers, res: Res, error: unknown) => void;

/**
 * Builds the server. `onError` gets what a handler threw before it answered; it may still answer (the handler
 * is on the stack, so no `onAborted` is needed).
 */
export function createHttp(handlers: Handlers, onError: OnError, options: HttpOptions = {}): HttpServer {
  return new UwsServer(handlers, onError, options);
}

/** Handlers for all paths of a pattern, whatever they throw. */
function route(
  app: uWS.TemplatedApp,
  pattern: string,
  handlers: Handlers,
  onRequest: (res: Res) => void,
  onError: OnError,
): void {
  const guarded = (method: keyof Handlers) => {
    const handler = handlers[method];
    return (res: Res, req: Req) => {
      onRequest(res);
      try {
        handler(res, req);
      } catch (error) {
        onError(method, res, error);
      }
    };
  };
  app.get(pattern, guarded("get"));
  app.head(pattern, guarded("head"));
  app.put(pattern, guarded("put"));
  app.post(pattern, guarded("post"));
  app.del(pattern, guarded("delete"));
  app.any(pattern, guarded("other"));
}

class UwsServer implements HttpServer {
  private readonly native = loadNative();
  private readonly handlers: Handlers;
  private readonly onError: OnError;
  private readonly options: HttpOptions;
  private readonly tls: TlsFiles | null;
  /** The last one listens; connections stay with the one that has accepted them. */
  private readonly apps: uWS.TemplatedApp[];
  private certificate: string | null;
  private listening: uWS.us_listen_socket | null = null;
  private place: { host: string; port: number } | null = null;
  private isStopped = false;

  constructor(handlers: Handlers, onError: OnError, options: HttpOptions) {
    this.handlers = handlers;
    this.onError = onError;
    this.options = options;
    this.tls = options.tls ?? null;
    this.certificate = this.tls === null ? null : readCertificate(this.tls);
    this.apps = [this.createApp()];
  }

  private createApp(): uWS.TemplatedApp {
    const { tls, native, onError } = this;
    const { below, connections, onRequest = () => {} } = this.options;
    const app =
      tls === null
        ? native.App()
        : native.SSLApp({
            cert_file_name: tls.certificate,
            key_file_name: tls.key,
            ...(tls.ca == null ? {} : { ca_file_name: tls.ca }),
          });
    if (connections !== undefined) {
      // 1: one has come, -1: it has gone.
      const follow = (res: Res, change: number): void => {
        if (change < 0) connections.closed();
        else if (!connections.opened()) res.close();
      };
      (app as unknown as Filtered).filter(follow);
    }
    // What all answers have in common is first seen when there is one.
    let isMended = false;
    const begun = (res: Res): void => {
      if (!isMended) completeWhole(Object.getPrototypeOf(res));
      isMended = true;
      onRequest();
    };
    if (below !== undefined) route(app, `${below.prefix}*`, below.handlers, begun, onError);
    route(app, "/*", this.handlers, begun, onError);
    return app;
  }

  /** Listens with the last app, at once. False: the port cannot be had. */
  private open(host: string, port: number): boolean {
    const app = this.apps[this.apps.length - 1];
    // The native method takes (host, port, option, callback); the package's types lack that form.
    type Listen = (
      host: string,
      port: number,
      option: number,
      opened: (socket: ListenSocket) => void,
    ) => void;
    const option = this.options.sharesPort === true ? LISTEN_SHARED : LISTEN_EXCLUSIVE;
    (app.listen as unknown as Listen).call(app, host, port, option, (socket) => {
      this.listening = socket === false ? null : socket;
    });
    return this.listening !== null;
  }

  private stopListening(): void {
    if (this.listening !== null) this.native.us_listen_socket_close(this.listening);
    this.listening = null;
  }

  async listen(host: string, given: number): Promise<number> {
    // uWS lets a port be opened again while connections to it are there only if it was asked for by its
    // number.
    const port = this.tls !== null && given === 0 ? await reservePort(host, given) : given;
    if (!this.open(host, port)) throw listenError(host, port);
    this.place = { host, port: this.native.us_socket_local_port(this.listening as unknown as uWS.us_socket) };
    return this.place.port;
  }

  renewCertificate(): boolean {
    const { tls, place } = this;
    if (tls === null || place === null || this.listening === null) return false;
    const fresh = readCertificate(tls);
    if (fresh === this.certificate) return false;
    // Whoever waits to be accepted in this instant is refused, and comes again.
    this.apps.push(this.createApp());
    this.stopListening();
    this.certificate = fresh;
    // Only somebody who takes the port, or the last descriptor, in this instant can be in the way.
    const reopen = (): void => {
      if (!this.isStopped && !this.open(place.host, place.port)) setTimeout(reopen, REOPEN_MS);
    };
    reopen();
    return true;
  }

  stopAccepting(): void {
    this.isStopped = true;
    this.stopListening();
  }

  closeConnections(): void {
    this.isStopped = true;
    this.stopListening();
    for (const app of this.apps) app.close();
  }
}

/**
 * Certificate and key as text, to tell whether they have changed. uWS says nothing of what is wrong with the
 * files, so Node.js looks at them first.
 * @throws Error with a sentence for a person
 */
function readCertificate({ certificate, key }: TlsFiles): string {
  try {
    const [cert, secret] = [readAgain(certificate), readAgain(key)];
    createSecureContext({ cert, key: secret });
    return `${cert}${secret}`;
  } catch (error) {
    throw new Error(
      `cannot use the certificate ${certificate} with the key ${key}: ${sentenceOf(error as Error)}`,
    );
  }
}

/** The package's types lack the method in the older release. */
interface Filtered {
  filter(each: (res: Res, change: number) => void): void;
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

/** Bytes that all sockets of this thread may have gathered since the count began, which was between reads. */
let gathered = 0;
let isCounted = false;

function beginAnew(): void {
  gathered = 0;
  isCounted = false;
}

function count(bytes: number): void {
  gathered += bytes;
  if (gathered < GATHERED_MANY || isCounted) return;
  isCounted = true;
  setImmediate(beginAnew);
}

/** Servers of one thread have them in common. */
const done = new WeakSet<Res>();

/** Has all answers of a server complete so. @param prototype what its answers have in common */
function completeWhole(prototype: Res): void {
  if (done.has(prototype)) return;
  done.add(prototype);
  const { end, tryEnd, endWithoutBody, writeHeader } = prototype;
  prototype.writeHeader = function (this: Res, name: Text, value: Text): Res {
    count(bytesOf(name) + bytesOf(value) + BETWEEN_BYTES);
    return writeHeader.call(this, name, value);
  };
  prototype.endWithoutBody = function (this: Res): Res {
    count(HEAD_BYTES);
    return endWithoutBody.call(this);
  };
  prototype.end = function (this: Res, body?: Text, closeConnection?: boolean): Res {
    count(HEAD_BYTES + (body === undefined ? 0 : bytesOf(body)));
    if (gathered <= GATHERED_MAX || body === undefined || closeConnection === true)
      return end.call(this, body, closeConnection);
    const bytes = viewOf(body);
    if (!tryEnd.call(this, bytes, bytes.length)[1]) sendRest(this, bytes);
    return this;
  };
}

function bytesOf(text: Text): number {
  return typeof text === "string" ? text.length * UTF8_BYTES_MAX : text.byteLength;
}

function viewOf(body: Text): Uint8Array {
  if (typeof body === "string") return Buffer.from(body);
  return body instanceof Uint8Array ? body : new Uint8Array(body);
}
