/**
 * The feed of changes of a node in a cluster: as that of a single node (shards/feed), with what is decided in
 * the whole cluster (hub.ts). From a place that memory does not reach, the replicas are asked anew and every
 * key that they name is read (catch-up.ts).
 */
import { AnswerText } from "../../shards/feed/answer-text.ts";
import type { FeedReply } from "../../shards/feed/client.ts";
import type { FeedAnswer, FeedQuestion, FeedRefusal } from "../../shards/feed/messages.ts";
import { PLACE_TOO_OLD, refusalOf, STOPPING } from "../../shards/feed/refusals.ts";
import { type Pending, WaitingQuestions } from "../../shards/feed/waiting.ts";
import { NOTHING } from "../../util/bytes.ts";
import { VaultError } from "../../util/errors.ts";
import type { Placement } from "../layout/groups.ts";
import { CatchUp } from "./catch-up.ts";
import { latin1OfKey } from "./cluster-keys.ts";
import { decodeClusterPlace, encodeClusterPlace } from "./cluster-place.ts";
import type { Absence, Change } from "./decisions.ts";
import { Hub } from "./hub.ts";
import type { Places, Replicas } from "./replicas.ts";

/** How long the replicas are followed after the last question. */
const IDLE_MS = 60_000;
const BEAT_MS = 25;

export interface ClusterFeedSetup {
  replicas: Replicas;
  placement: () => Placement | null;
  /** Cluster time, in ms since 1970. */
  clusterMillis: () => number;
  /** What a quorum read finds of a key, with its value if that is small; null: nobody can know now. */
  read: (key: string, values: boolean) => Promise<Change | Absence | null>;
  warn: (message: string) => void;
}

export class ClusterFeed {
  private readonly setup: ClusterFeedSetup;
  private readonly waiting = new WaitingQuestions();
  private readonly replies = new Map<number, FeedReply>();
  private next = 0;
  private hub: Hub | null = null;
  private beginning: Promise<Hub> | null = null;
  private timer: NodeJS.Timeout | null = null;
  private askedMs = 0;
  private nextNumber = 0;
  /** Events from here on were not looked at for those who wait. */
  private freshFrom = 0;
  private flushing = false;
  private closed = false;

  constructor(setup: ClusterFeedSetup) {
    this.setup = setup;
  }

  /** As FeedClient's. */
  ask(question: FeedQuestion, reply: FeedReply): number {
    const id = this.next++;
    this.askedMs = performance.now();
    this.replies.set(id, reply);
    const pending = { front: 0, id, question, dueMs: this.askedMs + question.waitMs };
    this.see(pending, this.look(pending));
    return id;
  }

  /** What keeps a question from being answered is the answer. */
  private see(pending: Pending, answered: Promise<void>): void {
    answered.catch((error: Error) => this.reply(pending, refusalOf(error, this.setup.warn)));
  }

  cancel(id: number): void {
    this.replies.delete(id);
    const pending = this.waiting.find(0, id);
    if (pending !== undefined) this.waiting.delete(pending);
  }

  private reply(pending: Pending, answer: FeedAnswer | FeedRefusal): void {
    this.waiting.delete(pending);
    const reply = this.replies.get(pending.id);
    this.replies.delete(pending.id);
    reply?.(answer);
  }

  private async look(pending: Pending): Promise<void> {
    const hub = await this.follow();
    const { since, cursor, catchesUp } = pending.question;
    if (since === null) return this.answer([pending], hub, hub.head);
    if (cursor >= 0 && !catchesUp && hub.holds(cursor)) return this.answer([pending], hub, cursor);
    await this.catchUp(pending, hub, this.placesOf(since, hub));
  }

  private placesOf(text: string, hub: Hub): Places {
    const place = decodeClusterPlace(text);
    const { epoch, cluster } = hub.placement.layout;
    if (place === null) {
      if (/^[\w-]{20,}$/.test(text)) throw new VaultError("place_too_old");
      throw new VaultError("bad_request", "this is no place that a feed of changes gave");
    }
    if (place.epoch !== epoch || place.cluster !== (cluster ?? "")) throw new VaultError("place_too_old");
    return place.places;
  }

  private async catchUp(pending: Pending, hub: Hub, places: Places): Promise<void> {
    const { replicas, read, clusterMillis } = this.setup;
    const { question } = pending;
    const wanted = (): boolean => this.replies.has(pending.id);
    const work = new CatchUp({ replicas, hub, read, question, wanted, clusterMillis });
    const found = await work.run(places);
    if (found === null || !this.replies.has(pending.id)) return;
    if (found.count === 0 && found.cursor >= 0 && hub === this.hub)
      return this.answer([pending], hub, found.cursor);
    const { text, count, cursor, more } = found;
    const place = this.textOf(hub, found.places);
    this.reply(pending, { kind: "changes", text, count, place, cursor, more });
  }

  private textOf({ placement }: Hub, places: Places): string {
    const { epoch, cluster } = placement.layout;
    return encodeClusterPlace({ cluster: cluster ?? "", epoch, places });
  }

