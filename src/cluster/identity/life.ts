/**
 * Who sends something between nodes: a life is one run of a process over one store, under one URL. Every
 * request between nodes carries the sender's life in its target, so that a signature covers it:
 *
 *   from=1.CLUSTER.EPOCH.LAYOUT.STORE.INCARNATION.SESSION.VOTES.URL      CLUSTER and LAYOUT may be empty
 *
 * STORE is the member id of the CLUSTER file, INCARNATION rises with each start of it, SESSION is random, so
 * two processes that both believe to be the newest are told apart. LAYOUT is a digest: two layouts under one
 * epoch are never taken for one. URL is base64url.
 *
 * A mark is how far a shard's log was answered, as one number that only grows: sequence × 2^22 + unit.
 */

export interface Life {
  /** The cluster's id, or null: it has no layout yet, or one from before there were ids. */
  readonly cluster: string | null;
  /** Epoch of its layout; 0: none. */
  readonly epoch: number;
  /** Digest of its layout, or null without one. */
  readonly layout: string | null;
  readonly store: string;
  readonly incarnation: number;
  readonly session: string;
  /** Whether it votes now: then its log is what it will be measured by. */
  readonly votes: boolean;
  readonly url: string;
}

/** Highest place in each shard's log, by shard. */
export type Marks = readonly number[];

/** Name of the parameter of a target that carries a life, and of the one with the marks. */
export const FROM_PARAMETER = "from";
export const MARKS_PARAMETER = "marks";

const FORM = "1";
const SYNTAX =
  /^1\.([0-9a-f]{32})?\.(\d{1,10})\.([0-9a-f]{8})?\.([0-9a-f]{32})\.(\d{1,10})\.([0-9a-f]{16})\.([01])\.([A-Za-z0-9_-]{1,2048})$/;
const MARKS_SYNTAX = /^[0-9a-f]{1,14}(,[0-9a-f]{1,14})*$/;
/** As many shards as a store can have, and then some. */
const MARKS_MAX = 1024;

export function encodeLife(life: Life): string {
  const { cluster, epoch, layout, store, incarnation, session, votes, url } = life;
  const name = Buffer.from(url).toString("base64url");
  return [FORM, cluster ?? "", epoch, layout ?? "", store, incarnation, session, votes ? 1 : 0, name].join(
    ".",
  );
}

/** Null: it is none. */
export function decodeLife(text: string): Life | null {
  const match = SYNTAX.exec(text);
  if (match === null) return null;
  const [, cluster, epoch, layout, store, incarnation, session, votes, name] = match;
  return {
    cluster: cluster ?? null,
    epoch: Number(epoch),
    layout: layout ?? null,
    store,
    incarnation: Number(incarnation),
    session,
    votes: votes === "1",
    url: Buffer.from(name, "base64url").toString(),
  };
}

export function encodeMarks(marks: Marks): string {
  return marks.map((mark) => mark.toString(16)).join(",");
}

/** Null: they are none. */
export function decodeMarks(text: string): Marks | null {
  if (!MARKS_SYNTAX.test(text)) return null;
  const marks = text.split(",").map((digits) => Number.parseInt(digits, 16));
  return marks.length <= MARKS_MAX && marks.every(Number.isSafeInteger) ? marks : null;
}

/** Whether a log that ends at `ends` lacks something of what was answered up to `marks`. */
export function lacks(ends: Marks, marks: Marks): boolean {
  return ends.length !== marks.length || marks.some((mark, shard) => ends[shard] < mark);
}

/** The target with the sender's life in it. */
export function targetFrom(target: string, life: string | null): string {
  return life === null ? target : withParameter(target, FROM_PARAMETER, life);
}

/** A target with one more parameter. None of ours needs to be encoded. */
export function withParameter(target: string, name: string, value: string): string {
  return `${target}${target.includes("?") ? "&" : "?"}${name}=${value}`;
}

/** A parameter of a query; null: it is not there. None of ours needs to be decoded. */
export function parameterOf(query: string, name: string): string | null {
  for (const part of query.split("&")) if (part.startsWith(`${name}=`)) return part.slice(name.length + 1);
  return null;
}
