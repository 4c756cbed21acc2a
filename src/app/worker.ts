/**
 * A worker: opens its store, serves it, and stops in order.
 */
import { hostname } from "node:os";
import path from "node:path";
import { audienceOf } from "../auth/audience.ts";
import type { KeyRing } from "../auth/keys.ts";
import { RequestSigner } from "../auth/signature.ts";
import { createRates } from "../auth/tokens.ts";
import { BallotSource } from "../cluster/clock/ballots.ts";
import { watchClock } from "../cluster/clock/clock-watch.ts";
import { ClusterTime } from "../cluster/clock/cluster-time.ts";
import { type ClusterState, readClusterFile } from "../cluster/layout/cluster-file.ts";
import { NodeHttp } from "../cluster/link/node-http.ts";
import { PeerTls } from "../cluster/link/peer-tls.ts";
import { createCeilingWriter, readCeiling } from "../cluster/membership/ceiling.ts";
import { createMemberRoutes } from "../cluster/membership/member-routes.ts";
import { Membership } from "../cluster/membership/membership.ts";
import { ClusterNode } from "../cluster/node/cluster-node.ts";
import { PeerSet } from "../cluster/node/peer-set.ts";
import type { PeerHandler } from "../cluster/peers/peer-handler.ts";
import { Repair } from "../cluster/repair/repair.ts";
import { Service } from "../cluster/service/service.ts";
import type { Config } from "../config/config.ts";
import { setAddonDirectory } from "../platform/addon.ts";
import { addressText, localUrl } from "../platform/address.ts";
import { buildInfo } from "../platform/build-info.ts";
import type { Logger } from "../platform/log.ts";
import { OwnNames } from "../platform/own-names.ts";
import { demandForms } from "../platform/private-directory.ts";
import { AuditFile } from "../server/access/audit.ts";
import { createFront } from "../server/front.ts";
import { reservePort } from "../server/http/http.ts";
import type { ClusterFacts } from "../server/status/facts.ts";
import type { LocalVault } from "../shards/vault/local-vault.ts";
import { openVault } from "../shards/vault/open.ts";
import { VaultError } from "../util/errors.ts";
import { loadHash } from "../util/hash.ts";
import { clientAccess, demandClusterKey, reloadable, ringOf } from "./access.ts";
import { createMeters, startFrontThreads } from "./fronts.ts";
import type { Running } from "./process.ts";
import { FileReload } from "./reload.ts";

/** Progress of a long start is reported this often. */
const PROGRESS_MS = 1000;
/** A master that invites a worker has to answer in this time. */
const MASTER_MS = 3000;
/** For tests: age in ms from which tombstones are collected. */
const TOMBSTONE_AGE_VARIABLE = "MINIVAULT_TEST_TOMBSTONE_AGE_MS";

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
  if (config.fronts > 1 && replicated)
    throw new Error("-fronts is for a single node in this release: leave it out with -master or -volumes");
  if (replicated) demandClusterKey(config);
  const access = clientAccess(config.auth);
  const rates = createRates();
  const audit = config.audit === null ? null : new AuditFile(config.audit, log);
  const meters = createMeters(config.fronts);
  let reported = started;
  const vault = await openVault({
    dataDirectory: config.dataDirectory,
    sync: config.sync,
    threads: config.threads,
    fronts: config.fronts,
    replicated,
    warn: (message) => log.warn(message),
    fatal,
    progress(doneBytes, totalBytes) {
      if (totalBytes === 0 || performance.now() - reported < PROGRESS_MS) return;
      reported = performance.now();
      log.info(
        { percent: Math.floor((doneBytes / totalBytes) * 100), totalMiB: Math.round(totalBytes / 2 ** 20) },
        "reading the slabs back",
      );
    },
  });
  const cluster = new ClusterPart(config, vault, log);
  let port = 0;
  try {
    const front = await createFront({
      vault,
      host: config.host,
      port: config.fronts > 1 ? await reservePort(config.host, config.port) : config.port,
      auth: access,
      rates,
      metrics: config.metrics,
      audit,
      tls: config.tls,
      maxValueBytes: config.maxValueBytes,
      cors: config.cors,
      publicUrl: () => cluster.membership?.url ?? config.publicUrl,
      role: "worker",
      version: buildInfo.version,
      nodes: () => cluster.membership?.nodesUp() ?? 1,
      cluster: () => cluster.node,
      ...(config.fronts > 1
        ? {}
        : {
            peers: {
              handler: cluster.handler,
              ring: cluster.ring,
              audience: audienceOf(
                () => cluster.membership?.url ?? config.publicUrl,
                new OwnNames(() => port),
              ),
            },
          }),
      meters: { memories: meters, own: 0 },
      sharesPort: config.fronts > 1,
      patient: vault.patient,
      clusterFacts: () => cluster.facts(),
      log,
    });
    port = front.port;
    const shared = { meters, rates, access, port, version: buildInfo.version };
    const threads = await startFrontThreads(vault, config, shared, log, fatal);
    const keys = vault.stats().shards.reduce((sum, shard) => sum + shard.keys, 0);
    const url = config.publicUrl ?? localUrl(config.tls !== null, front.port);
    if (replicated) cluster.begin(url, kept);
    else cluster.standAlone(url);
    log.info(
      {
        url,
        port: front.port,
        host: config.host,
        data: config.dataDirectory,
        region: config.region,
        sync: config.sync,
        shards: vault.store.shards,
        keys,
        startMs: Math.round(performance.now() - started),
      },
      `listening on ${addressText(config.host, front.port)}`,
    );
    const reload = new FileReload(config, reloadable(config, front, threads, cluster, audit), log);
    return {
      reload: () => reload.all(),
      async stop() {
        reload.close();
        await Promise.all([front.close(), threads.stop()]);
        await cluster.close();
        await vault.close();
        audit?.close();
      },
    };
  } catch (error) {
    await cluster.close();
    await vault.close();
    throw error;
  }
}

