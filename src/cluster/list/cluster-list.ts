/**
 * Lists over a cluster. Each node is asked what it holds in a range, tombstones included, and the answers are
 * merged up to where all of them have told:
 *
 *   a majority of a key's replicas holds the same, which is the highest  ► so it is
 *   else                                                                 ► a quorum read of that key
 *
 * With a delimiter each node tells of one key for each prefix, the first with a value. If one of those is
 * there, so is the prefix, and all of it is skipped. If they all turn out to be gone, the keys below the
 * prefix are asked for one by one.
 *
 * Invariants: nothing is said of a range before a majority of the replicas of every partition has answered
 * for it, so a list is never shorter for want of one; what is told of a key is as true as a GET of it.
 */
import { type KeyRange, scopeBefore, scopeFrom } from "../../engine/catalog/runs/listing.ts";
import type { Ballot } from "../../format/record.ts";
import { hasEnded } from "../../rules/expiry.ts";
import type { HeldKey } from "../../shards/catalog/held.ts";
import type { CatalogAnswer, CatalogQuestion, Refused } from "../../shards/catalog/messages.ts";
import { copyOf } from "../../util/bytes.ts";
import { LIST_LIMIT_MAX, LISTED_VALUE_BYTES_MAX } from "../../util/limits.ts";
import { EntryWriter, keyText } from "../../value/entry-text.ts";
import { hasMajority, type Placement } from "../layout/groups.ts";
import { isInline, type StoredValue } from "../wire/values.ts";
import { type AskingSetup, askAll, ListFailure, requireMajorities } from "./asking.ts";
import { behind, endOf, type Item, isRolled, itemsOf, within } from "./items.ts";
import { type Candidate, isBefore, mergeHeld } from "./merge.ts";

/** A page is made of at most so many rounds of questions, and ends after so long. */
const ROUNDS_MAX = 8;
const PAGE_MS_MAX = 2000;
/** Quorum reads at once. */
const READS_MAX = 64;

export type Consistency = "quorum" | "one";

/** What a quorum read tells of a key. */
export type KeyRead =
  | { state: "found"; value: StoredValue; ballot: Ballot }
  /** `ballot`: of its tombstone, or of the value that has ended; null: there is neither, or none any more. */
  | { state: "absent"; ballot: Ballot | null }
  | { state: "unavailable" };

export interface ClusterListSetup extends AskingSetup {
  placement: () => Placement | null;
  read: (key: Uint8Array, consistency: Consistency) => Promise<KeyRead>;
  now: () => number;
  /** Cluster time, in ms since 1970. */
  clusterMillis: () => number;
}

