/**
 * What the layout needs without anybody's asking. Workers that wait are taken in, those that come together in
 * one move. Dead workers stay in the layout; one that has been silent for `removeMs` is removed if all others
 * are up and enough for all copies. A move that waits for a dead worker is given up after as long, and
 * whoever joined by it may join again; so is a replacement by one that is not there. While partitions have no
 * majority nothing moves: it could not end. Whatever an operator has given up is not begun again by itself.
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
import { renumber } from "../../cluster/layout/steps.ts";
import { type Decisions, nodeOf } from "../layout/decisions.ts";
import type { Absence, AbsenceWatch } from "../presence/absence.ts";
import type { Applicants } from "../presence/applicants.ts";
import type { Registry } from "../registry/registry.ts";
import { SettingsWatch } from "./settings.ts";
import { Waiting } from "./waiting.ts";

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
  /** Which change is next, and why none is. */
  private readonly waiting: Waiting;
  /** Dead workers that an operator wants to stay. */
  private readonly staying = new Set<string>();
  private isPartitionsSaid = false;

  constructor(setup: UpkeepSetup) {
    this.setup = setup;
    this.settings = new SettingsWatch(setup.replicas);
    this.waiting = new Waiting({ ...setup, waitMs: this.patienceMs });
  }

  private get patienceMs(): number {
    const { removeMs } = this.setup.times;
    return removeMs === 0 ? ABANDON_MS : removeMs;
  }

  /** Why what waits for its turn does not begin, for a person; null: nothing does. */
  get hindrance(): string | null {
    return this.waiting.hindrance;
  }

  /** The same, once it has been so for a while. */
  problem(nowMs: number): string | null {
    return this.waiting.problem(nowMs);
  }

  /** An operator has given up what moved, or else what waited. */
  givenUp({ layout, queue }: Plan): void {
    if (layout === null) return;
    if (layout.previous !== null) {
      this.settings.declineMove(layout, layout.previous);
      for (const { url, state } of layout.nodes) if (state === "draining") this.staying.add(url);
      return;
    }
    for (const change of queue) {
      if (change.kind === "leave") this.staying.add(change.url);
      if (change.kind === "adjust") this.settings.decline(change);
    }
  }

  /** Does what is due; there is a layout. @param strays workers that have another one under its number */
  tick(nowMs: number, strays: readonly string[]): void {
    const { decisions } = this.setup;
    this.sayWhatIsNotInForce();
    this.abandonHopeless(nowMs);
    this.waiting.letGo(nowMs);
    this.step(nowMs);
    if (decisions.layout?.previous !== null || !this.waiting.leavesRoom) return;
    if (strays.length > 0) this.renumber(nowMs, decisions.layout, strays);
    this.takeIn(nowMs);
    this.adjust(nowMs);
    this.removeDead(nowMs);
    this.step(nowMs);
  }

  private renumber(nowMs: number, layout: Layout, strays: readonly string[]): void {
    const { decisions, log } = this.setup;
    log.warn({ strays }, "the layout gets another number, so that these, which know another one, learn it");
    decisions.decide(nowMs, { ...decisions.plan, layout: renumber(layout) });
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
    const { absences, log } = this.setup;
    const { placement, synchronised } = decisions;
    const url = absences.hopeless(nowMs, placement, synchronised, this.patienceMs);
    if (url === null) return;
    log.warn({ url, epoch: layout.epoch }, "a move waits for a dead worker: it is given up");
    decisions.decide(nowMs, abandon(decisions.plan), decisions.joining);
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
    const { registry } = this.setup;
    // Its move would wait for one that is not there, be given up, and begin again.
    if (layout.nodes.some(({ url }) => registry.find(nowMs, url)?.state !== "up")) return;
    const { settleMs } = this.setup.times;
    const change = this.settings.wanted(nowMs, layout, (url) => registry.find(nowMs, url), settleMs);
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
    for (const row of rows) if (row?.state === "up") this.staying.delete(row.url);
    const dead = silent[0];
    // More than one: that is more likely a cut link than two deaths. Not heard since our start: too early to
    // tell.
    if (silent.length !== 1 || dead == null || dead.silentMs === null || dead.silentMs < removeMs) return;
    if (this.staying.has(dead.url)) return;
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

  /** Ends the move, or starts the next one, as far as that goes now. */
  step(nowMs: number): void {
    const { decisions } = this.setup;
    while (decisions.layout !== null) {
      const plan = this.waiting.inOrder(nowMs, decisions.layout, decisions.plan);
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
