/**
 * A write of one key:
 *
 *   PUT, DELETE         accept(own) ──majority──► done; ──unprepared──► prepare ► accept(own) ► done
 *   large values        prepare ► accept(own) ──majority──► done
 *   POST, conditions    prepare ──► judge ──no──► confirmed? answer : rewrite ► answer
 *                                     └──yes──► confirmed? accept(own) ──majority──► done : rewrite ► prepare …
 *   accept(own) failed  every replica said no ──► again, with a new ballot
 *                       otherwise ──► prepare, and look for it:
 *                         on top ──► accept(what is there) at the new ballot
 *                         a first write on top, or only what is older ──► it had no effect: judged anew
 *                         else ──► recall ──no majority can have taken it──► judged anew
 *                                    ├──a majority has──► done
 *                                    └──else──► again, for a while; then unknown_outcome
 *
 * `rewrite` accepts the highest value seen at the prepared ballot (see read.ts), so that what is judged is
 * something decided. Of a value that has ended, or of the mark of its end, that is a tombstone. So a write
 * that finds its own number on top is done, but what is there need not be its value any more: that may have
 * ended, and somebody may know. It confirms what is there.
 */
import type { Ballot } from "../../format/record.ts";
import { higherBallot } from "../../format/version.ts";
import { hasEnded } from "../../rules/expiry.ts";
import { areAbove } from "../clock/ballots.ts";
import { FEATURE_DECIDED } from "../layout/features.ts";
import { countOf, hasMajority } from "../layout/groups.ts";
import { isBeyond } from "../register/bound.ts";
import { asksFirst, ownReplica, patienceOf } from "../register/own-replica.ts";
import {
  type AcceptAnswer,
  FIRST_WRITE,
  isSameOperation,
  type Payload,
  type PrepareAnswer,
  TOMBSTONE,
} from "../register/ports.ts";
import type {
  CoordinatorSetup,
  OperationRules,
  Refusal,
  RegisterResult,
  RegisterWrite,
} from "../register/requests.ts";
import { Round } from "../register/round.ts";
import { Doubt } from "./doubt/doubt.ts";
import { Replacement } from "./doubt/replacement.ts";

/** With a majority of promises, how long a write in doubt still waits for the others. */
const ALL_WAIT_MS = 1000;
/** The same for one that is judged by what only some of the promises tell of. */
const JUDGE_WAIT_MS = 50;

export class WriteOperation {
  private readonly round: Round;
  private readonly write: RegisterWrite;
  private readonly done: (result: RegisterResult) => void;
  private answered = false;
  /** The accept that is under way is the own write's; else a rewrite. */
  private isOwnAccept = true;
  /** An accept of the own value may have had an effect, so it must not be tried again blindly. */
  private readonly doubt: Doubt;
  /** Records up to this ballot may have been on a promising replica and collected since. */
  private collected: Ballot | null = null;
  /** Replicas that held the own write when they promised. */
  private stillHeld = 0;
  /** Whether the promises of all are waited for. */
  private awaitsAll = true;
  /** The upper half of the operation's number, with or without `FIRST_WRITE`. */
  private operationHigh: number;
  /** The time by which is judged whether what the own write takes the place of had ended; 0: not known. */
  private atMillis = 0;
  /** What the own write took the place of, as far as known. */
  private readonly replaced: Replacement;
  private certain = true;
  /** What is replaced is known from a majority of promises. */
  private prepared = false;
  /** The refusal to answer once what it rests on is confirmed. */
  private refusal: Refusal | null = null;
  /** The own replica's bit while a conditional write is not sent to it yet. */
  private withheld = 0;
  /** The key remembers recent operations, which only who has asked can pass on. */
  private mustAsk = false;

  /** @param weight how many versions it draws with each ballot */
  constructor(
    setup: CoordinatorSetup,
    rules: OperationRules,
    write: RegisterWrite,
    weight: number,
    done: (result: RegisterResult) => void,
  ) {
    this.round = new Round(setup, rules, write.key, this, asksFirst(write), weight);
    this.write = write;
    this.done = done;
    this.operationHigh = write.operationHigh;
    this.doubt = new Doubt(write);
    if (write.lost === true) this.round.meet(write.bound?.below ?? null);
    this.replaced = new Replacement(write.condition === null);
  }

