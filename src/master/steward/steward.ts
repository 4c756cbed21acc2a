/**
 * The master's judgement: who is taken into the layout and when, which change comes next, and when a move is
 * over. No HTTP, no timers; the time is passed in. What it decides is on disk (`save`) before anybody hears
 * of it.
 *
 * - The first layout: birth.ts. Later workers join by themselves (applicants.ts), dead ones are removed, and
 *   moves that wait for them given up (upkeep.ts). Only `recover` (orders.ts) goes on where partitions have
 *   no majority.
 * - A layout that a worker knows under a higher number than ours is learned: a master that lost its disk, or
 *   a standby.
 * - A master that is not first in its workers' -master list is a standby: it learns and answers, and changes
 *   nothing.
 */

import { decodeLife } from "../../cluster/identity/life.ts";
import type { Lives } from "../../cluster/identity/lives.ts";
import { witness } from "../../cluster/identity/witness.ts";
import type { Change } from "../../cluster/layout/changes.ts";
import { isForeign, type Layout } from "../../cluster/layout/layout.ts";
import type {
  Candidate,
  Heartbeat,
  HeartbeatAnswer,
  MemberDocument,
  Tried,
} from "../../cluster/membership/messages.ts";
import { Decisions } from "../layout/decisions.ts";
import { type MoveStatus, moveStatus } from "../layout/move-status.ts";
import type { MasterState } from "../layout/state.ts";
import { type Absence, AbsenceWatch, NO_ABSENCE, stuckText } from "../presence/absence.ts";
import { MASTER } from "../presence/admission.ts";
import { Applicants, LOOK_MS } from "../presence/applicants.ts";
import type { Registry } from "../registry/registry.ts";
import { form } from "./birth.ts";
import { Newest } from "./newest.ts";
import { Orders } from "./orders.ts";
import { Upkeep } from "./upkeep.ts";

/** Workers that come within this time of each other are taken in by one move. */
export const SETTLE_MS = 2000;
/** How long the first layout waits for workers of -volumes that are not there. */
export const STATIC_WAIT_MS = 10_000;

export interface StewardTimes {
  settleMs: number;
  staticWaitMs: number;
  /** Silence after which a dead worker is removed; 0: never. */
  removeMs: number;
}

export interface StewardOptions {
  registry: Registry;
  state: MasterState | null;
  /** Keeps the state; throws when that fails, and then nothing has changed. */
  save: (state: MasterState) => void;
  /** This master was elected; left out: the first of the workers' -master list decides. */
  isElected?: boolean;
  /** The cluster that this master is known to belong to, whether it knows a layout or not; null: none. */
  cluster?: string | null;
  staticUrls: readonly string[];
  /** Of the first layout. */
  replicas: number;
  /** Those were asked for: a layout that has another number is changed. */
  isReplicasGiven: boolean;
  /** Of the first layout, for good; null: none were asked for. */
  partitions: number | null;
  times: StewardTimes;
  /** What is remembered of the workers' lives. */
  lives: Lives;
  log: { info(fields: object, text: string): void; warn(fields: object, text: string): void };
}

export class Steward {
  private readonly options: StewardOptions;
  private readonly registry: Registry;
  private readonly log: StewardOptions["log"];
  /** What is decided so far. */
  readonly decisions: Decisions;
  /** What an operator may ask for. */
  readonly orders: Orders;
  private readonly applicants: Applicants;
  private readonly absences: AbsenceWatch;
  private readonly newest: Newest;
  /** What is done without anybody's asking. */
  readonly upkeep: Upkeep;
  private silent: { atMs: number; suspect: string[]; down: string[] } | null = null;
  private lastProblem: string | null = null;
  private lastForeign: string | null = null;