/**
 * The worker's membership: there from the start with -master, -volumes or a CLUSTER file in the data
 * directory, or from the moment when a master has invited it.
 */
class ClusterPart {
  membership: Membership | null = null;
  private endClockWatch: () => void = () => {};
  /** What answers clients and other nodes. */
  node: ClusterNode | null = null;
  private peers: PeerSet | null = null;
  private repair: Repair | null = null;
  private service: Service | null = null;
  readonly handler: PeerHandler;
  private readonly config: Config;
  private readonly vault: LocalVault;
  private readonly log: Logger;
  /** What nodes sign with; null: they do not. */
  readonly ring: KeyRing | null;
  readonly tls: PeerTls;
  private readonly signer: RequestSigner | null;
  private url = "";

  constructor(config: Config, vault: LocalVault, log: Logger) {
    this.config = config;
    this.vault = vault;
    this.log = log;
    this.ring = ringOf(config);
    this.signer = this.ring === null ? null : new RequestSigner(this.ring);
    this.tls = new PeerTls(config.tlsCa, config.tls);
    if (this.tls.problem !== null) log.warn(this.tls.problem);
    const node = (): ClusterNode => {
      if (this.node === null) throw new VaultError("unavailable", "this node is not one of a cluster");
      return this.node;
    };
    this.handler = {
      ...createMemberRoutes({
        membership: () => this.membership,
        alone: () => this.alone(),
        publicUrl: config.publicUrl,
        invitable: this.ring !== null || config.allowInvite,
        isEmpty: () => this.isEmpty(),
        join: (master, url) => this.join(master, url),
      }),
      hear: (from, marks) => this.membership?.hear(from, marks) ?? null,
      ownLife: () => this.membership?.lifeAsText ?? null,
      hello: (from) => {
        if (this.membership === null)
          throw new VaultError("unavailable", "this node is not one of a cluster");
        return Buffer.from(
          `${JSON.stringify({ success: true, known: this.membership.answerHello(from) })}\n`,
        );
      },
      frame: (bytes, reply, room) => node().frame(bytes, reply, room),
      openSink: (head) => node().openSink(head),
      openSource: (head) => node().openSource(head),
    };
  }

  /** Called once the front listens, of a worker that is on its own until a master invites it. */
  standAlone(url: string): void {
    this.url = url;
  }

  /** Called once the front listens, of a worker that has a master or peers, or had. */
  begin(url: string, kept: ClusterState | null): void {
    const { config } = this;
    // A worker that was invited keeps the name that its master gave it.
    this.url = config.publicUrl ?? (config.masters.length === 0 ? (kept?.url ?? url) : url);
    if (config.masters.length > 0 && config.volumes.length > 0)
      this.log.warn("a worker with -master needs no -volumes: they are not used");
    this.start(config.masters, this.url);
  }

