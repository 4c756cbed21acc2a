/** Which replica a conditional write is sent to last. */
import { hasMajority } from "../layout/groups.ts";
import type { Round } from "./round.ts";

/**
 * The own replica, as a set; empty where it is a majority alone, or there is none. Of two coordinators that
 * race for a key, the one that loses would always find its value on its own replica, which answers first, and
 * could not say that it lost. So a conditional write goes there last, when that makes the majority.
 */
export function ownReplica({ group, setup }: Pick<Round, "group" | "setup">): number {
  const self = group.nodes.findIndex((node) => setup.distance(node) === 0);
  return self >= 0 && !hasMajority(group, 1 << self) ? 1 << self : 0;
}
