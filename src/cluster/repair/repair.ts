/**
 * Everything that makes replicas whole again, for one node: hints, synchronisation, anti-entropy, damaged
 * records, collection of tombstones, and dropping what has moved away. All of it works on the own replica, or
 * delivers records at the ballot that they already have; nothing here decides anything by itself.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Ballot } from "../../format/record.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { nameOf } from "../../util/bytes.ts";
import { TOMBSTONE_AGE_MS } from "../../util/limits.ts";
import { clockHealth } from "../clock/clock-watch.ts";
import type { ClusterTime } from "../clock/cluster-time.ts";
import type { Coordinator } from "../coordinator/coordinator.ts";
import type { Placement, ReplicaGroup } from "../layout/layout.ts";
import type { Membership, MembershipLog } from "../membership/membership.ts";
import type { PeerClient } from "../peers/peer-client.ts";
import type { AnswerRoom } from "../peers/peer-handler.ts";
import type { ClusterKey, Proposal } from "../register/ports.ts";
import { clusterKey } from "../replica/cluster-key.ts";
import type { LocalReplica } from "../replica/local-replica.ts";
import type { NodePort } from "../replica/node-port.ts";
import { RepairPort } from "../replica/repair-port.ts";
import { PartitionDropper } from "../sync/dropper.ts";
import { RepairPace } from "../sync/pacer.ts";
import { Synchroniser, type SyncMembership } from "../sync/sync.ts";
import { AntiEntropy } from "./anti-entropy.ts";
import { Collection } from "./collection.ts";
import { type HintOutcome, Hints } from "./hints.ts";

/** How often it is looked whether there is something to do. */
const TICK_MS = 500;
/**
 * Pause between two rounds of anti-entropy; less after one that found something, or when a node has come
 * back.
 */
const ROUND_MS = 10_000;
const HURRY_MS = 1000;
/** Damaged keys that wait for repair. */
const DAMAGED_MAX = 10_000;

/** What repair needs of the node that it works for. */
export interface RepairedNode {
  readonly replica: LocalReplica;
  readonly port: NodePort;
  readonly coordinator: Coordinator;
  /** Requests of clients begun so far. */
  readonly begun: number;
  /** Whether the own replica may vote for a partition. */
  votes(partition: number): boolean;
  groupOf(partition: number): ReplicaGroup;
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
  /** Shorter in tests. */
  tombstoneAgeMs?: number;
}

export class Repair {
  readonly hints: Hints;
  readonly synchroniser: Synchroniser;
  readonly antiEntropy: AntiEntropy;
  readonly port: RepairPort;
  private readonly setup: RepairSetup;
  private readonly self: string;
  private readonly pace: RepairPace;
  private readonly dropper: PartitionDropper;
  private readonly timer: NodeJS.Timeout;
  private readonly damagedKeys = new Map<string, Uint8Array>();
  private readonly up = new Set<string>();
  private readonly work = new Set<Promise<void>>();
  private readonly collection: Collection;
  private nextRoundMs = 0;
  private comparing = false;
  private mending = false;
  private droppedEpoch = 0;
  private dropping = false;
  private mended = 0;
  private stopped = false;

