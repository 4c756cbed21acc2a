/**
 * Changes of the layout that wait for their turn, and the one that is under way: pure steps over plain data.
 * One move at a time; the rest queues, in the order in which it was asked for.
 *
 *   propose ─► queue ─► advance: startMove ─► (new owners synchronise) ─► advance: finishMove, leavers are off the list
 *                                    └──────► abandon: back to the layout before
 *
 * Abandoning is safe at any time: whatever was decided during the move has a majority of the old set behind
 * it too, so the old layout under a higher number knows all of it. Except where the cluster recovers
 * (recovery.ts): the old sets know nothing of what those that are left have decided.
 */

import type { Placement } from "./groups.ts";
import type { Layout, LayoutNode } from "./layout.ts";
import { canFinishMove, finishMove, firstLayout, startMove } from "./steps.ts";

export type Change =
  /** New workers, all in one move. */
  | { kind: "join"; nodes: LayoutNode[] }
  /**
   * The worker's partitions move away; then it is off the list. Also for a dead worker: only the others are
   * needed.
   */
  | { kind: "leave"; url: string }
  /** Both in one move. */
  | { kind: "replace"; url: string; node: LayoutNode }
  /** Other regions of workers, by URL, and another number of copies (null: the same). */
  | { kind: "adjust"; regions: Record<string, string>; replicas: number | null };

export interface Plan {
  /** Null: there is none yet. */
  layout: Layout | null;
  queue: Change[];
}

/** A change that cannot be; the message is a sentence for a person. */
export class ChangeError extends Error {}

/**
 * The plan with one more change at its end. Throws ChangeError when it makes no sense after those before it.
 */
export function propose(plan: Plan, change: Change): Plan {
  if (plan.layout === null) throw new ChangeError("the cluster has no layout yet");
  nodesAfter(nodesAtEnd(plan), change);
  return { ...plan, queue: [...plan.queue, change] };
}

/**
 * The nodes when everything that is planned is done. What waits may have become impossible since it was asked
 * for, as when the move that it came after was given up: such a change does nothing.
 */
export function nodesAtEnd(plan: Plan): LayoutNode[] {
  const nodes = plan.layout === null ? [] : staying(plan.layout.nodes);
  return plan.queue.reduce((list, change) => {
    try {
      return staying(nodesAfter(list, change));
    } catch (error) {
      if (error instanceof ChangeError) return list;
      throw error;
    }
  }, nodes);
}

/**
 * The next step: ends the move when all have synchronised, or starts the next one. Null: nothing to do now.
 * @param placement of the plan's layout
 * @param synchronised who has reported so for the layout's epoch
 */
export function advance(plan: Plan, placement: Placement, synchronised: ReadonlySet<string>): Plan | null {
  const { layout, queue } = plan;
  if (layout === null) return null;
  if (layout.previous !== null) {
    if (!canFinishMove(placement, synchronised)) return null;
    const finished = finishMove(layout);
    return { ...plan, layout: { ...finished, nodes: staying(finished.nodes) } };
  }
  if (queue.length === 0) return null;
  const [next] = queue;
  const replicas = next.kind === "adjust" ? (next.replicas ?? layout.replicas) : layout.replicas;
  return { layout: startMove(layout, nodesAfter(layout.nodes, next), replicas), queue: queue.slice(1) };
}

/** Gives up the move that is under way: the layout before it, under a higher number. */
export function abandon(plan: Plan): Plan {
  const { layout } = plan;
  if (layout?.previous == null) throw new ChangeError("nothing is moving");
  if (layout.lost !== undefined)
    throw new ChangeError("the cluster recovers: the layout before it has lost its majorities");
  return { ...plan, layout: { ...layout.previous, epoch: layout.epoch + 1, previous: null } };
}

/** Takes what waits for a worker's sake off the queue, and the worker off a join that waits. */
export function withdraw(plan: Plan, url: string): Plan {
  const queue: Change[] = [];
  for (const change of plan.queue) {
    if (change.kind !== "join") {
      if (!isFor(change, url)) queue.push(change);
      continue;
    }
    const nodes = change.nodes.filter((node) => node.url !== url);
    if (nodes.length > 0) queue.push({ ...change, nodes });
  }
  return { ...plan, queue };
}

/** Whether a worker is to leave by a change that is no join, or to come in another's place. */
function isFor(change: Exclude<Change, { kind: "join" }>, url: string): boolean {
  if (change.kind === "adjust") return false;
  return change.url === url || (change.kind === "replace" && change.node.url === url);
}

/** Whether the worker is among the new ones of the move under way. */
export function isJoining(layout: Layout, url: string): boolean {
  const has = (nodes: readonly LayoutNode[]) => nodes.some((node) => node.url === url);
  return layout.previous !== null && has(layout.nodes) && !has(layout.previous.nodes);
}

/** The nodes that are still there when the move is over. */
function staying(nodes: readonly LayoutNode[]): LayoutNode[] {
  return nodes.filter((node) => node.state === "active");
}

/** The list for `startMove`: who leaves is still on it, but holds nothing. */
function nodesAfter(nodes: readonly LayoutNode[], change: Change): LayoutNode[] {
  let list = [...nodes];
  if (change.kind === "adjust")
    return list.map((node) => ({ ...node, region: change.regions[node.url] ?? node.region }));
  const added = change.kind === "join" ? change.nodes : change.kind === "replace" ? [change.node] : [];
  if (change.kind !== "join") {
    if (!list.some((node) => node.url === change.url && node.state === "active"))
      throw new ChangeError(`${change.url} is not in the layout, or is leaving it already`);
    list = list.map((node) => (node.url === change.url ? { ...node, state: "draining" } : node));
  }
  for (const node of added) {
    if (list.some((other) => other.id === node.id))
      throw new ChangeError(`${node.url} is in the layout already`);
    list.push(node);
  }
  if (!list.some((node) => node.state === "active"))
    throw new ChangeError("it is the last worker: its data has nowhere to go");
  return list;
}

/** Reads changes that were stored as JSON. Throws an Error when they are not. */
export function checkedChanges(value: unknown): Change[] {
  if (!Array.isArray(value)) throw new Error("the queue of changes is a list");
  return value.map((change: Change) => {
    const nodes = change.kind === "join" ? change.nodes : change.kind === "replace" ? [change.node] : [];
    // A layout of just these nodes: checks them all.
    if (nodes.length > 0) firstLayout(nodes, 1);
    if (!["join", "leave", "replace", "adjust"].includes(change.kind))
      throw new Error("a change is join, leave, replace or adjust");
    if (change.kind === "adjust") checkAdjustment(change);
    return change;
  });
}

function checkAdjustment({ regions, replicas }: Change & { kind: "adjust" }): void {
  const example = { id: "http://a:1", url: "http://a:1", host: "a", state: "active" } as const;
  // A layout that has them: checks them all.
  for (const region of Object.values(regions)) firstLayout([{ ...example, region }], replicas ?? 1);
}
