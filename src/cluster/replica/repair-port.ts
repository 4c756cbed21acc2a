/**
 * What the parts of repair ask of replicas: of the own one directly, of other nodes by frames; and the own
 * replica's answers to other nodes. The questions carry the epoch, like all between nodes, and are only
 * answered by a replica that votes for the partition.
 */

import { type Ballot, ballotOf } from "../../format/record.ts";
import { digestWordsOf, leafOf } from "../../rules/digest.ts";
import { compareRanks, confirmsTombstone, type Rank } from "../../rules/register.ts";
import type { ScannedKey } from "../../shards/housekeeping/partition-scan.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { nameOf } from "../../util/bytes.ts";
import { hashKey, indexPartitionOf } from "../../util/hash.ts";
import { type HashPrefix, indexPartitionOfPrefix } from "../../util/hash-prefix.ts";
import { RECORD_KEY_BYTES_MAX } from "../../util/limits.ts";
import type { Placement, ReplicaGroup } from "../layout/groups.ts";
import type { AnswerRoom } from "../peers/peer-handler.ts";
import {
  type AcceptAnswer,
  type ClusterKey,
  endMark,
  type LookAnswer,
  type Proposal,
  TOMBSTONE,
} from "../register/ports.ts";
import type { CollectPort, HeldTombstone } from "../register/tombstones.ts";
import {
  ALL_LEAVES,
  decodeDigests,
  decodeRepair,
  decodeScanned,
  digestPartitionsMax,
  encodeDigests,
  encodeNotNow,
  encodeRepair,
  encodeScanned,
  encodeYes,
  isYes,
  type PartitionDigest,
  type RepairRequest,
  SCAN_KEYS_MAX,
  type ScanAnswer,
} from "../wire/repair-wire.ts";
import { clusterKey, keyBytes } from "./cluster-key.ts";
import type { LocalReplica } from "./local-replica.ts";
import type { FrameSender, NodePort } from "./node-port.ts";

export interface RepairPortSetup {
  self: string;
  vault: LocalVault;
  replica: LocalReplica;
  port: NodePort;
  peerOf: (node: string) => FrameSender | null;
  epoch: () => number;
  clusterMillis: () => number;
  placement: () => Placement | null;
  /** Whether the own replica may vote for the partition of these replicas. */
  votes: (group: ReplicaGroup) => boolean;
  /** Whether this node serves clients now. */
  isBusy: () => boolean;
  /** Whether the own replica is not whole yet: then it confirms no tombstone. */
  isSynchronising: () => boolean;
  /** Whether it need not keep a tombstone any longer for those who follow changes. */
  isOld: (held: HeldTombstone) => boolean;
}

/** What a replica holds of a partition. */
export interface PartitionList {
  node: string;
  /** By key, as latin1. */
  keys: Map<string, ScannedKey>;
  floor: Ballot | null;
  damaged: number;
  /** The node serves clients. */
  busy: boolean;
}

/** What a scan or digests may take: about as much as the longest keys do. */
const REPAIR_ANSWER_BYTES = SCAN_KEYS_MAX * RECORD_KEY_BYTES_MAX;

export class RepairPort implements CollectPort {
  private readonly setup: RepairPortSetup;

  constructor(setup: RepairPortSetup) {
    this.setup = setup;
  }

  /** Reads a partition of a node through, or some leaves of it. Rejects when it cannot or may not answer. */
  list(node: string, group: ReplicaGroup, leaves = ALL_LEAVES): Promise<PartitionList> {
    const { partition, prefix, epoch } = group;
    if (node === this.setup.self) return this.listHere(prefix, leaves);
    const request = { kind: "scan", epoch, partition, limit: SCAN_KEYS_MAX, leaves } as const;
    return this.stepped(node, async (cursor) => decodeScanned(await this.ask(node, { ...request, cursor })));
  }

  /** Reads keys of the own replica through: those whose hash A begins so. */
  listHere(prefix: HashPrefix, leaves = ALL_LEAVES): Promise<PartitionList> {
    return this.stepped(this.setup.self, async (cursor) => {
      const step = this.scanHere(prefix, { cursor, limit: SCAN_KEYS_MAX, leaves });
      await new Promise((resolve) => setImmediate(resolve));
      return step;
    });
  }

