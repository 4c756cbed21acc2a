/**
 * The master's judgement: who is taken into the layout and when, which change comes next, and when a move is
 * over. No HTTP, no timers; the time is passed in. What it decides is on disk (`save`) before anybody hears
 * of it.
 *
 * - The first layout is made of all workers of -volumes at once, or, without any, of those that came within a
 *   short time of each other.
 * - Later workers join by themselves, those that come together in one move. Only an empty store may join:
 *   keys that the cluster does not know of would come into it behind its back.
 * - Nobody joins whom the master and another node cannot reach (admission.ts).
 * - Dead workers stay in the layout. One that has been silent for `removeMs` is removed if all others are up
 *   and enough for all copies.
 * - A move that waits for a dead worker is given up after as long, and whoever joined by it may join again.
 * - While partitions have no majority nothing moves: it could not end. Only `recover` goes on from there.
 * - A layout that a worker knows under a higher number than ours is learned: a master that lost its disk, or
 *   a standby.
 * - A master that is not first in its workers' -master list is a standby: it learns and answers, and changes
 *   nothing.
 */

import { decodeLife } from "../../cluster/identity/life.ts";
import type { Lives } from "../../cluster/identity/lives.ts";
import { witness } from "../../cluster/identity/witness.ts";
import {
  abandon,
  advance,
  type Change,
  ChangeError,
  isJoining,
  nodesAtEnd,
  type Plan,
  propose,
  withdraw,
} from "../../cluster/layout/changes.ts";
import { commonFeatures, FEATURES, featuresOf } from "../../cluster/layout/features.ts";
import {
  firstLayout,
  isForeign,
  type Layout,
  type LayoutNode,
  Placement,
  raiseFeatures,
} from "../../cluster/layout/layout.ts";
import { startRecovery } from "../../cluster/layout/recovery.ts";
import type {
  Candidate,
  Heartbeat,
  HeartbeatAnswer,
  MemberDocument,
  Tried,
} from "../../cluster/membership/messages.ts";
import type { KnownNode, NodeRow, Registry } from "../registry/registry.ts";
import { type Absence, AbsenceWatch, NO_ABSENCE, stuckText } from "./absence.ts";
import { Admission, MASTER } from "./admission.ts";
import { SettingsWatch } from "./settings.ts";
import type { MasterState } from "./state.ts";

/** Workers that come within this time of each other are taken in by one move. */
export const SETTLE_MS = 2000;
/** How long the first layout waits for workers of -volumes that are not there. */
export const STATIC_WAIT_MS = 10_000;
/** Workers that one node is asked to try at a time. */
const CANDIDATES_MAX = 16;
/** Silence after which a move is given up where dead workers are never removed. */
const ABANDON_MS = 10 * 60_000;

/** What all heartbeats of so long a time are told of the others is the same. */
const LOOK_MS = 200;

export interface StewardTimes {
  settleMs: number;
  staticWaitMs: number;
  /** Silence after which a dead worker is removed; 0: never. */
  removeMs: number;
}

export interface StewardOptions {
  registry: Registry;
  state: MasterState | null;
  /** Puts the state on disk; throws when that fails, and then nothing has changed. */
  save: (state: MasterState) => void;
  staticUrls: readonly string[];
  /** Of the first layout. */
  replicas: number;
  /** Those were asked for: a layout that has another number is changed. */
  isReplicasGiven: boolean;
  times: StewardTimes;
  /** What is remembered of the workers' lives. */
  lives: Lives;
  log: { info(fields: object, text: string): void; warn(fields: object, text: string): void };
}

export interface MoveWorker {
  url: string;
  /** Partitions to synchronise, and how many are. */
  total: number;
  done: number;
}

export interface MoveStatus {
  epoch: number;
  joining: string[];
  leaving: string[];
  workers: MoveWorker[];
  total: number;
  done: number;
}

