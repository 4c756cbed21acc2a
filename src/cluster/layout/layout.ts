/**
 * The layout: which nodes the cluster has, and so which replicas each key has. Pure data and steps over it.
 *
 * A layout is numbered (epoch) and changes only by an explicit step, never because a node is up or down: sets
 * of replicas that followed liveness would not intersect. Every operation between nodes carries the epoch it
 * was decided under, and a replica refuses an older one, so one majority is never put together from two
 * layouts.
 *
 *   stable (e) ──startMove──► moving (e+1, previous = stable e) ──finishMove──► stable (e+2)
 *
 * While it moves, every majority is one of the old set and one of the new set (joint consensus: Ongaro,
 * "Consensus: Bridging Theory and Practice", 2014, section 4.3). The move may finish when every node of
 * `mustSynchronise` has read its partitions from a majority of the old set, at epoch e+1; those reads also
 * carry the epoch there, so that from then on no majority of epoch e can come about. Only then may old owners
 * drop what they no longer own.
 *
 * A layout that comes from outside is checked as a whole before anybody keeps it: one that no node can use,
 * once kept and handed on, would stop all of them, and for good.
 */
import { randomBytes } from "node:crypto";
import { hash32, PARTITIONS } from "../../util/hash.ts";
import { EPOCH_MAX, REPLICAS_MAX } from "../../util/limits.ts";
import { checkedFeatures, withFeatures } from "./features.ts";
import { NODES_MAX, placePartitions } from "./placement.ts";

/** Longest URL, region or name of a machine. */
const NAME_CHARACTERS_MAX = 512;

/**
 * active: holds its partitions; draining: stays a member until its partitions have moved away, then is
 * removed.
 */
export type NodeState = "active" | "draining";

export interface LayoutNode {
  /** Its public URL, without a slash at the end. */
  id: string;
  url: string;
  region: string;
  host: string;
  state: NodeState;
}

export interface Layout {
  /**
   * Which cluster it is, 32 hex digits, drawn with its first layout. Null: a layout from before there were
   * such names; the next change of it draws one.
   */
  cluster: string | null;
  epoch: number;
  partitions: number;
  replicas: number;
  nodes: LayoutNode[];
  /** The layout that is being moved away from (its own `previous` is null), or null when nothing moves. */
  previous: Layout | null;
  /**
   * Only while a cluster recovers (recovery.ts): the nodes of the previous layout that are given up, with all
   * that they had. Those that are left, all of them together, stand for the previous sets.
   */
  lost?: string[];
  /** What all members can do (features.ts); absent: the first level. */
  features?: number;
}

/** The replicas of one partition. Sets of them are bits: bit i stands for `nodes[i]`. */
export interface ReplicaGroup {
  readonly epoch: number;
  readonly partition: number;
  /** Current replicas in order of rank, then those that only the previous layout has. */
  readonly nodes: readonly string[];
  /** The current set. */
  readonly current: number;
  /** The previous set while the layout moves; else the same as `current`. */
  readonly previous: number;
  /**
   * The cluster recovers: `previous` is what is left of a set, no majority of it need have all that is known,
   * and so all of them count together only.
   */
  readonly recovers?: boolean;
}

/** Number of bits set in a small non-negative integer. */
export function countOf(set: number): number {
  let count = 0;
  for (let rest = set; rest !== 0; rest &= rest - 1) count++;
  return count;
}

/**
 * Whether `set` holds a majority of the current replicas and, during a move, one of the previous replicas
 * too.
 */
export function hasMajority(group: ReplicaGroup, set: number): boolean {
  return isMajorityOf(group.current, set) && hasPreviousMajority(group, set);
}

/** Whether `set` holds a majority of the current replicas or, during a move, one of the previous replicas. */
export function hasAnyMajority(group: ReplicaGroup, set: number): boolean {
  return isMajorityOf(group.current, set) || isMajorityOf(group.previous, set);
}

function isMajorityOf(whole: number, set: number): boolean {
  return 2 * countOf(set & whole) > countOf(whole);
}

/**
 * Whether `set` holds a majority of the replicas from before the move (of the current ones when nothing
 * moves), or all that are left of them where the cluster recovers.
 */
export function hasPreviousMajority(group: ReplicaGroup, set: number): boolean {
  if (group.recovers === true) return (set & group.previous) === group.previous;
  return isMajorityOf(group.previous, set);
}

/** As `hasMajority`, by names. */
export function hasMajorityOf(group: ReplicaGroup, nodes: ReadonlySet<string>): boolean {
  let set = 0;
  group.nodes.forEach((node, index) => {
    if (nodes.has(node)) set |= 1 << index;
  });
  return hasMajority(group, set);
}