/** A key of a list, as it is told. */
interface Entry {
  key: Uint8Array;
  ballot: Ballot;
  bytes: number;
  json: boolean;
  contentType: string;
  /** End of life, in ms since 1970; 0: none. */
  end: number;
  value: StoredValue | null;
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
  /** A prefix below which keys are asked for one by one. */
  private searched: Uint8Array | null = null;

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
    if (high !== null && Buffer.compare(low, high) >= 0) return null;
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
    const rolls = range.delimiter !== null && range.scopes === null && !this.isSearching(range);
    const asked = rolls ? range : { ...range, delimiter: null, prefixBytes: 0, scopes: null };
    const { answers, refusals } = await askAll(this.setup, placement, asked, this.limit - this.taken);
    requireMajorities(placement, answers, refusals, this.consistency === "one");
    const { reverse } = range;
    let place: Uint8Array | null = null;
    for (const listed of answers.values())
      if (listed.place !== null && (place === null || isBefore(listed.place, place, reverse)))
        place = listed.place;
    const candidates = mergeHeld(placement, answers, place, reverse);
    const rest = place === null ? null : reverse ? { ...range, high: place } : { ...range, low: place };
    return this.take(itemsOf(candidates, range), range, rest, rolls);
  }

  /** Whether a range begins below the prefix that is searched. */
  private isSearching({ low, high, reverse }: KeyRange): boolean {
    const { searched } = this;
    if (searched === null) return false;
    if (!reverse) return isRolled(low, searched);
    return high !== null && Buffer.compare(high, searched) > 0 && Buffer.compare(high, endOf(searched)) <= 0;
  }

  /**
   * Takes items in order until the page is full.
   * @param rolls of what is rolled up, each node has told of one key
   */
  private async take(
    items: readonly Item[],
    range: KeyRange,
    rest: KeyRange | null,
    rolls: boolean,
  ): Promise<KeyRange | null> {
    const { reverse } = range;
    let skipped: Uint8Array | null = null;
    for (let from = 0; from < items.length; from += READS_MAX) {
      const some = items.slice(from, from + READS_MAX);
      const judged = some.map((item) => this.certain(item));
      if (judged.includes(undefined))
        await Promise.all(
          some.map(async (item, index) => {
            if (judged[index] === undefined) judged[index] = await this.judgeItem(item);
          }),
        );
      for (const [index, { rolled, candidates }] of some.entries()) {
        const entry = judged[index] as Entry | null;
        const { key } = candidates[0];
        if (entry === null && !(rolls && rolled >= 0)) continue;
        if (rolled < 0) this.entries.push(entry as Entry);
        else {
          skipped = copyOf(key, 0, rolled);
          if (entry === null) {
            this.searched = skipped;
            return within(range, skipped);
          }
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

  /** What an item is, where its replicas agree; undefined: a read has to tell. */
  private certain({ rolled, candidates }: Item): Entry | null | undefined {
    let isGone = true;
    for (const candidate of candidates) {
      if (!this.isSettled(candidate)) isGone = false;
      else if (!this.isAbsence(candidate.highest)) {
        const { key, ballot, valueBytes: bytes, json, contentType, end } = candidate.highest;
        if (rolled < 0 && this.wantsValueOf(bytes)) return undefined;
        return { key, ballot, bytes, json, contentType, end, value: null };
      }
    }
    return isGone ? null : undefined;
  }

  /** What an item is by one of its keys that is there; null: none is. */
  private async judgeItem({ candidates }: Item): Promise<Entry | null> {
    for (const candidate of candidates) {
      const isGone = this.isSettled(candidate) && this.isAbsence(candidate.highest);
      const entry = isGone ? null : await this.read(candidate.key);
      if (entry !== null) return entry;
    }
    return null;
  }

  private wantsValueOf(valueBytes: number): boolean {
    const { question } = this;
    return question.kind === "list" && question.values && valueBytes <= LISTED_VALUE_BYTES_MAX;
  }

  /** That an end has come has to be decided before it is told, as for a GET. */
  private isSettled({ group, holders, highest }: Candidate): boolean {
    return this.consistency === "one" || (hasMajority(group, holders) && !this.hasLapsed(highest));
  }

  private isAbsence(held: HeldKey): boolean {
    return held.tombstone || this.hasLapsed(held);
  }

  /** Whether it is a value that has ended by the clock. */
  private hasLapsed({ tombstone, end }: HeldKey): boolean {
    return !tombstone && hasEnded(end, this.setup.clusterMillis());
  }

  /** What a read tells of a key; null: it is absent. */
  private async read(key: Uint8Array): Promise<Entry | null> {
    const answer = await this.setup.read(key, this.consistency);
    if (answer.state === "unavailable")
      throw new ListFailure(
        "no_quorum",
        "too few replicas of a key can be reached, so a list would not be whole",
      );
    if (answer.state === "absent") return null;
    const { value, ballot } = answer;
    const { json, contentType, valueBytes, end } = value;
    return { key, ballot, bytes: valueBytes, json, contentType, end, value };
  }

  private answer(left: KeyRange | null): CatalogAnswer {
    const { question, entries, prefixes } = this;
    const ended = { keys: [], nowMs: 0 };
    if (question.kind === "count") return { kind: "count", ended, count: this.taken, left };
    if (question.kind !== "list") return { kind: "names", ended, keys: entries.map(({ key }) => key), left };
    const { lines, values } = question;
    const nowMs = this.setup.clusterMillis();
    const writer = new EntryWriter(lines);
    let told = 0;
    for (const { prefix, before } of lines ? prefixes : []) {
      for (; told < before; told++) writeEntry(writer, entries[told], values, nowMs);
      writer.prefix(prefix);
    }
    for (; told < entries.length; told++) writeEntry(writer, entries[told], values, nowMs);
    const texts = lines ? [] : prefixes.map(({ prefix }) => keyText(prefix));
    return {
      kind: "list",
      ended,
      keys: writer.whole(),
      prefixes: Buffer.from(texts.join(",\n")),
      count: this.taken,
      left,
    };
  }
}

function writeEntry(writer: EntryWriter, entry: Entry, values: boolean, nowMs: number): void {
  const { bytes, end, value } = entry;
  const inline = values && value !== null && isInline(value) && bytes <= LISTED_VALUE_BYTES_MAX;
  writer.facts(entry, end === 0 ? null : end - nowMs, inline ? value.bytes : null);
}
