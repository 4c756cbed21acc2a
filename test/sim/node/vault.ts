/**
 * The store of a simulated node: the rules of a replica (src/rules/register.ts) over a log on a simulated disk. What is answered is on the
 * disk; of what was being written when the node ended, a part may be. As the engine does: src/engine/shard/replica.ts.
 */

import { endOf } from "../../../src/format/end.ts";
import { endedTrailer } from "../../../src/format/fields/end.ts";
import { recentOf } from "../../../src/format/fields/recent.ts";
import { type Ballot, ballotOf, emptyHead, type RecordHead } from "../../../src/format/record.ts";
import { ballotMillis, compareOptionalBallots, higherBallot } from "../../../src/format/version.ts";
import { digestOf, digestWordsOf, leafOf } from "../../../src/rules/digest.ts";
import { hasEnded } from "../../../src/rules/expiry.ts";
import {
  ALREADY,
  canFoldPromise,
  floorWithout,
  holdsTombstone,
  judgeAccept,
  judgePrepare,
  NO,
  obstacleOf,
  type RegisterState,
} from "../../../src/rules/register.ts";
import type { RegisterOutcome } from "../../../src/rules/write.ts";
import type { KeyBytes, WriteDone, WriteResult } from "../../../src/shards/arena/write.ts";
import type { ScannedKey, ScanStep } from "../../../src/shards/housekeeping/partition-scan.ts";
import type { LocalVault } from "../../../src/shards/vault/local-vault.ts";
import type { AcceptHead, FoundRegister } from "../../../src/shards/vault/register.ts";
import type { Found } from "../../../src/shards/vault/vault.ts";
import type { ErrorCode } from "../../../src/util/errors.ts";
import { hashKey, indexPartitionOf } from "../../../src/util/hash.ts";
import {
  bitsOf,
  type HashPrefix,
  indexPartitionOfPrefix,
  startsWith,
} from "../../../src/util/hash-prefix.ts";
import type { SimProcess, Simulation } from "./simulation.ts";

interface SimValue {
  json: boolean;
  contentType: string;
  trailer: Uint8Array;
  bytes: Uint8Array;
}

/** What is held of a key. */
interface Held extends RegisterState {
  value: SimValue | null;
  /** What it remembers of recent operations. */
  recent: Uint8Array | null;
}

/** One change of what is held: of a key (null: it is forgotten), or of a floor. */
type Entry = { name: string; held: Held | null } | { partition: number; floor: Ballot };

/** What outlives a process: the log, and how much of it is surely there. */
export class SimDisk {
  id: Buffer;
  node: number;
  /** Of processes on it. */
  starts = 0;
  log: Entry[] = [];
  synced = 0;
  /** How long a sync takes, at most. */
  syncMs = 2;

  constructor(simulation: Simulation) {
    this.id = simulation.random.bytes(16);
    this.node = simulation.random.word() >>> 0;
  }

  /** The process has ended: of what was not synced, as much is there as chance has it. */
  crash(simulation: Simulation): void {
    const lost = simulation.below(this.log.length - this.synced + 1);
    this.log.length -= lost;
    this.synced = this.log.length;
  }

  /** The disk as it is now, to be put back later. */
  copy(): Pick<SimDisk, "id" | "node" | "starts" | "log"> {
    const { id, node, starts, log, synced } = this;
    return { id, node, starts, log: log.slice(0, synced) };
  }

  putBack({ id, node, starts, log }: ReturnType<SimDisk["copy"]>): void {
    Object.assign(this, { id, node, starts, log: [...log], synced: log.length });
  }
}

/** What the history wants to know of each record that a replica takes. */
export type OnAccepted = (name: string, ballot: Ballot, value: string | null) => void;

interface Work {
  run: (batch: Batch) => WriteResult;
  done: WriteDone;
}

const NOTHING: Held = {
  promised: null,
  ballot: null,
  tombstone: false,
  ended: false,
  end: 0,
  operationLow: 0,
  operationHigh: 0,
  value: null,
  recent: null,
};

/** What is held, as far as it can be read. */
class State {
  readonly keys = new Map<string, Held>();
  readonly byPartition = new Map<number, Set<string>>();
  readonly floors = new Map<number, Ballot>();

  /** Keys of a partition of the layout. */
  namesIn(prefix: HashPrefix): string[] {
    const names = this.byPartition.get(indexPartitionOfPrefix(prefix)) ?? [];
    return [...names].filter((name) => startsWith(hashOfName(name), prefix));
  }

  apply(entry: Entry): void {
    if ("partition" in entry) {
      this.floors.set(entry.partition, entry.floor);
      return;
    }
    const { name, held } = entry;
    const partition = partitionOfName(name);
    let names = this.byPartition.get(partition);
    if (names === undefined) {
      names = new Set();
      this.byPartition.set(partition, names);
    }
    if (held === null) {
      this.keys.delete(name);
      names.delete(name);
    } else {
      this.keys.set(name, held);
      names.add(name);
    }
  }
}

