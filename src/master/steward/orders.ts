/**
 * What an operator may ask of the layout (POST /layout). Every order throws a ChangeError, with a sentence
 * for a person, where it cannot be followed; a standby follows none.
 */
import { abandon, ChangeError, type Plan, propose, withdraw } from "../../cluster/layout/changes.ts";
import { FEATURES, featuresOf } from "../../cluster/layout/features.ts";
import { notLostText, startRecovery } from "../../cluster/layout/recovery.ts";
import { raiseFeatures } from "../../cluster/layout/steps.ts";
import { type Decisions, nodeOf } from "../layout/decisions.ts";
import { type Absence, stuckText } from "../presence/absence.ts";
import type { Applicants } from "../presence/applicants.ts";
import type { Registry } from "../registry/registry.ts";

export interface OrdersSetup {
  registry: Registry;
  decisions: Decisions;
  applicants: Applicants;
  isStandby: (nowMs: number) => boolean;
  absence: (nowMs: number) => Absence;
  /** Workers that know a newer layout. */
  newerAt: (nowMs: number) => string[];
  /** Ends the move, or starts the next one, as far as that goes now. */
  step: (nowMs: number) => void;
  /** An operator has given something up: what it was before. */
  givenUp: (before: Plan) => void;
  log: { warn(fields: object, text: string): void };
}

export class Orders {
  private readonly setup: OrdersSetup;

  constructor(setup: OrdersSetup) {
    this.setup = setup;
  }

  /** Takes the worker's partitions away from it, then the worker off the layout. */
  drain(nowMs: number, url: string): void {
    this.demandWriter(nowMs);
    const { decisions, step } = this.setup;
    decisions.decide(nowMs, propose(decisions.plan, { kind: "leave", url }));
    step(nowMs);
  }

  /**
   * The same for a worker that is gone; also gives a move up that waits for it. Who else joined by that one
   * may join again.
   */
  remove(nowMs: number, url: string): void {
    this.demandWriter(nowMs);
    const { registry, decisions, absence, step, log } = this.setup;
    const { plan } = decisions;
    const row = registry.find(nowMs, url);
    if (row === null && !decisions.isPlanned(url)) throw new ChangeError(`${url} is not known here`);
    if (row !== null && row.state !== "down")
      throw new ChangeError(`${url} is ${row.state}: drain it, or stop it and wait until it is down`);
    const stuck = stuckText(absence(nowMs), decisions.layout);
    const isIn = decisions.isMember(url);
    const others = decisions.joining;
    others.delete(url);
    if (isIn && !decisions.isJoining(url) && stuck !== null)
      throw new ChangeError(`${url} cannot be removed: ${stuck}`);
    if (decisions.isJoining(url)) decisions.decide(nowMs, withdraw(abandon(plan), url), others);
    else if (isIn) {
      const free = this.waitsFor(url) ? abandon(plan) : plan;
      if (free !== plan) log.warn({ url }, "the move that waits for it is given up");
      decisions.decide(nowMs, propose(withdraw(free, url), { kind: "leave", url }), others);
    } else {
      registry.drop(url);
      decisions.decide(nowMs, withdraw(plan, url));
    }
    step(nowMs);
  }

  /** One worker for another in one move. */
  replace(nowMs: number, url: string, by: string): void {
    this.demandWriter(nowMs);
    const { registry, decisions, applicants, step } = this.setup;
    const { plan } = decisions;
    if (url === by) throw new ChangeError("a worker cannot replace itself");
    if (decisions.isMember(by) && !decisions.isPlanned(by))
      throw new ChangeError(
        `${by} is leaving the cluster: it can replace another one when it is off the layout, with an empty data directory`,
      );
    // It has joined by itself already, or will: then the old one only has to leave.
    if (!decisions.isPlanned(by)) {
      const row = registry.find(nowMs, by);
      if (row === null || row.state !== "up" || row.store === "")
        throw new ChangeError(`${by} is not up: start it with -master and this master's URL first`);
      const refusal = applicants.refusal(nowMs, row);
      if (refusal !== null) throw new ChangeError(`${by}: ${refusal}`);
      decisions.decide(nowMs, propose(plan, { kind: "replace", url, node: nodeOf(row) }));
    } else decisions.decide(nowMs, propose(plan, { kind: "leave", url }));
    step(nowMs);
  }

