/**
 * Collection of tombstones. A tombstone that is gone too early brings a deleted value back: from a replica
 * that missed the delete, or from a message that was long under way. The mark that a value has ended is one
 * of them, but not the value itself, whose end some replica has not marked yet. So it goes only when
 *
 *   1. it is old enough (that alone proves nothing; it keeps collection away from keys in use),
 *   2. every replica, of the old set too while the layout moves, confirms that very tombstone, and
 *   3. each replica, before it forgets, has put floor = max(floor, ballot, promise) of the partition on disk (`floorWithout`), which refuses all that
 *      the tombstone refused.
 *
 * Two of three, or no floor, brings values back; the simulator shows both. What a replica confirms stays
 * true: what it holds never gets older. A replica that does not get the second message keeps its tombstone
 * until the next time; those without it confirm by their floor then.
 */
import type { Ballot } from "../../format/record.ts";
import { ballotMillis } from "../../format/version.ts";
import type { ReplicaGroup } from "../layout/groups.ts";
import type { ClusterKey } from "./ports.ts";

export interface CollectPort {
  /**
   * Asks for `confirmsTombstone`. No answer, or one from a replica that does not vote or has another epoch,
   * is false. Answers once.
   */
  confirm(
    node: string,
    key: ClusterKey,
    epoch: number,
    tombstone: Ballot,
    ended: boolean,
    reply: (confirmed: boolean) => void,
  ): void;
  /** Tells a replica to forget exactly this tombstone (`holdsTombstone`), floor first. Not answered. */
  collect(node: string, key: ClusterKey, epoch: number, tombstone: Ballot, ended: boolean): void;
}

/** A tombstone, or the mark that a value has ended, as a replica holds it. */
export interface HeldTombstone {
  readonly ballot: Ballot | null;
  readonly ended: boolean;
  /** Of a mark: the end of life, in ms since 1970. */
  readonly end: number;
}

/** Whether a tombstone's age allows its collection; that of a mark counts from the end. */
export function isOldTombstone({ ballot, end }: HeldTombstone, nowMillis: number, ageMs: number): boolean {
  return ballot !== null && Math.max(ballotMillis(ballot), end) + ageMs <= nowMillis;
}

/** Collects one tombstone if all replicas confirm it. `done` says whether they did. */
export function collectTombstone(
  port: CollectPort,
  group: ReplicaGroup,
  key: ClusterKey,
  { ballot, ended }: HeldTombstone,
  done: (collected: boolean) => void,
): void {
  if (ballot === null) {
    done(false);
    return;
  }
  let waiting = group.nodes.length;
  let confirmed = 0;
  for (const node of group.nodes)
    port.confirm(node, key, group.epoch, ballot, ended, (yes) => {
      if (yes) confirmed++;
      if (--waiting > 0) return;
      const all = confirmed === group.nodes.length;
      if (all) for (const member of group.nodes) port.collect(member, key, group.epoch, ballot, ended);
      done(all);
    });
}
