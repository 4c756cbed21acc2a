/**
 * Everything that makes replicas whole again, for one node: hints, synchronisation, anti-entropy, damaged
 * records, ends that cannot be marked, collection of tombstones, and dropping what has moved away. All of it
 * works on the own replica, or delivers records at the ballot that they already have; nothing here decides
 * anything by itself.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import type { ClusterTime } from "../clock/cluster-time.ts";
import type { Coordinator } from "../coordinator/coordinator.ts";
import type { Placement, ReplicaGroup } from "../layout/groups.ts";
import type { Membership, MembershipLog } from "../membership/membership.ts";
import type { PeerClient } from "../peers/peer-client.ts";
import type { AnswerRoom } from "../peers/peer-handler.ts";
import type { ClusterKey, Proposal } from "../register/ports.ts";
import type { LocalReplica } from "../replica/local-replica.ts";
import type { NodePort } from "../replica/node-port.ts";
import { RepairPort } from "../replica/repair-port.ts";
import { neighbours, PartitionDropper } from "../sync/dropper.ts";
import { RepairPace } from "../sync/pacer.ts";
import { Synchroniser, type SyncMembership } from "../sync/sync.ts";
import { AntiEntropy } from "./anti-entropy.ts";
import { agesFor, Collection, type CollectionAges, isCollectable } from "./collection.ts";
import { Ends } from "./ends.ts";
import { Hints } from "./hints.ts";
import { Mending } from "./mend.ts";
import { type ClusterStats, repairHealth, repairStats } from "./status.ts";

/** How often it is looked whether there is something to do. */
const TICK_MS = 500;
/**
 * Pause between two rounds of anti-entropy; less after one that found something, or when a node has come
 * back.
 */
const ROUND_MS = 10_000;
const HURRY_MS = 1000;
/** What repair needs of the node that it works for. */
export interface RepairedNode {
  readonly replica: LocalReplica;
  readonly port: NodePort;
  readonly coordinator: Coordinator;
  /** Requests of clients begun so far. */
  readonly begun: number;
  /** Whether the own replica may vote for the partition of these replicas. */
  votes(group: ReplicaGroup): boolean;
  groupOf(key: ClusterKey): ReplicaGroup;
  /** Round-trip time to a node in ms; Infinity: not to be reached. */
  distance(node: string): number;
}

export interface RepairSetup {
  directory: string;
  vault: LocalVault;
  membership: Membership;
  node: RepairedNode;
  peerOf: (node: string) => PeerClient | null;
  time: ClusterTime;
  log: MembershipLog;
  /** How long who follows changes can come back and go on. */
  historyMs: number;
  /** Shorter ages in tests. */
  ages?: CollectionAges;
}

export class Repair {
  readonly hints: Hints;
  readonly synchroniser: Synchroniser;
  readonly antiEntropy: AntiEntropy;
  readonly port: RepairPort;
  private readonly setup: RepairSetup;
  private readonly self: string;
  private readonly pace: RepairPace;
  readonly dropper: PartitionDropper;
  private readonly timer: NodeJS.Timeout;
  readonly mending: Mending;
  private readonly up = new Set<string>();
  private readonly work = new Set<Promise<void>>();
  readonly collection: Collection;
  readonly ends: Ends;
  private nextRoundMs = 0;
  private comparing = false;
  private droppedEpoch = 0;
  private dropping = false;
  private stopped = false;

  constructor(setup: RepairSetup) {
    this.setup = setup;
    const { membership, node, vault, log, directory, peerOf } = setup;
    this.self = membership.url;
    const ages = setup.ages ?? agesFor(setup.historyMs);
    this.pace = new RepairPace(() => node.begun);
    this.port = new RepairPort({
      self: this.self,
      vault,
      replica: node.replica,
      port: node.port,
      peerOf,
      epoch: () => membership.layout?.epoch ?? 0,
      clusterMillis: () => setup.time.now(),
      placement: () => membership.placement,
      votes: (group) => node.votes(group),
      isBusy: () => this.pace.isBusy,
      isSynchronising: () => this.synchroniser.isSynchronising,
      isOld: (held) => isCollectable(held, setup.time.now(), ages),
    });
    this.mending = new Mending({
      self: this.self,
      node,
      port: this.port,
      placement: () => membership.placement,
    });
    this.dropper = new PartitionDropper(vault, directory);
    const distance = (other: string) => node.distance(other);
    const common = { self: this.self, vault, port: this.port, coordinator: node.coordinator, distance };
    this.synchroniser = new Synchroniser({
      ...common,
      membership: membership satisfies SyncMembership,
      dropper: this.dropper,
      pace: this.pace,
      info: (fields, text) => log.info(fields, text),
      warn: (fields, text) => log.warn(fields, text),
    });
    this.antiEntropy = new AntiEntropy({
      ...common,
      placement: () => this.stablePlacement(),
      pace: this.pace,
      ages,
      now: () => setup.time.now(),
    });
    this.collection = new Collection({
      self: this.self,
      vault,
      port: this.port,
      pace: this.pace,
      // A stopped node has nothing to collect in.
      placement: () => (this.stopped ? null : this.stablePlacement()),
      ages,
      now: () => setup.time.now(),
    });
    this.ends = this.createEnds();
    this.hints = new Hints({
      directory,
      isUp: (other) => peerOf(other)?.state === "up",
      send: (other, key, ballot) => this.mending.deliver(other, key, ballot).catch(() => "later" as const),
      warn: (message) => log.warn({}, message),
    });
    membership.onLayout((layout) => {
      this.synchroniser.followLayout();
      const nodes = [...layout.nodes, ...(layout.previous?.nodes ?? [])];
      this.hints.keepOnly(new Set(nodes.map(({ id }) => id)));
      this.nextRoundMs = 0;
    });
    this.timer = setInterval(() => this.tick(), TICK_MS);
    this.timer.unref();
  }

