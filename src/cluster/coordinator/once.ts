/**
 * A write with an `Idempotency-Key`, which takes effect once, however often it is sent, and to whom:
 *
 *   prepare ──it is known──────────► confirmed? answer what it was answered : rewrite ► answer
 *      │  └──a condition fails─────► confirmed? answer : rewrite ► answer
 *      ├──not guarded or confirmed─► rewrite, guarded ► prepare …
 *      └──else─────────────────────► accept(own, remembered) ──majority──► done
 *                                                              └──else──► prepare …
 *
 * Whether it was done is never guessed: it is in what the highest record remembers, or no majority has held
 * it and below the promised ballot none will. So there is no doubt to resolve as in write.ts. That stands on
 * each record's remembering what the one before it did, so on nobody's writing without having asked: once a
 * majority is guarded, no such write is decided (FORMAT.md, "Recent operations"). What guards is the record
 * that is there, written again; mostly an earlier write of the same kind has done that already.
 */
import { compareOptionalBallots } from "../../format/version.ts";
import { GUARD_MS_MIN, guard, judgeOnce, type Known, remember } from "../../rules/recent.ts";
import { countOf, hasMajority } from "../layout/groups.ts";
import { isBeyond } from "../register/bound.ts";
import type { Payload, Proposal } from "../register/ports.ts";
import type {
  CoordinatorSetup,
  OnceWrite,
  OperationRules,
  RegisterResult,
  RegisterWrite,
} from "../register/requests.ts";
import { Round } from "../register/round.ts";

/** What is answered once what it rests on is decided. */
type Answer = Pick<RegisterResult, "outcome" | "ballot" | "existed" | "replayed">;

export class OnceOperation {
  private readonly round: Round;
  private readonly write: RegisterWrite;
  private readonly only: OnceWrite;
  private readonly done: (result: RegisterResult) => void;
  private answered = false;
  /** An accept of the own value may have had an effect, or may yet have it below the next promise. */
  private mayBeDone: boolean;
  /** A majority is guarded by this operation. */
  private hasGuarded = false;
  /** What the accept that is under way is for. */
  private purpose: "own" | "guard" | "answer" = "own";
  /** To be given when the accept under way is decided. */
  private answer: Answer | null = null;

  constructor(
    setup: CoordinatorSetup,
    rules: OperationRules,
    write: RegisterWrite,
    only: OnceWrite,
    done: (result: RegisterResult) => void,
  ) {
    this.round = new Round(setup, rules, write.key, this, true);
    this.write = write;
    this.only = only;
    this.done = done;
    this.mayBeDone = write.lost === true;
    if (this.mayBeDone) this.round.meet(write.bound?.below ?? null);
  }

  start(): void {
    const { round } = this;
    // What may have had an effect is looked for as long as there is time.
    const next = round.nextAttempt(this.mayBeDone ? Infinity : 0);
    if (next === "go") round.prepare(ignore, () => this.judgePromises());
    else if (next === "spent") this.giveUp();
  }

  expire(): void {
    const { round } = this;
    if (round.phase === "over") return;
    if (this.answered) {
      round.end();
      return;
    }
    const { touched, pending } = round.tally;
    if (round.phase === "accept" && this.purpose === "own" && (touched | pending) !== 0)
      this.mayBeDone = true;
    this.giveUp();
  }

  private giveUp(): void {
    const { round } = this;
    this.answered = true;
    round.phase = "over";
    const { ballot } = round;
    this.done(
      this.mayBeDone
        ? this.result({ outcome: "unknown_outcome", ballot, existed: false }, 0)
        : this.result({ outcome: "no_quorum", ballot: null, existed: false }, 0),
    );
    round.end();
  }

  // ---- prepare -----------------------------------------------------------------------------------------------

  private judgePromises(): void {
    const { round, write, only } = this;
    const { tally, highest, setup } = round;
    if (round.phase !== "prepare") return;
    if (!tally.won) {
      round.waitForPromises();
      return;
    }
    // How long something is remembered is a matter of the time that the nodes agree on.
    if (!setup.knowsTime() || !round.knowsEnd()) {
      round.again();
      return;
    }
    const nowMs = setup.clusterMillis();
    const known = judgeOnce(highest.remembered.recent, only.once, nowMs);
    if (known !== "new") {
      this.settle(answerTo(known));
      return;
    }
    const refusal = write.condition === null ? null : write.condition(highest.exists, highest.ballot);
    if (refusal !== null) this.settle({ outcome: refusal, ballot: highest.ballot, existed: false });
    else if (!this.isGuarded(nowMs) || !this.isFounded())
      this.rewrite("guard", guard(round.carried(round.ballot), nowMs));
    else this.acceptOwn(nowMs);
  }

  /** Whether nobody can write the key without asking as long as this write is remembered. */
  private isGuarded(nowMs: number): boolean {
    const { group, highest, rules } = this.round;
    if (this.hasGuarded || !rules.guardsOnce) return true;
    const guarded = highest.remembered.guardedUntil(nowMs + GUARD_MS_MIN);
    return hasMajority(group, guarded);
  }

