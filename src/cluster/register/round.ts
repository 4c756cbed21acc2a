/**
 * What reads and writes of one key have in common: one round after another, of questions to the replicas and
 * their answers. A round counts its own answers only, and none after the deadline, however late this process
 * wakes up: rejoin.ts needs that. After an early answer to the client the last round stays until all replicas
 * have answered, only to name those that miss the record.
 *
 * Answers may come while the questions are still being sent. They are counted then, and judged after the last
 * question has left.
 */
import type { Ballot } from "../../format/record.ts";
import { compareOptionalBallots, higherBallot } from "../../format/version.ts";
import { OPERATION_MS_MAX } from "../../util/limits.ts";
import { hasMajority, type ReplicaGroup } from "../layout/groups.ts";
import {
  type AcceptAnswer,
  type ClusterKey,
  endMark,
  type LookAnswer,
  type Payload,
  type PrepareAnswer,
  type Proposal,
  type RecallAnswer,
  TOMBSTONE,
} from "./ports.ts";
import type { CoordinatorSetup, OperationRules } from "./requests.ts";
import { Highest, Tally } from "./tally.ts";

/** Rounds with a new ballot that one operation may try. */
const ATTEMPTS_MAX = 12;
/** First bound of the random pause before another attempt; it doubles each time. */
const BACKOFF_MS = 4;
const BACKOFF_MS_MAX = 250;
/** After a no, how long a round still waits for the answers that could make a majority. */
const NO_WAIT_MS = 50;

type Phase = "prepare" | "accept" | "look" | "recall" | "fetch" | "pause" | "over";

/** What the operation does when its round cannot. */
export interface RoundOwner {
  /** Begins another attempt, from what is known now. */
  start(): void;
  /** The deadline: whatever is not known by now stays unknown. */
  expire(): void;
}

export class Round {
  readonly setup: CoordinatorSetup;
  readonly rules: OperationRules;
  readonly key: ClusterKey;
  group: ReplicaGroup;
  readonly tally: Tally;
  /** The highest record among the answers, and who holds it. */
  readonly highest: Highest;
  /** The value of `highest`, where it is at hand. */
  payload: Payload | null = null;
  phase: Phase = "pause";
  /** Raised for each round: answers to an earlier one are late. */
  number = 0;
  attempts = 0;
  /** The ballot drawn last. */
  ballot: Ballot | null = null;
  /** What the accept that is under way proposes. */
  proposal: Proposal | null = null;
  /** A replica has said no: another coordinator is at work. */
  raced = false;
  /** Questions are being sent. */
  sending = false;
  private readonly owner: RoundOwner;
  /** Others may be at the same: also a second attempt comes only after a pause. */
  private readonly races: boolean;
  /** How many versions are drawn with each ballot. */
  readonly weight: number;
  /** The highest ballot that this operation has met or drawn: the next one must be above it. */
  private met: Ballot | null = null;
  private readonly deadline: number;
  private readonly timer: unknown;
  private shortTimer: unknown = null;

  constructor(
    setup: CoordinatorSetup,
    rules: OperationRules,
    key: ClusterKey,
    owner: RoundOwner,
    races = false,
    weight = 1,
  ) {
    this.setup = setup;
    this.rules = rules;
    this.highest = new Highest(rules.ranksEnds);
    this.key = key;
    this.owner = owner;
    this.races = races;
    this.weight = weight;
    this.group = setup.groupOf(key);
    this.tally = new Tally(this.group);
    this.deadline = setup.now() + OPERATION_MS_MAX;
    this.timer = setup.after(OPERATION_MS_MAX, () => owner.expire());
  }

  /** All replicas of the group, as a set. */
  get all(): number {
    return (1 << this.group.nodes.length) - 1;
  }

  /** How long ago the operation began, in ms. */
  get ageMs(): number {
    return this.setup.now() - this.deadline + OPERATION_MS_MAX;
  }

  /**
   * Whether another attempt may begin: by the newest layout, if there are any left, and a majority can be
   * reached. later: it begins by itself.
   * @param patienceMs so old the operation may be and try again, however often, also when none can be reached
   */
  nextAttempt(patienceMs = 0): "go" | "spent" | "later" {
    const { setup } = this;
    this.stopWaiting();
    this.group = setup.groupOf(this.key);
    const isPatient = this.ageMs < patienceMs;
    if (++this.attempts > ATTEMPTS_MAX && !isPatient) return "spent";
    let reachable = 0;
    this.group.nodes.forEach((node, index) => {
      if (setup.distance(node) !== Infinity) reachable |= 1 << index;
    });
    if (hasMajority(this.group, reachable)) return "go";
    if (!isPatient) return "spent";
    this.pause(BACKOFF_MS_MAX);
    return "later";
  }

