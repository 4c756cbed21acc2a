/**
 * Lists over a cluster. Each node is asked what it holds in a range, tombstones included, and the answers are
 * merged up to where all of them have told:
 *
 *   a majority of a key's replicas holds the same, which is the highest  ► so it is
 *   else                                                                 ► a quorum read of that key
 *
 * Invariants: nothing is said of a range before a majority of the replicas of every partition has answered
 * for it, so a list is never shorter for want of one; what is told of a key is as true as a GET of it.
 */
import {
  afterAll,
  justAfter,
  type KeyRange,
  rollUpBytes,
  scopeBefore,
  scopeFrom,
} from "../../engine/catalog/runs/listing.ts";
import { compareKeys } from "../../format/keys/key-run.ts";
import type { Ballot } from "../../format/record.ts";
import { compareBallots, etagText } from "../../format/version.ts";
import { entryText, keyText } from "../../shards/catalog/entry-text.ts";
import type { HeldKey } from "../../shards/catalog/held.ts";
import type { CatalogAnswer, CatalogQuestion, Refused } from "../../shards/catalog/messages.ts";
import { nameOf } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { hashKey, PARTITIONS, partitionOf } from "../../util/hash.ts";
import { LIST_LIMIT_MAX, LISTED_VALUE_BYTES_MAX } from "../../util/limits.ts";
import { hasMajority, type Placement, type ReplicaGroup } from "../layout/layout.ts";
import { decodeListed, encodeListRequest, LIST_KEYS_MAX, type Listed } from "../wire/list-wire.ts";
import { isInline, type StoredValue } from "../wire/values.ts";
import type { ReplicaList } from "./replica-list.ts";

/** A page is made of at most so many rounds of questions, and ends after so long. */
const ROUNDS_MAX = 8;
const PAGE_MS_MAX = 2000;
/** Quorum reads at once. */
const READS_MAX = 64;
/** A node that answers later counts as one that does not. */
export const ANSWER_MS_MAX = 5000;

export type Consistency = "quorum" | "one";

/** What a quorum read tells of a key. */
export type KeyRead =
  | { state: "found"; value: StoredValue; ballot: Ballot }
  | { state: "absent" }
  | { state: "unavailable" };

export interface ClusterListSetup {
  self: string;
  replica: ReplicaList;
  placement: () => Placement | null;
  send: (node: string, frame: Uint8Array) => Promise<Uint8Array>;
  read: (key: Uint8Array, consistency: Consistency) => Promise<KeyRead>;
  newerLayout: (epoch: number) => void;
  now: () => number;
}

/** A key of a list, as it is told. */
interface Entry {
  key: Uint8Array;
  ballot: Ballot;
  bytes: number;
  json: boolean;
  contentType: string;
  value: StoredValue | null;
}

/** What is known of a key, by the bits of its group. */
interface Candidate {
  key: Uint8Array;
  group: ReplicaGroup;
  highest: HeldKey | null;
  holders: number;
}

class ListFailure extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, detail: string) {
    super(detail);
    this.code = code;
  }
}

export class ClusterList {
  private readonly setup: ClusterListSetup;

  constructor(setup: ClusterListSetup) {
    this.setup = setup;
  }

  /** Answers as the catalog of a single node does. */
  async ask(question: CatalogQuestion, consistency: Consistency): Promise<CatalogAnswer> {
    try {
      return await new Page(this.setup, question, consistency).make();
    } catch (error) {
      if (error instanceof ListFailure)
        return { kind: "refused", code: error.code, detail: error.message } satisfies Refused;
      throw error;
    }
  }
}

/** One page on its way. */
class Page {
  private readonly setup: ClusterListSetup;
  private readonly question: CatalogQuestion;
  private readonly consistency: Consistency;
  private readonly limit: number;
  private readonly entries: Entry[] = [];
  /** With their places among the entries. */
  private readonly prefixes: { prefix: Uint8Array; before: number }[] = [];

  constructor(setup: ClusterListSetup, question: CatalogQuestion, consistency: Consistency) {
    this.setup = setup;
    this.question = question;
    this.consistency = consistency;
    this.limit = "limit" in question ? question.limit : LIST_LIMIT_MAX;
  }

  async make(): Promise<CatalogAnswer> {
    const endMs = this.setup.now() + PAGE_MS_MAX;
    let left: KeyRange | null = this.inScope(this.question.range);
    for (let round = 0; left !== null && round < ROUNDS_MAX; round++) {
      left = await this.round(left);
      if (left !== null) left = this.inScope(left);
      if (this.taken >= this.limit || this.setup.now() > endMs) break;
    }
    return this.answer(left);
  }

  private get taken(): number {
    return this.entries.length + this.prefixes.length;
  }

