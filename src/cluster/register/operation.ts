/**
 * One operation on one key, from its start to its answer and to the last late reply. ARCHITECTURE's "A
 * cluster" has the rules; here is their order:
 *
 *   PUT, DELETE         accept(own) ──majority──► done
 *   POST, conditions    prepare ──► judge ──no──► confirmed? answer : rewrite ► answer
 *                                     └──yes──► accept(own) ──majority──► done
 *   GET                 look ──equal at a majority──► answer
 *                        └──► accept(highest, at its own ballot) ──majority──► answer
 *                               └──a no──► prepare ► rewrite ► answer
 *   accept(own) failed  every replica said no ──► again, with a new ballot
 *                       otherwise ──► prepare ──own operation on top──► accept(own) at the new ballot
 *                                             ├──a first write on top, or only what is older──► the own value took no effect: as if prepared anew
 *                                             └──else──► recall ──no majority can have taken it──► as if prepared anew
 *                                                               └──else──► unknown_outcome
 *
 * `rewrite` accepts the highest value seen at the prepared ballot, with the operation it came from (the
 * identity function of CASPaxos). A version can therefore change once without its value changing, when
 * something that failed half-way is settled.
 *
 * Answers that come after the deadline are not counted, however late this process wakes up: rejoin.ts needs
 * that. After an early answer the operation stays until all replicas have answered, only to name those that
 * miss the record.
 */
import type { Ballot } from "../../format/record.ts";
import { compareOptionalBallots, higherBallot } from "../../format/version.ts";
import { OPERATION_MS_MAX } from "../../util/limits.ts";
import { countOf, hasAnyMajority, hasMajority, type ReplicaGroup } from "../layout/layout.ts";
import {
  type AcceptAnswer,
  type ClusterKey,
  FIRST_WRITE,
  type Held,
  type LookAnswer,
  type Payload,
  type PrepareAnswer,
  type Proposal,
  type RecallAnswer,
  type Replaced,
  TOMBSTONE,
} from "./ports.ts";
import type {
  CoordinatorSetup,
  OperationRules,
  ReadResult,
  Refusal,
  WriteRequest,
  WriteResult,
} from "./requests.ts";
import { Highest, Tally } from "./tally.ts";

/** Rounds with a new ballot that one operation may try. */
export const ATTEMPTS_MAX = 12;
/** First bound of the random pause before another attempt; it doubles each time. */
export const BACKOFF_MS = 4;
const BACKOFF_MS_MAX = 250;
/** A read asks as few replicas as it needs and the others after this time. */
export const HEDGE_MS = 100;
/** After a no, how long a round still waits for the answers that could make a majority. */
export const NO_WAIT_MS = 50;
/** With a majority of promises, how long a write in doubt still waits for the others. */
const ALL_WAIT_MS = 300;

/** What the accept that is under way proposes. */
type Purpose = "own" | "confirm" | "rewrite";

export class Operation {
  private readonly setup: CoordinatorSetup;
  private readonly rules: OperationRules;
  private readonly key: ClusterKey;
  /** The write, or null: a read. */
  private readonly write: WriteRequest | null;
  private readonly wrote: ((result: WriteResult) => void) | null;
  private readonly read: ((result: ReadResult) => void) | null;
  /** A read that always writes what it found again, at a new ballot. */
  private readonly settles: boolean;
  /** How many versions a write draws with each ballot. */
  private readonly weight: number;

