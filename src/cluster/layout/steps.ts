/** The steps by which a layout changes; each makes a new one. */
import { randomBytes } from "node:crypto";
import { PARTITIONS_MIN } from "../../util/hash-prefix.ts";
import { checked } from "./check.ts";
import { withFeatures } from "./features.ts";
import type { Placement } from "./groups.ts";
import type { Layout, LayoutNode } from "./layout.ts";

/**
 * The first layout of a cluster: epoch 1.
 * @param features what all of its nodes can do
 * @param partitions for good; null: as few as there can be
 */
export function firstLayout(
  nodes: readonly LayoutNode[],
  replicas: number,
  features = 1,
  partitions: number | null = null,
): Layout {
  return checked({
    cluster: drawCluster(),
    ...{ epoch: 1, partitions: partitions ?? PARTITIONS_MIN, replicas, nodes: [...nodes], previous: null },
    ...withFeatures(features),
  });
}

function drawCluster(): string {
  return randomBytes(16).toString("hex");
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

/** The same layout under the next number, for those who know another one under this. */
export function renumber(layout: Layout): Layout {
  if (layout.previous !== null) throw new Error(`the move of epoch ${layout.epoch} is not finished`);
  return checked({ ...layout, epoch: layout.epoch + 1 });
}

/** The same nodes at another feature level. */
export function raiseFeatures(layout: Layout, features: number): Layout {
  return renumber({ ...layout, features });
}
