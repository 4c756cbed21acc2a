/**
 * What a replica has to forget in the course of time, while nothing moves: old tombstones, which all
 * replicas have to confirm (register/tombstones.ts), and old promises for keys that have nothing else, which
 * each makes part of its own floor (rules/register.ts). Both in rounds, at the pace of what is in the
 * background.
 */
import { GUARDED_MS } from "../../rules/recent.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { INDEX_PARTITIONS } from "../../util/hash.ts";
import { indexPartitionOfPrefix, prefixOf } from "../../util/hash-prefix.ts";
import { ENDED_AGE_MS, TOMBSTONE_AGE_MS } from "../../util/limits.ts";
import type { Placement, ReplicaGroup } from "../layout/groups.ts";
import { collectTombstone, type HeldTombstone, isOldTombstone } from "../register/tombstones.ts";
import { clusterKey } from "../replica/cluster-key.ts";
import type { RepairPort } from "../replica/repair-port.ts";
import type { RepairPace } from "../sync/pacer.ts";

/** Longest and shortest pause between two rounds over the tombstones. */
const COLLECT_MS_MAX = 10 * 60_000;
const COLLECT_MS_MIN = 1000;
/** Longest pause between two rounds over the promises. */
const FOLD_MS_MAX = 60_000;
/** Tombstones that are being collected at once. */
const WINDOW = 32;

/** Ages from which tombstones, and marks that values have ended, may be collected, in ms. */
export interface CollectionAges {
  deleted: number;
  ended: number;
}

/**
 * Of marks there are more than of deletes, and nothing waits for them but who follows changes.
 * @param historyMs how long those can come back and go on
 */
export function agesFor(historyMs: number): CollectionAges {
  return { deleted: Math.max(TOMBSTONE_AGE_MS, historyMs), ended: Math.max(ENDED_AGE_MS, historyMs) };
}

/**
 * Whether a tombstone, or the mark that a value has ended, is old enough to be collected. What guards its key
 * stays as long as that lasts.
 */
export function isCollectable(
  held: HeldTombstone & { readonly remembers?: boolean },
  nowMillis: number,
  ages: CollectionAges,
): boolean {
  const ageMs = held.ended ? ages.ended : ages.deleted;
  return isOldTombstone(held, nowMillis, held.remembers === true ? Math.max(ageMs, GUARDED_MS) : ageMs);
}

export interface CollectionSetup {
  self: string;
  vault: LocalVault;
  port: RepairPort;
  pace: RepairPace;
  /** The layout, while nothing moves and the own replica is whole; else null. */
  placement: () => Placement | null;
  ages: CollectionAges;
  /** Cluster time. */
  now: () => number;
}

export class Collection {
  /** Tombstones, and marks of ended values, since the start of the process. */
  collected = 0;
  /** Marks of ended values that were old enough in the last round, and that not all replicas confirmed. */
  keptMarks = 0;
  private readonly setup: CollectionSetup;
  private readonly collectPauseMs: number;
  private readonly foldPauseMs: number;
  private nextCollectMs: number;
  private nextFoldMs: number;
  private running = false;

  constructor(setup: CollectionSetup) {
    this.setup = setup;
    this.collectPauseMs = Math.min(COLLECT_MS_MAX, Math.max(COLLECT_MS_MIN, setup.ages.deleted / 2));
    this.foldPauseMs = Math.min(FOLD_MS_MAX, this.collectPauseMs);
    this.nextCollectMs = performance.now() + this.collectPauseMs;
    this.nextFoldMs = performance.now() + this.foldPauseMs;
  }

  /** Whether it is time for `round`. */
  isDue(nowMs: number): boolean {
    return !this.running && nowMs >= Math.min(this.nextCollectMs, this.nextFoldMs);
  }

  /** One round over what is due. */
  async round(): Promise<void> {
    this.running = true;
    try {
      if (performance.now() >= this.nextFoldMs) await this.foldPromises();
      if (performance.now() >= this.nextCollectMs) await this.collectTombstones();
    } finally {
      this.running = false;
    }
  }

  /**
   * The first replica of a partition looks for old tombstones in it: all that are parts of one partition of
   * the index at once.
   */
  private async collectTombstones(): Promise<void> {
    const { vault, port, pace, self } = this.setup;
    try {
      const placement = this.setup.placement();
      const isAny = vault.stats().shards.some((shard) => shard.tombstones > 0);
      if (placement === null || !isAny) return;
      let kept = 0;
      const isFirst = ({ nodes }: ReplicaGroup) => nodes[0] === self;
      for (const partition of indexPartitionsOf(placement, self, isFirst)) {
        if (this.setup.placement() !== placement) return;
        const beganMs = performance.now();
        const { keys } = await port.listHere(prefixOf(partition, INDEX_PARTITIONS));
        let window: Promise<void>[] = [];
        for (const held of keys.values()) {
          if (!held.tombstone) continue;
          if (!isCollectable(held, this.setup.now(), this.setup.ages)) continue;
          const key = clusterKey(held.key);
          const group = placement.groupOf(key.hashA);
          if (!isFirst(group)) continue;
          window.push(
            new Promise((resolve) => {
              collectTombstone(port, group, key, held, (done) => {
                if (done) this.collected++;
                else if (held.ended) kept++;
                resolve();
              });
            }),
          );
          if (window.length < WINDOW) continue;
          await Promise.all(window);
          window = [];
        }
        await Promise.all(window);
        await pace.rest(performance.now() - beganMs);
      }
      this.keptMarks = kept;
    } finally {
      this.nextCollectMs = performance.now() + this.collectPauseMs;
    }
  }

  /** Each replica folds its own. */
  private async foldPromises(): Promise<void> {
    const { replica } = this.setup.vault;
    try {
      const placement = this.setup.placement();
      const own = placement === null ? [] : indexPartitionsOf(placement, this.setup.self);
      for (const partition of own) {
        if (!replica.hasPromises(partition)) continue;
        if (this.setup.placement() !== placement) return;
        const beganMs = performance.now();
        await new Promise<void>((resolve, reject) => {
          replica.foldPromises(partition, this.setup.now(), (error) =>
            error === null
              ? resolve()
              : reject(new Error(`promises of absent keys cannot be folded: ${error}`)),
          );
        });
        await this.setup.pace.rest(performance.now() - beganMs);
      }
    } finally {
      this.nextFoldMs = performance.now() + this.foldPauseMs;
    }
  }
}

/** Partitions of the index that some of the node's partitions of the layout are, or are parts of. */
function indexPartitionsOf(
  placement: Placement,
  node: string,
  counts: (group: ReplicaGroup) => boolean = () => true,
): Set<number> {
  const groups = placement.partitionsOf(node).map((partition) => placement.groups[partition]);
  return new Set(groups.filter(counts).map(({ prefix }) => indexPartitionOfPrefix(prefix)));
}