  private group: ReplicaGroup;
  private readonly tally: Tally;
  private readonly highest = new Highest();
  /** Raised for each round: replies of an earlier one are late. */
  private round = 0;
  private phase: "prepare" | "accept" | "look" | "recall" | "fetch" | "pause" | "over" = "pause";
  private purpose: Purpose = "own";
  private proposal: Proposal | null = null;
  private ballot: Ballot | null = null;
  /** The highest ballot that this operation has met or drawn: the next one must be above it. */
  private met: Ballot | null = null;
  /** Calls are being sent: replies that come at once are counted, and judged after the last call. */
  private sending = false;
  private attempts = 0;
  private answered = false;
  /** An accept of the own value may have had an effect, so it must not be tried again blindly. */
  private ambiguous = false;
  /** The lowest ballot at which it may have had one. */
  private doubtful: Ballot | null = null;
  /** The layout under which all of these were; -1: under several. */
  private doubtEpoch = -1;
  /** Of the last round of promises: who promised, and who held the own write. */
  private promised = 0;
  private stillHeld = 0;
  /** Whether a recall waits for the promises of all. */
  private awaitsAll = true;
  /** What replicas remember of this write. */
  private readonly recalled: { bit: number; ballots: readonly Ballot[] }[] = [];
  /** Records up to this ballot may have been on a promising replica and collected since. */
  private collected: Ballot | null = null;
  /** The upper half of the operation's number, with or without `FIRST_WRITE`. */
  private operationHigh = 0;
  /** What the own write took the place of, as far as known. */
  private previous: Ballot | null = null;
  private existed = false;
  /** Replicas where a blind write replaced `previous`. */
  private replaced = 0;
  private certain = true;
  private raced = false;
  /** `existed` comes from a majority of promises. */
  private prepared = false;
  /** The refusal to answer once what it rests on is confirmed. */
  private refusal: Refusal | null = null;
  /** The value of `highest`, where it is at hand. */
  private payload: Payload | null = null;
  private readonly deadline: number;
  private readonly timer: unknown;
  private shortTimer: unknown = null;
  /** The own replica's bit while a conditional write is not sent to it yet. */
  private withheld = 0;
  /** Replicas that a read has asked. */
  private asked = 0;

  constructor(
    setup: CoordinatorSetup,
    rules: OperationRules,
    key: ClusterKey,
    write: WriteRequest | null,
    wrote: ((result: WriteResult) => void) | null,
    read: ((result: ReadResult) => void) | null,
    settles = false,
    weight = 1,
  ) {
    this.settles = settles;
    this.weight = weight;
    this.setup = setup;
    this.rules = rules;
    this.key = key;
    this.write = write;
    this.operationHigh = write?.operationHigh ?? 0;
    if (write?.lost === true) this.ambiguous = true;
    this.wrote = wrote;
    this.read = read;
    this.group = setup.groupOf(key.partition);
    this.tally = new Tally(this.group);
    this.deadline = setup.now() + OPERATION_MS_MAX;
    this.timer = setup.after(OPERATION_MS_MAX, () => this.expire());
  }

  /** Begins the first or another attempt, from what is known now. */
  start(): void {
    const { setup, write } = this;
    this.stopShortTimer();
    this.group = setup.groupOf(this.key.partition);
    if (++this.attempts > ATTEMPTS_MAX) this.giveUp();
    else if (!this.isReachable()) this.pauseOrGiveUp();
    else if (write === null && !this.settles) this.look();
    else if (write !== null && write.condition === null && !this.ambiguous) {
      this.drawBallot();
      this.acceptOwn();
    } else this.prepare();
  }

  private isReachable(): boolean {
    const { nodes } = this.group;
    let reachable = 0;
    for (let index = 0; index < nodes.length; index++)
      if (this.setup.distance(nodes[index]) !== Infinity) reachable |= 1 << index;
    return hasMajority(this.group, reachable);
  }

  // ---- prepare -------------------------------------------------------------------------------------------------------------------

  private prepare(): void {
    const { setup, group, tally, key } = this;
    const ballot = this.drawBallot();
    this.highest.start();
    this.collected = null;
    this.stillHeld = 0;
    this.payload = null;
    const round = this.begin("prepare");
    const builds = this.write !== null && this.write.condition !== null;
    const { nodes } = group;
    tally.pending = (1 << nodes.length) - 1;
    this.sending = true;
    for (let index = 0; index < nodes.length; index++)
      setup.port.prepare(nodes[index], key, group.epoch, ballot, builds, (answer) =>
        this.onPromise(round, 1 << index, answer),
      );
    this.sending = false;
    this.judgePromises();
  }

  private onPromise(round: number, bit: number, answer: PrepareAnswer): void {
    if (!this.counts(round, bit, answer)) return;
    if (answer.kind === "yes") {
      this.highest.take(bit, answer);
      this.meet(answer.ballot);
      if (this.isOwn(answer)) this.stillHeld |= bit;
      // Where an earlier try has not arrived, what it replaced elsewhere is still there.
      if (this.ambiguous && !this.isOwn(answer))
        this.learnPrevious(bit, {
          previous: answer.ballot,
          existed: answer.ballot !== null && !answer.tombstone,
        });
      this.collected = higherBallot(this.collected, answer.floor);
    }
    if (!this.sending) this.judgePromises();
  }

