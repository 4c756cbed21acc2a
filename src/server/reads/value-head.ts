/**
 * Status line and headers of answers with a value. One buffer for each status and content type, made once:
 * type and what keeps browsers from running a value as part of a page are constant; date and version are
 * written over its end.
 */
import { ETAG_BYTES } from "../../format/version.ts";
import { lastModifiedSeconds } from "../../rules/conditions.ts";
import type { Found } from "../../shards/vault/vault.ts";
import { CoarseClock } from "../../util/clock.ts";
import { isHeaderText } from "../../util/header-text.ts";
import { HTTP_DATE_BYTES, writeHttpDate } from "../../util/http-date.ts";
import { statusLine } from "../http/reply.ts";

/** Content types whose heads are kept; more are built each time. */
const HEADS_KEPT_MAX = 256;

/** A cache may keep a value, but asks before it shows it: what is gone must not be seen. */
const CACHE_CONTROL = "Cache-Control: no-cache";
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
  return isHeaderText(contentType) ? contentType : "application/octet-stream";
}

/** What the headers say of a value. */
export type ValueFacts = Pick<Found, "contentType" | "etag" | "versionMs">;

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
  private readonly varies: boolean;
  private readonly heads = new Map<string, Head>();
  private lastType: string | null = null;
  private lastHead!: Head;

  constructor(status: number, varies: boolean) {
    this.status = status;
    this.varies = varies;
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
      head = versionedHead(this.status, [`Content-Type: ${type}`, NO_SNIFFING, ...sandbox], this.varies);
      if (this.heads.size < HEADS_KEPT_MAX) this.heads.set(contentType, head);
    }
    return head;
  }
}

function versionedHead(status: number, lines: readonly string[], varies: boolean): Head {
  const version = `${LAST_MODIFIED}${" ".repeat(HTTP_DATE_BYTES)}${BETWEEN}${" ".repeat(ETAG_BYTES)}`;
  const vary = varies ? [VARY] : [];
  const text = [statusLine(status), ...lines, ...vary, CACHE_CONTROL, version].join("\r\n");
  return { bytes: Uint8Array.from(Buffer.from(text, "latin1")), seconds: -1 };
}

function withVersion(head: Head, { etag, versionMs }: Omit<ValueFacts, "contentType">): Uint8Array {
  const { bytes } = head;
  const seconds = lastModifiedSeconds(versionMs, clock.now());
  if (seconds !== head.seconds) {
    writeHttpDate(bytes, bytes.length - DATE_FROM_END, seconds);
    head.seconds = seconds;
  }
  bytes.set(etag, bytes.length - ETAG_BYTES);
  return bytes;
}

/** Of nodes that are open to everyone, and of those that are not. */
const headsOf = (varies: boolean) => ({
  whole: new ValueHeads(200, varies),
  partial: new ValueHeads(206, varies),
  notModified: versionedHead(304, [], varies),
});
const OPEN = headsOf(false);
const VARYING = headsOf(true);

/**
 * Of an answer with the whole value. Good until the next call, as are the others.
 * @param varies whether a token is needed
 */
export function foundHead(value: ValueFacts, varies: boolean): Uint8Array {
  return (varies ? VARYING : OPEN).whole.of(value);
}

/** Of an answer with a part of the value. */
export function partHead(value: ValueFacts, varies: boolean): Uint8Array {
  return (varies ? VARYING : OPEN).partial.of(value);
}

/** Of a 304. */
export function notModifiedHead(value: Omit<ValueFacts, "contentType">, varies: boolean): Uint8Array {
  return withVersion((varies ? VARYING : OPEN).notModified, value);
}
