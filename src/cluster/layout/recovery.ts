/**
 * What is left of a cluster when nodes are gone for good, and the layout by which it goes on without them.
 *
 * While a majority of each partition's replicas is left, nothing is lost and nothing here is needed: a dead
 * node is removed by a move. Without one nobody can know what was decided, and only a human can say that the
 * others will not come back. The layout that follows is a move (steps.ts) away from the old sets with the
 * lost nodes taken out, with one difference: what is left of a set has no majorities that overlap with those
 * before, so all of it counts together. Every owner takes over, of each key, the highest record that any of
 * those has, and until it has done so nothing is decided without all of them. So what a single node that is
 * left holds is not lost.
 *
 * Those that are left vote again by it, also where they had to synchronise first and nobody was left to
 * synchronise from: there is nobody who knows better any more.
 *
 * The epoch leaps: the lost ones may have made layouts that nobody here has heard of. The cluster's id stays,
 * so that a lost node that is started again learns that it is one.
 */
import { ChangeError } from "./changes.ts";
import { countOf, Placement } from "./groups.ts";
import type { Layout } from "./layout.ts";

/** More layouts than the lost nodes can have made without those that are left. */
export const EPOCH_LEAP = 1000;

/** What is lost with some nodes: numbers of partitions. */
export interface Losses {
  /** No copy is left. */
  gone: number;
  /** There are copies, but no majority: what had not reached them is lost. */
  doubtful: number;
}

/** The layout that a recovery goes back to: what was decided during a move has a majority there, too. */
function baseOf(layout: Layout): Layout {
  if (layout.previous === null) return layout;
  return layout.previous;
}

/** Nodes that hold data, as far as it is known for sure; those that are given up already are none. */
export function holdersOf(layout: Layout): string[] {
  return baseOf(layout)
    .nodes.map(({ id }) => id)
    .filter((id) => layout.lost?.includes(id) !== true);
}

/**
 * What is lost, or can be neither read nor written, without these nodes; nothing: a majority of each set is
 * left.
 */
export function lossesWithout(layout: Layout, missing: ReadonlySet<string>): Losses {
  const losses: Losses = { gone: 0, doubtful: 0 };
  for (const group of new Placement(baseOf(layout)).groups) {
    const isHere = (id: string) => !missing.has(id) && layout.lost?.includes(id) !== true;
    const left = group.nodes.filter(isHere).length;
    if (left === 0) losses.gone++;
    else if (2 * left <= countOf(group.current)) losses.doubtful++;
  }
  return losses;
}

/**
 * Why nothing is recovered while every partition has a majority, for a person.
 * @param unheard nodes of which a master that has just started has not heard yet
 */
export function notLostText(unheard: readonly string[]): string {
  if (unheard.length > 0)
    return `the master has just started and has not heard of ${unheard.join(", ")} yet: try again in a few seconds`;
  return "every partition has a majority of its copies: nothing has to be given up; remove takes a dead worker off the layout without any loss";
}

/**
 * The layout by which the cluster goes on without these nodes.
 * @throws ChangeError when nothing would be left
 */
export function startRecovery(layout: Layout, missing: ReadonlySet<string>): Layout {
  const base = baseOf(layout);
  const lost = base.nodes.map(({ id }) => id).filter((id) => missing.has(id) || layout.lost?.includes(id));
  const nodes = base.nodes.filter(({ id }) => !lost.includes(id));
  if (nodes.length === 0)
    throw new ChangeError(
      "no worker of the cluster can be reached, so nothing would be left: start one first",
    );
  const previous = { ...base, cluster: layout.cluster };
  return { ...previous, epoch: layout.epoch + EPOCH_LEAP, nodes, previous, lost };
}