  private judgePromises(): void {
    const { tally, highest, write } = this;
    if (this.phase !== "prepare") return;
    if (!tally.won) this.wait();
    else if (write !== null) this.judgeWrite(write);
    else if (hasMajority(this.group, highest.holders) && !this.settles) this.answerRead();
    else if (highest.ballot === null) this.answerRead();
    else this.rewrite();
  }

  /** A majority has promised: goes on with a write. */
  private judgeWrite(write: WriteRequest): void {
    const { highest } = this;
    if (this.ambiguous) {
      if (this.isOwn(highest)) {
        this.operationHigh = highest.operationHigh;
        this.acceptOwn();
        return;
      }
      if (this.mayHaveTakenEffect()) {
        this.recall(write);
        return;
      }
      // No majority has held the own value, and below the ballot that is promised now none will.
    }
    this.judgeCondition(write);
  }

  /** What is there is known, and that the own write is no part of it. */
  private judgeCondition(write: WriteRequest): void {
    const { highest } = this;
    this.refusal = write.condition === null ? null : write.condition(highest.exists, highest.ballot);
    if (this.refusal === null) {
      this.previous = highest.ballot;
      this.existed = highest.exists;
      // A plain write does not build on what it was told of, which may be undecided: its answer must not rest
      // on that either.
      this.certain = write.condition !== null;
      this.prepared = true;
      this.operationHigh = this.numberOf(write);
      this.acceptOwn();
      return;
    }
    // What is left of an earlier try of this write must be buried before "refused" is true.
    const confirmed = hasMajority(this.group, highest.holders) && !this.ambiguous;
    if (confirmed || !this.rules.confirmRefusals) {
      this.answerRefusal(highest.ballot, countOf(highest.holders));
      this.end();
    } else this.rewrite();
  }

  /**
   * Something on top that is newer than the doubtful accept may have replaced the own value after that took
   * effect. Not a first write: its majority held nothing when it promised, so it would have met the own
   * value, had that ever been decided below it.
   */
  private mayHaveTakenEffect(): boolean {
    const { highest, collected, doubtful } = this;
    if (this.write?.lost === true) return true;
    if (compareOptionalBallots(collected, doubtful) >= 0) return true;
    return (
      compareOptionalBallots(highest.ballot, doubtful) >= 0 && (highest.operationHigh & FIRST_WRITE) === 0
    );
  }

  // ---- recall --------------------------------------------------------------------------------------------------------------------

  /**
   * Something newer is on top of what the own accept may have done. It has had no effect, and can be judged
   * anew, if all replicas remember that it was never decided and never built on:
   * - Those that have promised take nothing below that promise any more. So if no ballot was taken, of this
   *   write, by so many of them that with the rest they would make a majority, none was decided or will be.
   * - No promise has told another conditional write of it: that one might rest on it without writing it
   *   again. (Reads and refusals write it again before they tell of it.)
   */
  private recall(write: WriteRequest): void {
    const { setup, group, tally, key } = this;
    const all = (1 << group.nodes.length) - 1;
    // Who said no has something higher, and takes nothing below that.
    const open = all & ~(tally.yes | tally.outvoted);
    // A replica that has not promised yet could still take what it has not taken.
    if (tally.pending !== 0 && this.awaitsAll) {
      const { round } = this;
      this.shortTimer ??= setup.after(ALL_WAIT_MS, () => {
        this.shortTimer = null;
        this.awaitsAll = false;
        if (this.round === round && this.phase === "prepare") this.judgePromises();
      });
      return;
    }
    // Of another layout's majorities nothing can be said.
    if (write.lost === true || group.epoch !== this.doubtEpoch) {
      this.giveUp();
      return;
    }
    this.recalled.length = 0;
    this.promised = tally.yes;
    const round = this.begin("recall");
    tally.pending = all;
    const { node } = this.ballot as Ballot;
    const ageMs = setup.now() - this.deadline + OPERATION_MS_MAX;
    this.sending = true;
    for (let index = 0; index < group.nodes.length; index++) {
      const bit = 1 << index;
      setup.port.recall(group.nodes[index], key, group.epoch, write, node, ageMs, (answer) => {
        if (!this.counts(round, bit, answer)) return;
        if (answer.kind === "yes" && answer.known && !answer.shown)
          this.recalled.push({ bit, ballots: answer.ballots });
        if (!this.sending) this.judgeRecalled(write, open);
      });
    }
    this.sending = false;
    this.judgeRecalled(write, open);
  }