export class Steward {
  private readonly registry: Registry;
  private readonly save: (state: MasterState) => void;
  private readonly staticUrls: readonly string[];
  private readonly replicas: number;
  private readonly times: StewardTimes;
  private readonly lives: Lives;
  private readonly log: StewardOptions["log"];
  private plan: Plan;
  private stores: Record<string, string>;
  private left: Record<string, string>;
  private returning: Record<string, string>;
  private readonly absences: AbsenceWatch;
  private readonly admission: Admission;
  private readonly settings: SettingsWatch;
  private placed: Placement | null = null;
  /** Who has reported `synchronised` for the epoch of the move. */
  private readonly synchronised = new Set<string>();
  /** Since when a worker could join, by URL. */
  private readonly waiting = new Map<string, number>();
  /** What is on disk of each worker, as text. */
  private readonly kept = new Map<string, string>();
  private wishing: { atMs: number; rows: NodeRow[] } | null = null;
  private silent: { atMs: number; suspect: string[]; down: string[] } | null = null;
  private lastProblem: string | null = null;
  private lastForeign: string | null = null;

  constructor(options: StewardOptions) {
    this.registry = options.registry;
    this.save = options.save;
    this.staticUrls = options.staticUrls;
    this.replicas = options.replicas;
    this.times = options.times;
    this.lives = options.lives;
    this.log = options.log;
    this.plan = { layout: options.state?.layout ?? null, queue: options.state?.queue ?? [] };
    this.stores = { ...options.state?.stores };
    this.left = { ...options.state?.left };
    this.returning = { ...options.state?.returning };
    this.settings = new SettingsWatch(options.isReplicasGiven ? options.replicas : null);
    this.admission = new Admission((fields, text) => this.log.warn(fields, text));
    this.absences = new AbsenceWatch((nowMs, url) => this.registry.find(nowMs, url));
  }

  get layout(): Layout | null {
    return this.plan.layout;
  }

  get queue(): readonly Change[] {
    return this.plan.queue;
  }

  /** What keeps the first layout, or any other, from being made, or null. */
  get problem(): string | null {
    return this.lastProblem;
  }

  /** Whether a worker must not be forgotten, however long it is silent. */
  isMember(url: string): boolean {
    return this.plan.layout?.nodes.some((node) => node.url === url) ?? false;
  }

  /** Takes a heartbeat. "full": there is no room for one more worker. */
  hear(nowMs: number, report: Heartbeat): { isNew: boolean; answer: HeartbeatAnswer } | "full" {
    const layout = this.plan.layout;
    const life = report.life === undefined ? null : decodeLife(report.life);
    const witnessed = witness(this.lives, layout, life, report, this.isMember(report.url));
    if (witnessed.foreign !== undefined && witnessed.foreign !== this.lastForeign)
      this.log.warn(
        { url: report.url, reason: witnessed.foreign },
        "a worker of another cluster reports here",
      );
    this.lastForeign = witnessed.foreign ?? this.lastForeign;
    if (witnessed.fenced !== undefined || witnessed.foreign !== undefined)
      return { isNew: false, answer: { ...NOTHING, ...witnessed } };
    const outcome = this.registry.hear(nowMs, report);
    if (outcome === "full") return "full";
    const { url, store, voting, progress } = report;
    for (const tried of report.tried ?? []) this.admission.note(tried.url, tried.store, url, tried.problem);
    if (this.isMember(url)) {
      if (voting && store !== "" && this.stores[url] !== store)
        this.commit(nowMs, this.plan, { ...this.stores, [url]: store }, this.left);
      if (progress !== null && progress.epoch === layout?.epoch && progress.done >= progress.total)
        this.synchronised.add(url);
    }
    if (this.kept.get(url) !== textOf(report)) this.commit(nowMs, this.plan, this.stores, this.left);
    return { isNew: outcome === "new", answer: { ...this.answer(nowMs, report), ...witnessed } };
  }

  /** Does whatever is due. Called a few times a second. */
  tick(nowMs: number): void {
    if (this.isStandby(nowMs)) {
      this.say(this.disagreement(nowMs));
      return;
    }
    this.noteWaiting(nowMs);
    if (this.plan.layout === null) this.form(nowMs);
    else {
      this.say(stuckText(this.absence(nowMs)));
      this.abandonHopeless(nowMs);
      this.step(nowMs);
      if (this.plan.layout.previous !== null || this.plan.queue.length > 0) return;
      this.takeIn(nowMs);
      this.adjust(nowMs);
      this.removeDead(nowMs);
      this.step(nowMs);
    }
  }

