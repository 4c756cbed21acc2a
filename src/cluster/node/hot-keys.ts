/**
 * Keys that several nodes write at once. Coordinators that race for a key make each other's ballots
 * worthless, so its small writes go to one of them for a while: the first of the partition's replicas that is
 * there, which all nodes see alike. Only a hint, for speed: when nodes disagree they race as before, and the
 * protocol decides.
 */
import { nameOf } from "../../util/bytes.ts";
import type { ReplicaGroup } from "../layout/groups.ts";

/** How long a key counts as contested after a race, or after two of its writers. */
const CONTESTED_MS = 5000;
/** Keys remembered; when there are more, the oldest ones are forgotten. */
const CONTESTED_MAX = 10_000;

export class HotKeys {
  /** By key, as latin1, in order of time: until when it is contested. */
  private readonly until = new Map<string, number>();
  /** By key, in order of time: of those that others hand on, who wrote one last, and whether others do. */
  private readonly writers = new Map<string, { last: number; sharedUntilMs: number }>();
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

  /** A write of the key has met another coordinator's, or the one that it went to says that others come. */
  raced(key: Uint8Array): void {
    renew(this.until, nameOf(key), this.now() + CONTESTED_MS);
  }

  /**
   * Somebody's write of the key begins here. Answers whether others write it, too: then they should go on
   * handing it on.
   * @param writer the number of the node that it came to
   * @param isOwn that is this one: of keys that no other node hands on nothing is noted
   */
  begins(key: Uint8Array, writer: number, isOwn: boolean): boolean {
    if (isOwn && this.writers.size === 0) return false;
    const name = nameOf(key);
    const known = this.writers.get(name);
    if (isOwn && known === undefined) return false;
    const nowMs = this.now();
    const isOther = known !== undefined && known.last !== writer;
    const sharedUntilMs = isOther ? nowMs + CONTESTED_MS : (known?.sharedUntilMs ?? 0);
    renew(this.writers, name, { last: writer, sharedUntilMs });
    return sharedUntilMs > nowMs;
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

/** Sets an entry as the newest one; the oldest goes when there are too many. */
function renew<T>(entries: Map<string, T>, name: string, entry: T): void {
  entries.delete(name);
  entries.set(name, entry);
  if (entries.size > CONTESTED_MAX) entries.delete(entries.keys().next().value as string);
}