/** What is being written: seen by what comes after it in the same batch, and by nobody else. */
class Batch {
  readonly entries: Entry[] = [];
  private readonly state: State;

  constructor(state: State) {
    this.state = state;
  }

  heldOf(name: string): Held | null {
    const staged = this.entries.findLast((entry) => "name" in entry && entry.name === name) as {
      held: Held | null;
    };
    return staged === undefined ? (this.state.keys.get(name) ?? null) : staged.held;
  }

  floorOf(partition: number): Ballot | null {
    const staged = this.entries.findLast((entry) => "partition" in entry && entry.partition === partition);
    return (staged as { floor: Ballot } | undefined)?.floor ?? this.state.floors.get(partition) ?? null;
  }

  /** Of a partition of the index. */
  namesOf(partition: number): string[] {
    return [...(this.state.byPartition.get(partition) ?? [])];
  }

  /** Of a partition of the layout. */
  namesIn(prefix: HashPrefix): string[] {
    return this.state.namesIn(prefix);
  }

  raiseFloor(partition: number, floor: Ballot | null): void {
    if (floor !== null && compareOptionalBallots(floor, this.floorOf(partition)) > 0)
      this.entries.push({ partition, floor: ballotOf(floor) });
  }

  put(name: string, held: Held | null): void {
    this.entries.push({ name, held });
  }
}

export class SimVault {
  readonly store: { id: Buffer; node: number; incarnation: number; shards: number };
  readonly keepsFields = true;
  readonly keepsEnds = true;
  readonly readOnly = null;
  readonly catalog = { ask: () => Promise.reject(new Error("a simulated node lists nothing")) };
  readonly replica = new SimHousekeeping(this);
  readonly disk: SimDisk;
  readonly state = new State();
  private readonly simulation: Simulation;
  private readonly process: SimProcess;
  private readonly onAccepted: OnAccepted;
  private readonly openedEnd: number;
  private waiting: Work[] = [];
  private isWriting = false;
  private closed = false;

  constructor(simulation: Simulation, process: SimProcess, disk: SimDisk, onAccepted: OnAccepted) {
    this.simulation = simulation;
    this.process = process;
    this.disk = disk;
    this.onAccepted = onAccepted;
    disk.starts++;
    this.store = { id: disk.id, node: disk.node, incarnation: disk.starts, shards: 1 };
    this.openedEnd = disk.log.length;
    for (const entry of disk.log) this.state.apply(entry);
  }

  /** As the shipped code takes it. */
  get asLocalVault(): LocalVault {
    return this as unknown as LocalVault;
  }

  ends(which: "answeredEnd" | "openedEnd"): number[] {
    return [which === "openedEnd" ? this.openedEnd : this.disk.synced];
  }

  setReplicated(): void {}

  stats() {
    const held = [...this.state.keys.values()].filter(({ ballot }) => ballot !== null);
    const tombstones = held.filter(({ tombstone }) => tombstone).length;
    const shard = { keys: held.length - tombstones, tombstones, liveBytes: 0, writesStopped: false };
    return { shards: [shard] };
  }

  findRegister(key: KeyBytes): FoundRegister {
    const held = this.state.keys.get(nameOf(key)) ?? NOTHING;
    const head: RecordHead = { ...emptyHead(), ...(held.ballot ?? {}) };
    head.operationLow = held.operationLow;
    head.operationHigh = held.operationHigh;
    const state = held.ballot === null ? "absent" : held.tombstone ? "tombstone" : "found";
    const { ended, end, recent } = held;
    return { state, head, found: foundOf(held), ended, end, recent };
  }

  findRegisterResident(key: KeyBytes): FoundRegister {
    return this.findRegister(key);
  }

  prepare(key: KeyBytes, ballot: Ballot, done: WriteDone): boolean {
    const name = nameOf(key);
    return this.submit(done, (batch) => {
      const held = batch.heldOf(name);
      const floor = batch.floorOf(partitionOfName(name));
      if (judgePrepare(held, floor, ballot) === NO) return answer("no", obstacleOf(held, floor));
      const { tombstone, ended, end, operationLow, operationHigh, ballot: known } = held ?? NOTHING;
      batch.put(name, { ...(held ?? NOTHING), promised: ballotOf(ballot) });
      const isBare = known === null;
      const remembers = held !== null && held.recent !== null;
      const record = { tombstone, ended, end, remembers, operationLow, operationHigh };
      return answer("yes", known, { ...record, floor: isBare ? floor : null });
    });
  }

