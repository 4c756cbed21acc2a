/**
 * What each request needs of the token that it comes with: permission by method, path and query, and the keys
 * that the token has to cover. Deny by default: a reserved path that is not in this table needs an operator.
 */
import { ADMIN, CHANGE, LIST, METRICS, READ, REMOVE, type Token, WATCH, WRITE } from "../../auth/tokens.ts";
import { parametersOf } from "../../rules/query.ts";
import type { KeyBytes } from "../../shards/arena/write.ts";
import type { Req } from "../http/http.ts";
import {
  TARGET_CONSOLE,
  TARGET_HEALTH,
  TARGET_KEY,
  TARGET_LIVE,
  TARGET_METRICS,
  TARGET_OPENAPI,
  TARGET_RAW,
  TARGET_RESERVED,
  TARGET_ROOT,
  TARGET_STATS,
  TARGET_STORAGE,
  TARGET_STORAGE_BASE,
} from "../http/target.ts";
import { DELETE, GET, HEAD, POST, PUT } from "../status/meter.ts";

/** Whatever a GET of a key can be told to be by its query. */
const ALL_READS = READ | LIST | WATCH;
const NOTHING = 0;

/** What a request asks for. */
export interface Asked {
  /** GET and others of the counters. */
  verb: number;
  target: number;
  /** The decoded key; of a reserved path, the decoded path. */
  key: KeyBytes;
  req: Pick<Req, "getQuery" | "getCaseSensitiveMethod">;
}

/** How a reserved path is judged. */
type Rule =
  /** Permissions that have nothing to do with keys. */
  | { kind: "bits"; bits: number }
  /** The keys that begin with the parameter `prefix`, all of which the token has to cover. */
  | { kind: "prefix"; bits: number }
  /** What comes in the body is judged one by one, by who takes it; any valid token gets so far. */
  | { kind: "each" };

/** By the first segment of the decoded path. */
const RULES: ReadonlyMap<string, Rule> = new Map([
  ["_admin", { kind: "bits", bits: ADMIN }],
  ["_batch", { kind: "each" }],
  ["_delete", { kind: "prefix", bits: REMOVE }],
  ["_export", { kind: "prefix", bits: READ | LIST }],
  ["_import", { kind: "each" }],
]);

const OPERATORS: Rule = { kind: "bits", bits: ADMIN };

/**
 * What a query makes of a GET: bits, and whether it is about all keys that begin with the one in the path.
 */
export interface ReadKind {
  bits: number;
  ofPrefix: boolean;
}

const SINGLE: ReadKind = { bits: READ, ofPrefix: false };

/** Of a GET or HEAD. */
function readKind(query: string | undefined): ReadKind {
  if (query === undefined) return SINGLE;
  const parameters = parametersOf(query);
  let bits = NOTHING;
  if (parameters.has("list")) bits |= LIST;
  if (parameters.has("watch") || parameters.has("changes")) bits |= WATCH;
  if (bits === NOTHING) return SINGLE;
  // Values and the first list of a watch are what they are elsewhere.
  if (parameters.has("values")) bits |= READ;
  if (parameters.has("initial")) bits |= LIST;
  return { bits, ofPrefix: true };
}

/** Whether a request needs no token, whoever sends it. */
export function isOpen(
  { verb, target, req }: Asked,
  readsArePublic: boolean,
  metricsAreOpen: boolean,
): boolean {
  if (verb !== GET && verb !== HEAD) return false;
  switch (target) {
    case TARGET_HEALTH:
    case TARGET_LIVE:
    case TARGET_CONSOLE:
    case TARGET_OPENAPI:
      return true;
    case TARGET_METRICS:
      return metricsAreOpen;
    case TARGET_ROOT:
      return !readKind(req.getQuery()).ofPrefix;
    case TARGET_KEY:
    case TARGET_RAW:
    case TARGET_STORAGE:
      return readsArePublic && !readKind(req.getQuery()).ofPrefix;
    default:
      return false;
  }
}

/**
 * Whether the holder of a token may do what a request asks for. True also for what nobody can do: that is
 * then refused for what it is.
 */
export function may(token: Token, asked: Asked): boolean {
  const { verb, target, key } = asked;
  if (target === TARGET_STATS || target === TARGET_METRICS) return token.allows(METRICS);
  if (target === TARGET_RESERVED) return mayReserved(token, asked, ruleOf(key));
  if (target === TARGET_STORAGE_BASE) return mayBelow(token, asked);
  const isKey = target === TARGET_KEY || target === TARGET_RAW || target === TARGET_STORAGE;
  if (verb !== GET && verb !== HEAD)
    return !isKey || (token.allows(needOf(asked)) && token.covers(key.bytes, key.length));
  // The common GET: whatever its query makes of it, the token may.
  if (isKey && token.allows(ALL_READS) && token.covers(key.bytes, key.length)) return true;
  const { bits, ofPrefix } = readKind(asked.req.getQuery());
  if (ofPrefix) return token.allows(bits) && token.within(prefixOf(key)).length > 0;
  return !isKey || (token.allows(bits) && token.covers(key.bytes, key.length));
}

/** What a method that changes a key needs. */
function needOf({ verb, req }: Asked): number {
  if (verb === PUT || verb === POST) return WRITE;
  if (verb === DELETE) return REMOVE;
  const name = req.getCaseSensitiveMethod();
  if (name === "PATCH") return CHANGE;
  return name === "LOCK" || name === "UNLOCK" ? WRITE : NOTHING;
}

function mayReserved(token: Token, asked: Asked, rule: Rule): boolean {
  switch (rule.kind) {
    case "each":
      return true;
    case "bits":
      return token.allows(rule.bits);
    case "prefix": {
      const given = parametersOf(asked.req.getQuery() ?? "").getAll("prefix");
      // Whichever of several counts, and without one it is all keys.
      const prefixes = (given.length === 0 ? [""] : given).map((prefix) => Buffer.from(prefix, "utf8"));
      return token.allows(rule.bits) && prefixes.every((prefix) => token.covers(prefix, prefix.length));
    }
  }
}

/** A list, or a removal of all of it, asked for by the method alone. */
function mayBelow(token: Token, { verb, key }: Asked): boolean {
  if (verb === GET) return token.allows(LIST) && token.within(prefixOf(key)).length > 0;
  return verb !== DELETE || (token.allows(REMOVE) && token.covers(key.bytes, key.length));
}

/** The rule of a decoded path that begins with "_". */
function ruleOf({ bytes, length }: KeyBytes): Rule {
  const end = bytes.subarray(0, length).indexOf(0x2f);
  const segment = Buffer.from(bytes.subarray(0, end < 0 ? length : end)).toString("latin1");
  return RULES.get(segment) ?? OPERATORS;
}

function prefixOf({ bytes, length }: KeyBytes): Uint8Array {
  return bytes.subarray(0, length);
}
