/**
 * What the master has decided: the layout, what waits to be changed in it, and which store each worker has
 * there. It is on disk (`save`) before anybody hears of it, and with it all workers that are known.
 */
import { type Change, isJoining, nodesAtEnd, type Plan } from "../../cluster/layout/changes.ts";
import { Placement } from "../../cluster/layout/groups.ts";
import type { Layout, LayoutNode } from "../../cluster/layout/layout.ts";
import type { HeartbeatAnswer } from "../../cluster/membership/messages.ts";
import type { KnownNode, NodeRow, Registry } from "../registry/registry.ts";
import type { MasterState } from "./state.ts";

export interface DecisionsSetup {
  registry: Registry;
  state: MasterState | null;
  /** Puts the state on disk; throws when that fails, and then nothing has changed. */
  save: (state: MasterState) => void;
  log: { info(fields: object, text: string): void; warn(fields: object, text: string): void };
}

/** Whose store is which, by URL. */
interface Stores {
  /** Of the layout's nodes. */
  stores: Record<string, string>;
  /** Of workers that left: they do not join again by themselves. */
  left: Record<string, string>;
  /** Of workers whose move was given up: they may hold keys, and join again. */
  returning: Record<string, string>;
}

export class Decisions {
  private readonly setup: DecisionsSetup;
  private decided: Plan;
  private known: Stores;
  private placed: Placement | null = null;
  private planned: Set<string> | null = null;
  /** Who has reported that it is synchronised, for the move of this layout. */
  readonly synchronised = new Set<string>();
  /**
   * What waited at the start of this master: where others have made layouts since, it was decided on long
   * ago.
   */
  private readonly waitedBefore: ReadonlySet<Change>;
  /** What is on disk of each worker, as text. */
  private readonly kept = new Map<string, string>();

  constructor(setup: DecisionsSetup) {
    const { state } = setup;
    this.setup = setup;
    this.decided = { layout: state?.layout ?? null, queue: state?.queue ?? [] };
    this.waitedBefore = new Set(this.decided.queue);
    const { stores = {}, left = {}, returning = {} } = state ?? {};
    this.known = { stores: { ...stores }, left: { ...left }, returning: { ...returning } };
  }

  get plan(): Plan {
    return this.decided;
  }

  /** What waits and was asked for of this master since its start. */
  get newOrders(): Change[] {
    return this.decided.queue.filter((change) => !this.waitedBefore.has(change));
  }

  get layout(): Layout | null {
    return this.decided.layout;
  }

  /** To be asked only while there is a layout. */
  get placement(): Placement {
    this.placed ??= new Placement(this.decided.layout as Layout);
    return this.placed;
  }

  /** Whether a worker is in the layout. */
  isMember(url: string): boolean {
    return this.layout?.nodes.some((node) => node.url === url) ?? false;
  }

  /** Whether it is in the layout that comes out of all that waits. */
  isPlanned(url: string): boolean {
    // Each heartbeat asks.
    this.planned ??= new Set(nodesAtEnd(this.decided).map((node) => node.url));
    return this.planned.has(url);
  }

  /** Whether it comes in by the move under way. */
  isJoining(url: string): boolean {
    return this.layout !== null && isJoining(this.layout, url);
  }

  /** All who come in by the move under way. */
  get joining(): Set<string> {
    const urls = this.layout?.nodes.map((node) => node.url) ?? [];
    return new Set(urls.filter((url) => this.isJoining(url)));
  }

  /** The store that the layout has under a URL; null: none. */
  storeOf(url: string): string | null {
    return this.known.stores[url] ?? null;
  }

  /** Under which URL the layout has a store; null: none. */
  urlOf(store: string): string | null {
    return Object.keys(this.known.stores).find((url) => this.known.stores[url] === store) ?? null;
  }

  hasLeft(url: string, store: string): boolean {
    return this.known.left[url] === store;
  }

