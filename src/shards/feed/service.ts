/**
 * Tells what has changed: follows the logs while somebody asks, keeps the latest changes in memory, and
 * answers questions. It is pulled: who asks gets what there is beyond a place, and asks again; nobody has a
 * queue here. Whoever is further behind than memory goes reads slabs again (slow-reads.ts).
 *
 * The shards' threads ring (arena/bell.ts) after a batch, if somebody waits; then it looks at their published
 * ends (beats.ts). So a write costs the same whether anybody watches or not.
 */
import { endsOf, LogChanges, type TakeChange } from "../../engine/feed/log-changes.ts";
import { ballotAt, unitsAt } from "../../format/record.ts";
import { NOTHING, nameOf } from "../../util/bytes.ts";
import { VaultError } from "../../util/errors.ts";
import type { Bell } from "../arena/bell.ts";
import { systemClock } from "../thread/clock.ts";
import { AnswerText } from "./answer-text.ts";
import { Beats } from "./beats.ts";
import type { FeedAnswer, FeedAsked, FeedQuestion, FeedRefusal, FeedTold } from "./messages.ts";
import { Outbox } from "./outbox.ts";
import { Places, type PlacesSetup } from "./places.ts";
import { Recent, type RecentChange } from "./recent.ts";
import { blind, PLACE_TOO_OLD, refusalOf, STOPPING } from "./refusals.ts";
import { type SlowAnswer, SlowReads, type SlowSetup } from "./slow-reads.ts";
import { type Pending, WaitingQuestions } from "./waiting.ts";

/** Longest that a turn keeps the thread. */
const TURN_WORK_MS = 2;
/** Records of each shard that are read in one step. */
const STEP_RECORDS = 128;
/** How long the logs are followed after the last question. */
const IDLE_MS = 60_000;

export interface FeedSetup extends PlacesSetup, SlowSetup {
  /** Rings after a batch, once it is told to listen: `rung` is called then. */
  bell: Pick<Bell, "listen" | "ignore">;
  /** Sends answers to a front. */
  tell: (front: number, told: FeedTold[]) => void;
}

export class FeedService {
  private readonly setup: FeedSetup;
  private readonly places: Places;
  private readonly slow: SlowReads;
  private readonly waiting = new WaitingQuestions();
  /** Null: nobody asks, and the logs are not followed. */
  private recent: Recent | null = null;
  private changes: LogChanges | null = null;
  private nextNumber = 0;
  private readonly beats: Beats;
  private askedMs = 0;
  private idle: FeedAnswer | null = null;
  private readonly outbox: Outbox;
  private closed = false;

  constructor(setup: FeedSetup) {
    this.setup = setup;
    this.places = new Places(setup);
    this.outbox = new Outbox(setup.tell);
    this.beats = new Beats(setup.bell, systemClock, () => this.beat());
    this.slow = new SlowReads(setup, {
      textOf: (places) => this.places.textOf(places),
      cursorAt: (changes) => this.cursorAt(changes),
      isHead: (cursor) => this.recent?.head === cursor,
      done: (pending, answer) => this.slowDone(pending, answer),
    });
  }

  /** Questions of a front, in their order. */
  take(front: number, asked: readonly FeedAsked[]): void {
    this.askedMs = performance.now();
    for (const { id, question } of asked) {
      if (question === null) this.cancel(front, id);
      else {
        const pending = { front, id, question, dueMs: this.askedMs + question.waitMs };
        this.guard(pending, () => this.ask(pending));
      }
    }
    this.outbox.flush();
    this.schedule();
  }

  private cancel(front: number, id: number): void {
    const pending = this.waiting.find(front, id);
    if (pending !== undefined) this.waiting.delete(pending);
    this.slow.cancel(front, id);
  }