  /** Moves the beginning of a range to the next scope. Null: nothing is left. */
  private inScope(range: KeyRange): KeyRange | null {
    const { scopes, reverse, low, high } = range;
    if (high !== null && compareKeys(low, 0, low.length, high, 0, high.length) >= 0) return null;
    if (scopes === null) return range;
    if (!reverse) {
      const from = scopeFrom(scopes, low);
      return from === 0 ? range : from === null ? null : { ...range, low: from };
    }
    if (high === null) return range;
    const before = scopeBefore(scopes, high);
    return before === 0 ? range : before === null ? null : { ...range, high: before };
  }

  /** Asks all nodes once and takes what is known then. Answers what is left. */
  private async round(range: KeyRange): Promise<KeyRange | null> {
    const placement = this.setup.placement();
    if (placement === null)
      throw new ListFailure("unavailable", "this node has no layout of its cluster yet");
    const { answers, refusals } = await this.collect(placement, range);
    this.requireMajorities(placement, answers, refusals);
    const { reverse } = range;
    let place: Uint8Array | null = null;
    for (const listed of answers.values())
      if (listed.place !== null && (place === null || isBefore(listed.place, place, reverse)))
        place = listed.place;
    const candidates = this.merge(placement, answers, place, reverse);
    const rest = place === null ? null : reverse ? { ...range, high: place } : { ...range, low: place };
    return this.take(candidates, range, rest);
  }

  private async collect(
    placement: Placement,
    range: KeyRange,
  ): Promise<{ answers: Map<string, Listed>; refusals: string[] }> {
    const { layout } = placement;
    const plain = { ...range, delimiter: null, prefixBytes: 0, scopes: null };
    const limit = Math.min(LIST_KEYS_MAX, Math.max(16, this.limit - this.taken));
    const request = { epoch: layout.epoch, limit, range: plain };
    const nodes = new Set([...layout.nodes, ...(layout.previous?.nodes ?? [])].map(({ url }) => url));
    const answers = new Map<string, Listed>();
    const refusals: string[] = [];
    await Promise.all(
      [...nodes].map(async (node) => {
        try {
          const bytes = await inTime(
            node === this.setup.self
              ? this.setup.replica.answer(request)
              : this.setup.send(node, encodeListRequest(request)),
          );
          const listed = decodeListed(bytes);
          if (listed === null) refusals.push(`${node} does not know lists`);
          else if ("keys" in listed) answers.set(node, listed);
          else {
            if (listed.epoch > layout.epoch) this.setup.newerLayout(listed.epoch);
            refusals.push(`${node}: ${listed.text}`);
          }
        } catch (error) {
          refusals.push(`${node}: ${(error as Error).message}`);
        }
      }),
    );
    return { answers, refusals };
  }

