/** A node with its S3 interface, clients of it, and requests that are signed by hand. */
import assert from "node:assert/strict";
import http from "node:http";
import { after, before } from "node:test";
import { S3Client } from "@aws-sdk/client-s3";
import {
  ALGORITHM,
  canonicalRequest,
  encodeUri,
  hmac,
  scopeText,
  sha256,
  signingKey,
  stringToSign,
} from "../../src/s3/signature/canonical.ts";
import { closeConnections } from "../rest/client.ts";
import { type Server, type ServerOptions, startServer, waitUntil } from "../rest/server.ts";

export const KEY = "a-key-of-sixteen-letters-or-more";
export const ACCESS_KEY = "minivault";

export interface S3Server extends Server {
  readonly s3Port: number;
}

/** The port that a log names. */
export function printedS3Port(log: string): number | null {
  const all = [...log.matchAll(/S3 on port (\d+)/g)];
  return all.length === 0 ? null : Number(all[all.length - 1][1]);
}

/** Waits until a program has said where S3 is. */
export async function untilS3Listens(program: { log(): string }): Promise<number> {
  await waitUntil("S3 listens", () => printedS3Port(program.log()) !== null);
  return printedS3Port(program.log()) as number;
}

export async function startS3(options: ServerOptions = {}): Promise<S3Server> {
  const { flags = [], env = {} } = options;
  const server = await startServer({
    sync: "os",
    ...options,
    flags: ["-s3-port", "0", ...flags],
    env: { MINIVAULT_AUTH: KEY, ...env },
  });
  await untilS3Listens(server);
  return Object.defineProperty(server, "s3Port", {
    get: () => printedS3Port(server.log()),
  }) as unknown as S3Server;
}

/** A node with these buckets for all tests of a file, and requests to its S3. For the file's top level. */
export function s3OfFile(...buckets: string[]) {
  let server: S3Server;
  before(async () => {
    server = await startS3();
    for (const name of buckets) await bucket(name);
  });
  after(async () => {
    closeConnections();
    await server.dispose();
  });
  const q = (method: string, target: string, more: Partial<Sent> = {}): Promise<Answer> =>
    ask(server.s3Port, { method, target, ...more });
  /** Makes a bucket; answers its path. */
  const bucket = async (name: string): Promise<string> => {
    assert.equal((await q("PUT", `/${name}`)).status, 200);
    return `/${name}`;
  };
  return { q, bucket };
}

export interface Credentials {
  accessKey: string;
  secretKey: string;
}

const OWN: Credentials = { accessKey: ACCESS_KEY, secretKey: KEY };

export function client(port: number, { accessKey, secretKey }: Credentials = OWN): S3Client {
  return new S3Client({
    endpoint: `http://127.0.0.1:${port}`,
    region: "us-east-1",
    forcePathStyle: true,
    credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
    maxAttempts: 1,
  });
}

export interface Sent {
  method: string;
  /** Percent-encoded, with the query. */
  target: string;
  headers?: Record<string, string>;
  body?: Uint8Array | string;
  /** Milliseconds since 1970 */
  timeMs?: number;
  /** Said of the body in place of its SHA-256. */
  payload?: string;
  credentials?: Credentials;
}

export interface Signed {
  method: string;
  target: string;
  headers: Record<string, string>;
  body: Buffer;
  signature: string;
}

export function timeText(ms: number): string {
  return new Date(ms).toISOString().replace(/[-:]|\.\d+/g, "");
}

export function scopeOf(time: string) {
  return { date: time.slice(0, 8), region: "us-east-1", service: "s3" };
}

/** Signs a request in its headers. */
export function sign(port: number, sent: Sent): Signed {
  const { method, target, timeMs = Date.now(), credentials = OWN } = sent;
  const body = Buffer.from(sent.body ?? "");
  const [path, query = ""] = target.split("?");
  const time = timeText(timeMs);
  const payload = sent.payload ?? sha256(body);
  const headers: Record<string, string> = {
    host: `127.0.0.1:${port}`,
    "x-amz-date": time,
    "x-amz-content-sha256": payload,
    ...sent.headers,
  };
  const names = Object.keys(headers).sort();
  const request = { method, path, query, header: (name: string) => headers[name] ?? null };
  const text = stringToSign(time, scopeOf(time), canonicalRequest(request, names, payload, false));
  const signature = hmac(signingKey(credentials.secretKey, scopeOf(time)), text).toString("hex");
  headers.authorization = `${ALGORITHM} Credential=${credentials.accessKey}/${scopeText(scopeOf(time))}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
  return { method, target, headers, body, signature };
}

/** A presigned URL's path and query. */
export function presign(
  port: number,
  method: string,
  path: string,
  expires = 60,
  timeMs = Date.now(),
): string {
  const time = timeText(timeMs);
  const parameters: [string, string][] = [
    ["X-Amz-Algorithm", ALGORITHM],
    ["X-Amz-Credential", `${ACCESS_KEY}/${scopeText(scopeOf(time))}`],
    ["X-Amz-Date", time],
    ["X-Amz-Expires", String(expires)],
    ["X-Amz-SignedHeaders", "host"],
  ];
  const query = parameters.map(([name, value]) => `${name}=${encodeUri(value)}`).join("&");
  const request = { method, path, query, header: () => `127.0.0.1:${port}` };
  const text = stringToSign(
    time,
    scopeOf(time),
    canonicalRequest(request, ["host"], "UNSIGNED-PAYLOAD", false),
  );
  return `${path}?${query}&X-Amz-Signature=${hmac(signingKey(KEY, scopeOf(time)), text).toString("hex")}`;
}

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
  text: string;
}

/** Sends a request as it is. */
export function send(
  port: number,
  { method, target, headers = {}, body = "" }: Pick<Sent, "method" | "target" | "headers" | "body">,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const length =
      method === "GET" || method === "HEAD" ? {} : { "content-length": String(Buffer.from(body).length) };
    const request = http.request(
      { host: "127.0.0.1", port, method, path: target, headers: { ...length, ...headers }, agent: false },
      (response) => {
        const pieces: Buffer[] = [];
        response.on("data", (piece) => pieces.push(piece));
        response.once("error", reject);
        response.once("end", () => {
          const bytes = Buffer.concat(pieces);
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: bytes,
            text: bytes.toString(),
          });
        });
      },
    );
    request.once("error", reject);
    request.end(body);
  });
}

/** Signs and sends. */
export function ask(port: number, sent: Sent): Promise<Answer> {
  return send(port, sign(port, sent));
}

/** The code of an error's document. */
export function codeOf({ text }: Answer): string {
  return /<Code>(\w+)<\/Code>/.exec(text)?.[1] ?? "";
}
