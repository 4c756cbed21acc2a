/**
 * The table of a worker's figures: /_stats, /health and /_metrics are made from it. Those of the shards are
 * named in engine/figures/stats.ts, those of the process and the cluster in the tables beside this one.
 */

import type { ClusterFacts } from "../../cluster/repair/status.ts";
import {
  overShards,
  SHARD_FIGURE_NAMES,
  SHARD_FIGURES,
  type ShardFigureName,
} from "../../engine/figures/stats.ts";
import type { VaultStats } from "../../shards/vault/vault.ts";
import type { Sample } from "../../util/prometheus.ts";
import { FLAG, NUMBER, TEXT } from "../describe/shapes.ts";
import { CATALOG_FIGURES } from "./catalog-figures.ts";
import { CLUSTER_FIGURES, type ClusterMetric } from "./cluster-figures.ts";
import type { NodeFacts } from "./facts.ts";
import { type Figure, type Metric, snakeCase } from "./figure.ts";
import type { Meter } from "./meter.ts";
import { PROCESS_FIGURES, type ProcessFigures } from "./process-figures.ts";

/** What a worker's figures are read from. */
export interface NodeSource extends ProcessFigures {
  facts: NodeFacts;
  /** Null: the node is alone. */
  cluster: ClusterFacts | null;
  vault: VaultStats;
  /** All that the fronts have counted, and what each has. */
  meter: Meter;
  meters: readonly Meter[];
  /** What /health answers: 200 while it serves. */
  healthStatus: number;
}

type Read = (from: NodeSource) => number | readonly Sample[];

const gauge = (name: string, help: string, samples: Read): Metric<NodeSource> => ({
  ...{ name: `minivault_${name}`, kind: "gauge", help, samples },
});
const counter = (name: string, help: string, samples: Read): Metric<NodeSource> => ({
  ...{ name: `minivault_${name}_total`, kind: "counter", help, samples },
});

/** A figure that is one number in /_stats and the same in /_metrics. */
const both = (
  stats: string,
  value: (from: NodeSource) => number,
  metric: (samples: Read) => Metric<NodeSource>,
): Figure<NodeSource> => ({ stats, value, metric: metric(value) });

function shardFigure(name: ShardFigureName): Figure<NodeSource> {
  const { kind, help, health } = SHARD_FIGURES[name];
  const samples: Read = ({ vault }) =>
    vault.shards.map((shard) => ({ labels: { shard: String(shard.shard) }, value: Number(shard[name]) }));
  const metric = kind === "counter" ? counter : gauge;
  return {
    // What is true of one shard is told of it, below "shards".
    ...(kind === "flag" ? {} : { stats: name }),
    ...(health === null ? {} : { health }),
    value: ({ vault }) => overShards(vault.shards, name),
    schema: kind === "flag" ? FLAG : NUMBER,
    metric: metric(snakeCase(name), help, samples),
  };
}

function bytesPerKey({ vault }: NodeSource): number {
  const keys = overShards(vault.shards, "keys") as number;
  return keys === 0 ? 0 : Math.round(((overShards(vault.shards, "indexBytes") as number) / keys) * 100) / 100;
}

const OBJECT = { type: "object" } as const;

const uptimeSeconds = (): number => Math.floor(process.uptime());

function requestSamples({ meter }: NodeSource): Sample[] {
  return Object.entries(meter.requests()).flatMap(([method, outcomes]) =>
    Object.entries(outcomes).map(([outcome, value]) => ({ labels: { method, outcome }, value })),
  );
}