  accept(head: AcceptHead, value: Uint8Array | null, done: WriteDone): boolean {
    const name = nameOf(head.key);
    const ballot = ballotOf(head.ballot);
    const { repair = false, ended = false, operationLow, operationHigh, json, contentType, trailer } = head;
    const kept = value === null ? null : { json, contentType, trailer, bytes: Buffer.from(value) };
    const end = endOf(trailer);
    return this.submit(done, (batch) => {
      const held = batch.heldOf(name);
      const floor = batch.floorOf(partitionOfName(name));
      const verdict = judgeAccept(held, repair ? null : floor, ballot, ended);
      if (verdict === NO) return answer("no", obstacleOf(held, floor));
      const before = held ?? NOTHING;
      const told = answer(verdict === ALREADY ? "already" : "yes", before.ballot, {
        ...{ tombstone: before.tombstone, ended: before.ended, end: before.end },
      });
      if (verdict === ALREADY) return told;
      const recent = recentOf(trailer);
      if (before.recent !== null && recent === null && !repair) return answer("unprepared", before.ballot);
      if (!ended) this.onAccepted(name, ballot, kept === null ? null : kept.bytes.toString());
      const promised = compareOptionalBallots(before.promised, ballot) > 0 ? before.promised : null;
      batch.put(name, {
        promised,
        ballot,
        tombstone: value === null,
        ended,
        end,
        operationLow,
        operationHigh,
        value: kept,
        recent,
      });
      return told;
    });
  }

  /** The same value under another ballot and with another end, where it is held. */
  touch(head: AcceptHead & { base: Ballot }, done: WriteDone): boolean {
    const { value, ballot } = this.state.keys.get(nameOf(head.key)) ?? NOTHING;
    if (value !== null && compareOptionalBallots(ballot, head.base) === 0)
      return this.accept({ ...head, json: value.json, contentType: value.contentType }, value.bytes, done);
    this.simulation.after(this.process, 0, () => done({ ...answer("no", null), error: "not_found" }));
    return true;
  }

  /** Marks what has ended, as far as nobody was promised more; answers what it could not mark. */
  sweep(endMillis: number): string[] {
    const overdue: string[] = [];
    for (const [name, { value, ballot, end, promised, operationLow, operationHigh }] of this.state.keys) {
      if (value === null || ballot === null || !hasEnded(end, endMillis)) continue;
      if (compareOptionalBallots(promised, ballot) > 0) overdue.push(name);
      const bytes = Buffer.from(name, "latin1");
      const kept = { json: false, contentType: "", trailer: endedTrailer(value.trailer), ended: true };
      const head = { key: { bytes, length: bytes.length }, ballot, operationLow, operationHigh, ...kept };
      this.accept(head, null, () => {});
    }
    return overdue;
  }

  /** Large values are none of its matter. */
  stage(): null {
    return null;
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  /** Judged in one batch, answered when that is on the disk. */
  submit(done: WriteDone, run: Work["run"]): boolean {
    if (this.closed) return false;
    this.waiting.push({ run, done });
    if (!this.isWriting) this.write();
    return true;
  }

  private write(): void {
    const { simulation, process, disk, state } = this;
    this.isWriting = true;
    simulation.after(process, simulation.chance() * 0.2, () => {
      const works = this.waiting;
      this.waiting = [];
      const batch = new Batch(state);
      const results = works.map(({ run }) => run(batch));
      disk.log.push(...batch.entries);
      simulation.after(process, batch.entries.length === 0 ? 0 : simulation.chance() * disk.syncMs, () => {
        disk.synced = disk.log.length;
        for (const entry of batch.entries) state.apply(entry);
        this.isWriting = false;
        if (this.waiting.length > 0) this.write();
        for (const [index, { done }] of works.entries()) done(results[index]);
      });
    });
  }
}

/** The vault's side of replication's housekeeping: src/shards/housekeeping/housekeeping.ts. */
class SimHousekeeping {
  readonly hasLost = false;
  private readonly vault: SimVault;
  private endMillis = 0;

  constructor(vault: SimVault) {
    this.vault = vault;
  }

  ends(which: "answeredEnd" | "openedEnd"): number[] {
    return this.vault.ends(which);
  }

  settleLoss(done: (error: ErrorCode | null) => void): void {
    done(null);
  }

  setEndTime(millis: number): void {
    this.endMillis = millis;
  }

  /** The shipped shards sweep by themselves, now and then; these when they are asked. */
  overdue(_: number, done: (keys: Uint8Array[]) => void): void {
    done(this.vault.sweep(this.endMillis).map((name) => Buffer.from(name, "latin1")));
  }

  floorOf(partition: number): Ballot | null {
    return this.vault.state.floors.get(partition) ?? null;
  }

