/**
 * What AWS' Signature Version 4 signs of a request, in its canonical form, and the signature of it. Pure.
 * After "Signature Version 4 signing" in the documentation of AWS; S3 encodes paths once and does not
 * normalise them.
 */
import { createHmac, hash } from "node:crypto";

export const ALGORITHM = "AWS4-HMAC-SHA256";
export const SERVICE = "s3";
export const TERMINATOR = "aws4_request";
const KEYS_KEPT_MAX = 1024;
/** What RFC 3986 calls unreserved. */
const UNRESERVED = /^[\w.~-]*$/;
const UNRESERVED_PATH = /^[\w.~/-]*$/;

/** A request as far as it is signed. */
export interface SignedRequest {
  method: string;
  /** As it was sent, without the query. */
  path: string;
  /** As it was sent, without the question mark. */
  query: string;
  /** All lines of a header joined by commas; null: there is none. */
  header: (lowerCaseName: string) => string | null;
}

/** For which day, region and service a key signs. */
export interface Scope {
  /** YYYYMMDD */
  date: string;
  region: string;
  service: string;
}

export function scopeText({ date, region, service }: Scope): string {
  return `${date}/${region}/${service}/${TERMINATOR}`;
}

export function sha256(data: string | Uint8Array): string {
  return hash("sha256", data, "hex");
}

/** Percent-encodes all but what is unreserved. */
export function encodeUri(text: string): string {
  // Most texts are; looking costs less than encoding.
  if (UNRESERVED.test(text)) return text;
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function canonicalPath(path: string): string {
  if (UNRESERVED_PATH.test(path)) return path;
  return path
    .split("/")
    .map((segment) => {
      try {
        return encodeUri(decodeURIComponent(segment));
      } catch {
        return segment;
      }
    })
    .join("/");
}

type Parameters = readonly (readonly [name: string, value: string])[];

/** The last query, and what is in it: a request's is asked for several times, one after another. */
let lastQuery = "";
let lastParameters: Parameters = [];

/** The parameters of a query, decoded, in their order. */
export function parametersOf(query: string): Parameters {
  if (query !== lastQuery) {
    lastParameters = readParameters(query);
    lastQuery = query;
  }
  return lastParameters;
}

function readParameters(query: string): Parameters {
  return query
    .split("&")
    .filter((part) => part !== "")
    .map((part): [string, string] => {
      const at = part.indexOf("=");
      return at < 0 ? [decode(part), ""] : [decode(part.slice(0, at)), decode(part.slice(at + 1))];
    });
}

function decode(text: string): string {
  if (UNRESERVED.test(text)) return text;
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text;
  }
}

/** @param without a parameter that is left out: the signature itself */
function canonicalQuery(query: string, without: string | null): string {
  return parametersOf(query)
    .filter(([name]) => name !== without)
    .map(([name, value]) => [encodeUri(name), encodeUri(value)] as const)
    .sort(([nameA, valueA], [nameB, valueB]) => compare(nameA, nameB) || compare(valueA, valueB))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * The canonical form of a request.
 * @param names signed headers, in small letters, in the order that the client has given
 * @param asSent the path counts as it came, for clients that sign what they send
 */
export function canonicalRequest(
  request: SignedRequest,
  names: readonly string[],
  payload: string,
  asSent: boolean,
): string {
  const { method, path, query, header } = request;
  const lines = names.map((name) => `${name}:${(header(name) ?? "").trim().replace(/\s+/g, " ")}\n`);
  return [
    method,
    asSent ? path : canonicalPath(path),
    canonicalQuery(query, "X-Amz-Signature"),
    lines.join(""),
    names.join(";"),
    payload,
  ].join("\n");
}

/** @param time YYYYMMDDTHHMMSSZ */
export function stringToSign(time: string, scope: Scope, canonical: string): string {
  return [ALGORITHM, time, scopeText(scope), sha256(canonical)].join("\n");
}

export function hmac(key: string | Uint8Array, text: string): Buffer {
  return createHmac("sha256", key).update(text, "utf8").digest();
}

/** The key of a day, a region and a service, of a secret key. */
export function signingKey(secret: string, { date, region, service }: Scope): Buffer {
  return hmac(hmac(hmac(hmac(`AWS4${secret}`, date), region), service), TERMINATOR);
}

/** Signing keys, which are the same all day. */
export class SigningKeys {
  private readonly kept = new Map<string, Buffer>();

  of(secret: string, scope: Scope): Buffer {
    const name = `${secret}\n${scopeText(scope)}`;
    let key = this.kept.get(name);
    if (key === undefined) {
      key = signingKey(secret, scope);
      if (this.kept.size >= KEYS_KEPT_MAX) this.kept.clear();
      this.kept.set(name, key);
    }
    return key;
  }

  /** Secrets have changed. */
  clear(): void {
    this.kept.clear();
  }
}