  constructor(setup: RepairSetup) {
    this.setup = setup;
    const { membership, node, vault, log, directory, peerOf } = setup;
    this.self = membership.url;
    const tombstoneAgeMs = setup.tombstoneAgeMs ?? TOMBSTONE_AGE_MS;
    this.pace = new RepairPace(() => node.begun);
    this.port = new RepairPort({
      self: this.self,
      vault,
      replica: node.replica,
      port: node.port,
      peerOf,
      epoch: () => membership.layout?.epoch ?? 0,
      votes: (partition) => node.votes(partition),
      isBusy: () => this.pace.isBusy,
      isSynchronising: () => this.synchroniser.isSynchronising,
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
      tombstoneAgeMs,
      now: () => setup.time.now(),
    });
    this.collection = new Collection({
      self: this.self,
      vault,
      port: this.port,
      pace: this.pace,
      // A stopped node has nothing to collect in.
      placement: () => (this.stopped ? null : this.stablePlacement()),
      tombstoneAgeMs,
      now: () => setup.time.now(),
    });
    this.hints = new Hints({
      directory,
      isUp: (other) => peerOf(other)?.state === "up",
      send: (other, key, ballot) => this.sendHint(other, key, ballot).catch(() => "later" as const),
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

  /** A record is decided and these replicas, as far as known, do not hold it. */
  missed(key: ClusterKey, proposal: Proposal, nodes: readonly string[]): void {
    for (const node of nodes)
      if (node !== this.self) this.hints.add(node, key, proposal.ballot);
      else this.nextRoundMs = Math.min(this.nextRoundMs, performance.now() + HURRY_MS);
  }

  /** The own record of a key is damaged: the others have it. */
  damaged({ bytes }: ClusterKey): void {
    if (this.damagedKeys.size < DAMAGED_MAX) this.damagedKeys.set(nameOf(bytes), Uint8Array.from(bytes));
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
    this.antiEntropy.stop();
    await Promise.all([this.synchroniser.close(), this.hints.close(), ...this.work]);
  }

  /** For `/health`. */
  health(): object {
    const { membership, peerOf } = this.setup;
    const others = (membership.layout?.nodes ?? []).filter(({ id }) => id !== this.self);
    const down = others.filter(({ id }) => peerOf(id)?.state !== "up").map(({ id }) => id);
    return {
      epoch: membership.layout?.epoch ?? 0,
      voting: membership.voting,
      synchronising: this.synchroniser.isSynchronising,
      converged: this.antiEntropy.status.converged,
      notUp: down,
      clock: clockHealth(this.setup.time),
      ...(membership.alarm === null ? {} : { alarm: membership.alarm }),
    };
  }

  /** For `/_stats`. */
  stats(): object {
    const { membership, peerOf, time } = this.setup;
    const { layout } = membership;
    const nodes = new Map(
      [...(layout?.previous?.nodes ?? []), ...(layout?.nodes ?? [])].map((n) => [n.id, n]),
    );
    nodes.delete(this.self);
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
          roundTripMs: peer === null ? 0 : Math.round(peer.roundTripMs * 100) / 100,
          queuedFrames: peer?.queuedFrames ?? 0,
          batchesInFlight: peer?.inFlight ?? 0,
          hints: this.hints.counts(id),
          clock: time.skewOf(id),
          marksTold: peer?.marksTold ?? false,
        };
      }),
      synchronisation: { ...this.synchroniser.status },
      antiEntropy: { ...this.antiEntropy.status },
      damagedKeys: { waiting: this.damagedKeys.size, repaired: this.mended },
      collectedTombstones: this.collection.collected,
      droppedPartitions: this.dropper.dropped,
    };
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
    if (!this.mending && this.damagedKeys.size > 0) this.run(this.mend());
    if (this.collection.isDue(nowMs)) this.run(this.collection.round());
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

  // ---- hints ---------------------------------------------------------------------------------------------------------------------

  private async sendHint(node: string, bytes: Uint8Array, ballot: Ballot): Promise<HintOutcome> {
    const { placement } = this.setup.membership;
    if (placement === null) return "later";
    const key = clusterKey(bytes);
    const group = placement.groups[key.partition];
    if (!group.nodes.includes(node)) return "done";
    const record = await this.port.record(key, this.holders(group.nodes, node), group.epoch, ballot);
    if (record === "unknown") return "later";
    if (record === null) return "done";
    const answer = await this.port.deliver(node, key, group.epoch, record);
    return answer.kind === "yes" || answer.kind === "no" ? "done" : "later";
  }

  /** Replicas that may have a record, nearest first. */
  private holders(nodes: readonly string[], except: string): string[] {
    const { node } = this.setup;
    return nodes.filter((other) => other !== except).sort((a, b) => node.distance(a) - node.distance(b));
  }

  // ---- damaged records -----------------------------------------------------------------------------------------------------------

  private async mend(): Promise<void> {
    this.mending = true;
    try {
      for (const [name, bytes] of this.damagedKeys) {
        if (this.stopped) return;
        if (await this.mendKey(clusterKey(bytes))) this.mended++;
        this.damagedKeys.delete(name);
      }
    } finally {
      this.mending = false;
    }
  }

  /**
   * What this replica had promised or taken is lost, so the others settle the key first: after that nothing
   * older can be decided any more, and what they hold then may take the place of what is damaged.
   */
  private async mendKey(key: ClusterKey): Promise<boolean> {
    const { node } = this.setup;
    const ballot = await new Promise<Ballot | null>((resolve) => {
      node.coordinator.settle(key, (result) => resolve(result.ballot));
    });
    if (ballot === null) return false;
    const group = node.groupOf(key.partition);
    const record = await this.port.record(key, this.holders(group.nodes, this.self), group.epoch, ballot);
    if (record === null || record === "unknown") return false;
    return (await this.port.take(key, group.epoch, record)).kind === "yes";
  }

  // ---- what has moved away -------------------------------------------------------------------------------------------------------

  private async dropMoved(placement: Placement): Promise<void> {
    const { log } = this.setup;
    this.dropping = true;
    try {
      let dropped = 0;
      const may = () => !this.stopped && this.stablePlacement() === placement;
      for (const partition of placement.holdsNo(this.self)) {
        if (!may()) return;
        const beganMs = performance.now();
        if (await this.dropper.drop(partition, may)) dropped++;
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