  promisedOf(key: KeyBytes): Ballot | null {
    return this.vault.state.keys.get(nameOf(key))?.promised ?? null;
  }

  digests(prefix: HashPrefix): Int32Array {
    const { keys } = this.vault.state;
    const names = this.vault.state.namesIn(prefix);
    const sum = new Int32Array(digestWordsOf(2 ** bitsOf(prefix)));
    for (const name of names) {
      const ballot = keys.get(name)?.ballot ?? null;
      if (ballot === null) continue;
      const hashA = hashOfName(name);
      const words = [ballot.clockLow, ballot.clockHigh, ballot.node, ballot.incarnation];
      const [low, high] = digestOf(
        hashA,
        words.map((word) => word | 0),
        0,
      );
      const leaf = leafOf(hashA, prefix) * 2;
      sum[leaf] ^= low;
      sum[leaf + 1] ^= high;
    }
    return sum;
  }

  scan(prefix: HashPrefix): ScanStep {
    const { keys: all } = this.vault.state;
    const keys = this.vault.state.namesIn(prefix).map((name): ScannedKey => {
      const { value, recent, ...held } = all.get(name) as Held;
      const about = { remembers: recent !== null, valueBytes: value?.bytes.length ?? 0 };
      return { ...held, key: Buffer.from(name, "latin1"), ...about };
    });
    return { keys, next: -1, damaged: 0 };
  }

  hasPromises(partition: number): boolean {
    const { byPartition, keys } = this.vault.state;
    return [...(byPartition.get(partition) ?? [])].some((name) => keys.get(name)?.promised != null);
  }

  raiseFloor(partition: number, ballot: Ballot, done: (error: ErrorCode | null) => void): void {
    this.vault.submit(
      () => done(null),
      (batch) => {
        batch.raiseFloor(partition, ballot);
        return answer("yes", ballot);
      },
    );
  }

  dropTombstone(
    key: KeyBytes,
    ballot: Ballot,
    ended: boolean,
    done: (error: ErrorCode | null, dropped: boolean) => void,
  ): void {
    const name = nameOf(key);
    const partition = partitionOfName(name);
    this.vault.submit(
      ({ register }) => done(null, register?.verdict === "yes"),
      (batch) => {
        const held = batch.heldOf(name);
        if (held === null || !holdsTombstone(held, ballot, ended)) return answer("no", held?.ballot ?? null);
        batch.raiseFloor(partition, floorWithout(held, batch.floorOf(partition)));
        batch.put(name, null);
        return answer("yes", ballot);
      },
    );
  }

  dropPartition(prefix: HashPrefix, done: (error: ErrorCode | null) => void): void {
    this.vault.submit(
      () => done(null),
      (batch) => {
        for (const name of batch.namesIn(prefix)) batch.put(name, null);
        return answer("yes", null);
      },
    );
  }

  foldPromises(partition: number, now: number, done: (error: ErrorCode | null) => void): void {
    this.vault.submit(
      () => done(null),
      (batch) => {
        for (const name of batch.namesOf(partition)) {
          const held = batch.heldOf(name);
          if (held === null || !canFoldPromise(held, now)) continue;
          batch.raiseFloor(partition, higherBallot(held.promised, null));
          batch.put(name, null);
        }
        return answer("yes", null);
      },
    );
  }
}

function answer(
  verdict: RegisterOutcome["verdict"],
  ballot: Ballot | null,
  more: Partial<RegisterOutcome> = {},
): WriteResult {
  const register = {
    ...{ verdict, ballot, tombstone: false, ended: false, end: 0, operationLow: 0, operationHigh: 0 },
    ...{ floor: null, next: -1, remembers: false },
    ...more,
  };
  return { error: null, detail: "", created: false, deleted: false, etag: null, register };
}

function foundOf(held: Held): Found {
  const {
    json = false,
    contentType = "",
    trailer = new Uint8Array(0),
    bytes = new Uint8Array(0),
  } = held.value ?? {};
  const state = held.value === null ? "absent" : "found";
  const versionMs = held.ballot === null ? 0 : ballotMillis(held.ballot);
  const view = () => bytes;
  const found = { state, json, contentType, trailer, valueBytes: bytes.length, versionMs, view, copy: view };
  return found as unknown as Found;
}

function nameOf({ bytes, length }: KeyBytes): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, length).toString("latin1");
}

const hashes = new Map<string, number>();

function hashOfName(name: string): number {
  let hash = hashes.get(name);
  if (hash === undefined) {
    const bytes = Buffer.from(name, "latin1");
    hash = hashKey(bytes, bytes.length, 0);
    hashes.set(name, hash);
  }
  return hash;
}

function partitionOfName(name: string): number {
  return indexPartitionOf(hashOfName(name));
}
