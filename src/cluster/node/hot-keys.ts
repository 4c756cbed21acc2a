/**
 * Keys that several nodes write at once. Coordinators that race for a key make each other's ballots
 * worthless, so its small writes go to one of them for a while: the first of the partition's replicas that is
 * there, which all nodes see alike. Only a hint, for speed: when nodes disagree they race as before, and the
 * protocol decides.
 */
import { nameOf } from "../../util/bytes.ts";
import type { ReplicaGroup } from "../layout/groups.ts";

/** How long a key counts as contested after a race. */
const CONTESTED_MS = 5000;
/** Keys remembered; when there are more, the oldest ones are forgotten. */
const CONTESTED_MAX = 10_000;

export class HotKeys {
  /** By key, as latin1, in order of time: until when it is contested. */
  private readonly until = new Map<string, number>();
  private readonly self: string;
  /** Round-trip time to a node; Infinity: not to be reached. */
  private readonly distance: (node: string) => number;
  /** Monotonic milliseconds. */
  private readonly now: () => number;

  constructor(self: string, distance: (node: string) => number, now: () => number) {
    this.self = self;
    this.distance = distance;
    this.now = now;
  }

  /** A write of the key has met another coordinator's. */
  raced(key: Uint8Array): void {
    const name = nameOf(key);
    this.until.delete(name);
    this.until.set(name, this.now() + CONTESTED_MS);
    if (this.until.size > CONTESTED_MAX) this.until.delete(this.until.keys().next().value as string);
  }

  /** The node that the key's writes should go to; null: this one. */
  coordinatorOf(key: Uint8Array, group: ReplicaGroup): string | null {
    if (this.until.size === 0) return null;
    const name = nameOf(key);
    const untilMs = this.until.get(name);
    if (untilMs === undefined) return null;
    if (untilMs < this.now()) {
      this.until.delete(name);
      return null;
    }
    const first = group.nodes.find((node) => this.distance(node) !== Number.POSITIVE_INFINITY);
    return first === undefined || first === this.self ? null : first;
  }
}
