/** How long a value is to live, by the query of the request that writes it: `ttl` or `expires`. Pure. */
import { KEEP_LIFE, type Life, NO_LIFE } from "./expiry.ts";
import { parametersOf } from "./query.ts";

const SECOND_MS = 1000;
const DAY_MS = 86_400_000;
/** Longest life: ten years, leap days included. */
const LIFE_MS_MAX = 3653 * DAY_MS;

const UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: SECOND_MS,
  m: 60 * SECOND_MS,
  h: 3600 * SECOND_MS,
  d: DAY_MS,
};
const TTL_SYNTAX = /^(\d{1,13}(?:\.\d{1,9})?)(ms|s|m|h|d)?$/;
const SECONDS_SYNTAX = /^\d{1,12}(?:\.\d{1,9})?$/;
/** A "+" in a query is a blank once it is decoded. */
const DATE_SYNTAX =
  /^(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):\d\d:)(\d\d)(\.\d{1,9})?([Zz]|[+ -]\d\d:\d\d)$/;

const WRONG_TTL =
  "ttl is a number of seconds, or one with ms, s, m, h or d behind it (90, 500ms, 5m, 12h, 30d), from 1 ms to 10 years";
const WRONG_EXPIRES =
  "expires is a moment in seconds since 1970, or one like 2030-01-31T12:00:00Z (RFC 3339), from now to 10 years ahead";

/** What a request may say beside a time. */
export interface Allowed {
  /** ttl=keep. */
  keep: boolean;
  /** ttl=none. */
  none: boolean;
}

/** Whether a query has anything of this. */
export function speaksOfLife(query: string): boolean {
  return query.includes("ttl") || query.includes("expires") || query.includes("%");
}

/**
 * Reads a query.
 * @param nowMs milliseconds since 1970
 * @returns the life; null where nothing is said of it; a sentence where something is wrong
 */
export function lifeOf(query: string, allowed: Allowed, nowMs: number): Life | string | null {
  if (!speaksOfLife(query)) return null;
  const parameters = parametersOf(query);
  const ttls = parameters.getAll("ttl");
  const moments = parameters.getAll("expires");
  if (ttls.length + moments.length === 0) return null;
  if (ttls.length > 0 && moments.length > 0)
    return "a value has a ttl or a moment at which it expires, not both";
  if (ttls.length + moments.length > 1)
    return `the parameter ${ttls.length > 0 ? "ttl" : "expires"} came more than once`;
  return ttls.length > 0 ? lifeOfTtl(ttls[0], allowed) : lifeUntil(moments[0], nowMs);
}

/** A ttl as text, of a query or of an operation of a batch; a sentence where it is wrong. */
export function lifeOfTtl(text: string, { keep, none }: Allowed): Life | string {
  if (text === "keep") return keep ? KEEP_LIFE : "ttl=keep is for PUT: it keeps the end of what is replaced";
  if (text === "none")
    return none
      ? NO_LIFE
      : "ttl=none is for PATCH without a body; a value that is written without a ttl has no end";
  const match = TTL_SYNTAX.exec(text);
  if (match === null) return WRONG_TTL;
  const ttlMs = Math.round(Number(match[1]) * UNITS_MS[match[2] ?? "s"]);
  return ttlMs >= 1 && ttlMs <= LIFE_MS_MAX ? { ...NO_LIFE, ttlMs } : WRONG_TTL;
}

function lifeUntil(text: string, nowMs: number): Life | string {
  const expiresMs = momentOf(text);
  if (Number.isNaN(expiresMs) || expiresMs > nowMs + LIFE_MS_MAX) return WRONG_EXPIRES;
  if (expiresMs <= nowMs) return `${WRONG_EXPIRES}; this one is over`;
  return { ...NO_LIFE, expiresMs };
}

/** NaN: it is none. */
function momentOf(text: string): number {
  if (SECONDS_SYNTAX.test(text)) return Math.round(Number(text) * SECOND_MS);
  const match = DATE_SYNTAX.exec(text);
  if (match === null) return Number.NaN;
  const [, day, time, seconds, fraction = "", zone] = match;
  // Date.parse takes the 30th of February for the 2nd of March.
  const date = new Date(`${day}T00:00:00Z`);
  if (Number.isNaN(date.getTime()) || date.toISOString().slice(0, day.length) !== day) return Number.NaN;
  // A leap second, which Unix time does not count, is the first of the next minute to it.
  const [second, leapMs] = seconds === "60" ? ["59", SECOND_MS] : [seconds, 0];
  return Date.parse(`${day}T${time}${second}${fraction}${zone.replace(" ", "+").toUpperCase()}`) + leapMs;
}
