/**
 * The doubt of a write whose accept reached some replicas and was not decided: it may have had an effect, or
 * may yet have it. What the replicas remember of it (replica/accept-log.ts) can show that it had none:
 *
 * - Those that have promised since take nothing below that promise any more. So if no ballot was taken, of
 *   this write, by so many of them that with the rest they would make a majority, none was decided or will
 *   be.
 * - No promise has told another conditional write of it: that one might rest on it without writing it again.
 *   (Reads and refusals write it again before they tell of it, and that is an accept like the others.)
 *
 * It takes the word of all replicas: one that is away, or was started since, may have shown it to somebody.
 * A replica cannot know how long the question was on its way, so it is asked for more than the write's age,
 * and an answer that took longer than that counts as one that knows nothing.
 *
 * And that it had its effect: where a majority has taken one ballot of it, whoever has sent that, it was
 * decided. (All under one layout: its accepts were sent under this one, and the replicas know no newer one.)
 */
import type { Ballot } from "../../format/record.ts";
import { compareOptionalBallots } from "../../format/version.ts";
import { countOf, hasAnyMajority, hasMajority, type ReplicaGroup } from "../layout/groups.ts";
import { FIRST_WRITE, type RecallAnswer } from "../register/ports.ts";

/** How long a recall may take, and by how much more than the write's age it asks for. */
export const RECALL_MS_MAX = 1000;

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
  /** Of those that have surely taken it. */
  private readonly held: { bit: number; ballots: readonly Ballot[] }[] = [];

  /** @param exists from the start: somebody else has sent the write */
  constructor(exists: boolean) {
    this.exists = exists;
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

  forgetAnswers(): void {
    this.answers.length = 0;
    this.held.length = 0;
  }

  /** @param tookMs from the question to this answer */
  remember(bit: number, answer: RecallAnswer, tookMs: number): void {
    if (answer.kind !== "yes") return;
    const { ballots, known, shown, certain } = answer;
    if (known && !shown && tookMs <= RECALL_MS_MAX) this.answers.push({ bit, ballots });
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

  /** @param open replicas that may still take what they have not taken yet */
  isUnfounded(group: ReplicaGroup, open: number): boolean {
    if (this.answers.length < group.nodes.length) return false;
    return !setsOf(this.answers, open).some(({ set }) => hasAnyMajority(group, set));
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
