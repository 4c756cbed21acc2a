/**
 * What the layout needs without anybody's asking. Workers that wait are taken in, those that come together in
 * one move. Dead workers stay in the layout; one that has been silent for `removeMs` is removed if all others
 * are up and enough for all copies. A move that waits for a dead worker is given up after as long, and
 * whoever joined by it may join again. While partitions have no majority nothing moves: it could not end.
 */
import {
  abandon,
  advance,
  type Change,
  ChangeError,
  type Plan,
  propose,
} from "../../cluster/layout/changes.ts";
import { partitionsNotInForce } from "../../cluster/layout/in-force.ts";
import type { Layout } from "../../cluster/layout/layout.ts";
import { type Decisions, nodeOf } from "../layout/decisions.ts";
import type { Registry } from "../registry/registry.ts";
import type { Absence, AbsenceWatch } from "./absence.ts";
import type { Applicants } from "./applicants.ts";
import { SettingsWatch } from "./settings.ts";

/** Silence after which a move is given up where dead workers are never removed. */
const ABANDON_MS = 10 * 60_000;

export interface UpkeepSetup {
  registry: Registry;
  decisions: Decisions;
  applicants: Applicants;
  absences: AbsenceWatch;
  absence: (nowMs: number) => Absence;
  times: { settleMs: number; removeMs: number };
  /** Copies that were asked for; null: those of the layout are right. */
  replicas: number | null;
  /** The same for partitions, whose number never changes. */
  partitions: number | null;
  log: { warn(fields: object, text: string): void };
}

export class Upkeep {
  private readonly setup: UpkeepSetup;
  private readonly settings: SettingsWatch;
  private isPartitionsSaid = false;

  constructor(setup: UpkeepSetup) {
    this.setup = setup;
    this.settings = new SettingsWatch(setup.replicas);
  }

  /** Does what is due; there is a layout. */
  tick(nowMs: number): void {
    const { decisions } = this.setup;
    this.sayWhatIsNotInForce();
    this.abandonHopeless(nowMs);
    this.step(nowMs);
    if (decisions.layout?.previous !== null || decisions.plan.queue.length > 0) return;
    this.takeIn(nowMs);
    this.adjust(nowMs);
    this.removeDead(nowMs);
    this.step(nowMs);
  }

  private sayWhatIsNotInForce(): void {
    const { decisions, partitions, log } = this.setup;
    if (this.isPartitionsSaid || decisions.layout === null) return;
    this.isPartitionsSaid = true;
    const sentence = partitionsNotInForce(partitions, decisions.layout);
    if (sentence !== null) log.warn({}, sentence);
  }

  private abandonHopeless(nowMs: number): void {
    const { decisions } = this.setup;
    const { layout } = decisions;
    if (layout === null || layout.previous === null || layout.lost !== undefined) return;
    const { removeMs } = this.setup.times;
    const waitMs = removeMs === 0 ? ABANDON_MS : removeMs;
    const url = this.setup.absences.hopeless(nowMs, decisions.placement, decisions.synchronised, waitMs);
    if (url === null) return;
    this.setup.log.warn({ url, epoch: layout.epoch }, "a move waits for a dead worker: it is given up");
    const joining = layout.nodes.filter((node) => decisions.isJoining(node.url)).map((node) => node.url);
    decisions.decide(nowMs, abandon(decisions.plan), new Set(joining));
  }

  /** Takes in who has waited long enough, and whoever waits beside it. */
  private takeIn(nowMs: number): void {
    const since = this.setup.applicants.waitingSince;
    if (since === null || nowMs - since.lastMs < this.setup.times.settleMs) return;
    this.propose(nowMs, { kind: "join", nodes: this.setup.applicants.ready(nowMs).map(nodeOf) });
  }

  /** Makes the layout what the nodes were started with. */
  private adjust(nowMs: number): void {
    const { layout, queue } = this.setup.decisions.plan;
    if (layout === null || queue.length > 0) return;
    const { settleMs } = this.setup.times;
    const change = this.settings.wanted(
      nowMs,
      layout,
      (url) => this.setup.registry.find(nowMs, url),
      settleMs,
    );
    if (change === null) return;
    this.setup.log.warn(
      change,
      "the layout changes, as nodes were started with another -region or -replicas",
    );
    this.propose(nowMs, change);
  }

  private removeDead(nowMs: number): void {
    const { layout, queue } = this.setup.decisions.plan;
    const { removeMs } = this.setup.times;
    if (removeMs === 0 || layout === null || layout.previous !== null || queue.length > 0) return;
    const rows = layout.nodes.map((node) => this.setup.registry.find(nowMs, node.url));
    const silent = rows.filter((row) => row?.state !== "up");
    const dead = silent[0];
    // More than one: that is more likely a cut link than two deaths. Not heard since our start: too early to
    // tell.
    if (silent.length !== 1 || dead == null || dead.silentMs === null || dead.silentMs < removeMs) return;
    if (rows.length - 1 < layout.replicas || this.setup.absence(nowMs).shaky > 0) return;
    this.setup.log.warn(
      { url: dead.url, silentMs: Math.round(dead.silentMs) },
      "a worker is dead: removing it",
    );
    this.propose(nowMs, { kind: "leave", url: dead.url });
  }

  private propose(nowMs: number, change: Change): void {
    const { decisions } = this.setup;
    decisions.decide(nowMs, propose(decisions.plan, change));
  }

  /** Whether a change cannot begin yet: who takes another's place has to be reached first. */
  private mustWait(nowMs: number, change: Change): boolean {
    const { decisions, registry, applicants } = this.setup;
    // One that has come in meanwhile is not waited for: the change is let go of in its turn.
    if (change.kind !== "replace" || decisions.isMember(change.node.url)) return false;
    const { url } = change.node;
    const { store } = registry.find(nowMs, url) ?? { store: "" };
    return !applicants.isReached(nowMs, { url, store });
  }

  /**
   * The plan with the change at its front that is to be next: the first one that may begin, and whose move
   * could end, as those vote who do now. Null: there is none.
   */
  private inOrder(nowMs: number, layout: Layout, plan: Plan): Plan | null {
    if (layout.previous !== null || plan.queue.length === 0) return plan;
    for (const change of plan.queue) {
      if (this.mustWait(nowMs, change)) continue;
      const others = plan.queue.filter((other) => other !== change);
      const moved = { layout, queue: [change, ...others] };
      const { absences, decisions } = this.setup;
      try {
        const next = () => advance(moved, decisions.placement, decisions.synchronised)?.layout ?? layout;
        if (absences.shakyAfter(nowMs, layout, change, next) === 0) return moved;
      } catch (error) {
        if (!(error instanceof ChangeError)) throw error;
        return moved;
      }
    }
    return null;
  }

  /** Ends the move, or starts the next one, as far as that goes now. */
  step(nowMs: number): void {
    const { decisions } = this.setup;
    while (decisions.layout !== null) {
      if (decisions.layout.previous === null && this.setup.absence(nowMs).shaky > 0) return;
      const plan = this.inOrder(nowMs, decisions.layout, decisions.plan);
      if (plan === null) return;
      let next: Plan | null;
      try {
        next = advance(plan, decisions.placement, decisions.synchronised);
      } catch (error) {
        if (!(error instanceof ChangeError)) throw error;
        this.setup.log.warn({ reason: error.message }, "a change that waited is not possible any more");
        next = { ...plan, queue: plan.queue.slice(1) };
      }
      if (next === null) return;
      decisions.decide(nowMs, next);
    }
  }
}
