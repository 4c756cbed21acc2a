/** What `/health` and `/_stats` say of the cluster and of repair. */
import { clockHealth } from "../clock/clock-watch.ts";
import type { ClusterTime } from "../clock/cluster-time.ts";
import type { Membership } from "../membership/membership.ts";
import type { PeerClient } from "../peers/peer-client.ts";
import type { PartitionDropper } from "../sync/dropper.ts";
import type { Synchroniser } from "../sync/sync.ts";
import type { AntiEntropy } from "./anti-entropy.ts";
import type { Collection } from "./collection.ts";
import type { Ends } from "./ends.ts";
import type { Hints } from "./hints.ts";
import type { Mending } from "./mend.ts";

/** What a node of a cluster says of it. */
export interface ClusterFacts {
  /** Whether it has a layout to work by: without one it serves nobody. */
  ready: boolean;
  /** Why it serves nobody, where it is not for want of a layout. */
  reason: string | null;
  /** What it has been unable to do for clients for some seconds, for a person; null: nothing. */
  unable: string | null;
  /** In a few words, for `/health`. */
  health: object;
  /** All, for `/_stats` and `/_metrics`. */
  stats: ClusterStats;
}

interface Surroundings {
  membership: Membership;
  peerOf: (node: string) => PeerClient | null;
  time: ClusterTime;
}

interface Parts {
  readonly hints: Hints;
  readonly synchroniser: Synchroniser;
  readonly antiEntropy: AntiEntropy;
  readonly mending: Mending;
  readonly collection: Collection;
  readonly ends: Ends;
  readonly dropper: PartitionDropper;
}

/** For `/health`. */
export function repairHealth(repair: Parts, { membership, peerOf, time }: Surroundings): object {
  const others = (membership.layout?.nodes ?? []).filter(({ id }) => id !== membership.url);
  const down = others.filter(({ id }) => peerOf(id)?.state !== "up").map(({ id }) => id);
  return {
    epoch: membership.layout?.epoch ?? 0,
    ...membership.inForce,
    voting: membership.voting,
    synchronising: repair.synchroniser.isSynchronising,
    converged: repair.antiEntropy.status.converged,
    notUp: down,
    clock: clockHealth(time),
    ...(membership.alarm === null ? {} : { alarm: membership.alarm }),
  };
}

/** For `/_stats`. */
export function repairStats(repair: Parts, { membership, peerOf, time }: Surroundings) {
  const { layout } = membership;
  const nodes = new Map([...(layout?.previous?.nodes ?? []), ...(layout?.nodes ?? [])].map((n) => [n.id, n]));
  nodes.delete(membership.url);
  return {
    epoch: layout?.epoch ?? 0,
    moving: layout?.previous != null,
    voting: membership.voting,
    clock: { skewMs: time.skewMs(), agreed: time.agreed },
    peers: [...nodes.values()].map(({ id, region }) => {
      const peer = peerOf(id);
      return {
        url: id,
        region,
        state: peer?.state ?? "down",
        failure: peer?.lastFailure ?? "",
        roundTripMs: peer === null ? 0 : Math.round(peer.roundTripMs * 100) / 100,
        queuedFrames: peer?.queuedFrames ?? 0,
        batchesInFlight: peer?.inFlight ?? 0,
        hints: repair.hints.counts(id),
        clock: time.skewOf(id),
        marksTold: peer?.marksTold ?? false,
      };
    }),
    synchronisation: { ...repair.synchroniser.status },
    antiEntropy: { ...repair.antiEntropy.status },
    damagedKeys: { waiting: repair.mending.waiting, repaired: repair.mending.mended },
    collectedTombstones: repair.collection.collected,
    ends: { keptMarks: repair.collection.keptMarks, settled: repair.ends.settled },
    droppedPartitions: repair.dropper.dropped,
  };
}

/** What a node says of its place in the cluster, for `/_stats` and `/_metrics`. */
export type ClusterStats = ReturnType<typeof repairStats>;