/** Whether a node is one of the layout, or of the one that it moves away from. */
export function isNamedIn(layout: Layout | null, url: string): boolean {
  const nodes = [...(layout?.nodes ?? []), ...(layout?.previous?.nodes ?? [])];
  return nodes.some((node) => node.url === url);
}

/** A layout with what is computed from it: the replicas of each partition. */
export class Placement {
  readonly layout: Layout;
  /** By partition. */
  readonly groups: readonly ReplicaGroup[];

  constructor(layout: Layout) {
    this.layout = layout;
    const current = replicaNames(layout);
    const previous = layout.previous === null ? null : replicaNames(layout.previous);
    const { lost } = layout;
    this.groups = current.map((names, partition) => {
      let before = previous === null ? names : previous[partition];
      if (lost !== undefined) {
        before = before.filter((name) => !lost.includes(name));
        // Nobody is left: what any new owner may have by chance is all there is.
        if (before.length === 0) before = names;
      }
      const nodes = [...names, ...before.filter((name) => !names.includes(name))];
      return {
        epoch: layout.epoch,
        partition,
        nodes,
        current: setOf(nodes, names),
        previous: setOf(nodes, before),
        ...(lost === undefined ? {} : { recovers: true }),
      };
    });
  }

  /** Partitions of which the node holds a copy, or will once the move is over. */
  partitionsOf(node: string): number[] {
    return this.groups.filter((group) => group.nodes.includes(node)).map((group) => group.partition);
  }

  /**
   * Partitions that the node must synchronise from a majority of the previous replicas before the move may
   * finish: those it gains, and, where the set gets smaller, also those it keeps (a majority of the smaller
   * set may know nothing of what a majority of the larger one decided). Where the cluster recovers, all.
   */
  mustSynchronise(node: string): number[] {
    if (this.layout.previous === null) return [];
    return this.groups
      .filter((group) => {
        const bit = bitOf(group, node);
        if ((group.current & bit) === 0) return false;
        if (group.recovers === true || (group.previous & bit) === 0) return true;
        return countOf(group.previous) > countOf(group.current);
      })
      .map((group) => group.partition);
  }

  /** Partitions whose data the node may drop: it holds no copy, neither now nor before the move. */
  holdsNo(node: string): number[] {
    return this.groups.filter((group) => !group.nodes.includes(node)).map((group) => group.partition);
  }

  /** Nodes that must report that they have synchronised before `finishMove`. */
  awaited(): string[] {
    return this.layout.nodes.map((node) => node.id).filter((id) => this.mustSynchronise(id).length > 0);
  }
}

/** The bit of a node in a group's sets; 0 when it is not a member. */
export function bitOf(group: ReplicaGroup, node: string): number {
  const index = group.nodes.indexOf(node);
  return index < 0 ? 0 : 1 << index;
}

function setOf(nodes: readonly string[], members: readonly string[]): number {
  let set = 0;
  for (const member of members) set |= 1 << nodes.indexOf(member);
  return set;
}

function replicaNames(layout: Layout): string[][] {
  const placed = layout.nodes.filter((node) => node.state === "active");
  return placePartitions(placed, layout.partitions, layout.replicas).map((set) =>
    set.map((index) => placed[index].id),
  );
}

/**
 * The first layout of a cluster: epoch 1.
 * @param features what all of its nodes can do
 */
export function firstLayout(nodes: readonly LayoutNode[], replicas: number, features = 1): Layout {
  return checked({
    cluster: drawCluster(),
    ...{ epoch: 1, partitions: PARTITIONS, replicas, nodes: [...nodes], previous: null },
    ...withFeatures(features),
  });
}

function drawCluster(): string {
  return randomBytes(16).toString("hex");
}

/** Whether two layouts, or what is known of them, are of two clusters. */
export function isForeign(a: string | null | undefined, b: string | null | undefined): boolean {
  return a != null && b != null && a !== b;
}

/** Eight hex digits that tell two layouts of one epoch apart. */
export function layoutDigest(layout: Layout): string {
  return (hash32(Buffer.from(serialiseLayout(layout)), 0) >>> 0).toString(16).padStart(8, "0");
}

/**
 * The layout that moves the data to another list of nodes (one added, removed, drained or replaced, or
 * another number of replicas).
 * @throws Error when a move is under way, or when the new list is not a layout
 */
export function startMove(
  layout: Layout,
  nodes: readonly LayoutNode[],
  replicas: number = layout.replicas,
): Layout {
  if (layout.previous !== null)
    throw new Error(`the move of epoch ${layout.epoch} is not finished; one at a time`);
  const cluster = layout.cluster ?? drawCluster();
  const previous = { ...layout, cluster };
  return checked({ ...previous, epoch: layout.epoch + 1, replicas, nodes: [...nodes], previous });
}