  /** @param open replicas that may still take what they have not taken yet */
  private judgeRecalled(write: WriteRequest, open: number): void {
    const { tally, group, recalled } = this;
    if (this.phase !== "recall" || tally.pending !== 0) return;
    const taken = new Map<string, number>();
    for (const { bit, ballots } of recalled)
      for (const { clockHigh, clockLow, node, incarnation } of ballots) {
        const name = `${clockHigh} ${clockLow} ${node} ${incarnation}`;
        taken.set(name, (taken.get(name) ?? open) | bit);
      }
    const mayBeDecided = [...taken.values()].some((set) => hasAnyMajority(group, set));
    if (recalled.length < group.nodes.length || mayBeDecided) {
      this.giveUp();
      return;
    }
    // Nobody holds it any more, so nobody can write it again: as if it had not been tried.
    if (this.promised === (1 << group.nodes.length) - 1 && this.stillHeld === 0) this.ambiguous = false;
    this.judgeCondition(write);
  }

  /**
   * The number that tells others whether this write found the key without any record, even a collected one.
   */
  private numberOf(write: WriteRequest): number {
    const isFirst = this.highest.ballot === null && this.collected === null;
    const marked = (isFirst || !this.rules.markFirstOnly) && !write.staged;
    return marked ? (write.operationHigh | FIRST_WRITE) >>> 0 : write.operationHigh;
  }

  // ---- accept --------------------------------------------------------------------------------------------------------------------

  private acceptOwn(): void {
    const write = this.write as WriteRequest;
    this.accept("own", {
      ballot: this.ballot as Ballot,
      payload: write.payload,
      operationLow: write.operationLow,
      operationHigh: this.operationHigh,
    });
  }

  /** Makes the highest record the decided one, at the prepared ballot. */
  private rewrite(): void {
    this.withPayload((payload) => this.acceptHighest("rewrite", this.ballot as Ballot, payload));
  }

  private acceptHighest(purpose: Purpose, ballot: Ballot, payload: Payload): void {
    const { operationLow, operationHigh } = this.highest;
    this.accept(purpose, { ballot, payload, operationLow, operationHigh, held: purpose === "confirm" });
  }

  private accept(purpose: Purpose, proposal: Proposal): void {
    const { setup, group, tally, key } = this;
    const round = this.begin("accept");
    this.purpose = purpose;
    this.proposal = proposal;
    // Those that hold the highest record need not be told to confirm it.
    const settled = purpose === "confirm" ? this.highest.holders : 0;
    const { nodes } = group;
    if (purpose === "own" && this.write?.condition !== null) this.withhold();
    tally.yes = settled;
    tally.pending = ((1 << nodes.length) - 1) & ~settled;
    this.sending = true;
    for (let index = 0; index < nodes.length; index++) {
      const bit = 1 << index;
      if (((settled | this.withheld) & bit) === 0)
        setup.port.accept(nodes[index], key, group.epoch, proposal, (answer) =>
          this.onAccepted(round, bit, answer),
        );
    }
    this.sending = false;
    this.judgeAccepts();
  }

  /**
   * Of two coordinators that race for a key, the one that loses would always find its value on its own
   * replica, which answers first, and could not say that it lost. So a conditional write goes to the own
   * replica last, when that makes the majority.
   */
  private withhold(): void {
    const { group, setup } = this;
    const self = group.nodes.findIndex((node) => setup.distance(node) === 0);
    if (self >= 0 && !hasMajority(group, 1 << self)) this.withheld = 1 << self;
  }

  private release(): void {
    const { group, setup, key, round, withheld } = this;
    this.withheld = 0;
    setup.port.accept(
      group.nodes[Math.log2(withheld)],
      key,
      group.epoch,
      this.proposal as Proposal,
      (answer) => this.onAccepted(round, withheld, answer),
    );
  }