  /**
   * Draws a ballot above all that this operation has met or drawn itself. The latter matters when the clocks
   * were set back meanwhile: what a minority took at an earlier ballot would else outrank this one, and so
   * whatever is decided later.
   */
  drawBallot(): Ballot {
    const ballot = this.setup.ballots.next(this.met, this.weight);
    this.ballot = this.met = ballot;
    return ballot;
  }

  meet(ballot: Ballot | null): void {
    if (ballot === null) return;
    this.met = higherBallot(this.met, ballot);
    this.setup.ballots.observe(ballot);
  }

  // ---- rounds ------------------------------------------------------------------------------------------------

  /** Begins a round; answers its number. */
  begin(phase: Phase): number {
    this.stopWaiting();
    this.tally.start(this.group);
    this.phase = phase;
    return ++this.number;
  }

  /**
   * Asks all for a promise at a new ballot.
   * @param take looks at each answer that counts
   */
  prepare(take: (bit: number, answer: PrepareAnswer) => void, judge: () => void): void {
    const { setup, group, key, highest } = this;
    const ballot = this.drawBallot();
    highest.start();
    this.payload = null;
    const number = this.begin("prepare");
    this.ask(this.all, (node, bit) =>
      setup.port.prepare(node, key, group.epoch, ballot, (answer) => {
        if (!this.counts(number, bit, answer)) return;
        if (answer.kind === "yes") {
          highest.take(bit, answer);
          this.meet(answer.ballot);
        }
        take(bit, answer);
        if (!this.sending) judge();
      }),
    );
    judge();
  }

  /**
   * Asks to hold a record.
   * @param settled those that hold it already
   * @param withheld those that are asked later (`askLate`)
   */
  accept(
    proposal: Proposal,
    settled: number,
    withheld: number,
    take: (bit: number, answer: AcceptAnswer) => void,
    judge: () => void,
  ): void {
    const number = this.begin("accept");
    this.proposal = proposal;
    this.tally.yes = settled;
    this.ask(this.all & ~settled, (node, bit) => {
      if ((withheld & bit) === 0) this.askToHold(node, bit, number, take, judge);
    });
    judge();
  }

  /** Asks one that was withheld. */
  askLate(bit: number, take: (bit: number, answer: AcceptAnswer) => void, judge: () => void): void {
    this.askToHold(this.group.nodes[Math.log2(bit)], bit, this.number, take, judge);
  }

  private askToHold(
    node: string,
    bit: number,
    number: number,
    take: (bit: number, answer: AcceptAnswer) => void,
    judge: () => void,
  ): void {
    const { setup, group, key, proposal } = this;
    setup.port.accept(node, key, group.epoch, proposal as Proposal, (answer) => {
      if (!this.counts(number, bit, answer)) return;
      take(bit, answer);
      if (!this.sending) judge();
    });
  }

  /** Sends a question to each of a set; their answers count from now on. */
  ask(set: number, send: (node: string, bit: number) => void): void {
    const { nodes } = this.group;
    this.tally.pending |= set;
    this.sending = true;
    for (let index = 0; index < nodes.length; index++)
      if ((set & (1 << index)) !== 0) send(nodes[index], 1 << index);
    this.sending = false;
  }

