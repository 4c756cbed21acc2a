/**
 * A worker: opens its store, serves it, and stops in order.
 */
import path from "node:path";
import { createRates } from "../auth/tokens.ts";
import { readClusterFile } from "../cluster/layout/cluster-file.ts";
import type { Config } from "../config/config.ts";
import { setAddonDirectory } from "../platform/addon.ts";
import { addressText, localUrl } from "../platform/address.ts";
import { buildInfo } from "../platform/build-info.ts";
import type { Logger } from "../platform/log.ts";
import { demandForms } from "../platform/private-directory.ts";
import { AuditFile } from "../server/access/audit.ts";
import { createFront, type FrontOptions } from "../server/front.ts";
import { reservePort } from "../server/http/http.ts";
import { Meter } from "../server/status/meter.ts";
import { processStart } from "../server/status/process-figures.ts";
import type { LocalVault } from "../shards/vault/local-vault.ts";
import { openVault } from "../shards/vault/open.ts";
import { loadHash } from "../util/hash.ts";
import { clientAccess, demandClusterKey, reloadable } from "./access.ts";
import { ClusterPart } from "./cluster-part.ts";
import { createMeters, startFrontThreads } from "./fronts.ts";
import type { Running } from "./process.ts";
import { FileReload } from "./reload.ts";
import { s3Meters, s3PlaceOf, withS3Front } from "./s3-front.ts";

/** Hosts that stand for all addresses of the machine. */
const ALL_ADDRESSES: readonly string[] = ["0.0.0.0", "::"];
/** Progress of a long start is reported this often. */
const PROGRESS_MS = 1000;