export const NODE_FIGURES: readonly Figure<NodeSource>[] = [
  { stats: "role", health: "role", value: ({ facts }) => facts.role, schema: TEXT },
  {
    stats: "version",
    value: ({ facts }) => facts.version,
    schema: TEXT,
    metric: gauge("build_info", "Always 1; what runs is in the labels.", ({ facts }) => [
      { labels: { version: facts.version, role: facts.role }, value: 1 },
    ]),
  },
  { stats: "uptimeSeconds", value: uptimeSeconds },
  {
    metric: gauge("serves", "Whether /health answers 200.", ({ healthStatus }) =>
      Number(healthStatus === 200),
    ),
  },
  {
    stats: "nodes",
    health: "nodes",
    value: ({ facts }) => facts.nodes(),
    metric: gauge("nodes", "Nodes known to serve, this one included.", ({ facts }) => facts.nodes()),
  },
  ...SHARD_FIGURE_NAMES.map(shardFigure),
  { stats: "indexBytesPerKey", value: bytesPerKey },
  both(
    "queues.writes",
    ({ meter }) => meter.queuedWrites[0],
    (read) => gauge("queued_writes", "Writes that wait for a shard thread.", read),
  ),
  both(
    "queues.bytes",
    ({ meter }) => meter.queuedBytes[0],
    (read) => gauge("queued_bytes", "Bytes of writes that wait for a shard thread.", read),
  ),
  both(
    "queues.requestsInFlight",
    ({ meter }) => meter.requestsInFlight[0],
    (read) => gauge("requests_in_flight", "Requests that are not answered yet.", read),
  ),
  both(
    "queues.receivingBytes",
    ({ meter }) => meter.receivingBytes[0],
    (read) => gauge("receiving_bytes", "Memory of bodies that come in pieces.", read),
  ),
  both(
    "queues.connections",
    ({ meter }) => meter.connections[0],
    (read) => gauge("connections", "Connections that are open.", read),
  ),
  both(
    "queues.watchers",
    ({ meter }) => meter.watchers[0],
    (read) => gauge("watchers", "Clients that follow changes, or wait for one.", read),
  ),
  both(
    "batches",
    ({ meter }) => meter.batches[0],
    (read) => counter("batches", "Batches of writes; each shares a sync.", read),
  ),
  both(
    "batchedWrites",
    ({ meter }) => meter.batchedWrites[0],
    (read) => counter("batched_writes", "Writes in batches.", read),
  ),
  both(
    "coldReads",
    ({ meter }) => meter.coldReads[0],
    (read) => counter("cold_reads", "Reads from the disk of what was not in memory.", read),
  ),
  ...CATALOG_FIGURES,
  {
    stats: "requests",
    value: ({ meter }) => meter.requests(),
    schema: OBJECT,
    metric: counter("requests", "Answers, by method and the first digit of their status.", requestSamples),
  },
  {
    stats: "refusedRequests",
    value: ({ meter }) => meter.refusedRequests(),
    schema: OBJECT,
    metric: counter("refused_requests", "Requests that a client's token was not enough for.", ({ meter }) =>
      Object.entries(meter.refusedRequests()).map(([code, value]) => ({ labels: { code }, value })),
    ),
  },
  both(
    "refusedFiles",
    ({ meter }) => meter.refusedFiles[0],
    (read) => gauge("refused_files", "Files of access that have changed and could not be taken.", read),
  ),
  {
    stats: "requestsByFront",
    value: ({ meters }) => meters.map((one) => one.total),
    schema: { type: "array", items: NUMBER },
  },
  { stats: "latencyMicroseconds", value: ({ meter }) => meter.latencies(), schema: OBJECT },
  {
    metric: {
      name: "minivault_read_duration_seconds",
      kind: "histogram",
      help: "GETs from their headers to their answer; on one node a sample of one in 64.",
      histogram: ({ meter }) => meter.readHistogram(),
    },
  },
  {
    metric: {
      name: "minivault_write_duration_seconds",
      kind: "histogram",
      help: "Writes from their headers to their answer.",
      histogram: ({ meter }) => meter.writeHistogram(),
    },
  },
  ...PROCESS_FIGURES,
  { stats: "cluster", value: ({ cluster }) => cluster?.stats, schema: OBJECT },
  { health: "cluster", value: ({ cluster }) => cluster?.health, schema: OBJECT },
  { health: "version", value: ({ facts }) => facts.version, schema: TEXT },
  { health: "uptimeSeconds", value: uptimeSeconds },
  ...CLUSTER_FIGURES.map(({ metric }) => ({ metric: ofCluster(metric) })),
  { stats: "shards", value: ({ vault }) => vault.shards, schema: { type: "array", items: OBJECT } },
];

/** A figure of the cluster, where there is one. */
function ofCluster({ name, kind, help, samples }: ClusterMetric): Metric<NodeSource> {
  return { name, kind, help, samples: ({ cluster }) => (cluster === null ? [] : samples(cluster.stats)) };
}