  /** Whether an answer belongs to the round under way; counts it if so. */
  counts(
    number: number,
    bit: number,
    answer: PrepareAnswer | AcceptAnswer | LookAnswer | RecallAnswer,
  ): boolean {
    if (number !== this.number || this.phase === "over") return false;
    if (this.setup.now() > this.deadline) {
      this.owner.expire();
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

  // ---- values ------------------------------------------------------------------------------------------------

  /**
   * Judges by the clock whether the highest record is a value that has ended; then it counts as absent.
   * False: it may have, and this node cannot tell yet.
   */
  knowsEnd(): boolean {
    const { highest, setup } = this;
    if (highest.end === 0) return true;
    highest.lapse(setup.clusterMillis());
    return !highest.lapsed || setup.knowsTime();
  }

  /**
   * Makes the highest record the decided one, at the prepared ballot (`rewrite`), or at its own (`confirm`).
   * A value that has ended is marked at its own ballot, or gives way to a tombstone at the prepared one:
   * never at a ballot that is only higher, since a minority that has missed a later write would then beat it.
   */
  proposeHighest(how: "rewrite" | "confirm", then: (proposal: Proposal) => void): void {
    const { highest } = this;
    const propose = (payload: Payload): void => {
      const { operationLow, operationHigh, recent } = highest;
      const about = { payload, operationLow, operationHigh };
      if (how === "confirm") then({ ...about, ballot: highest.ballot as Ballot, held: true, recent });
      else then({ ...about, ballot: this.ballot as Ballot, held: false, recent: this.carried(this.ballot) });
    };
    if (how === "confirm" && (highest.ended || highest.lapsed)) propose(endMark(highest.end));
    else this.withPayload(propose);
  }

  /**
   * What a record at the ballot that is promised has to remember of recent operations; null: nothing.
   * @param to that ballot, where only the version changes
   */
  carried(to: Ballot | null = null): Uint8Array | null {
    if (!this.highest.remembers) return null;
    const { remembered, ballot } = this.highest;
    // Else it is not the record that remembers which gets another version.
    const isSame = compareOptionalBallots(remembered.rank.ballot, ballot) === 0;
    return remembered.carried(this.setup.clusterMillis(), isSame ? to : null);
  }

  /** Calls `then` with the value of `highest`; fetched from a replica that holds it, unless it is at hand. */
  withPayload(then: (payload: Payload) => void): void {
    const { highest } = this;
    if (!highest.exists) then(TOMBSTONE);
    else if (this.payload !== null) then(this.payload);
    else this.fetch(highest.holders, then);
  }

  /** Asks the holders in turn, nearest first. Where none has the record any more, the attempt starts anew. */
  private fetch(candidates: number, then: (payload: Payload) => void): void {
    const { setup, group, highest } = this;
    const index = this.nearestOf(candidates);
    if (index < 0) {
      this.again();
      return;
    }
    const number = this.begin("fetch");
    setup.port.read(group.nodes[index], this.key, group.epoch, (answer) => {
      if (this.number !== number || this.phase !== "fetch") return;
      const isThis = answer.kind === "yes" && compareOptionalBallots(answer.ballot, highest.ballot) === 0;
      if (isThis && answer.payload !== null) {
        this.payload = answer.payload;
        then(answer.payload);
      } else this.fetch(candidates & ~(1 << index), then);
    });
  }

  /** The nearest of a set of replicas, by its place in the group; -1: the set is empty. */
  nearestOf(set: number): number {
    const { nodes } = this.group;
    let nearest = -1;
    for (let index = 0; index < nodes.length; index++)
      if (
        (set & (1 << index)) !== 0 &&
        (nearest < 0 || this.setup.distance(nodes[index]) < this.setup.distance(nodes[nearest]))
      )
        nearest = index;
    return nearest;
  }

  // ---- time --------------------------------------------------------------------------------------------------

  /**
   * A prepare without a majority so far: where a higher ballot is in the way it need not wait for long, as it
   * has had no effect. A replica that is not there is no reason: the others may be far away.
   */
  waitForPromises(): void {
    const { tally } = this;
    if (!tally.open) this.again();
    else if (tally.outvoted !== 0) this.later(NO_WAIT_MS, () => this.again());
  }

  /**
   * Runs something after a while, unless the round is over by then. One thing at a time: the first one asked
   * for.
   */
  later(ms: number, run: () => void): void {
    const { number, phase } = this;
    this.shortTimer ??= this.setup.after(ms, () => {
      this.shortTimer = null;
      if (this.number === number && this.phase === phase) run();
    });
  }

  /**
   * Another attempt: after a random pause, so that two that race do not overtake each other again; what does
   * not race begins at once the first time.
   */
  again(): void {
    if (this.attempts <= 1 && !this.races) this.owner.start();
    else this.pause(Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** Math.max(0, this.attempts - 2)));
  }

  pause(boundMs: number): void {
    this.stopWaiting();
    this.phase = "pause";
    this.number++;
    this.later(1 + this.setup.random() * boundMs, () => this.owner.start());
  }

  private stopWaiting(): void {
    if (this.shortTimer !== null) this.setup.cancel(this.shortTimer);
    this.shortTimer = null;
  }

  /** Nothing more is to come: names those that miss what was decided. */
  end(): void {
    const { tally, group, proposal } = this;
    if (this.phase === "accept" && tally.won) {
      const missing = this.all & ~(tally.yes | tally.outvoted);
      if (missing !== 0)
        this.setup.missed(
          this.key,
          proposal as Proposal,
          group.nodes.filter((_, index) => (missing & (1 << index)) !== 0),
        );
    }
    this.phase = "over";
    this.stopWaiting();
    this.setup.cancel(this.timer);
  }
}
