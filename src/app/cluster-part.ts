import { hostname } from "node:os";
import { audienceOf } from "../auth/audience.ts";
import type { KeyRing } from "../auth/keys.ts";
import { RequestSigner } from "../auth/signature.ts";
import { BallotSource } from "../cluster/clock/ballots.ts";
import { createCeilingWriter, readCeiling } from "../cluster/clock/ceiling.ts";
import { watchClock } from "../cluster/clock/clock-watch.ts";
import { ClusterTime } from "../cluster/clock/cluster-time.ts";
import { FrontDesk } from "../cluster/fronts/front-desk.ts";
import { openRunFile, type RunFile } from "../cluster/identity/run-file.ts";
import type { ClusterState } from "../cluster/layout/cluster-file.ts";
import { featuresWith } from "../cluster/layout/features.ts";
import { askOnce } from "../cluster/link/ask-once.ts";
import { demandMaster, ROLE_PATH } from "../cluster/link/master-role.ts";
import { PeerTls } from "../cluster/link/peer-tls.ts";
import { createMemberRoutes } from "../cluster/membership/member-routes.ts";
import { Membership } from "../cluster/membership/membership.ts";
import { ClusterNode } from "../cluster/node/cluster-node.ts";
import { PeerSet } from "../cluster/node/peer-set.ts";
import type { PeerHandler } from "../cluster/peers/peer-handler.ts";
import { Repair } from "../cluster/repair/repair.ts";
import type { ClusterFacts } from "../cluster/repair/status.ts";
import { Service } from "../cluster/service/service.ts";
import type { Config } from "../config/config.ts";
import type { Logger } from "../platform/log.ts";
import { OwnNames } from "../platform/own-names.ts";
import type { PeerFacts } from "../server/front.ts";
import type { LocalVault } from "../shards/vault/local-vault.ts";
import { VaultError } from "../util/errors.ts";
import { ringOf } from "./access.ts";
import { admitLoss } from "./admit-loss.ts";

/** A master that invites a worker has to answer in this time. */
const MASTER_MS = 3000;
/** For tests: age in ms from which tombstones are collected. */
const TOMBSTONE_AGE_VARIABLE = "MINIVAULT_TEST_TOMBSTONE_AGE_MS";

/**
 * The worker's membership: there from the start with -master, -volumes or a CLUSTER file in the data
 * directory, or from the moment when a master has invited it.
 */
export class ClusterPart {
  membership: Membership | null = null;
  private endClockWatch: () => void = () => {};
  /** What answers clients and other nodes. */
  node: ClusterNode | null = null;
  private peers: PeerSet | null = null;
  private repair: Repair | null = null;
  private service: Service | null = null;
  /** For the other front threads. */
  desk: FrontDesk | null = null;
  readonly handler: PeerHandler;
  private readonly config: Config;
  private readonly vault: LocalVault;
  private readonly log: Logger;
  /** What nodes sign with; null: they do not. */
  readonly ring: KeyRing | null;
  readonly tls: PeerTls;
  private readonly signer: RequestSigner | null;
  private readonly run: RunFile;
  private url = "";
  /** On which this node listens. */
  port = 0;

  constructor(config: Config, vault: LocalVault, log: Logger) {
    this.config = config;
    this.vault = vault;
    this.log = log;
    this.ring = ringOf(config);
    this.signer = this.ring === null ? null : new RequestSigner(this.ring);
    this.tls = new PeerTls(config.tlsCa, config.tls);
    if (this.tls.problem !== null) log.warn(this.tls.problem);
    this.run = openRunFile(config.dataDirectory, config.sync === "always");
    this.handler = this.createHandler();
  }

  private createHandler(): PeerHandler {
    const node = (): ClusterNode => {
      if (this.node === null) throw alone();
      return this.node;
    };
    return {
      ...createMemberRoutes({
        membership: () => this.membership,
        alone: () => this.alone(),
        publicUrl: this.config.publicUrl,
        invitable: this.ring !== null || this.config.allowInvite,
        isEmpty: () => this.isEmpty(),
        hasOwnMasters: this.config.masters.length > 0,
        join: (master, url) => this.join(master, url),
      }),
      hear: (from, marks) => this.membership?.hear(from, marks) ?? null,
      ownLife: () => this.membership?.lifeAsText ?? null,
      hello: (from) => {
        if (this.membership === null) throw alone();
        return Buffer.from(
          `${JSON.stringify({ success: true, known: this.membership.answerHello(from) })}\n`,
        );
      },
      frame: (bytes, reply, room) => node().frame(bytes, reply, room),
      openSink: (head) => node().openSink(head),
      openSource: (head) => node().openSource(head),
    };
  }

  /** What the front needs for the routes between nodes. */
  get peerFacts(): PeerFacts {
    const names = new OwnNames(() => this.port);
    return { handler: this.handler, ring: this.ring, audience: audienceOf(() => this.publicUrl, names) };
  }

