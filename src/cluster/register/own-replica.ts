/** Which writes ask for promises first, and which replica those are sent to last. */
import { hasMajority } from "../layout/groups.ts";
import type { RegisterWrite } from "./requests.ts";
import type { Round } from "./round.ts";

/**
 * Conditional writes, and large values: an accept of one should not be outvoted, which costs a stream more.
 * A large value does not build on what the promises tell of, so these need not note whom they have told.
 */
export function asksFirst({ condition, staged }: RegisterWrite): boolean {
  return condition !== null || staged === true;
}

/**
 * The own replica, as a set; empty where it is a majority alone, or there is none. Of two coordinators that
 * race for a key, the one that loses would always find its value on its own replica, which answers first, and
 * could not say that it lost. So a write that has asked goes there last, when that makes the majority.
 */
export function ownReplica({ group, setup }: Pick<Round, "group" | "setup">): number {
  const self = group.nodes.findIndex((node) => setup.distance(node) === 0);
  return self >= 0 && !hasMajority(group, 1 << self) ? 1 << self : 0;
}