  /** Whether a majority holds what the write takes the place of. */
  private isFounded(): boolean {
    const { group, highest, rules } = this.round;
    return !rules.confirmFoundations || highest.isHeldBy(group);
  }

  /** Answers once a majority holds what the answer rests on. */
  private settle(answer: Answer): void {
    const { round } = this;
    const { highest, group } = round;
    const { rank, recent } = highest.remembered;
    const isOwnMemory = recent === null || compareOptionalBallots(rank.ballot, highest.ballot) === 0;
    // What is left of an earlier try must be buried before "refused" is true.
    const confirmed = highest.isHeldBy(group) && isOwnMemory && !highest.lapsed && !this.mayBeDone;
    this.answer = answer;
    if (!confirmed) {
      this.rewrite("answer", round.carried(round.ballot));
      return;
    }
    this.finish(answer, countOf(highest.holders));
    round.end();
  }

  // ---- accept ------------------------------------------------------------------------------------------------

  /** Writes the highest record again, at the promised ballot. */
  private rewrite(purpose: "guard" | "answer", recent: Uint8Array | null): void {
    const { round, only } = this;
    const { highest, group } = round;
    const { ballot: base, operationLow, operationHigh } = highest;
    const isHeld = highest.isHeldBy(group);
    round.withPayload((there) => {
      const payload = there.tombstone || base === null ? there : only.again(there, base, isHeld);
      this.propose(purpose, payload, { operationLow, operationHigh, recent });
    });
  }

  private acceptOwn(nowMs: number): void {
    const { round, write, only } = this;
    const { highest, group, ballot } = round;
    const { operationLow, operationHigh, change, payload } = write;
    const { exists, ballot: base } = highest;
    if (ballot === null) return;
    const made = { ballot, existed: exists };
    const recent = remember(highest.remembered.recent, only.once, made, nowMs);
    this.answer = { outcome: "done", ...made };
    const propose = (own: Payload): void => this.propose("own", own, { operationLow, operationHigh, recent });
    if (change == null) propose(payload);
    else if (change.kind === "keep") propose(change.make(exists ? highest.end : 0));
    else {
      const isHeld = highest.isHeldBy(group);
      round.withPayload((there) => propose(change.make(there, base ?? ballot, isHeld)));
    }
  }

  private propose(
    purpose: "own" | "guard" | "answer",
    payload: Payload,
    about: Pick<Proposal, "operationLow" | "operationHigh" | "recent">,
  ): void {
    const { round } = this;
    const { ballot, setup, group } = round;
    if (ballot === null) return;
    if (purpose === "own" && isBeyond(this.write, group, ballot)) {
      this.giveUp();
      return;
    }
    this.purpose = purpose;
    const atMillis = setup.clusterMillis();
    round.accept({ ...about, ballot, payload, atMillis }, 0, 0, ignore, () => this.judgeAccepts());
  }

  private judgeAccepts(): void {
    const { round } = this;
    const { tally } = round;
    if (round.phase !== "accept") return;
    if (this.answered || tally.won) {
      if (!this.answered) this.decided();
      if (round.phase === "accept" && tally.pending === 0) round.end();
    } else if (!tally.open) {
      // Who has not answered may yet take it.
      if (this.purpose === "own" && (tally.touched | tally.pending) !== 0) this.mayBeDone = true;
      round.again();
    }
  }

  private decided(): void {
    const { round, answer } = this;
    if (this.purpose === "guard") {
      // Now it can be done: that was no attempt that has failed.
      round.attempts = 0;
      this.hasGuarded = true;
      this.start();
      return;
    }
    if (answer === null) return;
    const { ballot } = round;
    // The version that it names has become this one.
    const isMoved =
      this.purpose === "answer" && compareOptionalBallots(answer.ballot, round.highest.ballot) === 0;
    this.finish(isMoved ? { ...answer, ballot } : answer, countOf(round.tally.yes));
  }

  private finish(answer: Answer, replicas: number): void {
    this.answered = true;
    const { lost, bound } = this.write;
    // Who has it too may find something else there, later.
    const isOpen = lost === true && bound == null && answer.outcome !== "done";
    this.done(this.result(isOpen ? { ...answer, outcome: "unknown_outcome" } : answer, replicas));
  }

  private result(answer: Answer, replicas: number): RegisterResult {
    const { round, purpose } = this;
    const { highest, proposal } = round;
    const isOwn = answer.outcome === "done" && purpose === "own" && proposal !== null;
    return {
      ...answer,
      previous: highest.ballot,
      exists: isOwn ? !proposal.payload.tombstone : highest.exists,
      end: isOwn ? (proposal.payload.end ?? 0) : highest.end,
      certain: true,
      replicas,
      reason: round.tally.reason,
      raced: round.raced,
    };
  }
}

function ignore(): void {}

/** What is answered to a write that needs not be done, or cannot. */
function answerTo(known: Exclude<Known, "new">): Answer {
  if (known === "reused") return { outcome: "key_reused", ballot: null, existed: false };
  if (known === "full") return { outcome: "unremembered", ballot: null, existed: false };
  const { ballot, existed, told } = known;
  return { outcome: "done", ballot, existed, replayed: told };
}
