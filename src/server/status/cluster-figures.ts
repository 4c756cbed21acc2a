/**
 * The metrics of a worker's place in its cluster, from what cluster/repair/status.ts says for /_stats. Other
 * nodes are told apart by their URL.
 */
import type { ClusterStats } from "../../cluster/repair/status.ts";
import type { Sample } from "../../util/prometheus.ts";
import type { Metric } from "./figure.ts";

export type ClusterMetric = Pick<Metric<ClusterStats>, "name" | "kind" | "help"> & {
  samples: (from: ClusterStats) => number | readonly Sample[];
};

interface ClusterFigure {
  metric: ClusterMetric;
}

const MS_PER_SECOND = 1000;

const gauge = (name: string, help: string, samples: (from: ClusterStats) => number): ClusterFigure => ({
  metric: { name: `minivault_${name}`, kind: "gauge", help, samples },
});

const counter = (name: string, help: string, samples: (from: ClusterStats) => number): ClusterFigure => ({
  metric: { name: `minivault_${name}_total`, kind: "counter", help, samples },
});

type Peer = ClusterStats["peers"][number];

/** A figure of each other node; null: nothing is known of it. */
const ofPeers = (
  kind: "gauge" | "counter",
  name: string,
  help: string,
  value: (peer: Peer) => number | null,
): ClusterFigure => ({
  metric: {
    name: `minivault_peer_${name}${kind === "counter" ? "_total" : ""}`,
    kind,
    help,
    samples: ({ peers }) =>
      peers.flatMap((peer) => {
        const known = value(peer);
        return known === null ? [] : [{ labels: { peer: peer.url, region: peer.region }, value: known }];
      }),
  },
});

export const CLUSTER_FIGURES: readonly ClusterFigure[] = [
  gauge("layout_epoch", "Number of the layout that this node works by.", ({ epoch }) => epoch),
  gauge("layout_moving", "Whether data moves to a new layout.", ({ moving }) => Number(moving)),
  gauge("voting", "Whether this node votes: 0 while its copy is not whole.", ({ voting }) => Number(voting)),
  gauge(
    "clock_skew_seconds",
    "How far the own clock is ahead of the time that the nodes agree on.",
    ({ clock }) => clock.skewMs / MS_PER_SECOND,
  ),
  gauge("clock_agreed", "Whether enough nodes agree on a time.", ({ clock }) => Number(clock.agreed)),
  gauge("converged", "Whether in the last comparison no replica lacked anything.", ({ antiEntropy }) =>
    Number(antiEntropy.converged),
  ),
  gauge(
    "differing_partitions",
    "Partitions in which replicas differed at the last comparison.",
    ({ antiEntropy }) => antiEntropy.differingPartitions,
  ),
  counter("comparisons", "Comparisons with the other replicas.", ({ antiEntropy }) => antiEntropy.rounds),
  counter(
    "repaired_records",
    "Records taken over after a comparison.",
    ({ antiEntropy }) => antiEntropy.repaired,
  ),
  gauge("synchronising", "Whether partitions are being taken over.", ({ synchronisation }) =>
    Number(synchronisation.state !== "none"),
  ),
  gauge(
    "synchronisation_partitions",
    "Partitions that the synchronisation under way has to take over.",
    (from) => from.synchronisation.total,
  ),
  gauge(
    "synchronised_partitions",
    "Partitions that it has taken over.",
    ({ synchronisation }) => synchronisation.done,
  ),
  gauge(
    "damaged_keys",
    "Damaged keys that wait for a copy of another node.",
    ({ damagedKeys }) => damagedKeys.waiting,
  ),
  counter("repaired_keys", "Damaged keys that got their copy.", ({ damagedKeys }) => damagedKeys.repaired),
  counter(
    "collected_tombstones",
    "Marks of deleted keys that all replicas have forgotten.",
    (from) => from.collectedTombstones,
  ),
  gauge(
    "kept_end_marks",
    "Marks of ended values that some replica has not confirmed, so that they stay.",
    ({ ends }) => ends.keptMarks,
  ),
  counter("settled_ends", "Ends that had to be decided by a round.", ({ ends }) => ends.settled),
  counter(
    "dropped_partitions",
    "Partitions removed here, since others have them now.",
    (from) => from.droppedPartitions,
  ),
  ofPeers("gauge", "up", "Whether the other node answers.", ({ state }) => Number(state === "up")),
  ofPeers("gauge", "round_trip_seconds", "Round trip to the other node.", ({ state, roundTripMs }) =>
    state === "up" ? roundTripMs / MS_PER_SECOND : null,
  ),
  ofPeers("gauge", "queued_frames", "Frames that wait to be sent.", ({ queuedFrames }) => queuedFrames),
  ofPeers("gauge", "batches_in_flight", "Batches that are not answered yet.", (peer) => peer.batchesInFlight),
  ofPeers("gauge", "hints", "Writes kept for a node that missed them.", ({ hints }) => hints.waiting),
  ofPeers(
    "counter",
    "sent_hints",
    "Writes sent later to a node that had missed them.",
    ({ hints }) => hints.sent,
  ),
  ofPeers(
    "counter",
    "dropped_hints",
    "Writes that comparison has to bring instead.",
    ({ hints }) => hints.dropped,
  ),
  ofPeers("gauge", "clock_skew_seconds", "How far its clock is ahead of the agreed time.", ({ clock }) =>
    clock === null ? null : clock.skewMs / MS_PER_SECOND,
  ),
];
