/**
 * Whether a node that is whole by one layout is so by a later one. A layout counts on some sets of replicas:
 * where it moves on those before the move, else on its own. What a majority of those has is what there is, so
 * whoever is one of them must have all that it was there for.
 *
 * A node has that of a set which it was in before and stays in, of one that it came into in a move which it
 * has finished itself, and, where a move is given up, of the sets before it. A later layout may say that the
 * move is over, though this node knows nothing of having finished it: then it was finished by a later state
 * of the node's disk than this one. That such a disk is old others may say too (identity/standing.ts), but
 * not of one from before the node was a member: it starts as one that nobody has heard of, and a master whose
 * own disk is old makes it a member once more.
 */
import { bitOf, type Placement, type ReplicaGroup } from "./groups.ts";

/**
 * @param own by which the node is whole; null: it knows none
 * @param hasFinished the node has finished the move of that layout; where nothing moves it is all the same
 */
export function isWholeBy(
  own: Placement | null,
  hasFinished: boolean,
  later: Placement,
  self: string,
): boolean {
  const awaited = new Set(own?.mustSynchronise(self));
  return later.groups.every((group) => {
    if ((group.previous & bitOf(group, self)) === 0) return true;
    const before = own?.groups[group.partition];
    if (before === undefined) return false;
    const stays = (before.current & bitOf(before, self)) !== 0;
    if (stays && (hasFinished || !awaited.has(group.partition))) return true;
    // Given up, a move is as if it had not been.
    return namesOf(group) === namesOf(before);
  });
}

/** Of the set that a group counts on. */
function namesOf({ nodes, previous }: ReplicaGroup): string {
  return nodes
    .filter((_, index) => (previous & (1 << index)) !== 0)
    .sort()
    .join();
}
