/**
 * Tokens that clients carry, and what each may do. Deny by default: a token may do what its line says, with
 * the keys that its prefixes cover, and nothing else.
 *
 * A token is known by its SHA-256. That is computed once for each text in which a client sends it: what was
 * found genuine is kept, at most KEPT_MAX texts a token, and is compared in a time that does not depend on
 * where it differs. What is not genuine is never kept, nor what is very long.
 */
import { hash } from "node:crypto";
import { beginsWith } from "../util/bytes.ts";
import { KeptTexts } from "./kept-texts.ts";
import { PERMISSIONS, type Permission, TOKENS_MAX, type TokenRecord } from "./token-file.ts";

/** Longest Authorization header that is looked at. */
const HEADER_CHARACTERS_MAX = 1024;
/** Texts (as Bearer, as Basic with some user) in which one token is kept. */
const KEPT_MAX = 4;
const MS_PER_SECOND = 1000;

const BEARER = /^bearer +/i;
const BASIC = /^basic +/i;

/** A set of permissions, as bits. */
export function bitsOf(permissions: readonly Permission[]): number {
  return permissions.reduce((bits, one) => bits | (1 << PERMISSIONS.indexOf(one)), 0);
}

/** Permissions, as bits of a token. */
export const READ = bitsOf(["read"]);
export const LIST = bitsOf(["list"]);
export const WRITE = bitsOf(["write"]);
export const REMOVE = bitsOf(["delete"]);
export const WATCH = bitsOf(["watch"]);
export const METRICS = bitsOf(["metrics"]);
export const ADMIN = bitsOf(["admin"]);
/** A change in place answers what became of the value. */
export const CHANGE = READ | WRITE;

/** Who a request comes from: the holder of a token. */
export class Token {
  /** null: nobody's in particular. */
  readonly name: string | null;
  /** Of its text, in hexadecimal. */
  readonly sha256: string;
  /** What it may do, as bits. */
  readonly bits: number;
  /** None of them begins with another one, in order of their bytes. */
  readonly prefixes: readonly Uint8Array[];
  private readonly coversAll: boolean;
  private readonly expiresMs: number;
  /** Time that one request takes of its second, in milliseconds; 0: its rate is not limited. */
  private readonly intervalMs: number;
  private readonly slot: number;
  /** Rows of the texts in which it was sent. */
  readonly kept: number[] = [];

  constructor(record: TokenRecord, name: string | null = record.name) {
    const { allow, prefix, expiresMs, requestsPerSecond, slot } = record;
    this.name = name;
    this.sha256 = record.sha256;
    this.bits = bitsOf(allow);
    this.prefixes = outermost(prefix.map((text) => Buffer.from(text, "utf8")));
    this.coversAll = this.prefixes.length > 0 && this.prefixes[0].length === 0;
    this.expiresMs = expiresMs ?? Number.POSITIVE_INFINITY;
    this.intervalMs = requestsPerSecond === null ? 0 : MS_PER_SECOND / requestsPerSecond;
    this.slot = slot;
  }

  /** Whether it may do all of these, with the keys that it covers. */
  allows(bits: number): boolean {
    return (this.bits & bits) === bits;
  }

  /** Whether a key, the first `length` of `bytes`, begins with one of its prefixes. */
  covers(bytes: Uint8Array, length: number): boolean {
    if (this.coversAll) return true;
    for (const prefix of this.prefixes) if (beginsWith(bytes, prefix, length)) return true;
    return false;
  }

  /**
   * What it covers of the keys that begin with `prefix`, as prefixes in order of their bytes, none of which
   * begins with another one. Empty: nothing.
   */
  within(prefix: Uint8Array): readonly Uint8Array[] {
    if (this.covers(prefix, prefix.length)) return [prefix];
    return this.prefixes.filter((own) => beginsWith(own, prefix));
  }

  /** Whether it allows the same as another one, as long. */
  allowsAs({ bits, prefixes, expiresMs }: Token): boolean {
    return (
      this.bits === bits &&
      this.expiresMs === expiresMs &&
      this.prefixes.length === prefixes.length &&
      this.prefixes.every((prefix, index) => Buffer.compare(prefix, prefixes[index]) === 0)
    );
  }

  /** @param nowMs milliseconds since 1970 */
  isOver(nowMs: number): boolean {
    return nowMs >= this.expiresMs;
  }

  get hasEnd(): boolean {
    return this.expiresMs !== Number.POSITIVE_INFINITY;
  }

  get hasRate(): boolean {
    return this.intervalMs > 0;
  }

