/**
 * A linearizable read of one key:
 *
 *   GET      look ──equal at a majority──► answer
 *             └──► accept(highest, at its own ballot) ──majority──► answer
 *                    └──a no──► prepare ► rewrite ► answer
 *            look ──a value past its end──► accept(its mark, at its own ballot) ► as above
 *   settle   prepare ► rewrite ► answer
 *
 * `rewrite` accepts the highest value seen at the prepared ballot, with the operation it came from (the
 * identity function of CASPaxos). A version can therefore change once without its value changing, when
 * something that failed half-way is settled.
 *
 * That a value has ended is told only once a majority holds the mark of it: clocks do not agree, and what one
 * has told gone the next would find again.
 */
import type { Ballot } from "../../format/record.ts";
import { countOf, hasMajority } from "../layout/groups.ts";
import type { ClusterKey, LookAnswer, Payload, Proposal } from "../register/ports.ts";
import type { CoordinatorSetup, OperationRules, ReadResult } from "../register/requests.ts";
import { Round } from "../register/round.ts";

/** A read asks as few replicas as it needs and the others after this time. */
export const HEDGE_MS = 100;

export class ReadOperation {
  private readonly round: Round;
  private readonly done: (result: ReadResult) => void;
  /** It always writes what it found again, at a new ballot. */
  private readonly settles: boolean;
  private answered = false;
  /** Replicas that were asked. */
  private asked = 0;
  private confirming = false;

  constructor(
    setup: CoordinatorSetup,
    rules: OperationRules,
    key: ClusterKey,
    settles: boolean,
    done: (result: ReadResult) => void,
    above: Ballot | null = null,
  ) {
    this.round = new Round(setup, rules, key, this);
    this.round.meet(above);
    this.settles = settles;
    this.done = done;
  }

  start(): void {
    if (this.round.nextAttempt() !== "go") this.giveUp();
    else if (this.settles) this.prepare();
    else this.look();
  }

  expire(): void {
    if (this.answered) this.round.end();
    else this.giveUp();
  }

  private giveUp(): void {
    if (this.round.phase === "over") return;
    this.answered = true;
    this.round.phase = "over";
    this.done({ outcome: "no_quorum", ballot: null, payload: null, replicas: 0 });
    this.round.end();
  }

  private look(): void {
    const { round } = this;
    round.highest.start();
    round.payload = null;
    this.asked = 0;
    const number = round.begin("look");
    this.askNearest(number);
    if (round.phase !== "look" || round.number !== number || this.asked === round.all) return;
    round.later(HEDGE_MS, () => this.ask(number, round.all & ~this.asked));
  }

  /** Asks the nearest replicas that could make a majority with those that have not failed. */
  private askNearest(number: number): void {
    const { round } = this;
    let hoped = round.tally.yes | round.tally.pending;
    let chosen = 0;
    while (!hasMajority(round.group, hoped) && (this.asked | chosen) !== round.all) {
      const bit = 1 << round.nearestOf(round.all & ~(this.asked | chosen));
      chosen |= bit;
      hoped |= bit;
    }
    this.ask(number, chosen);
  }

  private ask(number: number, set: number): void {
    const { round } = this;
    const { setup, key, group } = round;
    this.asked |= set;
    round.ask(set, (node, bit) =>
      setup.port.look(node, key, group.epoch, (answer) => {
        if (!round.counts(number, bit, answer)) return;
        this.takeLook(bit, answer);
        if (!round.sending) this.judgeLooks(number);
      }),
    );
    this.judgeLooks(number);
  }

  private takeLook(bit: number, answer: LookAnswer): void {
    const { round } = this;
    const { highest } = round;
    if (answer.kind !== "yes") return;
    const before = highest.ballot;
    highest.take(bit, answer);
    if (highest.ballot !== before) round.payload = null;
    if ((highest.holders & bit) !== 0 && answer.payload !== null) round.payload = answer.payload;
    round.meet(answer.ballot);
  }

  private judgeLooks(number: number): void {
    const { round } = this;
    const { tally } = round;
    if (round.phase !== "look" || round.number !== number) return;
    if (tally.won && !round.knowsEnd()) {
      round.again();
      return;
    }
    const confirmed = this.isDecided || !round.rules.confirmReads;
    if (tally.won && confirmed) this.answer();
    else if (tally.won) round.proposeHighest("confirm", (proposal) => this.accept(proposal, true));
    else if (tally.open) return;
    else if (this.asked !== round.all) this.askNearest(number);
    else if (tally.pending === 0) round.again();
  }

  /** Whether a majority holds what is told; of a value that has just ended only the value. */
  private get isDecided(): boolean {
    const { highest, group } = this.round;
    return hasMajority(group, highest.holders) && !highest.lapsed;
  }

  private prepare(): void {
    this.round.prepare(ignore, () => this.judgePromises());
  }

  private judgePromises(): void {
    const { round } = this;
    const { tally, highest } = round;
    if (round.phase !== "prepare") return;
    if (!tally.won) round.waitForPromises();
    else if (!round.knowsEnd()) round.again();
    else if (highest.ballot === null || (this.isDecided && !this.settles)) this.answer();
    else round.proposeHighest("rewrite", (proposal) => this.accept(proposal, false));
  }

  /** Those that hold the highest record need not be told to confirm it. */
  private accept(proposal: Proposal, confirming: boolean): void {
    const { round } = this;
    this.confirming = confirming;
    const settled = confirming && !round.highest.lapsed ? round.highest.holders : 0;
    round.accept(proposal, settled, 0, ignore, () => this.judgeAccepts());
  }

  private judgeAccepts(): void {
    const { round } = this;
    const { tally } = round;
    if (round.phase !== "accept") return;
    if (this.answered || tally.won) {
      if (!this.answered) this.decided();
      if (tally.pending === 0) round.end();
    } else if (tally.open) return;
    else if (this.confirming) this.prepare();
    else round.again();
  }

  private decided(): void {
    const { round } = this;
    const { ballot, payload } = round.proposal as Proposal;
    round.highest.ballot = ballot;
    round.highest.holders = round.tally.yes;
    round.payload = payload.tombstone ? null : payload;
    this.answer();
  }

  private answer(): void {
    const { round } = this;
    const { highest } = round;
    if (!highest.exists) this.finish("absent", highest.ballot, null);
    else round.withPayload((payload) => this.finish("found", highest.ballot, payload));
  }

  private finish(outcome: "found" | "absent", ballot: Ballot | null, payload: Payload | null): void {
    const { round } = this;
    this.answered = true;
    this.done({ outcome, ballot, payload, replicas: countOf(round.highest.holders) });
    // While accepts are out, the late answers tell who misses the record.
    if (round.phase !== "accept") round.end();
  }
}

function ignore(): void {}