  /**
   * Raises the feature level to what this program knows, if every member can do that; there is no way back.
   */
  upgrade(nowMs: number, epoch: number): void {
    this.demandWriter(nowMs);
    const { registry, decisions, log } = this.setup;
    const { layout, queue } = decisions.plan;
    if (layout === null) throw new ChangeError("the cluster has no layout yet");
    if (featuresOf(layout) >= FEATURES) return;
    this.demandEpoch(epoch);
    if (layout.previous !== null || queue.length > 0)
      throw new ChangeError("a change of the layout is under way: wait until it is finished");
    for (const { url } of layout.nodes) {
      const row = registry.find(nowMs, url);
      if (row?.state !== "up") throw new ChangeError(`${url} is not up: nobody knows what it can do`);
      if ((row.features ?? 1) < FEATURES)
        throw new ChangeError(
          `${url} can do level ${row.features ?? 1} of ${FEATURES}: start it with this release, after minivault upgrade on its data directory`,
        );
    }
    log.warn({ features: FEATURES }, "the cluster's feature level is raised, as an operator wants it");
    decisions.decide(nowMs, { ...decisions.plan, layout: raiseFeatures(layout, FEATURES) });
  }

  /**
   * Gives the move under way up, or where nothing moves all that waits, as somebody has decided who saw that
   * epoch. What joined by it has left.
   */
  abandon(nowMs: number, epoch: number): void {
    this.demandWriter(nowMs);
    const { decisions, step, givenUp, log } = this.setup;
    const before = decisions.plan;
    const onlyWaits = before.layout?.previous === null && before.queue.length > 0;
    const plan = onlyWaits ? { ...before, queue: [] } : abandon(before);
    this.demandEpoch(epoch);
    const what = onlyWaits ? "what waited for its turn" : "the move";
    log.warn({ epoch }, `${what} is given up, as an operator wants it`);
    decisions.decide(nowMs, plan);
    givenUp(before);
    step(nowMs);
  }

  /**
   * Goes on without the workers that are down, where partitions have no majority left: `missing` are those
   * that somebody who saw that epoch has given up.
   */
  recover(nowMs: number, epoch: number, missing: readonly string[]): void {
    this.demandWriter(nowMs);
    const { decisions, log } = this.setup;
    const { layout } = decisions;
    if (layout === null) throw new ChangeError("the cluster has no layout yet");
    this.demandEpoch(epoch);
    const absence = this.setup.absence(nowMs);
    if (absence.stuck === 0) throw new ChangeError(notLostText(absence.unheard));
    if ([...absence.missing].sort().join() !== [...missing].sort().join())
      throw new ChangeError(
        `not the same workers are down any more: ${absence.missing.join(", ") || "none"}; look again`,
      );
    const recovering = startRecovery(layout, new Set(missing));
    log.warn({ missing, epoch: recovering.epoch }, "the cluster goes on without these workers");
    decisions.decide(nowMs, { layout: recovering, queue: [] });
  }

  /** Whether the move under way cannot end without a worker, and can be given up. */
  private waitsFor(url: string): boolean {
    const { layout, placement, synchronised } = this.setup.decisions;
    if (layout?.previous == null || layout.lost !== undefined) return false;
    return placement.awaited().includes(url) && !synchronised.has(url);
  }

  private demandEpoch(epoch: number): void {
    const own = this.setup.decisions.layout?.epoch ?? 0;
    if (epoch !== own)
      throw new ChangeError(`the layout has changed meanwhile: it is of epoch ${own}; look again`);
  }

  private demandWriter(nowMs: number): void {
    const [newer] = this.setup.newerAt(nowMs);
    if (newer !== undefined)
      throw new ChangeError(`${newer} knows a newer layout, which this master learns just now: try again`);
    if (this.setup.isStandby(nowMs))
      throw new ChangeError(
        "this master is a standby: the first one of the workers' -master list makes changes",
      );
  }
}