/** Whether all that must synchronise have reported so. */
export function canFinishMove(placement: Placement, synchronised: ReadonlySet<string>): boolean {
  return placement.layout.previous !== null && placement.awaited().every((node) => synchronised.has(node));
}

/** Ends a move. The caller has made sure of `canFinishMove`. */
export function finishMove(layout: Layout): Layout {
  if (layout.previous === null) throw new Error(`no move is under way in epoch ${layout.epoch}`);
  const { lost: _, ...finished } = layout;
  return { ...finished, epoch: layout.epoch + 1, previous: null };
}

/** The same nodes at another feature level. */
export function raiseFeatures(layout: Layout, features: number): Layout {
  if (layout.previous !== null) throw new Error(`the move of epoch ${layout.epoch} is not finished`);
  return checked({ ...layout, epoch: layout.epoch + 1, features });
}

/** A layout as JSON text. */
export function serialiseLayout(layout: Layout): string {
  return JSON.stringify(layout);
}

/**
 * Reads a layout from JSON text and checks all of it.
 * @throws Error with a sentence for a person
 */
export function parseLayout(text: string): Layout {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`the layout is not JSON: ${(error as Error).message}`);
  }
  return checked(value);
}

/** Checks a layout that came from outside as parsed JSON; the result has its known members only. */
export function checked(value: unknown, isPrevious = false): Layout {
  const { cluster = null, epoch, partitions, replicas, nodes, ...more } = members(value, "a layout");
  const { previous, lost, features } = more;
  if (cluster !== null && !(typeof cluster === "string" && CLUSTER_SYNTAX.test(cluster)))
    throw new Error("a layout's cluster is 32 hex digits");
  if (!isWhole(epoch, 1, EPOCH_MAX)) throw new Error(`a layout's epoch is a number from 1 to ${EPOCH_MAX}`);
  if (partitions !== PARTITIONS) throw new Error(`a layout has ${PARTITIONS} partitions`);
  if (!isWhole(replicas, 1, REPLICAS_MAX))
    throw new Error(`a layout's replicas are a number from 1 to ${REPLICAS_MAX}`);
  if (!Array.isArray(nodes) || nodes.length > NODES_MAX)
    throw new Error(`a layout's nodes are a list of at most ${NODES_MAX}`);
  const list = nodes.map(checkedNode);
  if (new Set(list.map((node) => node.id)).size !== list.length)
    throw new Error("a layout names a node twice");
  if (!list.some((node) => node.state === "active"))
    throw new Error("a layout needs at least one active node");
  let before: Layout | null = null;
  if (previous !== null && previous !== undefined) {
    if (isPrevious) throw new Error("a layout's previous layout has no previous one");
    before = checked(previous, true);
    if (before.epoch >= epoch) throw new Error("a layout's previous layout has a lower epoch");
    if (before.cluster !== cluster) throw new Error("a layout's previous layout is of the same cluster");
  }
  const layout = { cluster: cluster as string | null, epoch, partitions, replicas, nodes: list };
  return {
    ...{ ...layout, previous: before },
    ...(lost === undefined ? {} : { lost: checkedLost(lost, before, list) }),
    ...checkedFeatures(features),
  };
}

function checkedLost(value: unknown, before: Layout | null, nodes: readonly LayoutNode[]): string[] {
  const isLost = (id: unknown) =>
    before?.nodes.some((node) => node.id === id) === true && !nodes.some((node) => node.id === id);
  if (!Array.isArray(value) || new Set(value).size !== value.length || !value.every(isLost))
    throw new Error("a layout's lost nodes are nodes of its previous layout that it has no more");
  return value as string[];
}

const CLUSTER_SYNTAX = /^[0-9a-f]{32}$/;

function checkedNode(value: unknown): LayoutNode {
  const { id, url, region, host, state } = members(value, "a layout's node");
  for (const text of [id, url, region, host])
    if (typeof text !== "string" || text === "" || text.length > NAME_CHARACTERS_MAX)
      throw new Error(`a node has id, url, region and host, each of 1 to ${NAME_CHARACTERS_MAX} characters`);
  if (id !== url) throw new Error(`a node's id is its URL, not ${id} beside ${url}`);
  if (!isNodeUrl(url as string)) throw new Error(`${url} is no URL that a node can have`);
  if (state !== "active" && state !== "draining") throw new Error("a node's state is active or draining");
  return { id, url, region, host, state } as LayoutNode;
}

/** Written as `nodeUrl` (config) writes it, so that one node has one name. */
function isNodeUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, origin, host } = new URL(text);
  return (protocol === "http:" || protocol === "https:") && host !== "" && origin === text;
}

function members(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error(`${what} is a JSON object`);
  return value as Record<string, unknown>;
}

function isWhole(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}
