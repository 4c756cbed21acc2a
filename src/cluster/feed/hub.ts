/**
 * What has changed in the whole cluster, followed at this node while somebody here asks: every replica is
 * followed, what is decided is told (decisions.ts), and the latest of it is kept in memory.
 *
 *   replica ► reports ─┐
 *   replica ► reports ─┼► decisions ► events, numbered ► who waits
 *   replica ► reports ─┘
 *
 * A decided change is in the logs of a majority, so it is met as long as the replicas that can be reached are
 * followed without a gap; a replica that cannot be reached is gone on with from its place when it is back.
 * Places are of one layout: when that changes all begin anew.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Placement, ReplicaGroup } from "../layout/groups.ts";
import { hasVote } from "../wire/list-wire.ts";
import { hashOfKey } from "./cluster-keys.ts";
import { type Absence, type Batch, type Change, Decisions } from "./decisions.ts";
import type { ChangesRequest, ReplicaChanges } from "./feed-wire.ts";
import { demandVoters, nodesOf, type Places, ReplicaSilence, type Replicas } from "./replicas.ts";

/** How long a replica is asked to wait for its next change. */
const WAIT_MS = 4000;
/** Changes of one answer. */
const COUNT_MAX = 1000;
/** After a failure a replica is asked again after so long, each time twice as long up to this. */
const RETRY_MS = 100;
const RETRY_MS_MAX = 2000;
/** What is undecided is looked at so often. */
const SWEEP_MS = 25;
/** What the latest events may take in memory, in bytes; one takes so much beside its texts. */
const EVENTS_BYTES_MAX = 4 * 1024 * 1024;
const EVENT_BYTES = 200;

export interface HubEvent extends Change {
  /** A place before it. */
  readonly before: Places;
}

export interface HubSetup {
  replicas: Replicas;
  placement: Placement;
  read: (key: string) => Promise<Change | Absence | null>;
  /** Events were told: those from this number on are new. */
  onEvents: () => void;
  /** It cannot go on: whoever follows must begin anew. */
  onBroken: () => void;
}

interface From {
  place: string | null;
  cursor: number;
}

interface Followed extends From {
  readonly node: string;
  readonly batches: (Batch & { before: string })[];
}

export class Hub {
  private readonly setup: HubSetup;
  private readonly decisions: Decisions;
  private readonly followed: Followed[];
  private readonly timer: NodeJS.Timeout;
  private events: HubEvent[] = [];
  private bytes = 0;
  private stopped = false;
  private snapshot: Places | null = null;
  /** Number of the oldest event that is kept. */
  tail: number;

  /** @param first number of its first event: above all that were given before */
  private constructor(setup: HubSetup, first: number) {
    const { placement, read } = setup;
    this.setup = setup;
    this.tail = first;
    this.followed = nodesOf(placement).map((node) => ({ node, place: null, cursor: -1, batches: [] }));
    this.decisions = new Decisions({
      groupOf: (key) => this.groupOf(key),
      read,
      tell: (change) => this.tell(change),
      now: () => performance.now(),
    });
    this.timer = setInterval(() => this.decisions.sweep(), SWEEP_MS);
    this.timer.unref();
  }

  /** Begins to follow. Throws VaultError where too few replicas can be reached. */
  static async begin(setup: HubSetup, first: number): Promise<Hub> {
    const { replicas, placement } = setup;
    const { epoch } = placement.layout;
    const now = requestOf(epoch, { place: null, cursor: -1 }, 0, 1);
    const answers = await replicas.askAll(placement, () => now);
    demandVoters(placement, answers);
    const hub = new Hub(setup, first);
    for (const followed of hub.followed) {
      const answer = answers.get(followed.node);
      if (answer !== undefined) {
        followed.place = answer.place;
        followed.cursor = answer.cursor;
      }
      void hub.follow(followed);
    }
    return hub;
  }

  get placement(): Placement {
    return this.setup.placement;
  }

  groupOf(key: string): ReplicaGroup {
    return this.setup.placement.groupOf(hashOfKey(key));
  }

  /** Number of the event that comes next. */
  get head(): number {
    return this.tail + this.events.length;
  }

  at(number: number): HubEvent {
    return this.events[number - this.tail];
  }

  holds(number: number): boolean {
    return number >= this.tail && number <= this.head;
  }

  /** Whether everything before these places has been told. */
  get places(): Places {
    this.snapshot ??= Object.fromEntries(
      this.followed
        .map((followed) => [followed.node, safePlace(followed)] as const)
        .filter((pair): pair is [string, string] => pair[1] !== null),
    );
    return this.snapshot;
  }

  /** A place before the event with this number. */
  placesAt(number: number): Places {
    return number < this.head ? this.at(number).before : this.places;
  }

  /** Somebody has read what is decided. */
  learn(change: Change): void {
    this.decisions.learn(change);
  }

  private async follow(followed: Followed): Promise<void> {
    let retryMs = RETRY_MS;
    while (!this.stopped) {
      try {
        const { epoch, partitions } = this.placement.layout;
        const request = requestOf(epoch, followed, WAIT_MS, COUNT_MAX);
        const answer = await this.setup.replicas.ask(followed.node, partitions, request);
        if (this.stopped) return;
        this.take(followed, answer);
        retryMs = RETRY_MS;
      } catch (error) {
        if (this.stopped) return;
        if (error instanceof ReplicaSilence && error.isTooOld) {
          this.setup.onBroken();
          return;
        }
        await sleep(retryMs, undefined, { ref: false });
        retryMs = Math.min(RETRY_MS_MAX, retryMs * 2);
      }
    }
  }

  private take(followed: Followed, { votes, place, cursor, changes }: ReplicaChanges): void {
    const batch = { open: 0, before: followed.place ?? place };
    followed.place = place;
    followed.cursor = cursor;
    // Open until all of it was reported: what is told of it has a place before it.
    batch.open++;
    followed.batches.push(batch);
    this.snapshot = null;
    const before = this.head;
    for (const change of changes) {
      const { event, ...facts } = change;
      const { key, etag } = facts;
      const told: Change = { event, key, etag, text: JSON.stringify(facts) };
      const { partition } = this.groupOf(key);
      this.decisions.report(followed.node, hasVote(votes, partition), told, batch);
    }
    batch.open--;
    this.snapshot = null;
    if (this.head > before) this.setup.onEvents();
  }

  private tell({ event, key, etag, text }: Change): void {
    this.snapshot = null;
    this.events.push({ event, key, etag, text, before: this.places });
    this.bytes += key.length + text.length + EVENT_BYTES;
    let gone = 0;
    for (; this.bytes > EVENTS_BYTES_MAX && gone < this.events.length - COUNT_MAX; gone++)
      this.bytes -= this.events[gone].key.length + this.events[gone].text.length + EVENT_BYTES;
    if (gone > 0) {
      this.events = this.events.slice(gone);
      this.tail += gone;
    }
    this.setup.onEvents();
  }

  stop(): void {
    this.stopped = true;
    clearInterval(this.timer);
  }
}

/** Asks a replica about all keys. */
function requestOf(epoch: number, from: From, waitMs: number, countMax: number): ChangesRequest {
  const { place: since, cursor } = from;
  return { epoch, prefixes: [""], exact: false, since, cursor, catchesUp: false, waitMs, countMax };
}

/** Up to where all that a replica has reported is told, or known not to be decided. */
function safePlace({ batches, place }: Followed): string | null {
  while (batches.length > 0 && batches[0].open === 0) batches.shift();
  return batches[0]?.before ?? place;
}
