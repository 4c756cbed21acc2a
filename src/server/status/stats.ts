/**
 * What a node says of itself: `/health` with its judgement, `/_stats` and `/_metrics`. The figures are those
 * of node-figures.ts.
 */

import type { ClusterFacts } from "../../cluster/repair/status.ts";
import { DIRECTORY_GONE } from "../../engine/list/directory-watch.ts";
import type { ShardStats, Vault } from "../../shards/vault/vault.ts";
import { prometheusText } from "../../util/prometheus.ts";
import type { NodeFacts } from "./facts.ts";
import { documentOf, familiesOf } from "./figure.ts";
import { Meter } from "./meter.ts";
import { NODE_FIGURES, type NodeSource } from "./node-figures.ts";
import { readProcess } from "./process-figures.ts";

/** What the log and `/health` say when connections are closed as they come. */
export const REFUSING_CONNECTIONS =
  "so many connections are open that new ones are closed, to keep descriptors for files; raise the limit (ulimit -n), or have fewer connections";

/** What all documents about a node are made from. */
export function sourceOf(vault: Vault, facts: NodeFacts, meters: readonly Meter[]): NodeSource {
  const stats = vault.stats();
  const cluster = facts.cluster();
  const healthStatus = judge(vault, stats.shards, facts, cluster).status;
  return { facts, cluster, vault: stats, meter: Meter.sum(meters), meters, healthStatus, ...readProcess() };
}

/** The answer of `/health`: 503 while the node does not take every request of a healthy one. */
export function healthDocument(
  vault: Vault,
  facts: NodeFacts,
  meters: readonly Meter[],
): { status: number; document: object } {
  const source = sourceOf(vault, facts, meters);
  const { word, reason, status } = judge(vault, source.vault.shards, facts, source.cluster);
  const figures = documentOf(NODE_FIGURES, source, "health");
  return { status, document: { status: word, ...(reason === null ? {} : { reason }), ...figures } };
}

/** The answer of `/_stats`. */
export function statsDocument(vault: Vault, facts: NodeFacts, meters: readonly Meter[]): object {
  return documentOf(NODE_FIGURES, sourceOf(vault, facts, meters), "stats");
}

/** The answer of `/_metrics`. */
export function metricsText(vault: Vault, facts: NodeFacts, meters: readonly Meter[]): string {
  return prometheusText(familiesOf(NODE_FIGURES, sourceOf(vault, facts, meters)));
}

function judge(
  vault: Vault,
  shards: ShardStats[],
  facts: NodeFacts,
  cluster: ClusterFacts | null,
): { word: string; reason: string | null; status: number } {
  if (facts.stopping()) return { word: "stopping", reason: "the node is stopping", status: 503 };
  if (cluster !== null && !cluster.ready) {
    const reason =
      cluster.reason ??
      "this node has no layout of its cluster yet; it waits for its master, or for the other nodes";
    return { word: "joining", reason, status: 503 };
  }
  if (shards.some((shard) => shard.directoryGone)) {
    return { word: "unhealthy", reason: DIRECTORY_GONE, status: 503 };
  }
  const stopped = shards.filter((shard) => shard.writesStopped).length;
  if (stopped > 0) {
    const reason =
      typeof vault.readOnly === "string"
        ? `this node was started where nothing can be written and serves reads only: ${vault.readOnly}`
        : `writes are stopped on ${stopped} of ${shards.length} shards, since a disk sync failed or the disk cannot be written; reads go on; the log says more; mend it, then restart`;
    return { word: stopped === shards.length ? "unhealthy" : "degraded", reason, status: 503 };
  }
  if (cluster !== null && cluster.unable !== null)
    return { word: "unhealthy", reason: cluster.unable, status: 503 };
  if (shards.some((shard) => shard.outOfDescriptors)) {
    const reason =
      "too many files are open: a write could not open one, and got 503; raise the limit (ulimit -n), or have fewer connections";
    return { word: "unhealthy", reason, status: 503 };
  }
  if (facts.refusesConnections()) {
    return { word: "unhealthy", reason: REFUSING_CONNECTIONS, status: 503 };
  }
  // 200: a restart would not help, and an orchestrator that acts on a 503 would take the reads away too.
  const disk = diskTrouble(shards, cluster !== null);
  if (disk !== null) return { word: "degraded", reason: disk, status: 200 };
  if (facts.refusesFiles()) {
    const reason =
      "a file with tokens, keys or certificates has changed and cannot be taken: what was in force stays; the log says why";
    return { word: "degraded", reason, status: 200 };
  }
  return { word: "healthy", reason: null, status: 200 };
}

/** What the disk does not take or give, while all else is served; null: nothing. */
function diskTrouble(shards: ShardStats[], isReplica: boolean): string | null {
  if (shards.some((shard) => shard.diskFull)) {
    const what = isReplica
      ? "this replica takes no values until there is room, and gets them then; the others go on"
      : "writes answer 507 until there is room";
    return `the disk is full (no blocks, or no inodes for another file: see df and df -i): ${what}`;
  }
  if (shards.some((shard) => shard.writesFail))
    return "the disk refused a write a moment ago, which answered 500; reads go on; the log has what the system said";
  const missing = sum(shards, (shard) => shard.missingSlabs);
  if (missing > 0)
    return `${missing} slab files are missing, or not the ones that were there: what may have been in them answers 500; the log names them; restore them from a copy, or write those keys again`;
  if (shards.some((shard) => shard.inDoubt))
    return "records are damaged and nobody knows which keys had them: what may have been lost answers 500; run minivault verify on the stopped node";
  const broken = sum(shards, (shard) => shard.brokenSlabs);
  if (broken > 0)
    return `parts of ${broken} data files cannot be read, which the log names: they were cut or are damaged, or the disk fails; what is gone answers 500; stop the node and run minivault verify`;
  return null;
}

function sum(shards: ShardStats[], figure: (shard: ShardStats) => number): number {
  return shards.reduce((total, shard) => total + figure(shard), 0);
}
