/** Starts the real front over loopback, on a fake vault, and talks to it. */
import http from "node:http";
import net from "node:net";
import { keyRecord } from "../../src/auth/tokens.ts";
import type { ClientAccess } from "../../src/server/access/gate.ts";
import { createFront, type Front, type FrontOptions } from "../../src/server/front.ts";
import { FakeVault } from "./fake-vault.ts";

export interface Reply {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests read documents of any form
  json: () => any;
}

export interface CallOptions {
  headers?: Record<string, string>;
  body?: string | Uint8Array;
}

export interface LogLine {
  level: string;
  fields: object;
  message: string;
}

export interface Harness {
  front: Front;
  vault: FakeVault;
  port: number;
  /** What the front logged. */
  log: LogLine[];
  /** One request over a connection that is kept for the next. The path goes out as it is. */
  call(method: string, path: string, options?: CallOptions): Promise<Reply>;
  /** A connection for raw bytes. */
  connect(): Promise<RawClient>;
}

/** What clients need where they all carry one key. */
export function byKey(key: string, mode: ClientAccess["mode"] = "all"): ClientAccess {
  return { mode, tokens: [keyRecord(key)] };
}

/** Runs `body` with a front; closes everything afterwards, and fails when readers or uploads were left open. */
export async function withFront(
  options: Partial<FrontOptions>,
  body: (harness: Harness) => Promise<void>,
): Promise<void> {
  const vault = new FakeVault();
  const log: LogLine[] = [];
  const front = await createFront({
    vault,
    host: "127.0.0.1",
    port: 0,
    auth: null,
    maxValueBytes: 1024 * 1024 * 1024,
    role: "worker",
    version: "1.2.3",
    log: {
      info: (fields, message) => log.push({ level: "info", fields, message }),
      error: (fields, message) => log.push({ level: "error", fields, message }),
    },
    ...options,
  });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1, timeout: 4000 });
  const clients: RawClient[] = [];
  try {
    await body({
      front,
      vault,
      port: front.port,
      log,
      call: (method, path, callOptions) => call(agent, front.port, method, path, callOptions),
      connect: async () => {
        const client = await RawClient.connect(front.port);
        clients.push(client);
        return client;
      },
    });
  } finally {
    agent.destroy();
    for (const client of clients) client.socket.destroy();
    vault.release();
    await front.close(1000);
  }
  await until(() => vault.readersOpen === 0 && vault.uploadsOpen === 0, "readers and uploads are closed");
}

function call(
  agent: http.Agent,
  port: number,
  method: string,
  path: string,
  options: CallOptions = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const headers: Record<string, string | number> = { ...options.headers };
    if (options.body !== undefined && headers["transfer-encoding"] === undefined) {
      headers["content-length"] ??= Buffer.byteLength(options.body);
    }
    const request = http.request({ host: "127.0.0.1", port, method, path, headers, agent }, (response) => {
      const pieces: Buffer[] = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("error", reject);
      response.on("end", () => {
        const bytes = Buffer.concat(pieces);
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: bytes,
          text: bytes.toString(),
          json: () => JSON.parse(bytes.toString()),
        });
      });
    });
    request.on("error", reject);
    request.end(options.body);
  });
}

/** A socket that collects what comes. */
export class RawClient {
  readonly socket: net.Socket;
  closed = false;
  private pieces: Buffer[] = [];

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.setMaxListeners(0);
    socket.on("data", (piece) => this.pieces.push(piece));
    socket.on("error", () => {});
    socket.on("close", () => {
      this.closed = true;
    });
  }

  static connect(port: number): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ port, host: "127.0.0.1", noDelay: true }, () =>
        resolve(new RawClient(socket)),
      );
      socket.once("error", reject);
    });
  }

  send(data: string | Uint8Array): void {
    this.socket.write(data);
  }

  /** Takes the first bytes that come, and nothing more until its socket is resumed. */
  stallsAtFirst(): void {
    // At once: a fast machine sends all of it while somebody looks.
    this.socket.once("data", () => this.socket.pause());
  }

  get received(): Buffer {
    if (this.pieces.length !== 1) this.pieces = [Buffer.concat(this.pieces)];
    return this.pieces[0];
  }

  get text(): string {
    return this.received.toString("latin1");
  }

  /** Waits until what came contains `text`. */
  async sees(text: string): Promise<void> {
    await until(
      () => this.text.includes(text),
      `the answer contains ${JSON.stringify(text)}`,
      () => this.text,
    );
  }

  async isClosed(timeoutMs = 30_000): Promise<void> {
    await until(
      () => this.closed,
      "the connection is closed",
      () => this.text,
      timeoutMs,
    );
  }
}

/** Waits for a condition. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  detail: () => string = () => "",
  timeoutMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`timed out: ${what}; ${detail().slice(0, 500)}`);
    await sleep(2);
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