  private onAccepted(round: number, bit: number, answer: AcceptAnswer): void {
    if (!this.counts(round, bit, answer)) return;
    // Where an earlier try may have had an effect, what is replaced may be the own value.
    if (this.purpose === "own" && !this.answered && !this.ambiguous) {
      if (answer.kind === "yes" && !answer.already) this.learnPrevious(bit, answer);
      else if (answer.kind === "refused" && answer.replaced !== undefined)
        this.learnPrevious(bit, answer.replaced);
    }
    if (!this.sending) this.judgeAccepts();
  }

  /**
   * Whether the key had a value: by the highest record that was replaced. Certain only when a majority
   * replaced that same one, so that it was decided: a record that only one replica had may be of a write that
   * began after a later one than this had ended.
   */
  private learnPrevious(bit: number, { previous, existed }: Replaced): void {
    if (this.write?.condition !== null) return;
    const order = this.replaced === 0 ? 1 : compareOptionalBallots(previous, this.previous);
    if (order === 0) this.replaced |= bit;
    if (order <= 0) return;
    this.previous = previous;
    this.existed = existed;
    this.replaced = bit;
  }

  private judgeAccepts(): void {
    const { tally, group } = this;
    if (this.phase !== "accept") return;
    if (this.withheld !== 0) {
      if (hasMajority(group, tally.yes | this.withheld)) {
        this.release();
        return;
      }
      if (tally.open) return;
      tally.pending &= ~this.withheld;
      this.withheld = 0;
    }
    if (this.answered || tally.won) {
      if (!this.answered) this.decided();
      if (tally.pending === 0) this.end();
      return;
    }
    if (tally.open) return;
    if (this.purpose === "confirm") this.prepare();
    else if (this.purpose === "rewrite") this.again();
    else if (tally.touched !== 0) {
      if (this.rules.resolveAmbiguous) this.doubt();
      this.again();
    } else if (tally.pending === 0) this.again();
  }

  private doubt(): void {
    if (!this.ambiguous) {
      this.doubtful = this.ballot;
      this.doubtEpoch = this.group.epoch;
    } else if (this.doubtEpoch !== this.group.epoch) this.doubtEpoch = -1;
    this.ambiguous = true;
    this.certain = false;
  }

  private decided(): void {
    const { tally } = this;
    const { ballot, payload } = this.proposal as Proposal;
    const replicas = countOf(tally.yes);
    if (this.purpose === "own") {
      if (this.write?.condition === null && !this.prepared)
        this.certain = hasMajority(this.group, this.replaced) && !this.ambiguous;
      this.answered = true;
      this.wrote?.(this.writeResult("done", ballot, replicas));
    } else if (this.write !== null) this.answerRefusal(ballot, replicas);
    else {
      this.highest.ballot = ballot;
      this.highest.holders = tally.yes;
      this.payload = payload.tombstone ? null : payload;
      this.answerRead();
    }
  }

  // ---- look ----------------------------------------------------------------------------------------------------------------------

  private look(): void {
    this.highest.start();
    this.payload = null;
    this.asked = 0;
    const round = this.begin("look");
    this.askNearest(round);
    if (this.phase !== "look" || this.round !== round) return;
    if (this.asked !== (1 << this.group.nodes.length) - 1)
      this.shortTimer = this.setup.after(HEDGE_MS, () => {
        this.shortTimer = null;
        if (this.round === round && this.phase === "look") this.askAll(round);
      });
  }

  /** Asks the nearest replicas that could make a majority with those that have not failed. */
  private askNearest(round: number): void {
    const { group, tally, setup } = this;
    const all = (1 << group.nodes.length) - 1;
    let hoped = tally.yes | tally.pending;
    let chosen = 0;
    while (!hasMajority(group, hoped) && (this.asked | chosen) !== all) {
      let nearest = -1;
      for (let index = 0; index < group.nodes.length; index++)
        if (
          ((this.asked | chosen) & (1 << index)) === 0 &&
          (nearest < 0 || setup.distance(group.nodes[index]) < setup.distance(group.nodes[nearest]))
        )
          nearest = index;
      chosen |= 1 << nearest;
      hoped |= 1 << nearest;
    }
    this.ask(round, chosen);
  }

  private askAll(round: number): void {
    this.ask(round, ((1 << this.group.nodes.length) - 1) & ~this.asked);
  }

