/** What a GET asks of the feed of changes, by its query. Pure. */
import { flagOf, noFlag, parametersOf } from "../../rules/query.ts";
import { FEED_WAIT_MS_MAX, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX } from "../../util/limits.ts";

/** Longest query: a place of a store with many shards fits. */
const QUERY_CHARACTERS_MAX = 8192;
/** What a GET can be made of, one at a time; `wait` also belongs to `changes`. */
const KINDS = ["list", "watch", "changes", "wait"] as const;
const FLAGS = ["watch", "changes", "values", "initial"] as const;
const TEXTS = ["since", "limit", "wait", "consistency"] as const;
const TIME_UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000 };

export interface FeedQuery {
  kind: "watch" | "changes" | "wait";
  values: boolean;
  initial: boolean;
  /** Null: from now on. */
  since: string | null;
  limit: number;
  waitMs: number;
}

type Texts = Partial<Record<(typeof TEXTS)[number], string>>;
type Flags = Partial<Record<(typeof FLAGS)[number], boolean>>;

/** Whether a query asks for changes. */
export function isFeedQuery(query: string): boolean {
  if (query.includes("%")) {
    const parameters = parametersOf(query);
    return parameters.has("watch") || parameters.has("changes") || parameters.has("wait");
  }
  return /(?:^|&)(?:watch|changes|wait)(?:=|&|$)/.test(query);
}

/** Reads it; a text says what is wrong with it. */
export function readFeedQuery(query: string): FeedQuery | string {
  if (query.length > QUERY_CHARACTERS_MAX)
    return `the query is limited to ${QUERY_CHARACTERS_MAX} characters`;
  const parameters = parametersOf(query);
  const read = readParameters(parameters);
  if (typeof read === "string") return read;
  const { texts, flags } = read;
  const asked = KINDS.filter((name) => parameters.has(name));
  const together = asked.length > 1 && asked.join() !== "changes,wait";
  if (together) return `${asked.join(" and ")} do not go together`;
  const kind = flags.watch === true ? "watch" : flags.changes === true ? "changes" : "wait";
  if (flags.watch === false || flags.changes === false)
    return `${asked[0]} is false; leave it out to read a key`;
  const { consistency, since = null, limit = String(LIST_LIMIT_DEFAULT), wait } = texts;
  if (consistency !== undefined && consistency !== "quorum" && consistency !== "one")
    return "consistency is quorum or one";
  if (since === "") return "since is empty; leave it out to begin now";
  if (!/^\d{1,5}$/.test(limit) || Number(limit) < 1 || Number(limit) > LIST_LIMIT_MAX)
    return `limit is a number from 1 to ${LIST_LIMIT_MAX}`;
  const waitMs = wait === undefined ? 0 : waitMsOf(wait);
  if (waitMs === null) return `wait is a time such as 30s, of at most ${FEED_WAIT_MS_MAX / 1000} s`;
  const misplaced = misplacedIn(kind, parameters);
  if (misplaced !== null) return `${misplaced} means nothing with ${kind}`;
  const { values = false, initial = false } = flags;
  return { kind, values, initial, since, limit: Number(limit), waitMs };
}

/** A parameter that belongs to another kind; null: there is none. */
function misplacedIn(kind: FeedQuery["kind"], parameters: URLSearchParams): string | null {
  const others = {
    watch: ["limit"],
    changes: ["initial"],
    wait: ["since", "limit", "initial", "values"],
  }[kind];
  return others.find((name) => parameters.has(name)) ?? null;
}

function readParameters(parameters: URLSearchParams): { texts: Texts; flags: Flags } | string {
  const texts: Texts = {};
  const flags: Flags = {};
  for (const name of [...FLAGS, ...TEXTS]) {
    const given = parameters.getAll(name);
    if (given.length > 1) return `${name} is given more than once`;
    if (given.length === 0) continue;
    const [value] = given;
    const said = flagOf(value);
    if ((TEXTS as readonly string[]).includes(name)) texts[name as keyof Texts] = value;
    else if (said === null) return noFlag(name);
    else flags[name as keyof Flags] = said;
  }
  return { texts, flags };
}

/** Null: it is no time, or too long. Without a unit: seconds. */
function waitMsOf(text: string): number | null {
  const match = /^(\d{1,9})(ms|s|m|)$/.exec(text);
  const ms = match === null ? Number.NaN : Number(match[1]) * (TIME_UNITS[match[2]] ?? 1000);
  return ms <= FEED_WAIT_MS_MAX ? ms : null;
}