  /** The hub, which follows from now on. */
  private async follow(): Promise<Hub> {
    if (this.closed) throw new VaultError("stopping");
    const placement = this.setup.placement();
    if (placement === null) throw new VaultError("unavailable", "this node has no layout of its cluster yet");
    if (this.hub !== null && this.hub.placement.layout.epoch !== placement.layout.epoch)
      this.broken(this.hub);
    if (this.hub !== null) return this.hub;
    this.beginning ??= this.begin(placement).finally(() => {
      this.beginning = null;
    });
    return this.beginning;
  }

  private async begin(placement: Placement): Promise<Hub> {
    const { replicas, read } = this.setup;
    const hub = await Hub.begin(
      {
        ...{ replicas, placement },
        read: (key) => read(key, false),
        onEvents: () => this.wake(),
        onBroken: () => this.broken(this.hub),
      },
      this.nextNumber,
    );
    this.hub = hub;
    this.freshFrom = hub.head;
    this.timer ??= setInterval(() => this.beat(), BEAT_MS);
    this.timer.unref();
    return hub;
  }

  /** All who wait must begin anew. */
  private broken(hub: Hub | null): void {
    if (hub === null || hub !== this.hub) return;
    this.stop();
    for (const pending of this.waiting.all()) this.reply(pending, PLACE_TOO_OLD);
  }

  private stop(): void {
    const { hub } = this;
    if (hub === null) return;
    hub.stop();
    this.nextNumber = hub.head + 1;
    this.hub = null;
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }

  private beat(): void {
    const { hub } = this;
    if (hub === null) return;
    const placement = this.setup.placement();
    if (placement !== null && placement.layout.epoch !== hub.placement.layout.epoch) this.broken(hub);
    const nowMs = performance.now();
    const over = this.waiting.overdue(nowMs);
    const nothing = over.length > 0 ? this.nothing(hub) : null;
    for (const pending of over) if (nothing !== null) this.reply(pending, nothing);
    if (this.replies.size === 0 && nowMs - this.askedMs > IDLE_MS) this.stop();
  }

  /** Events have come: those who wait for them are answered when all that came together is there. */
  private wake(): void {
    if (this.flushing) return;
    this.flushing = true;
    setImmediate(() => {
      this.flushing = false;
      this.flush();
    });
  }

  private flush(): void {
    const { hub } = this;
    if (hub === null) return;
    const from = Math.max(this.freshFrom, hub.tail);
    this.freshFrom = hub.head;
    const keys: string[] = [];
    for (let at = from; at < hub.head; at++) keys.push(latin1OfKey(hub.at(at).key));
    for (const alike of this.waiting.concernedBy(keys)) {
      for (const pending of alike) this.waiting.delete(pending);
      const answered = this.answer(alike, hub, from);
      for (const pending of alike) this.see(pending, answered);
    }
  }

  /** Answers those who ask alike, now or when there is something. While a value is read, memory may go on. */
  private async answer(alike: readonly Pending[], hub: Hub, from: number): Promise<void> {
    const [{ question }] = alike;
    const text = new AnswerText(question);
    let cursor = from;
    for (; hub.holds(cursor) && cursor < hub.head && !text.isFull; cursor++) {
      const event = hub.at(cursor);
      if (text.wants(latin1OfKey(event.key))) text.add(await this.valued(event, question.values));
    }
    const isThere = hub.holds(cursor);
    const told = isThere && text.count > 0 ? this.changesOf(hub, cursor, text.end(), text.count) : null;
    for (const pending of alike) {
      if (!this.replies.has(pending.id)) continue;
      if (!isThere) this.see(pending, this.fallBehind(pending, hub));
      else if (told !== null) this.reply(pending, told);
      else if (hub !== this.hub) this.reply(pending, PLACE_TOO_OLD);
      else if (pending.dueMs > performance.now()) this.waiting.add(pending);
      else this.reply(pending, this.nothing(hub));
    }
  }

  /** Memory has gone on without a question: it is answered from the place that it came with. */
  private async fallBehind(pending: Pending, hub: Hub): Promise<void> {
    const { since } = pending.question;
    if (since === null) throw new VaultError("place_too_old");
    await this.catchUp(pending, hub, this.placesOf(since, hub));
  }

  /** With its value, where that is asked for; what is newer by now comes in its place. */
  private async valued(event: Change, values: boolean): Promise<Change> {
    if (!values || event.event !== "put") return event;
    const found = await this.setup.read(event.key, true);
    return found === null || found.event === "absent" || found.etag < event.etag ? event : found;
  }

  private changesOf(hub: Hub, cursor: number, text: Uint8Array, count: number): FeedAnswer {
    const place = this.textOf(hub, hub.placesAt(cursor));
    return { kind: "changes", text, count, place, cursor, more: cursor < hub.head };
  }

  private nothing(hub: Hub): FeedAnswer {
    return this.changesOf(hub, hub.head, NOTHING, 0);
  }

  /** The node stops. */
  close(): void {
    this.closed = true;
    this.stop();
    for (const pending of this.waiting.all()) this.reply(pending, STOPPING);
  }
}