  private async stepped(
    node: string,
    stepAt: (cursor: number) => Promise<ScanAnswer | null>,
  ): Promise<PartitionList> {
    const list: PartitionList = { node, keys: new Map(), floor: null, damaged: 0, busy: false };
    for (let cursor = 0; cursor >= 0; ) {
      const step = await stepAt(cursor);
      if (step === null || (step.next >= 0 && step.next <= cursor && step.keys.length > 0))
        throw new Error(`${node} does not tell what it holds of a partition`);
      for (const key of step.keys) list.keys.set(nameOf(key.key), key);
      list.floor = step.floor;
      list.busy = step.busy;
      list.damaged += step.damaged;
      cursor = step.next;
    }
    return list;
  }

  /** Floors and digests of another node, of a window of partitions (sync/digest-windows.ts). May reject. */
  async digests(node: string, some: readonly number[], { layout }: Placement): Promise<PartitionDigest[]> {
    const { epoch, partitions } = layout;
    const [partition, count] = [some[0], some[some.length - 1] - some[0] + 1];
    const answer = await this.ask(node, { kind: "digests", epoch, partition, count });
    const digests = decodeDigests(answer, count, digestWordsOf(partitions));
    if (digests === null) throw new Error(`${node} does not tell its digests`);
    return digests;
  }

  confirm(
    node: string,
    key: ClusterKey,
    epoch: number,
    ballot: Ballot,
    ended: boolean,
    reply: (confirmed: boolean) => void,
  ): void {
    if (node === this.setup.self) reply(this.confirmsHere(key, epoch, ballot, ended));
    else
      this.ask(node, { kind: "confirm", epoch, ballot, ended, key: key.bytes }).then(
        (answer) => reply(isYes(answer)),
        () => reply(false),
      );
  }

  collect(node: string, key: ClusterKey, epoch: number, ballot: Ballot, ended: boolean): void {
    if (node === this.setup.self) this.collectHere(key, epoch, ballot, ended);
    // A replica that does not hear of it keeps its tombstone until the next time.
    else this.ask(node, { kind: "collect", epoch, ballot, ended, key: key.bytes }).catch(() => {});
  }

  /**
   * The record of a key, of at least this rank, from the first of these nodes that has it.
   * @returns null: none of those that answered has it; "unknown": one did not answer
   */
  async record(
    key: ClusterKey,
    nodes: readonly string[],
    epoch: number,
    rank: Rank,
  ): Promise<Proposal | null | "unknown"> {
    let unknown = false;
    for (const node of nodes) {
      const answer = await new Promise<LookAnswer>((resolve) => {
        this.setup.port.read(node, key, epoch, resolve);
      });
      if (answer.kind !== "yes") unknown = true;
      else if (answer.ballot !== null && compareRanks(answer, rank) >= 0) {
        const { operationLow, operationHigh, ended, end, recent = null } = answer;
        const absence = ended ? endMark(end, recent) : { ...TOMBSTONE, recent };
        const payload = answer.tombstone ? absence : answer.payload;
        if (payload !== null) return { ballot: answer.ballot, payload, operationLow, operationHigh };
      }
    }
    return unknown ? "unknown" : null;
  }

  /** Delivers a record to a replica, at its own ballot, like a late message of its coordinator. */
  deliver(node: string, key: ClusterKey, epoch: number, proposal: Proposal): Promise<AcceptAnswer> {
    return new Promise((resolve) => {
      this.setup.port.accept(node, key, epoch, { ...proposal, held: true }, resolve);
    });
  }

  /** Makes the own replica hold what the others have shown to be the key's record. */
  take(key: ClusterKey, epoch: number, proposal: Proposal): Promise<AcceptAnswer> {
    return new Promise((resolve) => {
      this.setup.replica.take(key, epoch, proposal, resolve);
    });
  }