  /** Throws unless enough replicas of every partition have answered for it. */
  private requireMajorities(
    placement: Placement,
    answers: ReadonlyMap<string, Listed>,
    refusals: readonly string[],
  ): void {
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const group = placement.groups[partition];
      let voters = 0;
      for (const [index, node] of group.nodes.entries())
        if (votesFor(answers.get(node), partition)) voters |= 1 << index;
      if (this.consistency === "one" ? voters !== 0 : hasMajority(group, voters)) continue;
      const building = refusals.every((text) => / building /.test(text)) && refusals.length > 0;
      const why = refusals.length === 0 ? "" : `: ${refusals.slice(0, 3).join("; ")}`;
      throw new ListFailure(
        building ? "building" : "no_quorum",
        `too few replicas tell of partition ${partition}, so a list would not be whole${why}`,
      );
    }
  }

  /** All keys that some voter has told of, up to `place`, in order. */
  private merge(
    placement: Placement,
    answers: ReadonlyMap<string, Listed>,
    place: Uint8Array | null,
    reverse: boolean,
  ): Candidate[] {
    const candidates = new Map<string, Candidate>();
    for (const [node, { keys, votes }] of answers)
      for (const held of keys) {
        const { key } = held;
        if (place !== null && !isBefore(key, place, reverse)) continue;
        const partition = partitionOf(hashKey(key, key.length, 0));
        const group = placement.groups[partition];
        const index = group.nodes.indexOf(node);
        if (index < 0 || (votes[partition >>> 3] & (1 << (partition & 7))) === 0) continue;
        const name = nameOf(key);
        let candidate = candidates.get(name);
        if (candidate === undefined) {
          candidate = { key, group, highest: null, holders: 0 };
          candidates.set(name, candidate);
        }
        const order = candidate.highest === null ? 1 : compareBallots(held.ballot, candidate.highest.ballot);
        if (order > 0) {
          candidate.highest = held;
          candidate.holders = 0;
        }
        if (order >= 0) candidate.holders |= 1 << index;
      }
    const sorted = [...candidates.values()].sort((a, b) =>
      compareKeys(a.key, 0, a.key.length, b.key, 0, b.key.length),
    );
    return reverse ? sorted.reverse() : sorted;
  }

  /** Takes candidates in order until the page is full. */
  private async take(
    candidates: readonly Candidate[],
    range: KeyRange,
    rest: KeyRange | null,
  ): Promise<KeyRange | null> {
    const { reverse, scopes } = range;
    const covered = (key: Uint8Array): boolean => scopes === null || scopeFrom(scopes, key) === 0;
    let skipped: Uint8Array | null = null;
    for (let from = 0; from < candidates.length; from += READS_MAX) {
      const some = candidates.slice(from, from + READS_MAX).filter(({ key }) => covered(key));
      const judged = await Promise.all(some.map((candidate) => this.judge(candidate)));
      for (const [index, entry] of judged.entries()) {
        const { key } = some[index];
        if (entry === null || (skipped !== null && isRolled(key, skipped))) continue;
        const rolled = rollUpBytes(key, range);
        if (rolled < 0) this.entries.push(entry);
        else {
          skipped = key.slice(0, rolled);
          this.prefixes.push({ prefix: skipped, before: this.entries.length });
        }
        if (this.taken < this.limit) continue;
        return { ...range, ...behind(rolled < 0 ? key : (skipped as Uint8Array), rolled >= 0, reverse) };
      }
    }
    if (rest === null || skipped === null) return rest;
    // What is left of what was rolled up need not be asked for.
    const next = behind(skipped, true, reverse);
    const place = "low" in next ? next.low : next.high;
    if (place === undefined) return rest;
    return isBefore(reverse ? (rest.high as Uint8Array) : rest.low, place, reverse)
      ? { ...rest, ...next }
      : rest;
  }

  /** What a key is; null: it is absent. */
  private async judge({ key, group, highest, holders }: Candidate): Promise<Entry | null> {
    const held = highest as HeldKey;
    const wantsValue = this.question.kind === "list" && this.question.values;
    const isSettled = this.consistency === "one" || hasMajority(group, holders);
    if (isSettled && held.tombstone) return null;
    const isSmall = held.valueBytes <= LISTED_VALUE_BYTES_MAX;
    if (isSettled && !(wantsValue && isSmall)) return { ...held, bytes: held.valueBytes, value: null };
    const answer = await this.setup.read(key, this.consistency);
    if (answer.state === "unavailable")
      throw new ListFailure(
        "no_quorum",
        "too few replicas of a key can be reached, so a list would not be whole",
      );
    if (answer.state === "absent") return null;
    const { value, ballot } = answer;
    const { json, contentType, valueBytes } = value;
    return { key, ballot, bytes: valueBytes, json, contentType, value };
  }

  private answer(left: KeyRange | null): CatalogAnswer {
    const { question, entries, prefixes } = this;
    if (question.kind === "count") return { kind: "count", count: this.taken, left };
    if (question.kind !== "list") return { kind: "names", keys: entries.map(({ key }) => key), left };
    const { lines, values } = question;
    const keys = entries.map((entry) => entryText(factsOf(entry, values)));
    const texts = prefixes.map(({ prefix }) => keyText(prefix));
    if (lines)
      for (let i = prefixes.length - 1; i >= 0; i--)
        keys.splice(prefixes[i].before, 0, `{"prefix":${texts[i]}}`);
    return {
      kind: "list",
      keys: Buffer.from(lines ? keys.map((key) => `${key}\n`).join("") : keys.join(",\n")),
      prefixes: Buffer.from(lines ? "" : texts.join(",\n")),
      count: this.taken,
      left,
    };
  }
}

function factsOf({ key, ballot, bytes, json, contentType, value }: Entry, values: boolean) {
  const inline = values && value !== null && isInline(value) && bytes <= LISTED_VALUE_BYTES_MAX;
  return {
    key,
    etag: etagText(ballot).slice(1, -1),
    bytes,
    type: json ? "application/json" : contentType,
    json,
    value: inline ? value.bytes : null,
  };
}

/** Where a list goes on behind a key, or behind all that begin with a prefix. */
function behind(
  key: Uint8Array,
  isPrefix: boolean,
  reverse: boolean,
): { low: Uint8Array } | { high: Uint8Array } {
  if (reverse) return { high: key };
  // Keys are UTF-8: there is always a text above all that begin with one.
  return { low: isPrefix ? (afterAll(key) as Uint8Array) : justAfter(key) };
}

function isRolled(key: Uint8Array, prefix: Uint8Array): boolean {
  return key.length >= prefix.length && prefix.every((byte, at) => key[at] === byte);
}

/** Whether a list meets `a` before it meets `b`. */
function isBefore(a: Uint8Array, b: Uint8Array, reverse: boolean): boolean {
  const order = compareKeys(a, 0, a.length, b, 0, b.length);
  // From above, the place itself is not part of what is left.
  return reverse ? order >= 0 : order < 0;
}

function votesFor(listed: Listed | undefined, partition: number): boolean {
  return listed !== undefined && (listed.votes[partition >>> 3] & (1 << (partition & 7))) !== 0;
}

async function inTime<Result>(answer: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer in time")), ANSWER_MS_MAX);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
