/** Which writes ask for promises first, which replica those are sent to last, and which are patient. */
import { OPERATION_MS_MAX } from "../../util/limits.ts";
import { hasMajority, hasMajorityOf } from "../layout/groups.ts";
import type { RegisterWrite } from "./requests.ts";
import type { Round } from "./round.ts";

const PATIENCE_MS = OPERATION_MS_MAX - 1000;

/**
 * Conditional writes, and large values: an accept of one should not be outvoted, which costs a stream more.
 * A large value does not build on what the promises tell of, so these need not note whom they have told.
 */
export function asksFirst({ condition, staged }: RegisterWrite): boolean {
  return condition !== null || staged === true;
}

/**
 * How long, in ms, a write that has had no effect is tried again, whatever hinders it: a large value for most
 * of an operation's time, since its client would have to send all of it again. Not for all of it: what is cut
 * off by the deadline may have had an effect.
 */
export function patienceOf({ staged }: RegisterWrite): number {
  return staged === true ? PATIENCE_MS : 0;
}

/**
 * The own replica, as a set; empty where it is a majority alone, or there is none. Of two coordinators that
 * race for a key, the one that loses would always find its value on its own replica, which answers first, and
 * could not say that it lost. So a write that has asked goes there last, when that makes the majority. Not
 * where too few others have a large value, since replicas have changed while it came: they get it from those
 * that hold it, once it is looked for.
 */
export function ownReplica({ group, setup }: Pick<Round, "group" | "setup">, { at }: RegisterWrite): number {
  if (at != null && !hasMajorityOf(group, at)) return 0;
  const self = group.nodes.findIndex((node) => setup.distance(node) === 0);
  return self >= 0 && !hasMajority(group, 1 << self) ? 1 << self : 0;
}