  private guard(pending: Pending, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.refuse(pending, refusalOf(error as Error, this.setup.warn));
    }
  }

  private ask(pending: Pending): void {
    const { question } = pending;
    if (this.closed) throw new VaultError("stopping");
    this.follow();
    // Nothing from before this moment; and who does not wait is told what is there by now.
    let refusal = question.since === null || question.waitMs === 0 ? this.turn() : null;
    if (question.since === null && refusal?.code === "place_too_old") {
      // Others were to be told something that is gone; from now on all is there.
      this.follow();
      refusal = this.turn();
    }
    const { recent } = this;
    if (refusal !== null || recent === null) this.refuse(pending, refusal ?? PLACE_TOO_OLD);
    else if (question.since === null) this.answerFrom(pending, recent, recent.head);
    else {
      const cursor = question.cursor >= 0 ? question.cursor : this.places.numberAt(question.since);
      const isInMemory = !question.catchesUp && cursor >= 0 && recent.holds(cursor);
      if (isInMemory) this.answerFrom(pending, recent, cursor);
      else this.slow.begin(pending, this.places.read(question.since));
    }
  }

  /** The latest changes; from now on the logs are followed. */
  private follow(): void {
    if (this.recent !== null) return;
    const { lookups, memories } = this.setup;
    const places = endsOf(memories);
    this.changes = new LogChanges(lookups, memories, places);
    this.recent = new Recent(places, this.nextNumber);
  }

  /** Nobody asks any more, or nobody can tell: what was in memory is forgotten. */
  private forget(): void {
    this.nextNumber = (this.recent?.head ?? 0) + 1;
    this.recent = null;
    this.changes = null;
    this.places.forget();
  }

  private schedule(): void {
    const { changes } = this;
    if (changes !== null && !this.closed) this.beats.plan(this.waiting.count > 0, () => changes.isBehind);
  }

  /** A batch has been written since somebody began to wait. */
  rung(): void {
    this.beats.rung();
  }

  private beat(): void {
    const nowMs = performance.now();
    if (this.changes?.isBehind === true) this.turn();
    for (const pending of this.waiting.overdue(nowMs)) this.time(pending);
    this.outbox.flush();
    if (this.waiting.count === 0 && this.slow.count === 0 && nowMs - this.askedMs > IDLE_MS) this.forget();
    this.schedule();
  }

  /** The time of a question that waits is over. */
  private time(pending: Pending): void {
    const { recent } = this;
    this.waiting.delete(pending);
    if (recent === null) this.refuse(pending, PLACE_TOO_OLD);
    else this.outbox.add(pending, this.nothing(recent));
  }

  /** Follows the logs for a moment, and tells those that wait. Answers why they cannot be followed. */
  private turn(): FeedRefusal | null {
    const { changes, recent } = this;
    if (changes === null || recent === null) return null;
    const endsMs = performance.now() + TURN_WORK_MS;
    const met: RecentChange[] = [];
    try {
      const take = this.collect(met);
      while (!changes.read(STEP_RECORDS, take) && !changes.isBlind(take) && performance.now() < endsMs);
      if (changes.isBlind(take)) throw blind();
      if (changes.areDeletesGone()) throw new VaultError("place_too_old");
    } catch (error) {
      const refusal = refusalOf(error as Error, this.setup.warn);
      this.failAll(refusal);
      return refusal;
    }
    const from = recent.head;
    recent.add(met, changes.places);
    if (met.length > 0) this.answerWaiting(recent, met, from);
    return null;
  }

  private collect(into: RecentChange[]): TakeChange {
    const { entries } = this.setup;
    return (key, map, unit, shard) => {
      const ballot = ballotAt(map, unit);
      const change = entries.change(key, ballot, false);
      if (change === null) return;
      const { event, text } = change;
      const { sequence } = map;
      const endUnit = unit + unitsAt(map, unit);
      into.push({ event, text, key: nameOf(key), ballot, shard, sequence, endUnit });
    };
  }

  private answerWaiting(recent: Recent, met: readonly RecentChange[], from: number): void {
    let answers = 0;
    for (const alike of this.waiting.concernedBy(met.map(({ key }) => key))) {
      answers += alike.length;
      let answer: FeedAnswer | null | undefined;
      for (const pending of alike)
        this.guard(pending, () => {
          if (answer === undefined) answer = this.read(pending.question, recent, from);
          if (answer === null) return;
          this.waiting.delete(pending);
          this.outbox.add(pending, answer);
        });
    }
    this.beats.answered(met.length, answers);
  }

  /** Answers from memory, now or when there is something. */
  private answerFrom(pending: Pending, recent: Recent, cursor: number): void {
    const answer = this.read(pending.question, recent, cursor);
    if (answer !== null) this.outbox.add(pending, answer);
    else if (pending.question.waitMs > 0) this.waiting.add(pending);
    else this.outbox.add(pending, this.nothing(recent));
  }

  /** What there is for a question in memory from a number on; null: nothing. */
  private read(question: FeedQuestion, recent: Recent, from: number): FeedAnswer | null {
    const { entries } = this.setup;
    const text = new AnswerText(question);
    let cursor = from;
    for (; cursor < recent.head && !text.isFull; cursor++) {
      const change = recent.at(cursor);
      if (!text.wants(change.key)) continue;
      if (!question.values || change.event !== "put") text.add(change);
      else {
        // By now something newer may be known, which follows.
        const valued = entries.change(Buffer.from(change.key, "latin1"), change.ballot, true);
        if (valued !== null) text.add(valued);
      }
    }
    const { count } = text;
    if (count === 0) return null;
    const isLeft = cursor < recent.head;
    const place = isLeft ? this.places.textOf(recent.placesAt(cursor)) : this.places.ofHead(recent);
    const more = isLeft || (question.waitMs === 0 && this.changes?.isBehind === true);
    return { kind: "changes", text: text.end(), count, place, cursor, more };
  }

  /** The same one for all that are told so at once: it travels once. */
  private nothing(recent: Recent): FeedAnswer {
    const place = this.places.ofHead(recent);
    const more = this.changes?.isBehind === true;
    const { idle } = this;
    if (idle?.place === place && idle.cursor === recent.head && idle.more === more) return idle;
    this.idle = { kind: "changes", text: NOTHING, count: 0, place, cursor: recent.head, more };
    return this.idle;
  }

  private slowDone(pending: Pending, answer: SlowAnswer): void {
    const { recent } = this;
    if (answer.kind === "refused") this.refuse(pending, answer);
    // Caught up, with nothing to tell: it waits like others.
    else if (answer.count === 0 && answer.cursor >= 0 && recent?.holds(answer.cursor) === true)
      this.guard(pending, () => this.answerFrom(pending, recent, answer.cursor));
    else this.outbox.add(pending, answer);
    this.outbox.flush();
    this.schedule();
  }

  /** Number in memory from which to go on for who has met all that `changes` has; -1: it is behind. */
  private cursorAt(changes: LogChanges): number {
    const { recent } = this;
    if (recent === null || !recent.isReachedBy(changes.places)) return -1;
    const from = recent.head;
    // What it has met and memory has not would be told again.
    this.turn();
    return this.recent?.numberAfter(changes.places, from) ?? -1;
  }

  private refuse(pending: Pending, refusal: FeedRefusal): void {
    this.waiting.delete(pending);
    this.outbox.add(pending, refusal);
  }

  /** What was told so far cannot be gone on from. */
  private failAll(refusal: FeedRefusal): void {
    for (const pending of this.waiting.all()) this.refuse(pending, refusal);
    this.forget();
  }

  close(): void {
    this.closed = true;
    this.beats.stop();
    this.slow.close();
    this.failAll(STOPPING);
    this.outbox.flush();
  }
}
