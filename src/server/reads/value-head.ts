/**
 * Status line and headers of answers with a value. One buffer for each status and content type, made once:
 * type and what keeps browsers from running a value as part of a page are constant; date and version are
 * written over its end. What is kept with the value beside its type follows as headers of its own, written
 * one by one: few values have any.
 */
import { META_PREFIX, type MetadataLine, metadataOf } from "../../format/fields/metadata.ts";
import { ETAG_BYTES } from "../../format/version.ts";
import { cappedCaching } from "../../rules/caching.ts";
import { lastModifiedSeconds } from "../../rules/conditions.ts";
import type { Found } from "../../shards/vault/vault.ts";
import { CoarseClock } from "../../util/clock.ts";
import { BYTES_TYPE, isHeaderText } from "../../util/header-text.ts";
import { HTTP_DATE_BYTES, writeHttpDate } from "../../util/http-date.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { statusLine } from "../http/reply.ts";

/** Content types whose heads are kept; more are built each time. */
const HEADS_KEPT_MAX = 256;

/**
 * A cache may keep a value, but asks before it shows it: what is gone must not be seen. Unless its owner has
 * said otherwise.
 */
const CACHE_CONTROL = "Cache-Control: no-cache";
const CACHING = "cache-control";
/** Names as they are sent; those of clients keep their small letters. */
const SENT_NAMES: Readonly<Record<string, string>> = {
  "content-encoding": "Content-Encoding",
  "content-language": "Content-Language",
  "content-disposition": "Content-Disposition",
  [CACHING]: "Cache-Control",
};
/** A value is what its type says, whatever it looks like. */
const NO_SNIFFING = "X-Content-Type-Options: nosniff";
/** Shown as a document it has no scripts, forms or cookies, and an origin of its own. */
const SANDBOX = "Content-Security-Policy: sandbox";
/** Where a token is needed, what is answered depends on it. */
const VARY = "Vary: Authorization";
const LAST_MODIFIED = "Last-Modified: ";
const BETWEEN = "\r\nETag: ";
/** Where the date begins, from the end. */
const DATE_FROM_END = ETAG_BYTES + BETWEEN.length + HTTP_DATE_BYTES;

/**
 * Types that no browser runs or renders with scripts, as far as they are in use; anything else, also what is
 * yet to come, is sandboxed. No comma: browsers take a type with one for a list, and the last of it counts.
 */
const INERT =
  /^(?:application\/(?:json|octet-stream|x-ndjson|gzip|zip|zstd|x-tar|x-7z-compressed)|text\/(?:plain|csv)|image\/(?:png|jpeg|gif|webp|avif|bmp|tiff|heic|x-icon)|audio\/[\w.+-]+|video\/[\w.+-]+|font\/[\w.+-]+)(?:[ \t]*;[^,]*)?$/i;

export function isInertType(contentType: string): boolean {
  return INERT.test(contentType);
}

/**
 * A stored type is checked when it arrives; a store written by other hands must not be able to add headers.
 */
function safeType(contentType: string): string {
  return isHeaderText(contentType) ? contentType : BYTES_TYPE;
}

/** What the headers say of a value. */
export type ValueFacts = Pick<Found, "contentType" | "trailer" | "isBare" | "end" | "etag" | "versionMs">;

/** What answers depend on beside the value. */
export type HeadContext = Pick<FrontContext, "varies" | "cluster" | "vault">;

/** For `Last-Modified`. */
export const clock = new CoarseClock();

/** A head whose end is written over. */
interface Head {
  readonly bytes: Uint8Array;
  /** The date that stands in it, in seconds since 1970: many values are of the same moment. */
  seconds: number;
}

class ValueHeads {
  private readonly status: number;
  private readonly fixed: readonly string[];
  private readonly heads = new Map<string, Head>();
  private lastType: string | null = null;
  private lastHead!: Head;

  /** @param fixed lines that all of them have */
  constructor(status: number, fixed: readonly string[]) {
    this.status = status;
    this.fixed = fixed;
  }

  /** Good until the next call. */
  of(value: ValueFacts): Uint8Array {
    const { contentType } = value;
    if (contentType !== this.lastType) {
      this.lastHead = this.forType(contentType);
      this.lastType = contentType;
    }
    return withVersion(this.lastHead, value);
  }

  private forType(contentType: string): Head {
    let head = this.heads.get(contentType);
    if (head === undefined) {
      const type = safeType(contentType);
      const sandbox = isInertType(type) ? [] : [SANDBOX];
      const lines = [`Content-Type: ${type}`, NO_SNIFFING, ...sandbox, ...this.fixed];
      head = versionedHead(this.status, lines);
      if (this.heads.size < HEADS_KEPT_MAX) this.heads.set(contentType, head);
    }
    return head;
  }
}

