/**
 * The vault's side of replication's housekeeping, on the front: reading a partition through, its digests and
 * floors, and what cleans up: floors, collected tombstones, partitions that were moved away. Prepare and
 * accept are calls of the vault itself.
 */

import { FIGURE } from "../../engine/slabs/figures.ts";
import { FloorReader } from "../../engine/state/floors.ts";
import type { Ballot } from "../../format/record.ts";
import { ballotOfMillis, higherBallot } from "../../format/version.ts";
import { sumDigest } from "../../rules/digest.ts";
import type { KeyRef } from "../../rules/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { hashBOf, hashKey, shardOf } from "../../util/hash.ts";
import type { HashPrefix } from "../../util/hash-prefix.ts";
import {
  emptyOperation,
  OP_DROP_PARTITION,
  OP_DROP_TOMBSTONE,
  OP_FOLD_PROMISES,
  OP_OVERDUE,
  OP_RAISE_FLOOR,
  OP_SETTLE_LOSS,
  type Operation,
} from "../arena/operation.ts";
import type { ShardQueue } from "../arena/queue.ts";
import { failedWrite, type KeyBytes, type WriteDone, type WriteResult } from "../arena/write.ts";
import { PartitionScan, type PartitionScanSetup, type ScanStep } from "./partition-scan.ts";

/** What became of housekeeping: null, or why not. */
export type HousekeepingDone = (error: ErrorCode | null) => void;

export interface HousekeepingSetup extends PartitionScanSetup {
  queues: readonly ShardQueue[];
}

export class Housekeeping {
  private readonly setup: HousekeepingSetup;
  private readonly partitions: PartitionScan;
  private readonly floors: readonly FloorReader[];
  private readonly figures: readonly Float64Array[];
  private readonly digestWords: readonly Int32Array[];

  constructor(setup: HousekeepingSetup) {
    const { memories } = setup;
    this.setup = setup;
    this.partitions = new PartitionScan(setup);
    this.floors = memories.map((memory) => new FloorReader(memory.replication.floors));
    this.figures = memories.map((memory) => new Float64Array(memory.figures));
    this.digestWords = memories.map((memory) => new Int32Array(memory.replication.digests));
  }

  /** A step of reading a partition through: see PartitionScan. */
  scan(prefix: HashPrefix, cursor: number, limit: number): ScanStep {
    return this.partitions.step(prefix, cursor, limit);
  }

  /** Digest of a partition over all shards, null: not complete yet. */
  digests(prefix: HashPrefix): Int32Array | null {
    if (this.figures.some((figures) => figures[FIGURE.digestsReady] === 0)) return null;
    return sumDigest(this.digestWords, prefix);
  }

  /** The highest floor that a shard has for a partition of the index, or null. */
  floorOf(partition: number): Ballot | null {
    return this.floors.map((floors) => floors.of(partition)).reduce(higherBallot, null);
  }

  /**
   * The highest clock of the ballots that were on disk at the start, in milliseconds since 1970: new ones
   * should be above it.
   */
  get clockMillis(): number {
    return Math.max(...this.figures.map((figures) => figures[FIGURE.clockMillis]));
  }

  /** Up to where each shard's log is answered, or where it ended when it was opened (`logPlace`). */
  ends(which: "answeredEnd" | "openedEnd"): number[] {
    return this.figures.map((figures) => figures[FIGURE[which]]);
  }

  private send(shard: number, operation: Operation, done: WriteDone): void {
    const { queues } = this.setup;
    operation.shard = shard;
    if (!queues[shard % queues.length].submit(operation, done))
      setImmediate(() => done(failedWrite("overloaded", "")));
  }

  /** Sends an operation to every shard; answers the first thing that went wrong, once all have answered. */
  private sendAll(fill: (operation: Operation) => void, done: HousekeepingDone): void {
    const { shards } = this.setup.store;
    let waiting = shards;
    let failure: ErrorCode | null = null;
    for (let shard = 0; shard < shards; shard++) {
      const operation = emptyOperation();
      fill(operation);
      this.send(shard, operation, ({ error, register }) => {
        // What is judged by its ballot is done only if it was not outranked.
        const isDone = operation.ballot === null || register?.verdict === "yes";
        failure ??= error ?? (isDone ? null : "unavailable");
        if (--waiting === 0) done(failure);
      });
    }
  }

  /** Puts a floor of a partition of the index on disk in every shard, where it is higher than there is. */
  raiseFloor(partition: number, ballot: Ballot, done: HousekeepingDone): void {
    this.sendAll((operation) => {
      operation.op = OP_RAISE_FLOOR;
      operation.operationLow = partition;
      operation.ballot = ballot;
    }, done);
  }