  constructor(options: StewardOptions) {
    const { registry, log } = options;
    this.options = options;
    this.registry = registry;
    this.log = log;
    this.decisions = new Decisions(options);
    this.applicants = new Applicants(registry, this.decisions, log);
    this.absences = new AbsenceWatch((nowMs, url) => registry.find(nowMs, url));
    this.newest = new Newest(registry);
    const common = {
      ...{ registry, log, decisions: this.decisions, applicants: this.applicants },
      absence: (nowMs: number) => this.absence(nowMs),
    };
    this.upkeep = new Upkeep({
      ...common,
      ...{ absences: this.absences, times: options.times, partitions: options.partitions },
      replicas: options.isReplicasGiven ? options.replicas : null,
    });
    this.orders = new Orders({
      ...common,
      isStandby: (nowMs) => this.isStandby(nowMs),
      newerAt: (nowMs) => this.newerAt(nowMs),
      givenUp: (before) => this.upkeep.givenUp(before),
      step: (nowMs) => {
        if (this.layout !== null && this.newest.isSure(nowMs, this.layout)) this.upkeep.step(nowMs);
      },
    });
  }

  get layout(): Layout | null {
    return this.decisions.layout;
  }

  get queue(): readonly Change[] {
    return this.decisions.plan.queue;
  }

  /** What keeps the first layout, or any other, from being made, or null. */
  get problem(): string | null {
    return this.lastProblem;
  }

  /** Whether a worker must not be forgotten, however long it is silent. */
  isMember(url: string): boolean {
    return this.decisions.isMember(url);
  }

  /** Takes a heartbeat. "full": there is no room for one more worker. */
  hear(nowMs: number, report: Heartbeat): { isNew: boolean; answer: HeartbeatAnswer } | "full" {
    const { decisions, layout } = this;
    const { url, store, voting, progress } = report;
    const life = report.life === undefined ? null : decodeLife(report.life);
    const witnessed = witness(this.options.lives, layout, life, report, this.isMember(url));
    if (witnessed.foreign !== undefined && witnessed.foreign !== this.lastForeign)
      this.log.warn({ url, reason: witnessed.foreign }, "a worker of another cluster reports here");
    this.lastForeign = witnessed.foreign ?? this.lastForeign;
    if (witnessed.fenced !== undefined || witnessed.foreign !== undefined)
      return { isNew: false, answer: { ...NOTHING, ...witnessed } };
    const outcome = this.registry.hear(nowMs, report);
    if (outcome === "full") return "full";
    for (const tried of report.tried ?? []) this.applicants.tried(tried, url);
    const follows = this.newest.hear(url, report.epoch, life, layout);
    if (this.isMember(url) && follows) {
      if (voting && store !== "" && decisions.storeOf(url) !== store) decisions.noteStore(nowMs, url, store);
      if (progress !== null && progress.epoch === layout?.epoch && progress.done >= progress.total)
        decisions.synchronised.add(url);
    }
    decisions.noteWorker(nowMs, report);
    return { isNew: outcome === "new", answer: { ...this.answer(nowMs, report), ...witnessed } };
  }

  /** Does whatever is due. Called a few times a second. */
  tick(nowMs: number): void {
    if (this.isStandby(nowMs)) {
      this.say(this.disagreement(nowMs));
      return;
    }
    this.applicants.look(nowMs);
    if (this.layout === null) {
      const problem = form(nowMs, {
        ...this.options,
        cluster: this.options.cluster ?? null,
        decisions: this.decisions,
        applicants: this.applicants,
      });
      if (problem !== undefined) this.say(problem);
      return;
    }
    const stuck = stuckText(this.absence(nowMs), this.layout);
    this.say(stuck ?? this.newest.problem(this.layout) ?? this.upkeep.problem(nowMs));
    if (this.newest.isSure(nowMs, this.layout))
      this.upkeep.tick(nowMs, this.newest.strays(nowMs, this.layout));
  }

  /** A master that is not the first in the -master list of its workers. */
  isStandby(nowMs: number): boolean {
    if (this.options.isElected === true) return false;
    return this.registry.list(nowMs).some((row) => row.state === "up" && row.rank > 0);
  }

  /** Where workers put their masters in different orders, none of those may think that it is the first. */
  private disagreement(nowMs: number): string | null {
    const rows = this.registry.list(nowMs).filter((row) => row.state === "up");
    const first = rows.find((row) => row.rank === 0);
    const other = rows.find((row) => row.rank > 0);
    return first === undefined
      ? null
      : `workers do not agree which master is the first, so this one changes nothing: ${first.url} says that it is this one, ${other?.url} another; give all of them the same -master list`;
  }

  /** Workers that know a newer layout, the newest first. */
  newerAt(nowMs: number): string[] {
    return this.newest.newerAt(nowMs, this.layout);
  }