  private ask(round: number, set: number): void {
    const { group, setup, tally } = this;
    this.asked |= set;
    tally.pending |= set;
    this.sending = true;
    for (let index = 0; index < group.nodes.length; index++)
      if ((set & (1 << index)) !== 0)
        setup.port.look(group.nodes[index], this.key, group.epoch, (answer) =>
          this.onLook(round, 1 << index, answer),
        );
    this.sending = false;
    this.judgeLooks(round);
  }

  private onLook(round: number, bit: number, answer: LookAnswer): void {
    if (!this.counts(round, bit, answer)) return;
    if (answer.kind === "yes") {
      const { highest } = this;
      const before = highest.ballot;
      highest.take(bit, answer);
      if (highest.ballot !== before) this.payload = null;
      if ((highest.holders & bit) !== 0 && answer.payload !== null) this.payload = answer.payload;
      this.meet(answer.ballot);
    }
    if (!this.sending) this.judgeLooks(round);
  }

  private judgeLooks(round: number): void {
    const { tally, highest, group } = this;
    if (this.phase !== "look" || this.round !== round) return;
    const confirmed = hasMajority(group, highest.holders) || !this.rules.confirmReads;
    if (tally.won && confirmed) this.answerRead();
    else if (tally.won)
      this.withPayload((payload) => this.acceptHighest("confirm", highest.ballot as Ballot, payload));
    else if (tally.open) return;
    else if (this.asked !== (1 << group.nodes.length) - 1) this.askNearest(round);
    else if (tally.pending === 0) this.again();
  }

  // ---- values --------------------------------------------------------------------------------------------------------------------

  /** Calls `then` with the value of `highest`; fetched from a replica that holds it, unless it is at hand. */
  private withPayload(then: (payload: Payload) => void): void {
    const { highest } = this;
    if (!highest.exists) then(TOMBSTONE);
    else if (this.payload !== null) then(this.payload);
    else this.fetch(highest.holders, then);
  }

  private isOwn({ operationLow, operationHigh }: Pick<Held, "operationLow" | "operationHigh">): boolean {
    const { write } = this;
    return (
      write !== null &&
      operationLow === write.operationLow &&
      (operationHigh & ~FIRST_WRITE) === (write.operationHigh & ~FIRST_WRITE)
    );
  }

  /** Asks the holders in turn, nearest first. Where none has the record any more, the attempt starts anew. */
  private fetch(candidates: number, then: (payload: Payload) => void): void {
    const { setup, group, highest } = this;
    let nearest = -1;
    for (let index = 0; index < group.nodes.length; index++)
      if (
        (candidates & (1 << index)) !== 0 &&
        (nearest < 0 || setup.distance(group.nodes[index]) < setup.distance(group.nodes[nearest]))
      )
        nearest = index;
    if (nearest < 0) {
      this.again();
      return;
    }
    const round = ++this.round;
    this.stopShortTimer();
    this.phase = "fetch";
    setup.port.read(group.nodes[nearest], this.key, group.epoch, (answer) => {
      if (this.round !== round || this.phase !== "fetch") return;
      if (
        answer.kind === "yes" &&
        answer.payload !== null &&
        compareOptionalBallots(answer.ballot, highest.ballot) === 0
      ) {
        this.payload = answer.payload;
        then(answer.payload);
      } else this.fetch(candidates & ~(1 << nearest), then);
    });
  }

  // ---- common --------------------------------------------------------------------------------------------------------------------

  private begin(phase: "prepare" | "accept" | "look" | "recall"): number {
    this.stopShortTimer();
    this.tally.start(this.group);
    this.withheld = 0;
    this.phase = phase;
    return ++this.round;
  }

  /** Whether an answer belongs to the round under way; counts it if so. */
  private counts(
    round: number,
    bit: number,
    answer: PrepareAnswer | AcceptAnswer | LookAnswer | RecallAnswer,
  ): boolean {
    if (round !== this.round || this.phase === "over") return false;
    if (this.setup.now() > this.deadline) {
      this.expire();
      return false;
    }
    if (!this.tally.count(bit, answer)) return false;
    if (answer.kind === "no") {
      this.raced = true;
      this.meet(answer.higher);
    } else if (answer.kind === "refused" && answer.epoch > this.group.epoch)
      this.setup.staleEpoch(answer.epoch);
    return true;
  }