  private start(masters: readonly string[], url: string): void {
    const { config, vault, signer, tls, log } = this;
    vault.setReplicated();
    const sum = (figure: "keys" | "liveBytes") =>
      vault.stats().shards.reduce((total, shard) => total + shard[figure], 0);
    const membership = new Membership({
      directory: config.dataDirectory,
      url,
      region: config.region,
      host: hostname(),
      store: this.store(),
      storeNode: vault.store.node,
      starts: vault.store.incarnation,
      openedEnds: vault.replica.ends("openedEnd"),
      answeredEnds: () => vault.replica.ends("answeredEnd"),
      hello: (other) => this.peers?.hello(other) ?? Promise.reject(new Error("not yet")),
      masters,
      volumes: config.volumes,
      replicas: config.replicas,
      wantedReplicas: config.isReplicasGiven ? config.replicas : null,
      load: () => ({ keys: sum("keys"), bytes: sum("liveBytes") }),
      isEmpty: () => this.isEmpty(),
      ...{ signer, tls, log },
    });
    this.membership = membership;
    const time = new ClusterTime({
      wall: Date.now,
      steady: () => performance.now(),
      nodes: () => membership.layout?.nodes.length ?? 1,
    });
    this.endClockWatch = watchClock(time, log);
    const peers = new PeerSet({
      membership,
      ...{ time, signer, tls, log },
      localAddress: config.peerAddress ?? undefined,
    });
    this.peers = peers;
    this.node = new ClusterNode({
      self: url,
      region: config.region,
      consistency: config.consistency,
      vault,
      view: membership,
      ballots: new BallotSource({
        node: membership.number,
        get incarnation() {
          return membership.incarnation;
        },
        now: () => time.now(),
        ceilingMillis: readCeiling(config.dataDirectory),
        persistCeiling: createCeilingWriter(config.dataDirectory, (message) => log.warn(message)),
      }),
      time,
      peerOf: (other) => peers.get(other),
      newerLayout: (epoch) => peers.seekLayout(epoch),
      seen: (...outcome) => this.service?.seen(...outcome),
      missed: (key, proposal, nodes) => this.repair?.missed(key, proposal, nodes),
      damaged: (key) => this.repair?.damaged(key),
      mustWait: (partition) => this.repair?.mustWait(partition) ?? true,
      repairFrame: (bytes, reply, room) => this.repair?.frame(bytes, reply, room),
    });
    const { coordinator } = this.node;
    this.service = new Service({
      self: url,
      placement: () => membership.placement,
      votes: () => membership.voting,
      hindrance: (other) => peers.hindrance(other),
      read: (key, done) => coordinator.read(key, done),
      settle: (key, done) => coordinator.settle(key, done),
      now: () => performance.now(),
    });
    const age = process.env[TOMBSTONE_AGE_VARIABLE];
    this.repair = new Repair({
      directory: config.dataDirectory,
      vault,
      membership,
      node: this.node,
      peerOf: (other) => peers.get(other),
      time,
      log,
      ...(age === undefined ? {} : { tombstoneAgeMs: Number(age) }),
    });
    this.admitLoss(membership);
    membership.start();
  }

  /**
   * Where slabs were lost, so were promises and records that this replica was counted for: it does not vote
   * before it has taken everything over from the others (cluster/sync/rejoin.ts). What is absent here is then
   * no doubt any more, but one of the things that it has to ask for.
   */
  private admitLoss(membership: Membership): void {
    const { vault, log } = this;
    if (!vault.replica.hasLost || !membership.isMember) return;
    if (membership.voting)
      log.warn("slabs of this replica were lost: it does not vote until it has synchronised from the others");
    membership.setVoting(false);
    vault.replica.settleLoss((error) => {
      if (error !== null)
        log.warn({ reason: error }, "the loss could not be noted: synchronisation waits for the next start");
    });
  }

  /** What `/health` and `/_stats` say of the cluster; null: this node is alone. */
  facts(): ClusterFacts | null {
    const { node, repair } = this;
    if (node === null || repair === null) return null;
    const reason = this.membership?.unready ?? null;
    const ready = node.isReady && reason === null;
    const unable = this.service?.problem ?? null;
    return { ready, reason, unable, health: repair.health(), stats: repair.stats() };
  }

  async close(): Promise<void> {
    this.endClockWatch();
    this.service?.close();
    await this.repair?.close();
    await this.membership?.close();
    await this.peers?.close();
  }

  /** Follows an invitation, once the master answers under the URL that it gave. */
  private async join(master: string, url: string): Promise<void> {
    const { signer, tls } = this;
    const http = new NodeHttp({ url: master, signer, tls, connections: 1 });
    try {
      const answer = await http.request("GET", "/health", null, MASTER_MS);
      if (JSON.parse(answer.body.toString()).role !== "master") throw new Error("it is no master");
      if (this.membership !== null) return;
      this.log.warn({ master, url }, "a master has this worker in its -volumes: joining its cluster");
      this.url = url;
      this.start([master], url);
    } catch (error) {
      this.log.warn(
        { master, reason: (error as Error).message },
        "a master invites this worker, but cannot be reached under the URL that it gives (its -public-url)",
      );
    } finally {
      await http.close();
    }
  }

  private alone() {
    const { region } = this.config;
    return {
      ...{ success: true as const, url: this.url, region, host: hostname(), store: this.store() },
      ...{ epoch: 0, empty: this.isEmpty(), voting: false, layout: null, birth: {}, volumes: null },
    };
  }

  private store(): string {
    return Buffer.from(this.vault.store.id).toString("hex");
  }

  private isEmpty(): boolean {
    return this.vault.stats().shards.every((shard) => shard.keys === 0 && shard.tombstones === 0);
  }
}