  private get isConditional(): boolean {
    return this.write.condition !== null;
  }

  start(): void {
    const { round } = this;
    // What may have had an effect is looked for as long as there is time: nobody else can tell.
    const next = round.nextAttempt(this.doubt.exists ? Infinity : patienceOf(this.write));
    if (next === "later") return;
    if (next === "spent") this.giveUp();
    else if (!asksFirst(this.write) && !this.doubt.exists && !this.mustAsk) {
      round.drawBallot();
      this.propose(this.write.payload, null);
    } else this.prepare();
  }

  expire(): void {
    const { round } = this;
    if (round.phase === "over") return;
    if (this.answered) {
      round.end();
      return;
    }
    const { touched, pending } = round.tally;
    if (round.phase === "accept" && this.isOwnAccept && (touched | (pending & ~this.withheld)) !== 0)
      this.beginDoubt();
    this.giveUp();
  }

  private giveUp(effect: ReturnType<Doubt["effect"]> = null): void {
    const { round, doubt } = this;
    this.answered = true;
    round.phase = "over";
    if (effect === null)
      this.done(
        doubt.exists ? this.result("unknown_outcome", round.ballot, 0) : this.result("no_quorum", null, 0),
      );
    else {
      this.certain = false; // by which of its tries it got there nobody knows
      // Others that wrote it again drew one version for it.
      this.done(this.result("done", round.weight > 1 ? doubt.since : effect.ballot, effect.replicas));
    }
    round.end();
  }

  // ---- prepare -----------------------------------------------------------------------------------------------

  private prepare(): void {
    this.collected = null;
    this.stillHeld = 0;
    this.round.prepare(
      (bit, answer) => this.takePromise(bit, answer),
      () => this.judgePromises(),
    );
  }

  private takePromise(bit: number, answer: PrepareAnswer): void {
    if (answer.kind !== "yes") return;
    if (isSameOperation(answer, this.write)) this.stillHeld |= bit;
    // Where an earlier try has not arrived, what it replaced elsewhere is still there.
    else if (this.doubt.exists)
      this.replaced.learn(bit, {
        previous: answer.ballot,
        existed: answer.ballot !== null && !answer.tombstone && !hasEnded(answer.end, this.atMillis),
      });
    this.collected = higherBallot(this.collected, answer.floor);
  }

  private judgePromises(): void {
    const { round, doubt } = this;
    const { highest, tally } = round;
    if (round.phase !== "prepare") return;
    if (!tally.won) round.waitForPromises();
    else if (!doubt.exists) this.judgeCondition();
    else if (isSameOperation(highest, this.write)) {
      this.operationHigh = highest.operationHigh;
      this.confirmOwn();
    } else if (doubt.mayBeReplaced(highest, this.collected)) this.recall();
    // No majority has held the own value, and below the ballot that is promised now none will.
    else this.judgeCondition();
  }

  /** Whether the other promises are waited for: once, and at most so long. */
  private awaitsRest(ms: number): boolean {
    const { round } = this;
    if (round.tally.pending === 0 || !this.awaitsAll) return false;
    round.later(ms, () => {
      this.awaitsAll = false;
      this.judgePromises();
    });
    return true;
  }

  /** Asks the replicas what they remember of this write (doubt.ts says what that proves). */
  private recall(): void {
    const { round, write, doubt } = this;
    const promised = round.tally.yes;
    // A replica that has not promised yet could still take what it has not taken.
    if (!this.awaitsRest(ALL_WAIT_MS)) doubt.ask(round, write, () => this.judgeRecalled(promised));
  }