function versionedHead(status: number, lines: readonly string[]): Head {
  const version = `${LAST_MODIFIED}${" ".repeat(HTTP_DATE_BYTES)}${BETWEEN}${" ".repeat(ETAG_BYTES)}`;
  const text = [statusLine(status), ...lines, version].join("\r\n");
  return { bytes: Uint8Array.from(Buffer.from(text, "latin1")), seconds: -1 };
}

function withVersion(head: Head, { etag, versionMs }: Pick<ValueFacts, "etag" | "versionMs">): Uint8Array {
  const { bytes } = head;
  const seconds = lastModifiedSeconds(versionMs, clock.now());
  if (seconds !== head.seconds) {
    writeHttpDate(bytes, bytes.length - DATE_FROM_END, seconds);
    head.seconds = seconds;
  }
  bytes.set(etag, bytes.length - ETAG_BYTES);
  return bytes;
}

/** Heads of answers of one status: with the preset for caches, and without. */
class Heads {
  private readonly preset: ValueHeads;
  private readonly own: ValueHeads;

  constructor(status: number, fixed: readonly string[]) {
    this.preset = new ValueHeads(status, [...fixed, CACHE_CONTROL]);
    this.own = new ValueHeads(status, fixed);
  }

  begin(res: Res, value: ValueFacts, context: HeadContext): void {
    const leftMs = value.end === 0 ? 0 : leftOf(value.end, context);
    if (value.isBare) res.writeStatus(this.preset.of(value));
    else {
      const lines = metadataOf(value.trailer);
      res.writeStatus((hasCaching(lines) ? this.own : this.preset).of(value));
      writeMetadata(res, lines, leftMs);
    }
    if (leftMs > 0) res.writeHeader("X-TTL", secondsOf(leftMs));
  }
}

/** What is left of a life, in milliseconds; at least one, since what is over is not shown. */
function leftOf(end: number, { cluster, vault }: HeadContext): number {
  return Math.max(1, Math.floor(end - (cluster ?? vault).now()));
}

/** To the millisecond. */
function secondsOf(ms: number): string {
  return `${Math.floor(ms / 1000)}.${String(ms % 1000).padStart(3, "0")}`;
}

function hasCaching(lines: readonly MetadataLine[]): boolean {
  return lines.some(([name]) => name === CACHING);
}

/** @param leftMs of the value's life, 0: it does not end */
function writeMetadata(res: Res, lines: readonly MetadataLine[], leftMs: number): void {
  const own: string[] = [];
  for (const [name, value] of lines) {
    if (name.startsWith(META_PREFIX)) own.push(name);
    const isCapped = leftMs > 0 && name === CACHING;
    res.writeHeader(SENT_NAMES[name] ?? name, isCapped ? cappedCaching(value, leftMs) : value);
  }
  // Pages of other origins that may read the answer may read these, too.
  if (own.length > 0) res.writeHeader("Access-Control-Expose-Headers", own.join(", "));
}

/** Of nodes that are open to everyone, and of those that are not. */
const headsOf = (fixed: readonly string[]) => ({
  whole: new Heads(200, fixed),
  partial: new Heads(206, fixed),
  notModified: versionedHead(304, [...fixed, CACHE_CONTROL]),
  notModifiedOwn: versionedHead(304, fixed),
});
const OPEN = headsOf([]);
const VARYING = headsOf([VARY]);

/** Begins an answer with the whole value: status and headers. */
export function beginFound(res: Res, value: ValueFacts, context: HeadContext): void {
  (context.varies ? VARYING : OPEN).whole.begin(res, value, context);
}

/** Begins an answer with a part of the value. */
export function beginPart(res: Res, value: ValueFacts, context: HeadContext): void {
  (context.varies ? VARYING : OPEN).partial.begin(res, value, context);
}

/** Begins a 304, which only says what a cache needs of the headers that the value would have. */
export function beginNotModified(
  res: Res,
  value: Omit<ValueFacts, "contentType">,
  context: HeadContext,
): void {
  const { notModified, notModifiedOwn } = context.varies ? VARYING : OPEN;
  const caching = value.isBare ? [] : metadataOf(value.trailer).filter(([name]) => name === CACHING);
  const leftMs = value.end === 0 ? 0 : leftOf(value.end, context);
  res.writeStatus(withVersion(caching.length === 0 ? notModified : notModifiedOwn, value));
  writeMetadata(res, caching, leftMs);
  if (leftMs > 0) res.writeHeader("X-TTL", secondsOf(leftMs));
}
