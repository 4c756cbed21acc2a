/**
 * The replicas of each partition, by a layout, and which sets of them are enough: a majority, and while the
 * layout moves one of the old set and one of the new.
 */
import { type HashPrefix, prefixOf } from "../../util/hash-prefix.ts";
import type { Layout } from "./layout.ts";
import { placePartitions } from "./placement.ts";

/** The replicas of one partition. Sets of them are bits: bit i stands for `nodes[i]`. */
export interface ReplicaGroup {
  readonly epoch: number;
  readonly partition: number;
  /** The keys that belong to it. */
  readonly prefix: HashPrefix;
  /** Current replicas in order of rank, then those that only the previous layout has. */
  readonly nodes: readonly string[];
  /** The current set. */
  readonly current: number;
  /** The previous set while the layout moves; else the same as `current`. */
  readonly previous: number;
  /**
   * The cluster recovers: `previous` is what is left of a set, no majority of it need have all that is known,
   * and so all of them count together only.
   */
  readonly recovers?: boolean;
}

/** Number of bits set in a small non-negative integer. */
export function countOf(set: number): number {
  let count = 0;
  for (let rest = set; rest !== 0; rest &= rest - 1) count++;
  return count;
}

/**
 * Whether `set` holds a majority of the current replicas and, during a move, one of the previous replicas
 * too.
 */
export function hasMajority(group: ReplicaGroup, set: number): boolean {
  return isMajorityOf(group.current, set) && hasPreviousMajority(group, set);
}

/** Whether `set` holds a majority of the current replicas or, during a move, one of the previous replicas. */
export function hasAnyMajority(group: ReplicaGroup, set: number): boolean {
  return isMajorityOf(group.current, set) || isMajorityOf(group.previous, set);
}

function isMajorityOf(whole: number, set: number): boolean {
  return 2 * countOf(set & whole) > countOf(whole);
}

/**
 * Whether `set` holds a majority of the replicas from before the move (of the current ones when nothing
 * moves), or all that are left of them where the cluster recovers.
 */
export function hasPreviousMajority(group: ReplicaGroup, set: number): boolean {
  if (group.recovers === true) return (set & group.previous) === group.previous;
  return isMajorityOf(group.previous, set);
}

/** As `hasMajority`, by names. */
export function hasMajorityOf(group: ReplicaGroup, nodes: ReadonlySet<string>): boolean {
  let set = 0;
  group.nodes.forEach((node, index) => {
    if (nodes.has(node)) set |= 1 << index;
  });
  return hasMajority(group, set);
}

const NO_PARTITIONS: readonly number[] = Object.freeze([]);

/** A layout with what is computed from it: the replicas of each partition. */
export class Placement {
  readonly layout: Layout;
  /** By partition. */
  readonly groups: readonly ReplicaGroup[];
  /** Bits of hash A behind those that tell the partition. */
  private readonly restBits: number;
  /** By node, made when somebody asks: partitions that it holds, and those that it must synchronise. */
  private held: Map<string, number[]> | null = null;
  private gained: Map<string, number[]> | null = null;

  constructor(layout: Layout) {
    this.layout = layout;
    this.restBits = Math.clz32(layout.partitions) + 1;
    const current = replicaNames(layout);
    const previous = layout.previous === null ? null : replicaNames(layout.previous);
    const { lost } = layout;
    this.groups = current.map((names, partition) => {
      let before = previous === null ? names : previous[partition];
      if (lost !== undefined) {
        before = before.filter((name) => !lost.includes(name));
        // Nobody is left: what any new owner may have by chance is all there is.
        if (before.length === 0) before = names;
      }
      const more = before === names ? [] : before.filter((name) => !names.includes(name));
      const nodes = more.length === 0 ? names : [...names, ...more];
      return {
        epoch: layout.epoch,
        partition,
        prefix: prefixOf(partition, layout.partitions),
        nodes,
        current: setOf(nodes, names),
        previous: setOf(nodes, before),
        ...(lost === undefined ? {} : { recovers: true }),
      };
    });
  }

  /** The replicas of a key. */
  groupOf(hashA: number): ReplicaGroup {
    return this.groups[hashA >>> this.restBits];
  }

  /** Partitions of which the node holds a copy, or will once the move is over. */
  partitionsOf(node: string): readonly number[] {
    this.held ??= this.byNode(() => true);
    return this.held.get(node) ?? NO_PARTITIONS;
  }

  private byNode(counts: (group: ReplicaGroup, bit: number) => boolean): Map<string, number[]> {
    const partitions = new Map<string, number[]>();
    for (const group of this.groups)
      group.nodes.forEach((node, index) => {
        if (!counts(group, 1 << index)) return;
        const list = partitions.get(node);
        if (list === undefined) partitions.set(node, [group.partition]);
        else list.push(group.partition);
      });
    return partitions;
  }

  /**
   * Partitions that the node must synchronise from a majority of the previous replicas before the move may
   * finish: those it gains, and, where the set gets smaller, also those it keeps (a majority of the smaller
   * set may know nothing of what a majority of the larger one decided). Where the cluster recovers, all.
   */
  mustSynchronise(node: string): readonly number[] {
    if (this.layout.previous === null) return NO_PARTITIONS;
    this.gained ??= this.byNode((group, bit) => {
      if ((group.current & bit) === 0) return false;
      if (group.recovers === true || (group.previous & bit) === 0) return true;
      return countOf(group.previous) > countOf(group.current);
    });
    return this.gained.get(node) ?? NO_PARTITIONS;
  }

  /** Partitions whose data the node may drop: it holds no copy, neither now nor before the move. */
  holdsNo(node: string): HashPrefix[] {
    return this.groups.filter((group) => !group.nodes.includes(node)).map((group) => group.prefix);
  }

  /** Nodes that must report that they have synchronised before `finishMove`. */
  awaited(): string[] {
    return this.layout.nodes.map((node) => node.id).filter((id) => this.mustSynchronise(id).length > 0);
  }
}

/** The bit of a node in a group's sets; 0 when it is not a member. */
export function bitOf(group: ReplicaGroup, node: string): number {
  const index = group.nodes.indexOf(node);
  return index < 0 ? 0 : 1 << index;
}

function setOf(nodes: readonly string[], members: readonly string[]): number {
  let set = 0;
  for (const member of members) set |= 1 << nodes.indexOf(member);
  return set;
}

/**
 * Sets of the layouts that were placed last, by what they depend on. A move has those of the layout before
 * it, and leaves those of the one after it: many partitions of many nodes take a second.
 */
const known = new Map<string, readonly (readonly string[])[]>();
const KNOWN_MAX = 2;

function replicaNames({ nodes, partitions, replicas }: Layout): readonly (readonly string[])[] {
  const placed = nodes.filter((node) => node.state === "active");
  const key = JSON.stringify([
    partitions,
    replicas,
    placed.map(({ id, region, host }) => [id, region, host]),
  ]);
  const sets =
    known.get(key) ??
    placePartitions(placed, partitions, replicas).map((set) => set.map((index) => placed[index].id));
  known.delete(key);
  known.set(key, sets);
  for (const oldest of known.keys()) if (known.size > KNOWN_MAX) known.delete(oldest);
  return sets;
}