  /**
   * A ballot above all that this operation has met or drawn itself. The latter matters when the clocks were
   * set back meanwhile: what a minority took at an earlier ballot would else outrank this one, and so
   * whatever is decided later.
   */
  private drawBallot(): Ballot {
    const ballot = this.setup.ballots.next(this.met, this.weight);
    this.ballot = this.met = ballot;
    return ballot;
  }

  private meet(ballot: Ballot | null): void {
    if (ballot === null) return;
    this.met = higherBallot(this.met, ballot);
    this.setup.ballots.observe(ballot);
  }

  /** A prepare without a majority so far: after a no it need not wait for long, as it has had no effect. */
  private wait(): void {
    const { tally } = this;
    if (!tally.open) {
      this.again();
      return;
    }
    if (tally.no === 0 || this.shortTimer !== null) return;
    const { round } = this;
    this.shortTimer = this.setup.after(NO_WAIT_MS, () => {
      this.shortTimer = null;
      if (this.round === round && this.phase === "prepare") this.again();
    });
  }

  /**
   * Another attempt: after a random pause, so that two that race do not overtake each other again; a read or
   * a blind write at once the first time.
   */
  private again(): void {
    const races = this.write !== null && this.write.condition !== null;
    if (this.attempts <= 1 && !races) this.start();
    else this.pause(Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** Math.max(0, this.attempts - 2)));
  }

  private pauseOrGiveUp(): void {
    if (this.ambiguous) this.pause(BACKOFF_MS_MAX);
    else this.giveUp();
  }

  private pause(boundMs: number): void {
    this.stopShortTimer();
    this.phase = "pause";
    const round = ++this.round;
    this.shortTimer = this.setup.after(1 + this.setup.random() * boundMs, () => {
      this.shortTimer = null;
      if (this.round === round) this.start();
    });
  }

  private stopShortTimer(): void {
    if (this.shortTimer !== null) this.setup.cancel(this.shortTimer);
    this.shortTimer = null;
  }

  /** The deadline: whatever is not known by now stays unknown. */
  private expire(): void {
    if (this.phase === "over") return;
    if (this.answered) {
      this.end();
      return;
    }
    if (
      this.phase === "accept" &&
      this.purpose === "own" &&
      (this.tally.touched | (this.tally.pending & ~this.withheld)) !== 0
    )
      this.doubt();
    this.giveUp();
  }

  private giveUp(): void {
    this.answered = true;
    this.phase = "over";
    if (this.write !== null)
      this.wrote?.(this.writeResult(this.ambiguous ? "unknown_outcome" : "no_quorum", null, 0));
    else this.read?.({ outcome: "no_quorum", ballot: null, payload: null, replicas: 0 });
    this.end();
  }

  private answerRefusal(ballot: Ballot | null, replicas: number): void {
    this.answered = true;
    this.wrote?.(this.writeResult(this.refusal as Refusal, ballot, replicas));
  }

  private writeResult(outcome: WriteResult["outcome"], ballot: Ballot | null, replicas: number): WriteResult {
    const { existed, certain, previous } = this;
    const exists = outcome === "done" ? this.write?.payload.tombstone === false : this.highest.exists;
    const { reason } = this.tally;
    return { outcome, ballot, previous, exists, existed, certain, replicas, reason, raced: this.raced };
  }

  private answerRead(): void {
    const { highest } = this;
    if (!highest.exists) this.finishRead("absent", highest.ballot, null);
    else this.withPayload((payload) => this.finishRead("found", highest.ballot, payload));
  }

  private finishRead(outcome: "found" | "absent", ballot: Ballot | null, payload: Payload | null): void {
    this.answered = true;
    this.read?.({ outcome, ballot, payload, replicas: countOf(this.highest.holders) });
    // While accepts are out, the late answers tell who misses the record.
    if (this.phase !== "accept") this.end();
  }

  /** Nothing more is to come: names those that miss what was decided. */
  private end(): void {
    const { tally, group, proposal } = this;
    if (this.phase === "accept" && tally.won) {
      const missing = ((1 << group.nodes.length) - 1) & ~(tally.yes | tally.outvoted);
      if (missing !== 0)
        this.setup.missed(
          this.key,
          proposal as Proposal,
          group.nodes.filter((_, index) => (missing & (1 << index)) !== 0),
        );
    }
    this.phase = "over";
    this.stopShortTimer();
    this.setup.cancel(this.timer);
  }
}