  /** Takes the layout of a worker over when it is newer (Newest) and about the same cluster. */
  learn(nowMs: number, document: MemberDocument): boolean {
    const { layout } = document;
    const own = this.layout;
    if (layout === null || layout.epoch < (own?.epoch ?? 0)) return false;
    if (layout.epoch === own?.epoch && !this.newest.isReplaced(own)) return false;
    if (isForeign(own?.cluster ?? this.options.cluster, layout.cluster)) return false;
    const urls = new Set([...layout.nodes, ...(layout.previous?.nodes ?? [])].map((node) => node.url));
    // Without names of clusters, only that both have a worker in common tells that they are one.
    const isKnown = own?.cluster != null && layout.cluster !== null;
    if (own !== null && !isKnown && !own.nodes.some((node) => urls.has(node.url))) return false;
    const stores = { ...(layout.epoch === 1 ? document.birth : {}), ...this.decisions.storesAmong(urls) };
    for (const row of this.registry.list(nowMs))
      if (urls.has(row.url) && row.voting && row.store !== "") stores[row.url] = row.store;
    this.decisions.begin(nowMs, { layout, queue: this.decisions.newOrders }, stores);
    this.log.info({ epoch: layout.epoch, from: document.url }, "took a newer layout over from a worker");
    return true;
  }

  /**
   * Workers of -volumes that have to be asked to register. `withKeys`: even if they hold keys, since no other
   * does.
   */
  uninvited(nowMs: number): { url: string; withKeys: boolean }[] {
    const rows = this.registry.list(nowMs);
    const silent = rows.filter((row) => row.static && row.state !== "up");
    const aloneWithKeys =
      this.layout === null && !rows.some((row) => row.store !== "" && !row.empty && row.state === "up");
    const withKeys = aloneWithKeys && silent.length === 1;
    return silent.map(({ url }) => ({ url, withKeys }));
  }

  /** Why a worker that reports is not taken in, or null. */
  refusal(nowMs: number, report: Heartbeat): string | null {
    return this.applicants.refusal(nowMs, report);
  }

  /** Workers that want to be taken in, and that the master is to try to reach. */
  untried(nowMs: number): Candidate[] {
    return this.applicants.untried(nowMs, MASTER);
  }

  /** The master has tried to reach a worker. */
  tried(tried: Tried): void {
    this.applicants.tried(tried, MASTER);
  }

  /** Progress of the move under way, or null. */
  move(nowMs: number): MoveStatus | null {
    return moveStatus(nowMs, this.decisions, this.registry);
  }

  /** Members that are not there, or do not vote. */
  absence(nowMs: number): Absence {
    return this.layout === null ? NO_ABSENCE : this.absences.look(nowMs, this.layout);
  }

  private answer(nowMs: number, report: Heartbeat): HeartbeatAnswer {
    const { layout } = this;
    const refused = this.refusal(nowMs, report);
    const candidates = this.applicants.untried(nowMs, report.url);
    return {
      success: true,
      epoch: layout?.epoch ?? 0,
      ...(this.options.isElected === true ? { leads: true } : {}),
      ...(layout !== null && report.epoch < layout.epoch ? this.decisions.toldOf(layout) : {}),
      store: this.decisions.storeOf(report.url),
      ...this.notUp(nowMs),
      ...(refused === null ? {} : { refused }),
      ...(candidates.length === 0 ? {} : { candidates }),
    };
  }

  /** Members that are not up. Looked up once for many heartbeats. */
  private notUp(nowMs: number): { suspect: string[]; down: string[] } {
    if (this.silent === null || nowMs - this.silent.atMs >= LOOK_MS) {
      const rows = this.registry.list(nowMs).filter((row) => this.isMember(row.url));
      const urls = (state: string) => rows.filter((row) => row.state === state).map((row) => row.url);
      this.silent = { atMs: nowMs, suspect: urls("suspect"), down: urls("down") };
    }
    const { suspect, down } = this.silent;
    return { suspect, down };
  }

  private say(problem: string | null): void {
    if (problem !== null && problem !== this.lastProblem) this.log.warn({}, problem);
    this.lastProblem = problem;
  }
}

/** The answer to one that does not count. */
const NOTHING: HeartbeatAnswer = { success: true, epoch: 0, store: null, suspect: [], down: [] };
