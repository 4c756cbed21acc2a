/** Clients of the black-box tests: plain requests, raw bytes, curl. */
import { spawn, spawnSync } from "node:child_process";
import { createCipheriv, createHash, type Hash } from "node:crypto";
import http from "node:http";
import net from "node:net";
import { Readable } from "node:stream";

/** Tests that drive curl are skipped without it. */
export const hasCurl = spawnSync("curl", ["--version"]).status === 0;
export const WITHOUT_CURL = "curl is not installed";

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
  body?: string | Uint8Array | Readable;
  agent?: http.Agent | false;
}

/**
 * How long a connection that nobody uses is kept: the server closes such ones after 8 s at the earliest, and a request that crosses this on its way is reset.
 */
export const KEPT_MS = 4000;

/** Connections are kept, and each is used for one request at a time. */
const sharedAgent = new http.Agent({ keepAlive: true, maxSockets: 128, timeout: KEPT_MS });

/** One request. The path goes out as it is, which fetch would not do. A text or array is sent with its length, a stream chunked. */
export async function call(
  port: number,
  method: string,
  path: string,
  options: CallOptions = {},
): Promise<Reply> {
  const { status, headers, stream } = await open(port, method, path, options);
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece as Buffer);
  const body = Buffer.concat(pieces);
  return {
    status,
    headers,
    body,
    text: body.toString("utf8"),
    json: () => JSON.parse(body.toString("utf8")),
  };
}

export interface DigestReply {
  status: number;
  headers: http.IncomingHttpHeaders;
  bytes: number;
  sha256: string;
}

/** One request whose answer may be of any size: only its hash is kept. */
export async function digest(
  port: number,
  method: string,
  path: string,
  options: CallOptions = {},
): Promise<DigestReply> {
  const { status, headers, stream } = await open(port, method, path, options);
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const piece of stream) {
    hash.update(piece as Buffer);
    bytes += (piece as Buffer).length;
  }
  return { status, headers, bytes, sha256: hash.digest("hex") };
}

function open(
  port: number,
  method: string,
  path: string,
  options: CallOptions,
): Promise<{ status: number; headers: http.IncomingHttpHeaders; stream: http.IncomingMessage }> {
  return new Promise((resolve, reject) => {
    const { body } = options;
    const headers: Record<string, string> = { ...options.headers };
    const sized = typeof body === "string" || body instanceof Uint8Array;
    if (sized) headers["Content-Length"] ??= String(Buffer.byteLength(body));
    const agent = options.agent ?? sharedAgent;
    const request = http.request({ host: "127.0.0.1", port, method, path, headers, agent });
    request.on("error", (error: NodeJS.ErrnoException) => {
      // This process may have stood still for longer than that, beside load.
      const isStale = request.reusedSocket && error.code === "ECONNRESET";
      if (isStale && (method === "GET" || method === "HEAD"))
        open(port, method, path, { ...options, agent: false }).then(resolve, reject);
      else reject(error);
    });
    request.on("response", (stream) => {
      resolve({ status: stream.statusCode ?? 0, headers: stream.headers, stream });
    });
    if (body instanceof Readable) body.on("error", reject).pipe(request);
    else request.end(body);
  });
}

/** Closes the connections that are kept, so that the test process can end. */
export function closeConnections(): void {
  sharedAgent.destroy();
}

/** Sends bytes over a connection of its own and answers all that comes back until the other side closes, or `quietMs` pass without a byte. */
export function exchange(port: number, bytes: string | Uint8Array, quietMs = 1000): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: "127.0.0.1", port });
    let text = "";
    let timer: NodeJS.Timeout | undefined;
    const finish = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(text);
    };
    socket.on("connect", () => socket.write(bytes));
    socket.on("data", (piece) => {
      text += piece.toString("latin1");
      clearTimeout(timer);
      timer = setTimeout(finish, quietMs);
    });
    socket.on("close", finish);
    socket.on("error", (error: NodeJS.ErrnoException) => (text === "" ? reject(error) : finish()));
    setTimeout(finish, 60_000).unref();
  });
}

export interface CurlReply {
  /** Exit status of curl itself. */
  exit: number;
  stdout: Buffer;
  /** Last status line's number. With `-i` the headers are in `stdout`. */
  status: number;
  seconds: number;
}

/** curl, as a user types it; `-sS` and a status at the end are added. */
export function curl(words: string[], stdin: Uint8Array | null = null): Promise<CurlReply> {
  return new Promise((resolve, reject) => {
    const marker = "\n#status ";
    const begun = performance.now();
    const child = spawn("curl", ["-q", "-sS", "--noproxy", "*", "-w", `${marker}%{http_code}`, ...words], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const pieces: Buffer[] = [];
    child.on("error", reject);
    child.stdout.on("data", (piece: Buffer) => pieces.push(piece));
    child.stdin.on("error", () => {});
    child.stdin.end(stdin ?? undefined);
    child.on("close", (exit) => {
      const all = Buffer.concat(pieces);
      const at = all.lastIndexOf(marker);
      resolve({
        exit: exit ?? -1,
        stdout: all.subarray(0, at),
        status: Number(all.subarray(at + marker.length).toString()),
        seconds: (performance.now() - begun) / 1000,
      });
    });
  });
}

/** `count` bytes that look random and are the same for the same seed: AES in counter mode over zeros. */
export function content(seed: number, count: number): Buffer {
  return keystream(seed).update(Buffer.alloc(count));
}

function keystream(seed: number) {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed >>> 0, 0);
  return createCipheriv("aes-128-ctr", key, Buffer.alloc(16));
}

/** The bytes of `content`, as a stream that never holds more than a piece, and hashes what it sends. */
export function contentStream(seed: number, count: number, hash?: Hash): Readable {
  const cipher = keystream(seed);
  const zeros = Buffer.alloc(256 * 1024);
  let left = count;
  return new Readable({
    highWaterMark: zeros.length,
    read() {
      if (left === 0) {
        this.push(null);
        return;
      }
      const piece = cipher.update(zeros.subarray(0, Math.min(left, zeros.length)));
      left -= piece.length;
      hash?.update(piece);
      this.push(piece);
    },
  });
}

/** The hash of `content`, without holding it. */
export function contentHash(seed: number, count: number): string {
  const cipher = keystream(seed);
  const hash = createHash("sha256");
  const zeros = Buffer.alloc(256 * 1024);
  for (let left = count; left > 0; left -= zeros.length)
    hash.update(cipher.update(zeros.subarray(0, Math.min(left, zeros.length))));
  return hash.digest("hex");
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Runs `work` for 0 to count - 1, at most `width` at once. */
export async function inParallel(
  count: number,
  width: number,
  work: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(width, count) }, lane));
}

/** A key as a path, with everything encoded that has to be. */
export function pathOf(key: string): string {
  return `/${key.split("/").map(encodeURIComponent).join("/")}`;
}