  mayReturn(url: string, store: string): boolean {
    return this.known.returning[url] === store;
  }

  /** A member has another store by now, which votes. */
  noteStore(nowMs: number, url: string, store: string): void {
    this.keep(nowMs, this.decided, { ...this.known, stores: { ...this.known.stores, [url]: store } });
  }

  /** Keeps what is known of a worker, where that is new. */
  noteWorker(nowMs: number, worker: KnownNode): void {
    if (this.kept.get(worker.url) !== textOf(worker)) this.keep(nowMs, this.decided, this.known);
  }

  /** The first layout, or one that a worker knew. @param stores of its nodes, as far as they are known */
  begin(nowMs: number, plan: Plan, stores: Record<string, string>): void {
    this.keep(nowMs, plan, { ...this.known, stores });
  }

  /**
   * A layout as workers are told of it. The first one goes with its stores: a master that learns it from a
   * worker must know those of the others, or they would be taken for workers that have lost their data.
   */
  toldOf(layout: Layout): Pick<HeartbeatAnswer, "layout" | "birth"> {
    return layout.epoch === 1 ? { layout, birth: this.known.stores } : { layout };
  }

  /** The stores that a layout of these workers has, as far as they are known. */
  storesAmong(urls: ReadonlySet<string>): Record<string, string> {
    return Object.fromEntries(Object.entries(this.known.stores).filter(([url]) => urls.has(url)));
  }

  /**
   * Another layout, or another queue.
   * @param mayReturn workers that leave by it and may join again with what they hold
   */
  decide(nowMs: number, plan: Plan, mayReturn: ReadonlySet<string> = new Set()): void {
    const before = this.decided.layout;
    const after = plan.layout;
    const stores = after === null || after === before ? this.known : this.storesWith(nowMs, after, mayReturn);
    this.keep(nowMs, plan, stores);
    if (after === null || after.epoch === before?.epoch) return;
    this.setup.log.info(
      { epoch: after.epoch, nodes: after.nodes.length, waiting: plan.queue.length },
      after.previous === null ? "the layout is stable" : "the layout moves",
    );
  }

  private storesWith(nowMs: number, { nodes }: Layout, mayReturn: ReadonlySet<string>): Stores {
    const urls = new Set(nodes.map((node) => node.url));
    const stores = this.storesAmong(urls);
    for (const url of urls) {
      if (stores[url] !== undefined) continue;
      const store = this.setup.registry.find(nowMs, url)?.store ?? "";
      if (store !== "") stores[url] = store;
    }
    const left = { ...this.known.left };
    const returning = { ...this.known.returning };
    for (const { url } of this.layout?.nodes ?? []) {
      const store = this.known.stores[url];
      if (!urls.has(url) && store !== undefined) (mayReturn.has(url) ? returning : left)[url] = store;
    }
    for (const url of urls) {
      delete left[url];
      delete returning[url];
    }
    return { stores, left, returning };
  }

  private keep(nowMs: number, plan: Plan, stores: Stores): void {
    const nodes = this.workers(nowMs);
    this.setup.save({ ...plan, ...stores, nodes });
    this.kept.clear();
    for (const node of nodes) this.kept.set(node.url, textOf(node));
    if (plan.layout !== this.layout) {
      this.synchronised.clear();
      this.placed = null;
    }
    this.decided = plan;
    this.planned = null;
    this.known = stores;
  }

  private workers(nowMs: number): KnownNode[] {
    return this.setup.registry
      .list(nowMs)
      .filter((row) => row.silentMs !== null || row.store !== "" || !row.static)
      .map(({ url, region, host, store }) => ({ url, region, host, store }));
  }
}

/** A worker as a node of the layout. */
export function nodeOf({ url, region, host }: NodeRow): LayoutNode {
  return { id: url, url, region, host: host === "" ? new URL(url).hostname : host, state: "active" };
}

function textOf({ region, host, store }: KnownNode): string {
  return `${region} ${host} ${store}`;
}
