/**
 * The layout: which nodes the cluster has, and so which replicas each key has. Pure data.
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
 * Here is what it is; steps.ts has the steps, groups.ts the replicas by it, check.ts what it must look like.
 */
import { hash32 } from "../../util/hash.ts";

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

/** Whether a node is one of the layout, or of the one that it moves away from. */
export function isNamedIn(layout: Layout | null, url: string): boolean {
  const nodes = [...(layout?.nodes ?? []), ...(layout?.previous?.nodes ?? [])];
  return nodes.some((node) => node.url === url);
}

/** Whether two layouts, or what is known of them, are of two clusters. */
export function isForeign(a: string | null | undefined, b: string | null | undefined): boolean {
  return a != null && b != null && a !== b;
}

/** Eight hex digits that tell two layouts of one epoch apart. */
export function layoutDigest(layout: Layout): string {
  return (hash32(Buffer.from(serialiseLayout(layout)), 0) >>> 0).toString(16).padStart(8, "0");
}

/** A layout as JSON text. */
export function serialiseLayout(layout: Layout): string {
  return JSON.stringify(layout);
}