  /** Under which others know this node; null: nobody has said. */
  get publicUrl(): string | null {
    return this.membership?.url ?? this.config.publicUrl;
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
    const membership = this.createMembership(masters, url);
    this.membership = membership;
    const time = new ClusterTime({
      wall: Date.now,
      steady: () => performance.now(),
      nodes: () => membership.layout?.nodes.length ?? 1,
    });
    this.endClockWatch = watchClock(time, log);
    const localAddress = config.peerAddress ?? undefined;
    const peers = new PeerSet({ membership, time, signer, tls, log, localAddress });
    this.peers = peers;
    const node = this.createNode(url, membership, time, peers);
    this.node = node;
    this.service = new Service({
      self: url,
      placement: () => membership.placement,
      votes: () => membership.voting,
      hindrance: (other) => peers.hindrance(other),
      read: (key, done) => node.coordinator.read(key, done),
      settle: (key, done) => node.coordinator.settle(key, done),
      now: () => performance.now(),
    });
    const age = process.env[TOMBSTONE_AGE_VARIABLE];
    this.repair = new Repair({
      ...{ directory: config.dataDirectory, vault, membership, node, time, log },
      peerOf: (other) => peers.get(other),
      historyMs: config.historyMs,
      ...(age === undefined ? {} : { ages: { deleted: Number(age), ended: Number(age) } }),
    });
    admitLoss(vault, membership, log);
    if (config.frontPort !== null) {
      const seekLayout = (epoch: number): void => peers.seekLayout(epoch);
      this.desk = new FrontDesk({ membership, repair: this.repair, seekLayout });
    }
    membership.start();
  }

  private createMembership(masters: readonly string[], url: string): Membership {
    const { config, vault, signer, tls, log } = this;
    const sum = (figure: "keys" | "liveBytes") =>
      vault.stats().shards.reduce((total, shard) => total + shard[figure], 0);
    return new Membership({
      directory: config.dataDirectory,
      url,
      region: config.region,
      host: hostname(),
      store: this.store(),
      storeNode: vault.store.node,
      starts: vault.store.incarnation,
      openedEnds: vault.replica.ends("openedEnd"),
      answeredEnds: () => vault.replica.ends("answeredEnd"),
      run: this.run,
      hello: (other) => this.peers?.hello(other) ?? Promise.reject(new Error("not yet")),
      masters,
      volumes: config.volumes,
      replicas: config.replicas,
      features: featuresWith(vault),
      wantedReplicas: config.isReplicasGiven ? config.replicas : null,
      partitions: config.partitions,
      load: () => ({ keys: sum("keys"), bytes: sum("liveBytes") }),
      isEmpty: () => this.isEmpty(),
      ...{ signer, tls, log },
    });
  }

  private createNode(url: string, membership: Membership, time: ClusterTime, peers: PeerSet): ClusterNode {
    const { config, vault, log } = this;
    const ballots = new BallotSource({
      node: membership.number,
      get incarnation() {
        return membership.incarnation;
      },
      now: () => time.now(),
      ceilingMillis: readCeiling(config.dataDirectory),
      persistCeiling: createCeilingWriter(config.dataDirectory, (message) => log.warn(message)),
    });
    return new ClusterNode({
      self: url,
      region: config.region,
      consistency: config.consistency,
      view: membership,
      ...{ vault, ballots, time },
      peerOf: (other) => peers.get(other),
      newerLayout: (epoch) => peers.seekLayout(epoch),
      seen: (...outcome) => this.service?.seen(...outcome),
      missed: (key, proposal, nodes) => this.repair?.missed(key, proposal, nodes),
      damaged: (key) => this.repair?.damaged(key),
      mustWait: (partition) => this.repair?.mustWait(partition) ?? true,
      repairFrame: (bytes, reply, room) => this.repair?.frame(bytes, reply, room),
      warn: (message) => log.warn(message),
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

  /** Ends all of this, then the vault: what was written is on the disk, unless writes had to be stopped. */
  async stop(): Promise<void> {
    await this.close();
    const isWhole = this.vault.stats().shards.every((shard) => !shard.writesStopped);
    await this.vault.close();
    if (isWhole && this.membership?.isProven === true) this.run.end();
  }

  private async close(): Promise<void> {
    this.endClockWatch();
    this.service?.close();
    this.desk?.close();
    await this.repair?.close();
    await this.membership?.close();
    await this.peers?.close();
  }

  /** Follows an invitation, once the master answers under the URL that it gave. */
  private async join(master: string, url: string): Promise<void> {
    const { signer, tls } = this;
    try {
      demandMaster(await askOnce({ url: master, signer, tls }, ROLE_PATH, MASTER_MS));
      this.log.warn({ master, url }, "a master has this worker in its -volumes: joining its cluster");
      this.url = url;
      if (this.membership === null) this.start([master], url);
      else this.membership.addMaster(master).catch((error: Error) => this.log.warn(error.message));
    } catch (error) {
      this.log.warn(
        { master, reason: (error as Error).message },
        "a master invites this worker, but cannot be reached under the URL that it gives (its -public-url)",
      );
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

function alone(): VaultError {
  return new VaultError("unavailable", "this node is not one of a cluster");
}