  private judgeRecalled(promised: number): void {
    const { round, doubt, write } = this;
    const { group, setup, tally } = round;
    if (round.phase !== "recall") return;
    if (doubt.isUnfounded(group, setup.features() >= FEATURE_DECIDED)) {
      // Nobody holds it any more, so nobody can write it again: as if it had not been tried.
      if (promised === round.all && this.stillHeld === 0) doubt.exists = false;
      this.judgeCondition();
    } else if (tally.pending === 0) {
      // Of several versions only who drew them together knows which these are.
      const effect = round.weight > 1 && doubt.since === null ? null : doubt.effect(group);
      // Who has not answered may do so yet, and whoever has a lost one may get done with it.
      const mayLearn = tally.yes !== round.all || write.lost === true;
      if (effect === null && mayLearn && doubt.mayAskAgain(setup.now())) round.again();
      else this.giveUp(effect);
    }
  }

  /** What is there is known, and that the own write is no part of it. */
  private judgeCondition(): void {
    const { round, write } = this;
    const { highest } = round;
    if (!round.knowsEnd() || !areAbove(round.ballot, round.weight, highest.ballot)) {
      round.again();
      return;
    }
    this.refusal = write.condition === null ? null : write.condition(highest.exists, highest.ballot);
    const isHeld = highest.isHeldBy(round.group);
    const { confirmRefusals, confirmEndedRefusals, confirmFoundations } = round.rules;
    if (this.refusal === null && (isHeld || !this.isConditional || !confirmFoundations)) {
      this.replaced.know(highest.ballot, highest.exists);
      // A plain write does not build on what it was told of, which may be undecided: its answer must not rest
      // on that either. (In doubt it is not known anyway.)
      this.certain = this.isConditional;
      this.prepared = true;
      this.operationHigh = this.ownNumber();
      this.acceptOwn();
      return;
    }
    // What is left of an earlier try of this write must be buried before "refused" is true.
    const byClock = highest.lapsed && confirmEndedRefusals;
    const isConfirmed = (isHeld && !this.doubt.exists && !byClock) || !confirmRefusals;
    if (this.refusal !== null && isConfirmed) {
      this.answerRefusal(highest.ballot, countOf(highest.holders));
      round.end();
      // A rewrite gives the value another version, though nobody has changed it.
    } else if (this.doubt.exists || byClock || !this.awaitsRest(JUDGE_WAIT_MS)) this.rewrite();
  }

  /**
   * The number that tells others whether this write found the key without any record, even a collected one.
   */
  private ownNumber(): number {
    const { write, round } = this;
    const isFirst = round.highest.ballot === null && this.collected === null;
    const marked = (isFirst || !round.rules.markFirstOnly) && !write.staged;
    return marked ? (write.operationHigh | FIRST_WRITE) >>> 0 : write.operationHigh;
  }

  // ---- accept ------------------------------------------------------------------------------------------------

  private readonly take = (bit: number, answer: AcceptAnswer): void => this.takeAccepted(bit, answer);
  private readonly judge = (): void => this.judgeAccepts();

  /** Writes what was asked for, which may depend on what is there. */
  private acceptOwn(): void {
    const { round, write } = this;
    const { change } = write;
    if (change == null) this.propose(write.payload);
    else if (change.kind === "keep") this.propose(change.make(round.highest.exists ? round.highest.end : 0));
    else {
      const { ballot } = round.highest;
      const isHeld = round.highest.isHeldBy(round.group);
      round.withPayload((payload) => this.propose(change.make(payload, ballot as Ballot, isHeld)));
    }
  }

  /**
   * The own write is on top, or what has become of it: that it has ended (`ended`), or that somebody was
   * refused because of that and has left a tombstone under the same number.
   */
  private confirmOwn(): void {
    const { round, write } = this;
    const { highest, rules } = round;
    // By which of its tries it got there nobody knows, nor what that one took the place of.
    this.certain = false;
    const isGone = highest.ended ? rules.keepOwnMark : highest.tombstone && rules.keepOwnTombstone;
    if (isGone) this.propose(TOMBSTONE);
    else if (write.change == null && write.staged !== true) this.propose(write.payload);
    // An earlier try may have found something else to keep or to touch, or has used up what was staged.
    else round.withPayload((payload) => this.propose(payload));
  }