  private createEnds(): Ends {
    const { vault, node, membership, time } = this.setup;
    return new Ends({
      vault,
      coordinator: node.coordinator,
      // A replica that has lost promises may not act as if it had given none.
      endMillis: () => (membership.voting && time.wasAgreed ? time.now() : 0),
      now: () => performance.now(),
    });
  }

  /** A record is decided and these replicas, as far as known, do not hold it. */
  missed(key: ClusterKey, proposal: Proposal, nodes: readonly string[]): void {
    for (const node of nodes)
      if (node !== this.self) this.hints.add(node, key, proposal.ballot);
      else this.nextRoundMs = Math.min(this.nextRoundMs, performance.now() + HURRY_MS);
  }

  /** The own record of a key is damaged: the others have it. */
  damaged({ bytes }: ClusterKey): void {
    this.mending.add(bytes);
  }

  mustWait(partition: number): boolean {
    return this.synchroniser.mustWait(partition);
  }

  frame(bytes: Uint8Array, reply: (answer: Uint8Array) => void, room: AnswerRoom): void {
    this.port.frame(bytes, reply, room);
  }

  async close(): Promise<void> {
    this.stopped = true;
    clearInterval(this.timer);
    this.ends.stop();
    this.antiEntropy.stop();
    this.mending.stop();
    await Promise.all([this.synchroniser.close(), this.hints.close(), ...this.work]);
  }

  /** For `/health`. */
  health(): object {
    return repairHealth(this, this.setup);
  }

  /** For `/_stats` and `/_metrics`. */
  stats(): ClusterStats {
    return repairStats(this, this.setup);
  }

  /** Where replicas can be compared: there is a layout, nothing moves, and the own replica is whole. */
  private stablePlacement(): Placement | null {
    const { placement, voting } = this.setup.membership;
    if (placement === null || !voting || placement.layout.previous !== null) return null;
    return placement;
  }

  private tick(): void {
    if (this.stopped) return;
    this.synchroniser.tick();
    const nowMs = performance.now();
    for (const { id } of this.setup.membership.layout?.nodes ?? []) {
      const isUp = this.setup.peerOf(id)?.state === "up";
      if (isUp && !this.up.has(id)) this.nextRoundMs = Math.min(this.nextRoundMs, nowMs + HURRY_MS);
      if (isUp) this.up.add(id);
      else this.up.delete(id);
    }
    if (!this.comparing && nowMs >= this.nextRoundMs) this.run(this.compare());
    if (this.mending.isDue) this.run(this.mending.round());
    if (this.collection.isDue(nowMs)) this.run(this.collection.round());
    this.ends.tick();
    const placement = this.stablePlacement();
    if (placement !== null && !this.dropping && placement.layout.epoch > this.droppedEpoch)
      this.run(this.dropMoved(placement));
  }

  private run(work: Promise<void>): void {
    const logged = work.catch((error: unknown) => {
      this.setup.log.warn({ reason: (error as Error).message }, "repair in the background failed");
    });
    this.work.add(logged);
    void logged.finally(() => this.work.delete(logged));
  }

  private async compare(): Promise<void> {
    this.comparing = true;
    // What comes meanwhile may ask for an earlier round.
    this.nextRoundMs = Number.POSITIVE_INFINITY;
    try {
      const again = await this.antiEntropy.round();
      const { converged } = this.antiEntropy.status;
      const pauseMs = again ? HURRY_MS : converged ? ROUND_MS : ROUND_MS / 4;
      this.nextRoundMs = Math.min(this.nextRoundMs, performance.now() + pauseMs);
    } finally {
      this.comparing = false;
    }
  }

  /** Drops what other nodes have taken over. */
  private async dropMoved(placement: Placement): Promise<void> {
    const { log } = this.setup;
    this.dropping = true;
    try {
      let dropped = 0;
      const may = () => !this.stopped && this.stablePlacement() === placement;
      for (const prefixes of neighbours(placement.holdsNo(this.self))) {
        if (!may()) return;
        const beganMs = performance.now();
        dropped += await this.dropper.drop(prefixes, may);
        await this.pace.rest(performance.now() - beganMs);
      }
      this.droppedEpoch = placement.layout.epoch;
      if (dropped > 0) log.info({ partitions: dropped }, "dropped what has moved to other nodes");
    } catch (error) {
      await sleep(TICK_MS);
      throw error;
    } finally {
      this.dropping = false;
    }
  }
}