  /** Whether slabs were lost, so that this replica cannot tell what it has promised and held. */
  get hasLost(): boolean {
    return this.figures.some((figures) => figures[FIGURE.missingSlabs] > 0);
  }

  /**
   * What was lost counts as absent from now on, also after a restart: for a replica that does not vote and is
   * going to take everything over from the others.
   */
  settleLoss(done: HousekeepingDone): void {
    this.sendAll((operation) => {
      operation.op = OP_SETTLE_LOSS;
    }, done);
  }

  /**
   * Forgets a key whose record is exactly this tombstone, after it has put the floor on disk that this needs.
   * `dropped` false: it holds something else and nothing has changed.
   * @param ended the one that says that the value of this ballot has ended
   */
  dropTombstone(
    key: KeyBytes,
    ballot: Ballot,
    ended: boolean,
    done: (error: ErrorCode | null, dropped: boolean) => void,
  ): void {
    const operation = emptyOperation();
    operation.op = OP_DROP_TOMBSTONE;
    const shard = this.route(key, operation);
    operation.ended = ended;
    operation.ballot = ballot;
    this.send(shard, operation, (result) => done(result.error, result.register?.verdict === "yes"));
  }

  /** The promise that stands for a key, as it is on the disk; null: none. */
  promisedOf(key: KeyBytes): Ballot | null {
    const to = { key: NOTHING, hashA: 0, hashB: 0 };
    const shard = this.route(key, to);
    return this.partitions.promisedOf(shard, to.key, to.hashA, to.hashB);
  }

  /** Fills in a key with its hashes; answers the shard that has it. */
  private route({ bytes, length }: KeyBytes, to: KeyRef): number {
    const { shards, keyHash } = this.setup.store;
    to.key = bytes.subarray(0, length);
    to.hashA = hashKey(bytes, length, 0);
    to.hashB = hashBOf(bytes, length, keyHash);
    return shards === 1 ? 0 : shardOf(to.hashA, to.hashB, shards);
  }

  /**
   * Some keys of values whose end has come and that the own shards could not mark, since somebody was
   * promised something above them. Each is told once; if it is still so a second later, again. Of a full
   * queue none.
   */
  overdue(limit: number, done: (keys: Uint8Array[]) => void): void {
    const keys: Uint8Array[] = [];
    let waiting = this.setup.store.shards;
    for (let shard = 0; shard < this.setup.store.shards; shard++) {
      const operation = emptyOperation();
      operation.op = OP_OVERDUE;
      operation.operationLow = limit;
      this.send(shard, operation, ({ error, detail }) => {
        if (error === null && detail !== "")
          for (const key of detail.split(",")) keys.push(new Uint8Array(Buffer.from(key, "hex")));
        if (--waiting === 0) done(keys);
      });
    }
  }

  /**
   * Values that end up to this moment may be marked as ended by the own shards, in milliseconds since 1970;
   * 0: none. On a node of a cluster nothing is marked before this was called.
   */
  setEndTime(ms: number): void {
    for (const figures of this.figures) figures[FIGURE.endTime] = ms;
  }

  /**
   * Forgets all keys and promises of a partition, for good, step by step with writes in between. Its floor
   * stays. If the program ends before `done`, it has to be called again. The partition must not be written to
   * meanwhile.
   */
  dropPartition(prefix: HashPrefix, done: HousekeepingDone): void {
    this.stepThrough(OP_DROP_PARTITION, prefix, null, done);
  }

  /** Whether there are promises of a partition of the index that stand above what their keys have. */
  hasPromises(partition: number): boolean {
    return this.partitions.hasPromises(partition);
  }

  /**
   * Makes old promises for absent keys of a partition of the index part of its floor, so that they take no
   * room any more.
   * @param now cluster time
   */
  foldPromises(partition: number, now: number, done: HousekeepingDone): void {
    this.stepThrough(OP_FOLD_PROMISES, partition, ballotOfMillis(now), done);
  }

  /** Sends an operation to one shard after the other, until each says that there is nothing left. */
  private stepThrough(op: number, low: number, ballot: Ballot | null, done: HousekeepingDone): void {
    const go = (shard: number, from: number): void => {
      const operation = emptyOperation();
      operation.op = op;
      operation.ballot = ballot;
      operation.operationLow = low;
      operation.operationHigh = from;
      this.send(shard, operation, ({ error, register }: WriteResult) => {
        if (error !== null) done(error);
        else if (register != null && register.next >= 0) go(shard, register.next);
        else if (shard + 1 < this.setup.store.shards) go(shard + 1, 0);
        else done(null);
      });
    };
    go(0, 0);
  }
}