  /**
   * Counts a request; false: there were as many in the second before as it may send (the generic cell rate
   * algorithm, with a second's worth at once).
   * @param rates when the next request of each slot is due, by the same clock
   */
  takes(rates: Float64Array, nowMs: number): boolean {
    const dueMs = Math.max(rates[this.slot], nowMs);
    // Sums of parts of a millisecond are not exact.
    if (dueMs - nowMs > MS_PER_SECOND - this.intervalMs + 0.001) return false;
    rates[this.slot] = dueMs + this.intervalMs;
    return true;
  }
}

/** The tokens of a node, and the keys that are good as tokens. */
export class TokenSet {
  private readonly byDigest: ReadonlyMap<string, Token>;
  /** Headers that carried a genuine one. */
  private readonly texts: KeptTexts<Token>;

  constructor(records: readonly TokenRecord[]) {
    this.byDigest = new Map(records.map((record) => [record.sha256, new Token(record)]));
    this.texts = new KeptTexts(records.length);
  }

  /** Whether there is such a token that allows the same, as long. */
  has(token: Token): boolean {
    return this.byDigest.get(token.sha256)?.allowsAs(token) === true;
  }

  /** Texts that are kept. */
  get keptCount(): number {
    let count = 0;
    for (const { kept } of this.byDigest.values()) count += kept.length;
    return count;
  }

  /**
   * Whose token an Authorization header carries, whether it is over or not; null: none that is known.
   * @param header one character for each byte that came
   */
  find(header: string): Token | null {
    return this.texts.find(header) ?? this.findAnew(header);
  }

  private findAnew(header: string): Token | null {
    const text = tokenOf(header);
    if (text === null) return null;
    const token = this.byDigest.get(hash("sha256", Buffer.from(text, "latin1"), "hex"));
    if (token === undefined) return null;
    const row = this.texts.keep(header, token);
    if (row !== null && token.kept.push(row) > KEPT_MAX) this.texts.forget(token.kept.shift() as number);
    return token;
  }
}

/** The token in an Authorization header, as Bearer or as the password of Basic; null: there is none. */
function tokenOf(header: string): string | null {
  if (header.length > HEADER_CHARACTERS_MAX) return null;
  const bearer = BEARER.exec(header);
  if (bearer !== null) return header.slice(bearer[0].length) || null;
  const basic = BASIC.exec(header);
  if (basic === null) return null;
  const pair = Buffer.from(header.slice(basic[0].length), "base64").toString("latin1");
  const colon = pair.indexOf(":");
  return colon < 0 ? null : pair.slice(colon + 1) || null;
}

const TOKEN_SYNTAX = /^mv1\.([A-Za-z0-9_-]{1,32})\.[A-Za-z0-9_-]+$/;

/** What may be said in a log of the token in a header: the id of one of ours, or what it looks like. */
export function idForLog(header: string): string {
  if (header === "") return "none";
  const text = tokenOf(header);
  return text === null ? "malformed" : (TOKEN_SYNTAX.exec(text)?.[1] ?? "unknown");
}

/** Without those that begin with another one; in order. */
function outermost(prefixes: readonly Uint8Array[]): Uint8Array[] {
  const kept: Uint8Array[] = [];
  for (const prefix of [...prefixes].sort(Buffer.compare)) {
    const last = kept.at(-1);
    if (last === undefined || !beginsWith(prefix, last)) kept.push(prefix);
  }
  return kept;
}

/** Memory in which the rates of all tokens are counted. */
export function createRates(): SharedArrayBuffer {
  return new SharedArrayBuffer(TOKENS_MAX * Float64Array.BYTES_PER_ELEMENT);
}

/** The access key of S3 whose secret is the key of `-auth`. */
const KEY_ACCESS_KEY = "minivault";

/** A key that opens everything, such as that of `-auth`, as a token. */
export function keyRecord(key: string): TokenRecord {
  if (key === "") throw new Error("the auth key is empty");
  return {
    name: "key",
    sha256: hash("sha256", key, "hex"),
    prefix: [""],
    allow: PERMISSIONS,
    requestsPerSecond: null,
    expiresMs: null,
    s3: { accessKey: KEY_ACCESS_KEY, secretKey: key },
    slot: 0,
  };
}

const nameless = (allow: readonly Permission[]): Token =>
  new Token({ ...keyRecord("nobody has this"), allow }, null);

/** Who comes without a token, where none is needed for anything. */
export const EVERYBODY = nameless(PERMISSIONS);
/** Who comes without a token, where reads are public. */
export const ANYBODY = nameless(["read"]);
/** Who comes without a token, where one is needed. */
export const NOBODY = nameless([]);