  /** A master that is not the first in the -master list of its workers. */
  isStandby(nowMs: number): boolean {
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

  /** A worker that knows a newer layout, or null. */
  newerAt(nowMs: number): string | null {
    const epoch = this.plan.layout?.epoch ?? 0;
    let best: NodeRow | null = null;
    for (const row of this.registry.list(nowMs))
      if (row.state === "up" && row.epoch > epoch && row.epoch > (best?.epoch ?? 0)) best = row;
    return best?.url ?? null;
  }

  /** Takes the layout of a worker over when it is newer and about the same cluster. */
  learn(nowMs: number, document: MemberDocument): boolean {
    const { layout } = document;
    const own = this.plan.layout;
    if (layout === null || layout.epoch <= (own?.epoch ?? 0)) return false;
    if (isForeign(own?.cluster, layout.cluster)) return false;
    const urls = new Set([...layout.nodes, ...(layout.previous?.nodes ?? [])].map((node) => node.url));
    // Without names of clusters, only that both have a worker in common tells that they are one.
    const isKnown = own?.cluster != null && layout.cluster !== null;
    if (own !== null && !isKnown && !own.nodes.some((node) => urls.has(node.url))) return false;
    const stores = Object.fromEntries(Object.entries(this.stores).filter(([url]) => urls.has(url)));
    for (const row of this.registry.list(nowMs))
      if (urls.has(row.url) && row.voting && row.store !== "") stores[row.url] = row.store;
    this.commit(nowMs, { layout, queue: own === null ? [] : this.plan.queue }, stores, this.left);
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
      this.plan.layout === null && !rows.some((row) => row.store !== "" && !row.empty && row.state === "up");
    const withKeys = aloneWithKeys && silent.length === 1;
    return silent.map(({ url }) => ({ url, withKeys }));
  }

  /** Takes the worker's partitions away from it, then the worker off the layout. Throws ChangeError. */
  drain(nowMs: number, url: string): void {
    this.demandWriter(nowMs);
    this.commitPlan(nowMs, propose(this.plan, { kind: "leave", url }));
    this.step(nowMs);
  }

  /** The same for a worker that is gone; also gives a move up that waits for it. Throws ChangeError. */
  remove(nowMs: number, url: string): void {
    this.demandWriter(nowMs);
    const row = this.registry.find(nowMs, url);
    const planned = nodesAtEnd(this.plan).some((node) => node.url === url);
    if (row === null && !planned) throw new ChangeError(`${url} is not known here`);
    if (row !== null && row.state !== "down")
      throw new ChangeError(`${url} is ${row.state}: drain it, or stop it and wait until it is down`);
    const layout = this.plan.layout;
    const stuck = stuckText(this.absence(nowMs));
    if (layout !== null && this.isMember(url) && !isJoining(layout, url) && stuck !== null)
      throw new ChangeError(`${url} cannot be removed: ${stuck}`);
    if (layout !== null && isJoining(layout, url)) this.commitPlan(nowMs, withdraw(abandon(this.plan), url));
    else if (layout !== null && this.isMember(url))
      this.commitPlan(nowMs, propose(withdraw(this.plan, url), { kind: "leave", url }));
    else {
      this.registry.drop(url);
      this.commitPlan(nowMs, withdraw(this.plan, url));
    }
    this.step(nowMs);
  }

  /** One worker for another in one move. Throws ChangeError. */
  replace(nowMs: number, url: string, by: string): void {
    this.demandWriter(nowMs);
    if (url === by) throw new ChangeError("a worker cannot replace itself");
    // It has joined by itself already, or will: then the old one only has to leave.
    const isPlanned = nodesAtEnd(this.plan).some((node) => node.url === by);
    if (!isPlanned) {
      const row = this.registry.find(nowMs, by);
      if (row === null || row.state !== "up" || row.store === "")
        throw new ChangeError(`${by} is not up: start it with -master and this master's URL first`);
      const refusal = this.refusal(nowMs, row);
      if (refusal !== null) throw new ChangeError(`${by}: ${refusal}`);
      this.commitPlan(nowMs, propose(this.plan, { kind: "replace", url, node: nodeOf(row) }));
    } else this.commitPlan(nowMs, propose(this.plan, { kind: "leave", url }));
    this.step(nowMs);
  }

  /**
   * Raises the feature level to what this program knows, if every member can do that; there is no way back.
   * Throws ChangeError.
   */
  upgrade(nowMs: number, epoch: number): void {
    this.demandWriter(nowMs);
    const { layout, queue } = this.plan;
    if (layout === null) throw new ChangeError("the cluster has no layout yet");
    if (featuresOf(layout) >= FEATURES) return;
    this.demandEpoch(epoch);
    if (layout.previous !== null || queue.length > 0)
      throw new ChangeError("a change of the layout is under way: wait until it is finished");
    for (const { url } of layout.nodes) {
      const row = this.registry.find(nowMs, url);
      if (row?.state !== "up") throw new ChangeError(`${url} is not up: nobody knows what it can do`);
      if ((row.features ?? 1) < FEATURES)
        throw new ChangeError(
          `${url} can do level ${row.features ?? 1} of ${FEATURES}: start it with this release, after minivault upgrade on its data directory`,
        );
    }
    this.log.warn({ features: FEATURES }, "the cluster's feature level is raised, as an operator wants it");
    this.commitPlan(nowMs, { ...this.plan, layout: raiseFeatures(layout, FEATURES) });
  }

  /**
   * Gives the move under way up, as somebody has decided who saw that epoch. What joined by it has left.
   * Throws ChangeError.
   */
  abandon(nowMs: number, epoch: number): void {
    this.demandWriter(nowMs);
    const plan = abandon(this.plan);
    this.demandEpoch(epoch);
    this.log.warn({ epoch }, "the move is given up, as an operator wants it");
    this.commitPlan(nowMs, plan);
    this.step(nowMs);
  }

  /**
   * Goes on without the workers that are down, where partitions have no majority left: `missing` are those
   * that somebody who saw that epoch has given up. Throws ChangeError.
   */
  recover(nowMs: number, epoch: number, missing: readonly string[]): void {
    this.demandWriter(nowMs);
    const { layout } = this.plan;
    if (layout === null) throw new ChangeError("the cluster has no layout yet");
    this.demandEpoch(epoch);
    const absence = this.absence(nowMs);
    if (absence.stuck === 0)
      throw new ChangeError(
        "every partition has a majority of its copies: nothing has to be given up; remove takes a dead worker off the layout without any loss",
      );
    if ([...absence.missing].sort().join() !== [...missing].sort().join())
      throw new ChangeError(
        `not the same workers are down any more: ${absence.missing.join(", ") || "none"}; look again`,
      );
    const recovering = startRecovery(layout, new Set(missing));
    this.log.warn({ missing, epoch: recovering.epoch }, "the cluster goes on without these workers");
    this.commitPlan(nowMs, { layout: recovering, queue: [] });
  }

  private demandEpoch(epoch: number): void {
    const own = this.plan.layout?.epoch ?? 0;
    if (epoch !== own)
      throw new ChangeError(`the layout has changed meanwhile: it is of epoch ${own}; look again`);
  }

  /** Progress of the move under way, or null. */
  move(nowMs: number): MoveStatus | null {
    const layout = this.plan.layout;
    if (layout?.previous == null) return null;
    const placement = this.placement();
    const workers = placement.awaited().map((url) => {
      const total = placement.mustSynchronise(url).length;
      const progress = this.registry.find(nowMs, url)?.progress;
      const reported =
        progress?.epoch === layout.epoch && progress.total > 0 ? progress.done / progress.total : 0;
      const done = this.synchronised.has(url) ? total : Math.min(total, Math.floor(reported * total));
      return { url, total, done };
    });
    const sum = (figure: (worker: MoveWorker) => number) =>
      workers.reduce((all, one) => all + figure(one), 0);
    return {
      epoch: layout.epoch,
      joining: layout.nodes.filter(({ url }) => isJoining(layout, url)).map(({ url }) => url),
      leaving: layout.nodes.filter(({ state }) => state === "draining").map(({ url }) => url),
      workers,
      total: sum(({ total }) => total),
      done: sum(({ done }) => done),
    };
  }

  /** What the worker is to the layout; null: nothing. */
  memberState(url: string): "active" | "joining" | "leaving" | "waiting" | null {
    const node = this.plan.layout?.nodes.find((member) => member.url === url);
    if (node === undefined)
      return nodesAtEnd(this.plan).some((member) => member.url === url) ? "waiting" : null;
    if (node.state === "draining") return "leaving";
    return isJoining(this.plan.layout as Layout, url) ? "joining" : "active";
  }

  /** The region that the layout has for a worker; null: it has none. */
  regionOf(url: string): string | null {
    return this.plan.layout?.nodes.find((member) => member.url === url)?.region ?? null;
  }

  /** Partitions of which the worker holds a copy. */
  copies(url: string): number {
    return this.plan.layout === null ? 0 : this.placement().partitionsOf(url).length;
  }

  /** Why a worker that reports is not taken in, or null. */
  refusal(nowMs: number, { url, store, empty, features = 1 }: Heartbeat): string | null {
    if (store === "" || nodesAtEnd(this.plan).some((node) => node.url === url) || this.isMember(url))
      return null;
    const twin = this.twinOf(nowMs, { url, store });
    if (twin !== null)
      return `its data directory is a copy of that of ${twin}: start it with an empty one of its own`;
    if (this.left[url] === store)
      return "it has left the cluster; with an empty data directory it can join again";
    if (!this.isAble({ features }))
      return `the cluster has feature level ${featuresOf(this.plan.layout)}, and it can do ${features}: start it with the release that the others have, after minivault upgrade on its data directory`;
    if (!this.mayHoldKeys({ url, store, empty }))
      return "its data directory holds keys that are not this cluster's; start it with an empty one";
    const holders = this.plan.layout === null && !empty ? this.tooManyHolders(nowMs) : null;
    if (holders !== null || this.isReached(nowMs, { url, store })) return holders;
    return this.admission.problem(url, store);
  }

  /**
   * A master that lost its disk must not make a second cluster beside the first: its members are in -volumes,
   * and most of them have to be here, without a layout.
   */
  private tooFewKnown(): string | null {
    const missing = this.staticUrls.filter((url) => !this.waiting.has(url));
    if (missing.length * 2 < this.staticUrls.length || this.staticUrls.length === 0) return null;
    return `most workers of -volumes have to be there before a cluster begins, since those that are away may belong to one; waiting for ${missing.join(", ")}`;
  }

  /** Another worker with the same store, which came first: its URL, or null. */
  private twinOf(nowMs: number, { url, store }: { url: string; store: string }): string | null {
    if (store === "") return null;
    const isTwin = (row: NodeRow) => row.url !== url && row.store === store && row.state !== "down";
    const twins = this.registry.list(nowMs).filter(isTwin);
    const first = twins.find((row) => this.isMember(row.url) || row.url < url);
    return first?.url ?? null;
  }

  private tooManyHolders(nowMs: number): string | null {
    const holders = this.candidates(nowMs).filter((row) => !row.empty);
    if (holders.length < 2) return null;
    return `a cluster can begin with the keys of one worker, but ${holders.length} hold keys: ${holders.map((row) => row.url).join(", ")}`;
  }

  private answer(nowMs: number, report: Heartbeat): HeartbeatAnswer {
    const layout = this.plan.layout;
    const refused = this.refusal(nowMs, report);
    const { suspect, down } = this.notUp(nowMs);
    const candidates = this.untried(nowMs, report.url);
    return {
      success: true,
      epoch: layout?.epoch ?? 0,
      ...(layout !== null && report.epoch < layout.epoch ? { layout } : {}),
      store: this.stores[report.url] ?? null,
      suspect,
      down,
      ...(refused === null ? {} : { refused }),
      ...(candidates.length === 0 ? {} : { candidates }),
    };
  }

  /** Workers that want to be taken in, and that somebody is to try to reach. */
  untried(nowMs: number, by: string = MASTER): Candidate[] {
    // Each heartbeat asks.
    if (this.wishing === null || nowMs - this.wishing.atMs >= LOOK_MS || by === MASTER)
      this.wishing = { atMs: nowMs, rows: this.applicants(nowMs) };
    return this.wishing.rows
      .filter(({ url, store }) => url !== by && this.admission.lacks(url, store, by))
      .slice(0, CANDIDATES_MAX)
      .map(({ url, store }) => ({ url, store }));
  }

  /** The master has tried to reach a worker. */
  tried({ url, store, problem }: Tried): void {
    this.admission.note(url, store, MASTER, problem);
  }

  /** Whose word counts beside the master's: voters; while there is no layout, others that it has reached. */
  private trusted(nowMs: number): string[] {
    const counts =
      this.plan.layout === null
        ? ({ url, store }: NodeRow) => !this.admission.lacks(url, store, MASTER)
        : ({ url, voting }: NodeRow) => voting && this.isMember(url);
    const rows = this.registry.list(nowMs).filter((row) => row.state === "up" && counts(row));
    return rows.map(({ url }) => url);
  }

  private isReached(nowMs: number, { url, store }: Candidate): boolean {
    const trusted = this.trusted(nowMs);
    if (this.plan.layout !== null && trusted.length === 0) return false;
    return this.admission.isReached(url, store, trusted);
  }

  /** Members that are not up. Looked up once for many heartbeats. */
  private notUp(nowMs: number): { suspect: string[]; down: string[] } {
    if (this.silent === null || nowMs - this.silent.atMs >= LOOK_MS) {
      const rows = this.registry.list(nowMs).filter((row) => this.isMember(row.url));
      const urls = (state: string) => rows.filter((row) => row.state === state).map((row) => row.url);
      this.silent = { atMs: nowMs, suspect: urls("suspect"), down: urls("down") };
    }
    return this.silent;
  }

  /** Workers that are there and belong to no layout that we know. */
  private candidates(nowMs: number): NodeRow[] {
    return this.registry
      .list(nowMs)
      .filter((row) => row.state === "up" && row.store !== "" && this.left[row.url] !== row.store)
      .filter((row) => this.isMember(row.url) || this.twinOf(nowMs, row) === null);
  }

  /** Candidates that are no members yet. */
  private applicants(nowMs: number): NodeRow[] {
    return this.candidates(nowMs).filter(
      (row) => !this.isMember(row.url) && this.mayHoldKeys(row) && this.isAble(row),
    );
  }

  private noteWaiting(nowMs: number): void {
    const planned = new Set(nodesAtEnd(this.plan).map((node) => node.url));
    const applicants = this.applicants(nowMs);
    this.admission.keepOnly(new Set(applicants.map((row) => row.url)));
    const free = applicants.filter((row) => !planned.has(row.url) && this.isReached(nowMs, row));
    const urls = new Set(free.map((row) => row.url));
    for (const url of this.waiting.keys()) if (!urls.has(url)) this.waiting.delete(url);
    for (const url of urls) if (!this.waiting.has(url)) this.waiting.set(url, nowMs);
  }

  private form(nowMs: number): void {
    const found = this.candidates(nowMs);
    // Somebody knows a layout: that one counts, it only has to be learned.
    const ready = found.filter((row) => this.waiting.has(row.url));
    if (found.some((row) => row.epoch > 0)) return;
    if (ready.length === 0) {
      const problems = found.map((row) => [row.url, this.admission.problem(row.url, row.store)]);
      const [url, problem] = problems.find(([, text]) => text !== null) ?? [];
      this.say(url === undefined ? null : `no worker can be taken in: ${url}: ${problem}`);
      return;
    }
    const times = [...this.waiting.values()];
    const isComplete = this.staticUrls.length > 0 && this.staticUrls.every((url) => this.waiting.has(url));
    const isOver =
      this.staticUrls.length > 0
        ? nowMs - Math.min(...times) >= this.times.staticWaitMs
        : nowMs - Math.max(...times) >= this.times.settleMs;
    if (!isComplete && !isOver) return;
    const problem = this.tooFewKnown() ?? this.tooManyHolders(nowMs);
    this.say(problem);
    if (problem !== null) return;
    // A worker with keys begins alone; the others then get their copies by a move.
    const holder = ready.find((row) => !row.empty);
    const first = holder === undefined ? ready : [holder];
    const layout = firstLayout(first.map(nodeOf), this.replicas, commonFeatures(found));
    this.commit(nowMs, { layout, queue: [] }, storesOf(first), this.left);
    this.log.info({ nodes: first.map((row) => row.url) }, "made the first layout");
  }

  /** Whether it can do what the cluster relies on. */
  private isAble({ features = 1 }: Pick<Heartbeat, "features">): boolean {
    return features >= featuresOf(this.plan.layout);
  }

  /** Keys that a cluster does not know of do not come into it behind its back; its own may come back. */
  private mayHoldKeys({ url, store, empty }: Pick<Heartbeat, "url" | "store" | "empty">): boolean {
    return empty || this.plan.layout === null || this.returning[url] === store;
  }

  private say(problem: string | null): void {
    if (problem !== null && problem !== this.lastProblem) this.log.warn({}, problem);
    this.lastProblem = problem;
  }

  /** Members that are not there, or do not vote. */
  absence(nowMs: number): Absence {
    const { layout } = this.plan;
    return layout === null ? NO_ABSENCE : this.absences.look(nowMs, layout);
  }

  private abandonHopeless(nowMs: number): void {
    const { layout } = this.plan;
    if (layout === null || layout.previous === null || layout.lost !== undefined) return;
    const waitMs = this.times.removeMs === 0 ? ABANDON_MS : this.times.removeMs;
    const url = this.absences.hopeless(nowMs, this.placement(), this.synchronised, waitMs);
    if (url === null) return;
    this.log.warn({ url, epoch: layout.epoch }, "a move waits for a dead worker: it is given up");
    const joining = layout.nodes.filter((node) => isJoining(layout, node.url)).map((node) => node.url);
    this.commitPlan(nowMs, abandon(this.plan), new Set(joining));
  }

  /** Takes in who has waited long enough, and whoever waits beside it. */
  private takeIn(nowMs: number): void {
    if (this.waiting.size === 0) return;
    if (nowMs - Math.max(...this.waiting.values()) < this.times.settleMs) return;
    const rows = this.candidates(nowMs).filter((row) => this.waiting.has(row.url));
    this.commitPlan(nowMs, propose(this.plan, { kind: "join", nodes: rows.map(nodeOf) }));
  }

  /** Makes the layout what the nodes were started with. */
  private adjust(nowMs: number): void {
    const { layout, queue } = this.plan;
    if (layout === null || queue.length > 0) return;
    const { settleMs } = this.times;
    const change = this.settings.wanted(nowMs, layout, (url) => this.registry.find(nowMs, url), settleMs);
    if (change === null) return;
    this.log.warn(change, "the layout changes, as nodes were started with another -region or -replicas");
    this.commitPlan(nowMs, propose(this.plan, change));
  }

  private removeDead(nowMs: number): void {
    const layout = this.plan.layout;
    if (
      this.times.removeMs === 0 ||
      layout === null ||
      layout.previous !== null ||
      this.plan.queue.length > 0
    )
      return;
    const rows = layout.nodes.map((node) => this.registry.find(nowMs, node.url));
    const silent = rows.filter((row) => row?.state !== "up");
    const dead = silent[0];
    // More than one: that is more likely a cut link than two deaths. Not heard since our start: too early to
    // tell.
    if (silent.length !== 1 || dead == null || dead.silentMs === null || dead.silentMs < this.times.removeMs)
      return;
    if (rows.length - 1 < layout.replicas || this.absence(nowMs).shaky > 0) return;
    this.log.warn({ url: dead.url, silentMs: Math.round(dead.silentMs) }, "a worker is dead: removing it");
    this.commitPlan(nowMs, propose(this.plan, { kind: "leave", url: dead.url }));
  }

  /** Whether the next change cannot begin yet. */
  private mustWait(nowMs: number): boolean {
    const [next] = this.plan.queue;
    if (next?.kind !== "replace") return this.absence(nowMs).shaky > 0;
    const { store } = this.registry.find(nowMs, next.node.url) ?? { store: "" };
    return !this.isReached(nowMs, { url: next.node.url, store }) || this.absence(nowMs).shaky > 0;
  }

  /** Ends the move, or starts the next one, as far as that goes now. */
  private step(nowMs: number): void {
    while (this.plan.layout !== null) {
      if (this.plan.layout.previous === null && this.mustWait(nowMs)) return;
      let next: Plan | null;
      try {
        next = advance(this.plan, this.placement(), this.synchronised);
      } catch (error) {
        if (!(error instanceof ChangeError)) throw error;
        this.log.warn({ reason: error.message }, "a change that waited is not possible any more");
        next = { ...this.plan, queue: this.plan.queue.slice(1) };
      }
      if (next === null) return;
      this.commitPlan(nowMs, next);
    }
  }

  /** @param mayReturn workers that leave by it and may join again with what they hold */
  private commitPlan(nowMs: number, plan: Plan, mayReturn: ReadonlySet<string> = new Set()): void {
    const before = this.plan.layout;
    const after = plan.layout;
    let { stores, left, returning } = this;
    if (after !== null && after !== before) {
      const urls = new Set(after.nodes.map((node) => node.url));
      stores = Object.fromEntries(Object.entries(stores).filter(([url]) => urls.has(url)));
      const added = after.nodes.filter((node) => stores[node.url] === undefined);
      for (const { url } of added) {
        const store = this.registry.find(nowMs, url)?.store ?? "";
        if (store !== "") stores[url] = store;
      }
      left = { ...left };
      returning = { ...returning };
      for (const { url } of before?.nodes ?? [])
        if (!urls.has(url) && this.stores[url] !== undefined)
          (mayReturn.has(url) ? returning : left)[url] = this.stores[url];
      for (const url of urls) {
        delete left[url];
        delete returning[url];
      }
    }
    this.commit(nowMs, plan, stores, left, returning);
    if (after !== null && after.epoch !== before?.epoch) {
      const nodes = after.nodes.length;
      this.log.info(
        { epoch: after.epoch, nodes, waiting: plan.queue.length },
        after.previous === null ? "the layout is stable" : "the layout moves",
      );
    }
  }

  private commit(
    nowMs: number,
    plan: Plan,
    stores: Record<string, string>,
    left: Record<string, string>,
    returning = this.returning,
  ): void {
    const nodes = this.known(nowMs);
    this.save({ ...plan, stores, left, returning, nodes });
    this.kept.clear();
    for (const node of nodes) this.kept.set(node.url, textOf(node));
    if (plan.layout?.epoch !== this.plan.layout?.epoch) this.synchronised.clear();
    if (plan.layout !== this.plan.layout) this.placed = null;
    this.plan = plan;
    this.stores = stores;
    this.left = left;
    this.returning = returning;
  }

  private known(nowMs: number): KnownNode[] {
    return this.registry
      .list(nowMs)
      .filter((row) => row.silentMs !== null || row.store !== "" || !row.static)
      .map(({ url, region, host, store }) => ({ url, region, host, store }));
  }

  private placement(): Placement {
    this.placed ??= new Placement(this.plan.layout as Layout);
    return this.placed;
  }

  private demandWriter(nowMs: number): void {
    if (this.isStandby(nowMs))
      throw new ChangeError(
        "this master is a standby: the first one of the workers' -master list makes changes",
      );
  }
}

/** The answer to one that does not count. */
const NOTHING: HeartbeatAnswer = { success: true, epoch: 0, store: null, suspect: [], down: [] };

function nodeOf({ url, region, host }: NodeRow): LayoutNode {
  return { id: url, url, region, host: host === "" ? new URL(url).hostname : host, state: "active" };
}

function textOf({ region, host, store }: KnownNode): string {
  return `${region} ${host} ${store}`;
}

function storesOf(rows: readonly NodeRow[]): Record<string, string> {
  return Object.fromEntries(rows.map((row) => [row.url, row.store]));
}