  /** One question of another node. */
  frame(bytes: Uint8Array, reply: (answer: Uint8Array) => void, room: AnswerRoom): void {
    const request = decodeRepair(bytes);
    const needsRoom = request?.kind === "scan" || request?.kind === "digests";
    if (
      request === null ||
      request.epoch !== this.setup.epoch() ||
      // Whoever asks for so much at once has to ask again.
      (needsRoom && !room.take(REPAIR_ANSWER_BYTES))
    ) {
      reply(encodeNotNow());
      return;
    }
    switch (request.kind) {
      case "scan": {
        const group = this.votedAt(request.partition);
        reply(group === null ? encodeNotNow() : encodeScanned(this.scanHere(group.prefix, request)));
        break;
      }
      case "digests":
        reply(this.digestsHere(request.partition, request.count));
        break;
      case "confirm":
        reply(
          this.confirmsHere(clusterKey(request.key), request.epoch, request.ballot, request.ended)
            ? encodeYes()
            : encodeNotNow(),
        );
        break;
      case "collect": {
        const { key, epoch, ballot, ended } = request;
        this.collectHere(clusterKey(Uint8Array.from(key)), epoch, ballot, ended);
        reply(encodeYes());
      }
    }
  }

  private ask(node: string, request: RepairRequest): Promise<Uint8Array> {
    const peer = this.setup.peerOf(node);
    return peer === null
      ? Promise.reject(new Error(`${node} is not a node of the cluster`))
      : peer.send(encodeRepair(request));
  }

  private scanHere(
    prefix: HashPrefix,
    { cursor, limit, leaves }: { cursor: number; limit: number; leaves: number },
  ): ScanAnswer {
    const { replica } = this.setup.vault;
    const step = replica.scan(prefix, cursor, limit);
    const keys =
      leaves === ALL_LEAVES
        ? step.keys
        : step.keys.filter(({ key }) => (leaves & (1 << leafOf(hashKey(key, key.length, 0), prefix))) !== 0);
    return {
      ...step,
      keys,
      floor: replica.floorOf(indexPartitionOfPrefix(prefix)),
      busy: this.setup.isBusy(),
    };
  }

  private digestsHere(partition: number, count: number): Uint8Array {
    const { replica } = this.setup.vault;
    const partitions = this.setup.placement()?.layout.partitions ?? 0;
    if (count > digestPartitionsMax(partitions)) return encodeNotNow();
    const digests = Array.from({ length: count }, (_, index): PartitionDigest => {
      const group = this.votedAt(partition + index);
      if (group === null) return { votes: false, floor: null, digest: null };
      const floor = replica.floorOf(indexPartitionOfPrefix(group.prefix));
      return { votes: true, floor, digest: replica.digests(group.prefix) };
    });
    return encodeDigests(digests, digestWordsOf(partitions));
  }

  /** The replicas of a partition, if the own one votes for it; null: it does not, or there is none. */
  private votedAt(partition: number): ReplicaGroup | null {
    const group = this.setup.placement()?.groups[partition];
    return group !== undefined && this.setup.votes(group) ? group : null;
  }

  private confirmsHere(key: ClusterKey, epoch: number, ballot: Ballot, ended: boolean): boolean {
    const { setup } = this;
    const group = setup.placement()?.groupOf(key.hashA);
    if (group === undefined || epoch !== setup.epoch() || setup.isSynchronising()) return false;
    if (!setup.votes(group)) return false;
    const held = setup.vault.findRegister(keyBytes(key));
    if (held.state === "damaged" || held.state === "unreadable") return false;
    const state =
      held.state === "absent"
        ? null
        : {
            ...{ promised: setup.vault.replica.promisedOf(keyBytes(key)), ballot: ballotOf(held.head) },
            ...{ tombstone: held.state === "tombstone", ended: held.ended, end: held.end },
            ...{ operationLow: 0, operationHigh: 0 },
          };
    if (state?.tombstone === true && !setup.isOld(state)) return false;
    const floor = setup.vault.replica.floorOf(indexPartitionOf(key.hashA));
    return confirmsTombstone(state, floor, ballot, ended, setup.clusterMillis());
  }

  private collectHere(key: ClusterKey, epoch: number, ballot: Ballot, ended: boolean): void {
    if (epoch === this.setup.epoch())
      this.setup.vault.replica.dropTombstone(keyBytes(key), ballot, ended, () => {});
  }
}
