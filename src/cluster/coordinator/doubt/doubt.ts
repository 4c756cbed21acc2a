/**
 * The doubt of a write whose accept reached some replicas and was not decided: it may have had an effect, or
 * may yet have it. What the replicas remember of it (replica/accept-log.ts) can show that it had none: those
 * that have promised since take nothing below that promise any more. So if no ballot was taken, of this
 * write, by so many of them that with the rest they would make a majority, none was decided or will be. The
 * rest are those that have not promised, and those that do not remember: they are away, or were started
 * since. And nothing rests on what was not decided: reads, refusals and conditional writes write it again
 * first, and that is an accept like the others. (Below FEATURE_DECIDED conditional writes did not: there it
 * takes the word of all replicas that no promise has told another one's of it.)
 *
 * A replica cannot know how long the question was on its way, so it is asked for more than the write's age,
 * and an answer that took longer than that counts as one that knows nothing.
 *
 * And that it had its effect: where a majority has taken one ballot of it, whoever has sent that, under the
 * layout that is in force, it was decided.
 *
 * A write that was handed on and not answered for is the same, once its bound is behind (register/bound.ts).
 */
import type { Ballot } from "../../../format/record.ts";
import { compareOptionalBallots } from "../../../format/version.ts";
import { countOf, hasAnyMajority, hasMajority, type ReplicaGroup } from "../../layout/groups.ts";
import { FIRST_WRITE, type RecallAnswer } from "../../register/ports.ts";
import type { RegisterWrite } from "../../register/requests.ts";
import type { Round } from "../../register/round.ts";

/** How long a recall may take, and by how much more than the write's age it asks for. */
export const RECALL_MS_MAX = 1000;
/** How long is asked again while that may bring something new. */
const AGAIN_MS_MAX = 1000;

export class Doubt {
  exists: boolean;
  /** The lowest ballot at which the write may have had an effect; null: not known. */
  since: Ballot | null = null;
  /**
   * The layout under which all its accepts were sent; -1: under several, of whose majorities nothing can be
   * said.
   */
  epoch = -1;
  private readonly answers: { bit: number; ballots: readonly Ballot[] }[] = [];
  /** Somebody's write may build on it. */
  private wasShown = false;
  /** Replicas that may still take what they have not taken yet. */
  private open = 0;
  /** When a lost write was handed on, in monotonic ms. */
  private readonly handedMs: number = Infinity;
  /** When the replicas were asked first. */
  private askedMs: number | null = null;
  /** Of those that have surely taken it. */
  private readonly held: { bit: number; ballots: readonly Ballot[] }[] = [];

  /** A lost write is in doubt from the start. */
  constructor({ lost = false, bound }: RegisterWrite) {
    this.exists = lost;
    if (!lost || bound == null) return;
    this.epoch = bound.epoch;
    this.handedMs = bound.sinceMs;
  }

  add(ballot: Ballot, epoch: number): void {
    if (!this.exists) {
      this.since = ballot;
      this.epoch = epoch;
    } else if (this.epoch !== epoch) this.epoch = -1;
    this.exists = true;
  }

  /**
   * Something on top that is newer than the doubtful accept may have replaced the own value after that took
   * effect. Not a first write: its majority held nothing when it promised, so it would have met the own
   * value, had that ever been decided below it.
   * @param collected records up to this ballot may have been there and collected since
   */
  mayBeReplaced(
    { ballot, operationHigh }: { readonly ballot: Ballot | null; readonly operationHigh: number },
    collected: Ballot | null,
  ): boolean {
    if (compareOptionalBallots(collected, this.since) >= 0) return true;
    return compareOptionalBallots(ballot, this.since) >= 0 && (operationHigh & FIRST_WRITE) === 0;
  }

  /**
   * Asks the replicas what they remember of a write, after a round of promises.
   * @param judge called after each answer
   */
  ask(round: Round, write: RegisterWrite, judge: () => void): void {
    const { setup, key, group, tally } = round;
    const { node } = round.ballot as Ballot;
    const nowMs = setup.now();
    const ageMs = Math.max(round.ageMs, nowMs - this.handedMs);
    this.askedMs ??= nowMs;
    // Who said no has something higher, and takes nothing below that.
    this.open = round.all & ~(tally.yes | tally.outvoted);
    this.answers.length = 0;
    this.held.length = 0;
    this.wasShown = false;
    const number = round.begin("recall");
    round.ask(round.all, (replica, bit) =>
      setup.port.recall(replica, key, group.epoch, write, node, ageMs + RECALL_MS_MAX, (answer) => {
        if (!round.counts(number, bit, answer)) return;
        this.remember(bit, answer, setup.now() - nowMs);
        if (!round.sending) judge();
      }),
    );
    judge();
  }

  /** Whether they may be asked again. */
  mayAskAgain(nowMs: number): boolean {
    return this.askedMs === null || nowMs - this.askedMs < AGAIN_MS_MAX;
  }

  /** @param tookMs from the question to this answer */
  private remember(bit: number, answer: RecallAnswer, tookMs: number): void {
    if (answer.kind !== "yes") return;
    const { ballots, known, shown, certain } = answer;
    this.wasShown ||= shown;
    if (known && tookMs <= RECALL_MS_MAX) this.answers.push({ bit, ballots });
    if (certain) this.held.push({ bit, ballots });
  }

  /** The highest ballot at which it was decided, and by how many; null: nobody can tell. */
  effect(group: ReplicaGroup): { ballot: Ballot; replicas: number } | null {
    let effect: { ballot: Ballot; replicas: number } | null = null;
    for (const { ballot, set } of setsOf(this.held, 0))
      if (hasMajority(group, set) && compareOptionalBallots(ballot, effect?.ballot ?? null) > 0)
        effect = { ballot, replicas: countOf(set) };
    return effect;
  }

  /**
   * Whether it has had no effect and will have none; only where all its accepts were sent under this layout.
   * @param decidedOnly nothing rests on what was not decided
   */
  isUnfounded(group: ReplicaGroup, decidedOnly: boolean): boolean {
    if (group.epoch !== this.epoch) return false;
    const silent = this.answers.reduce((rest, { bit }) => rest & ~bit, (1 << group.nodes.length) - 1);
    if (!decidedOnly && (silent !== 0 || this.wasShown)) return false;
    const others = this.open | silent;
    if (hasAnyMajority(group, others)) return false;
    return !setsOf(this.answers, others).some(({ set }) => hasAnyMajority(group, set));
  }
}

/** Who has taken each ballot. @param others who counts as having taken all of them */
function setsOf(
  answers: readonly { bit: number; ballots: readonly Ballot[] }[],
  others: number,
): { ballot: Ballot; set: number }[] {
  const taken = new Map<string, { ballot: Ballot; set: number }>();
  for (const { bit, ballots } of answers)
    for (const ballot of ballots) {
      const name = `${ballot.clockHigh} ${ballot.clockLow} ${ballot.node} ${ballot.incarnation}`;
      const known = taken.get(name);
      if (known === undefined) taken.set(name, { ballot, set: others | bit });
      else known.set |= bit;
    }
  return [...taken.values()];
}
