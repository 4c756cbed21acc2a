/**
 * The two documents about the node: `/health` and `/_stats`.
 */
import { DIRECTORY_GONE } from "../../engine/list/directory-watch.ts";
import type { ShardStats, Vault } from "../../shards/vault/vault.ts";
import { Meter } from "./meter.ts";

/** What the log and `/health` say when connections are closed as they come. */
export const REFUSING_CONNECTIONS =
  "so many connections are open that new ones are closed, to keep descriptors for files; raise the limit (ulimit -n), or have fewer connections";

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
  /** All, for `/_stats`. */
  stats: object;
}

/** What the front knows about the node beside the vault. */
export interface NodeFacts {
  role: string;
  version: string;
  /** Nodes known to serve, this one included. */
  nodes: () => number;
  /** Of a node of a cluster; null: it is alone. */
  cluster: () => ClusterFacts | null;
  /** The front is closing. */
  stopping: () => boolean;
  /** Connections are closed as they come, for want of descriptors. */
  refusesConnections: () => boolean;
}

/** The answer of `/health`: 503 while the node does not take every request of a healthy one. */
export function healthDocument(vault: Vault, facts: NodeFacts): { status: number; document: object } {
  const shards = vault.stats().shards;
  const cluster = facts.cluster();
  const { word, reason, status } = judge(vault, shards, facts, cluster);
  const document = {
    status: word,
    ...(reason === null ? {} : { reason }),
    role: facts.role,
    nodes: facts.nodes(),
    keys: sum(shards, (shard) => shard.keys),
    bytes: sum(shards, (shard) => shard.liveBytes),
    diskFull: shards.some((shard) => shard.diskFull),
    writesStopped: shards.some((shard) => shard.writesStopped),
    directoryGone: shards.some((shard) => shard.directoryGone),
    missingSlabs: sum(shards, (shard) => shard.missingSlabs),
    inDoubt: shards.some((shard) => shard.inDoubt),
    damagedRecords: sum(shards, (shard) => shard.damagedRecords),
    scrubbedBytes: sum(shards, (shard) => shard.scrubbedBytes),
    scrubPasses: Math.min(...shards.map((shard) => shard.scrubPasses)),
    scrubDamaged: sum(shards, (shard) => shard.scrubDamaged),
    brokenSlabs: sum(shards, (shard) => shard.brokenSlabs),
    ...(cluster === null ? {} : { cluster: cluster.health }),
    version: facts.version,
    uptimeSeconds: Math.floor(process.uptime()),
  };
  return { status, document };
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
  if (shards.some((shard) => shard.diskFull)) {
    // 200: a restart would not help, and an orchestrator that acts on a 503 would take the reads away too.
    return {
      word: "degraded",
      reason:
        "the disk is full (no blocks, or no inodes for another file: see df and df -i): writes answer 507 until there is room",
      status: 200,
    };
  }
  // 200 as well: what is known is served, and a restart brings nothing back.
  const missing = sum(shards, (shard) => shard.missingSlabs);
  if (missing > 0) {
    const reason = `${missing} slab files are missing, or not the ones that were there: what may have been in them answers 500; the log names them; restore them from a copy, or write those keys again`;
    return { word: "degraded", reason, status: 200 };
  }
  if (shards.some((shard) => shard.inDoubt)) {
    const reason =
      "records are damaged and nobody knows which keys had them: what may have been lost answers 500; run minivault verify on the stopped node";
    return { word: "degraded", reason, status: 200 };
  }
  const broken = sum(shards, (shard) => shard.brokenSlabs);
  if (broken > 0)
    return {
      word: "degraded",
      reason: `parts of ${broken} data files cannot be read, which the log names: they were cut, or the disk fails; what is gone answers 500; stop the node and run minivault verify`,
      status: 200,
    };
  return { word: "healthy", reason: null, status: 200 };
}

/** The answer of `/_stats`. */
export function statsDocument(vault: Vault, facts: NodeFacts, meters: readonly Meter[]): object {
  const stats = vault.stats();
  const meter = Meter.sum(meters);
  const shards = stats.shards;
  const keys = sum(shards, (shard) => shard.keys);
  const indexBytes = sum(shards, (shard) => shard.indexBytes);
  const memory = process.memoryUsage();
  const cluster = facts.cluster();
  return {
    role: facts.role,
    version: facts.version,
    uptimeSeconds: Math.floor(process.uptime()),
    nodes: facts.nodes(),
    keys,
    liveBytes: sum(shards, (shard) => shard.liveBytes),
    storedBytes: sum(shards, (shard) => shard.storedBytes),
    slabs: sum(shards, (shard) => shard.slabs),
    indexBytes,
    indexGrowths: sum(shards, (shard) => shard.indexGrowths),
    indexBytesPerKey: keys === 0 ? 0 : Math.round((indexBytes / keys) * 100) / 100,
    tombstones: sum(shards, (shard) => shard.tombstones),
    damagedRecords: sum(shards, (shard) => shard.damagedRecords),
    missingSlabs: sum(shards, (shard) => shard.missingSlabs),
    scrubbedBytes: sum(shards, (shard) => shard.scrubbedBytes),
    scrubPasses: Math.min(...shards.map((shard) => shard.scrubPasses)),
    scrubDamaged: sum(shards, (shard) => shard.scrubDamaged),
    brokenSlabs: sum(shards, (shard) => shard.brokenSlabs),
    missingPages: sum(shards, (shard) => shard.missingPages),
    compactedBytes: sum(shards, (shard) => shard.compactedBytes),
    queues: {
      writes: stats.queuedWrites,
      bytes: stats.queuedBytes,
      requestsInFlight: meter.requestsInFlight[0],
      receivingBytes: meter.receivingBytes[0],
      connections: meter.connections[0],
    },
    batches: stats.batches,
    batchedWrites: stats.batchedWrites,
    coldReads: stats.coldReads,
    requests: meter.requests(),
    refusedRequests: meter.refusedRequests(),
    requestsByFront: meters.map((one) => one.total),
    latencyMicroseconds: meter.latencies(),
    memory: {
      rss: memory.rss,
      heapTotal: memory.heapTotal,
      heapUsed: memory.heapUsed,
      external: memory.external,
      arrayBuffers: memory.arrayBuffers,
    },
    ...(cluster === null ? {} : { cluster: cluster.stats }),
    shards,
  };
}

function sum(shards: ShardStats[], figure: (shard: ShardStats) => number): number {
  return shards.reduce((total, shard) => total + figure(shard), 0);
}
