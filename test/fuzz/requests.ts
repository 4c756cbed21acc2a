/**
 * What the fuzzer sends: valid requests, and what becomes of them. Everything comes from one `Random`, so that a case can be repeated
 * from its number and the seed.
 */
import { createHash } from "node:crypto";
import { CHUNK_BYTES } from "../../src/util/limits.ts";
import type { Random } from "../random.ts";

const CRLF = "\r\n";
const CHECK_BYTES = 32;

/** One element. */
export function pick<T>(random: Random, from: readonly T[]): T {
  return from[random.below(from.length)];
}

/** A value that tells whether it is whole: a hash, and the bytes it is of. */
export function checkedValue(random: Random, bytes: number): Buffer {
  const rest = Buffer.alloc(bytes, random.bytes(Math.min(bytes, 997)));
  return Buffer.concat([createHash("sha256").update(rest).digest(), rest]);
}

export function isWhole(value: Buffer): boolean {
  const hash = createHash("sha256").update(value.subarray(CHECK_BYTES)).digest();
  return hash.equals(value.subarray(0, CHECK_BYTES));
}

/** A body in chunks of random sizes. */
export function inChunks(random: Random, body: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length; ) {
    const size = 1 + random.below(random.below(4) === 0 ? 300_000 : 2000);
    const piece = body.subarray(at, at + size);
    const digits = piece.length.toString(16);
    parts.push(
      Buffer.from((random.below(2) === 0 ? digits : digits.toUpperCase()) + CRLF),
      piece,
      Buffer.from(CRLF),
    );
    at += size;
  }
  parts.push(Buffer.from(`0${CRLF}${CRLF}`));
  return Buffer.concat(parts);
}

/** Mostly small, sometimes around the limits. */
export function valueSize(random: Random): number {
  const kind = random.below(40);
  if (kind === 0) return 2 * CHUNK_BYTES + random.below(CHUNK_BYTES);
  if (kind === 1) return CHUNK_BYTES - CHECK_BYTES + random.below(3) - 1;
  if (kind < 6) return random.below(200_000);
  return random.below(2000);
}

/** A PUT or POST, complete and correct, of a value that tells whether it is whole. */
export function upload(random: Random, key: string): Buffer {
  const body = checkedValue(random, valueSize(random));
  const verb = random.below(4) === 0 ? "POST" : "PUT";
  const chunked = random.below(2) === 0;
  const length = chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${body.length}`;
  const head = `${verb} /${key} HTTP/1.1${CRLF}Host: fuzz${CRLF}${length}${CRLF}Content-Type: x/checked${CRLF}${CRLF}`;
  return Buffer.concat([Buffer.from(head), chunked ? inChunks(random, body) : body]);
}

const HEADERS = [
  'If-Match: "0"',
  "If-Match: *",
  "If-None-Match: *",
  'If-None-Match: W/"x", "y"',
  "Range: bytes=0-5",
  "Range: bytes=-7",
  "Range: bytes=9-",
  "Range: bytes=0-1,3-4",
  'If-Range: "x"',
  "Expect: 100-continue",
  "Connection: close",
  "Connection: keep-alive",
  "Content-Type: application/json",
  "Content-Type: text/plain; charset=utf-8",
  "Content-Range: bytes 0-1/2",
  "Authorization: Bearer x",
  "Accept-Encoding: gzip",
  "Transfer-Encoding: chunked",
  "Content-Length: 5",
  "Upgrade: websocket",
  "Cookie: a=b",
] as const;
const PATHS = [
  "/m/1",
  "/m/2",
  "/m/%C3%A9",
  "/_kv/m/3",
  "/health",
  "/_stats",
  "/_nope",
  "/",
  "/m/../x",
  "/m/1?consistency=one",
  "/m/1?list",
];
const VERBS = ["GET", "GET", "GET", "HEAD", "PUT", "PUT", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"];

/** Any request of the API, with a body that fits. */
export function anyRequest(random: Random): Buffer {
  const verb = pick(random, VERBS);
  const lines = [`${verb} ${pick(random, PATHS)} HTTP/1.1`, "Host: fuzz"];
  while (random.below(3) === 0) lines.push(pick(random, HEADERS));
  if (verb !== "PUT" && verb !== "POST") return Buffer.from(lines.join(CRLF) + CRLF + CRLF);
  const json = random.below(2) === 0;
  const body = json ? document(random) : random.bytes(random.below(300));
  if (json) lines.push("Content-Type: application/json");
  const chunked = random.below(3) === 0;
  lines.push(chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${body.length}`);
  return Buffer.concat([
    Buffer.from(lines.join(CRLF) + CRLF + CRLF),
    chunked ? inChunks(random, body) : body,
  ]);
}

const SCALARS = [
  "0",
  "-0",
  "1e999",
  "12345678901234567890",
  "-1.5E-3",
  "true",
  "false",
  "null",
  '""',
  '"\\ud800"',
  '"\\u0000é😀"',
];

function jsonText(random: Random, depth: number): string {
  const kind = random.below(depth > 5 ? 1 : 4);
  if (kind < 2) return pick(random, SCALARS);
  const count = random.below(4);
  const items = Array.from({ length: count }, () => jsonText(random, depth + 1));
  const space = pick(random, ["", " ", "\n\t"]);
  if (kind === 2) return `[${items.join(`,${space}`)}]`;
  return `{${items.map((item) => `${pick(random, ['"a"', '"value"', '"\\u0076alue"'])}:${space}${item}`).join(",")}}`;
}

/** A body for a JSON value. */
export function document(random: Random): Buffer {
  return Buffer.from(`{"value":${jsonText(random, 0)}}`);
}

const INSERTS = [
  CRLF,
  "\n",
  "\0",
  "\r",
  " ",
  ":",
  "%",
  "{",
  '"',
  "\\",
  "\xff",
  "0",
  "-1",
  "HTTP/1.1",
  "chunked",
  "\xed\xa0\x80",
  "\ufeff",
  ",",
  "]",
];

/** One to four changes of bytes or of their order. */
export function mutate(random: Random, bytes: Buffer): Buffer {
  let changed = Buffer.from(bytes);
  for (let left = 1 + random.below(4); left > 0; left--) {
    const at = random.below(changed.length + 1);
    const end = Math.min(changed.length, at + 1 + random.below(20));
    const [before, middle, after] = [
      changed.subarray(0, at),
      changed.subarray(at, end),
      changed.subarray(end),
    ];
    switch (random.below(7)) {
      case 0:
        if (at < changed.length) changed[at] ^= 1 << random.below(8);
        break;
      case 1:
        if (at < changed.length) changed[at] = random.below(256);
        break;
      case 2:
        changed = Buffer.concat([before, after]);
        break;
      case 3:
        changed = Buffer.concat([before, middle, middle, after]);
        break;
      case 4:
        changed = Buffer.concat([before, Buffer.from(pick(random, INSERTS)), middle, after]);
        break;
      case 5:
        changed = Buffer.concat([after, middle, before]);
        break;
      default:
        changed = Buffer.concat([before, random.bytes(random.below(30)), after]);
    }
  }
  return changed;
}

/** Cuts into up to `most` pieces; `from`: no cut before this. */
export function split(random: Random, bytes: Buffer, most: number, from = 0): Buffer[] {
  const cuts = Array.from(
    { length: random.below(most) },
    () => from + random.below(Math.max(1, bytes.length - from)),
  );
  const ends = [...cuts.sort((a, b) => a - b), bytes.length];
  return ends
    .map((end, number) => bytes.subarray(number === 0 ? 0 : ends[number - 1], end))
    .filter((piece) => piece.length > 0);
}
