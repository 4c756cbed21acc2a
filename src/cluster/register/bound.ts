/**
 * What a node that a write is handed on to must keep to: it proposes it below a ballot only, and under one
 * layout. Whoever has handed it on and gets no answer asks for promises above that ballot: then nothing of it
 * comes any more, so what has become of it can be found out as if it were an own one (coordinator/doubt).
 */
import type { Ballot } from "../../format/record.ts";
import { ballotOfMillis, compareBallots } from "../../format/version.ts";
import { FEATURE_DECIDED } from "../layout/features.ts";
import type { ReplicaGroup } from "../layout/groups.ts";

/** Long enough for a line of writes that stand before it; so long a lost one is not looked for. */
export const BOUND_MS = 2000;

export interface Bound {
  readonly below: Ballot;
  /** Of the layout. */
  readonly epoch: number;
  /** When it was handed on, or came, in monotonic ms. */
  readonly sinceMs: number;
}

/**
 * The bound of a write that is handed on now; null: not all nodes know that there are any.
 * @param features the level that they all know
 * @param ballotMs the time of ballots, in ms since 1970
 */
export function boundFrom(features: number, ballotMs: number, epoch: number): Bound | null {
  if (features < FEATURE_DECIDED) return null;
  return { below: ballotOfMillis(Math.ceil(ballotMs) + BOUND_MS), epoch, sinceMs: performance.now() };
}

/** Whether a write that was handed on may not be proposed at a ballot any more. */
export function isBeyond(
  { lost, bound }: { readonly lost?: boolean; readonly bound?: Bound | null },
  { epoch }: Pick<ReplicaGroup, "epoch">,
  ballot: Ballot,
): boolean {
  if (bound == null || lost === true) return false;
  return epoch !== bound.epoch || compareBallots(ballot, bound.below) >= 0;
}