/** Starts a worker. Rejects with a sentence for a person when it cannot. */
export async function startWorker(
  config: Config,
  log: Logger,
  fatal: (error: Error) => void,
): Promise<Running> {
  const started = performance.now();
  // The CLUSTER file, which is read before the store, has a checksum.
  await loadHash();
  setAddonDirectory(path.join(config.dataDirectory, ".addons"));
  demandForms(config.dataDirectory);
  const kept = readClusterFile(config.dataDirectory);
  const replicated = config.masters.length > 0 || config.volumes.length > 0 || kept !== null;
  demandFrontPort(config, replicated);
  if (replicated) demandClusterKey(config);
  const access = clientAccess(config.auth);
  const rates = createRates();
  const audit = config.audit === null ? null : new AuditFile(config.audit, log);
  const meters = createMeters(config.fronts + s3Meters(config));
  const vault = await openStore(config, replicated, log, fatal);
  const cluster = new ClusterPart(config, vault, log);
  try {
    const ownFront = await createFront(
      await frontOptions(config, vault, cluster, { access, rates, audit, meters }, log),
    );
    const s3 = await s3PlaceOf(config);
    const ofNode = { front: 0, cluster: () => cluster.node, publicUrl: () => cluster.publicUrl };
    const ofFronts = { access, rates, audit, meters, ...ofNode };
    const front = await withS3Front(ownFront, s3, config, vault, ofFronts, log);
    const { port } = front;
    cluster.port = port;
    const url = config.publicUrl ?? localUrl(config.tls !== null, port);
    if (replicated) cluster.begin(url, kept);
    else cluster.standAlone(url);
    const frontPort = config.frontPort === null ? port : await reservePort(config.host, config.frontPort);
    const ofThreads = { meters, rates, access, startedSeconds: processStart.seconds };
    const shared = { ...ofThreads, port: frontPort, s3, version: buildInfo.version };
    const threads = await startFrontThreads(vault, config, shared, forFronts(cluster, config), log, fatal);
    if (frontPort !== port) log.info({ port: frontPort, host: config.host }, `fronts on port ${frontPort}`);
    announce(config, vault, { url, port, startMs: Math.round(performance.now() - started) }, log);
    const target = reloadable(config, front, threads, cluster, audit);
    const { refusedFiles } = new Meter(meters[0]);
    const reload = new FileReload(config, target, log, (count) => {
      refusedFiles[0] = count;
    });
    return {
      reload: () => reload.all(),
      async stop() {
        reload.close();
        const stopped = threads.stop();
        // What is under way in the others of a cluster needs the main thread's port.
        if (frontPort !== port) await stopped;
        await Promise.all([front.close(), stopped]);
        await cluster.stop();
        audit?.close();
      },
    };
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

/** @throws Error with a sentence where -fronts and -front-port do not go together */
function demandFrontPort({ fronts, frontPort }: Config, replicated: boolean): void {
  if (fronts > 1 && replicated && frontPort === null)
    throw new Error(
      "on a node of a cluster -fronts needs -front-port, a port for clients where the other threads listen: other nodes must reach the main thread, at -port",
    );
  if (frontPort !== null && (fronts === 1 || !replicated))
    throw new Error("-front-port is for a node of a cluster (-master or -volumes) with -fronts above 1");
}

/** What the other front threads need of a cluster; null: the node is alone. */
function forFronts({ desk, port }: ClusterPart, config: Config): Parameters<typeof startFrontThreads>[3] {
  if (desk === null) return null;
  const { host, tls, region, consistency, clusterKeys, tlsCa, peerAddress } = config;
  const address = addressText(ALL_ADDRESSES.includes(host) ? "127.0.0.1" : host, port);
  // A certificate names the URL.
  const homeAddress = tls === null ? `http://${address}` : undefined;
  const settings = { region, consistency, clusterKeys, tlsCa, tls, peerAddress };
  return { desk, front: { home: desk.home(), homeAddress, settings } };
}

/** Opens the store; a start that takes long says how far it is. */
function openStore(
  { dataDirectory, sync, historyMs, threads, fronts }: Config,
  replicated: boolean,
  log: Logger,
  fatal: (error: Error) => void,
): Promise<LocalVault> {
  let reported = performance.now();
  return openVault({
    ...{ dataDirectory, sync, historyMs, threads, fronts, replicated, fatal },
    warn: (message) => log.warn(message),
    progress(doneBytes, totalBytes) {
      if (totalBytes === 0 || performance.now() - reported < PROGRESS_MS) return;
      reported = performance.now();
      log.info(
        { percent: Math.floor((doneBytes / totalBytes) * 100), totalMiB: Math.round(totalBytes / 2 ** 20) },
        "reading the slabs back",
      );
    },
  });
}

/** What the main thread's front is made of. */
async function frontOptions(
  config: Config,
  vault: LocalVault,
  cluster: ClusterPart,
  shared: {
    access: FrontOptions["auth"];
    rates: ArrayBufferLike;
    audit: AuditFile | null;
    meters: readonly ArrayBufferLike[];
  },
  log: Logger,
): Promise<FrontOptions> {
  const sharesPort = config.fronts > 1 && config.frontPort === null;
  return {
    vault,
    host: config.host,
    port: sharesPort ? await reservePort(config.host, config.port) : config.port,
    auth: shared.access,
    rates: shared.rates,
    metrics: config.metrics,
    compat: config.compat,
    audit: shared.audit,
    tls: config.tls,
    maxValueBytes: config.maxValueBytes,
    cors: config.cors,
    publicUrl: () => cluster.publicUrl,
    role: "worker",
    version: buildInfo.version,
    nodes: () => cluster.membership?.nodesUp() ?? 1,
    cluster: () => cluster.node,
    // Several threads on one port are one node, which is in no cluster.
    ...(sharesPort ? {} : { peers: cluster.peerFacts }),
    meters: { memories: shared.meters, own: 0 },
    sharesPort,
    patient: vault.patient,
    clusterFacts: () => cluster.facts(),
    ...backupOf(vault),
    log,
  };
}

/** What makes copies of the store. */
function backupOf({ backups }: LocalVault): Pick<FrontOptions, "backup"> {
  return backups === null ? {} : { backup: (directory, report) => backups.run(directory, report) };
}

/** Says that the node serves, and what. */
function announce(
  { host, dataDirectory, region, sync }: Config,
  vault: LocalVault,
  { url, port, startMs }: { url: string; port: number; startMs: number },
  log: Logger,
): void {
  const keys = vault.stats().shards.reduce((sum, shard) => sum + shard.keys, 0);
  log.info(
    { url, port, host, data: dataDirectory, region, sync, shards: vault.store.shards, keys, startMs },
    `listening on ${addressText(host, port)}`,
  );
}