  /** @param recent what the record has to remember; null: nothing, or it has not asked */
  private propose(payload: Payload, recent = this.round.carried()): void {
    const { round, operationHigh, write } = this;
    const { operationLow } = write;
    const ballot = round.ballot as Ballot;
    if (isBeyond(write, round.group, ballot)) {
      this.giveUp();
      return;
    }
    this.isOwnAccept = true;
    this.withheld = asksFirst(write) ? ownReplica(round, write) : 0;
    this.atMillis = round.setup.knowsTime() ? round.setup.clusterMillis() : 0;
    const proposal = { ballot, payload, operationLow, operationHigh, atMillis: this.atMillis };
    const asked = recent === null ? proposal : { ...proposal, recent };
    round.accept(asked, 0, this.withheld, this.take, this.judge);
  }

  private rewrite(): void {
    const { round } = this;
    round.proposeHighest("rewrite", (proposal) => {
      this.isOwnAccept = false;
      this.withheld = 0;
      round.accept(proposal, 0, 0, this.take, this.judge);
    });
  }

  private takeAccepted(bit: number, answer: AcceptAnswer): void {
    if (answer.kind === "refused" && answer.reason === "unprepared") this.mustAsk = true;
    // Where an earlier try may have had an effect, what is replaced may be the own value.
    if (!this.isOwnAccept || this.answered || this.doubt.exists) return;
    if (answer.kind === "yes" && !answer.already) this.replaced.learn(bit, answer);
    else if (answer.kind === "refused" && answer.replaced !== undefined)
      this.replaced.learn(bit, answer.replaced);
  }

  private judgeAccepts(): void {
    const { round } = this;
    const { tally, group } = round;
    if (round.phase !== "accept") return;
    if (this.withheld !== 0) {
      const bit = this.withheld;
      if (hasMajority(group, tally.yes | bit)) {
        this.withheld = 0;
        round.askLate(bit, this.take, this.judge);
        return;
      }
      if (tally.open) return;
      tally.pending &= ~bit;
      this.withheld = 0;
    }
    if (this.answered || tally.won) {
      if (!this.answered) this.decided();
      if (tally.pending === 0) round.end();
    } else if (tally.open) return;
    else if (!this.isOwnAccept) round.again();
    else if (tally.touched !== 0) {
      if (round.rules.resolveAmbiguous) this.beginDoubt();
      round.again();
    } else if (tally.pending === 0) round.again();
  }

  /** The accept under way may have had an effect. */
  private beginDoubt(): void {
    this.doubt.add(this.round.ballot as Ballot, this.round.group.epoch);
    this.certain = false;
  }

  private decided(): void {
    const { round } = this;
    const { ballot } = round.proposal as { ballot: Ballot };
    const replicas = countOf(round.tally.yes);
    if (!this.isOwnAccept) {
      if (this.refusal === null) this.start();
      else this.answerRefusal(ballot, replicas);
      return;
    }
    if (!this.isConditional && !this.prepared)
      this.certain = this.replaced.isCertain(round.group) && !this.doubt.exists;
    this.answered = true;
    this.done(this.result("done", ballot, replicas));
  }

  private answerRefusal(ballot: Ballot | null, replicas: number): void {
    this.answered = true;
    this.done(this.result(this.refusal as Refusal, ballot, replicas));
  }

  private result(
    outcome: RegisterResult["outcome"],
    ballot: Ballot | null,
    replicas: number,
  ): RegisterResult {
    const { certain, round, write } = this;
    const { highest, proposal } = round;
    const isDone = outcome === "done" && proposal !== null;
    const { previous } = this.replaced;
    // A condition that only a value can meet was met by one, whoever has judged it.
    const existed = this.replaced.existed || (outcome === "done" && write.condition?.(false, null) != null);
    const exists = isDone ? !proposal.payload.tombstone : highest.exists;
    const end = isDone ? (proposal.payload.end ?? 0) : highest.end;
    const { reason } = round.tally;
    return { outcome, ballot, previous, exists, end, existed, certain, replicas, reason, raced: round.raced };
  }
}
