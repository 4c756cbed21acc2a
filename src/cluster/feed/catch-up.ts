/**
 * What has changed since a place that memory does not reach: all replicas are asked from there on, and every
 * key that one of them names is read, so that only what is decided is told. A deletion of which a read finds
 * nothing is decided where a majority tells of it; an old one has got around, and all have forgotten it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { etagMillis } from "../../format/version.ts";
import { AnswerText } from "../../shards/feed/answer-text.ts";
import type { FeedQuestion } from "../../shards/feed/messages.ts";
import { VaultError } from "../../util/errors.ts";
import { bitOf, hasMajority } from "../layout/groups.ts";
import { hasVote } from "../wire/list-wire.ts";
import { type Absence, type Change, FORGOTTEN_MS, rankOf } from "./decisions.ts";
import type { ReplicaChange, ReplicaChanges } from "./feed-wire.ts";
import type { Hub } from "./hub.ts";
import { demandVoters, nodesOf, type Places, type Replicas } from "./replicas.ts";

/** Keys of each replica in one round, of all where their values are told, too, and reads at once. */
const ROUND_COUNT = 500;
const ROUND_VALUES = 64;
const READS_MAX = 64;
/** Who has met nothing for so long is told how far it is. */
const SILENT_MS = 1000;
/** Between two reads of a key whose deletion is not known to be decided. */
const READ_AGAIN_MS = 250;

export interface CatchUpSetup {
  replicas: Replicas;
  hub: Hub;
  read: (key: string, values: boolean) => Promise<Change | Absence | null>;
  question: FeedQuestion;
  /** Somebody still waits for the answer. */
  wanted: () => boolean;
  /** Cluster time, in ms since 1970. */
  clusterMillis: () => number;
}

/** What is highest of a key among the replicas' reports. */
interface Reported {
  change: ReplicaChange;
  /** Voters that tell of it, by the bits of the key's group. */
  holders: number;
}

export interface CaughtUp {
  text: Uint8Array;
  count: number;
  places: Places;
  /** Number of the event to go on with in memory; -1: there is more to catch up with. */
  cursor: number;
  more: boolean;
}

export class CatchUp {
  private readonly setup: CatchUpSetup;

  constructor(setup: CatchUpSetup) {
    this.setup = setup;
  }

  /** Null: nobody wants it any more. */
  async run(from: Places): Promise<CaughtUp | null> {
    const { hub, question, wanted } = this.setup;
    const startMs = performance.now();
    const text = new AnswerText(question);
    let places = from;
    for (;;) {
      // What is told before the replicas have answered is in their answers, too.
      const { head } = hub;
      const round = await this.ask(places);
      if (!wanted()) return null;
      for (const change of await this.judge(round.changes)) {
        text.add(change);
        hub.learn({ ...change, text: withoutValue(change.text) });
      }
      places = round.places;
      if (!round.more) return { text: text.end(), count: text.count, places, cursor: head, more: false };
      if (text.count > 0 || performance.now() - startMs > SILENT_MS)
        return { text: text.end(), count: text.count, places, cursor: -1, more: true };
    }
  }

  /** Of each key what some replica has that is highest. */
  private async ask(places: Places): Promise<{ changes: Reported[]; places: Places; more: boolean }> {
    const { replicas, hub, question } = this.setup;
    const { epoch } = hub.placement.layout;
    const { prefixes, exact, values } = question;
    const keysMax = values ? Math.min(question.countMax, ROUND_VALUES) : question.countMax;
    const share = Math.max(1, Math.floor(keysMax / nodesOf(hub.placement).length));
    const answers = await replicas.askAll(hub.placement, (node) => ({
      ...{ epoch, prefixes, exact, cursor: -1, catchesUp: true, waitMs: 0 },
      since: places[node] ?? null,
      countMax: Math.min(ROUND_COUNT, share),
    }));
    demandVoters(hub.placement, answers);
    const changes = new Map<string, Reported>();
    for (const [node, answer] of answers)
      for (const change of answer.changes) this.report(changes, node, answer, change);
    const { keys, ...rest } = takeSome(answers, places, keysMax);
    return { changes: [...keys].map((key) => changes.get(key) as Reported), ...rest };
  }

  private report(
    changes: Map<string, Reported>,
    node: string,
    { votes }: ReplicaChanges,
    change: ReplicaChange,
  ): void {
    const known = changes.get(change.key);
    if (known !== undefined && rankOf(known.change) > rankOf(change)) return;
    const group = this.setup.hub.groupOf(change.key);
    const bit = hasVote(votes, group.partition) ? bitOf(group, node) : 0;
    const isSame = known !== undefined && rankOf(known.change) === rankOf(change);
    changes.set(change.key, { change, holders: isSame ? known.holders | bit : bit });
  }

  /** What these keys hold now. */
  private async judge(reported: readonly Reported[]): Promise<Change[]> {
    const told: Change[] = [];
    for (let from = 0; from < reported.length; from += READS_MAX) {
      const some = reported.slice(from, from + READS_MAX);
      const found = await Promise.all(some.map((one) => this.read(one)));
      for (const [index, change] of found.entries()) {
        const { event, etag, ...facts } = some[index].change;
        if (change === null)
          throw new VaultError(
            "no_quorum",
            "too few replicas of a key can be reached, so changes might be missed; try again",
          );
        if (change.event !== "absent") told.push(change);
        // The replica's version, if that is what the read has found, or if all have forgotten it: then only a
        // log knows.
        else if (event !== "put") {
          const absent = { ...facts, etag: change.etag ?? etag };
          const text = JSON.stringify(absent);
          told.push({ event: absent.etag === etag ? event : "delete", ...absent, text });
        }
      }
    }
    return told;
  }

  /** What a key holds now; where that is nothing, the deletion that was reported is decided, or forgotten. */
  private async read({ change, holders }: Reported): Promise<Change | Absence | null> {
    const { read, question, hub, clusterMillis, wanted } = this.setup;
    const { key, event, etag } = change;
    for (;;) {
      const found = await read(key, question.values);
      if (found?.event !== "absent" || found.etag !== null || event === "put" || !wanted()) return found;
      if (hasMajority(hub.groupOf(key), holders)) return found;
      // One from the future follows a clock that was wrong.
      if (Math.abs(clusterMillis() - etagMillis(`"${etag}"`)) >= FORGOTTEN_MS) return found;
      await sleep(READ_AGAIN_MS, undefined, { ref: false });
    }
  }
}

/** Answers with so many keys together, each as a whole: its place is where it ends. Others are asked anew. */
function takeSome(
  answers: ReadonlyMap<string, ReplicaChanges>,
  from: Places,
  keysMax: number,
): { keys: Set<string>; places: Places; more: boolean } {
  let keys = new Set<string>();
  const places: Record<string, string> = { ...from };
  let more = false;
  for (const [node, answer] of answers) {
    const together = new Set([...keys, ...answer.changes.map(({ key }) => key)]);
    const isTaken = together.size <= keysMax || keys.size === 0;
    more ||= answer.more || !isTaken;
    if (!isTaken) continue;
    places[node] = answer.place;
    keys = together;
  }
  return { keys, places, more };
}

/** For others, who have not asked for it. */
function withoutValue(text: string): string {
  const { value: _value, base64: _base64, ...facts } = JSON.parse(text) as Record<string, unknown>;
  return JSON.stringify(facts);
}
