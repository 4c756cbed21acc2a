/**
 * One shard: the only writer of its slabs and of its index. Runs in the thread that owns the shard.
 *
 * A batch is: any number of `apply` and upload calls, then `commit`. `apply` judges a write against the
 * newest state, writes of the same batch included, and stages its record; `commit` writes, syncs and only
 * then publishes in the index. The outcomes that `apply` returned are final after `commit`.
 *
 *   apply ► staged records ► commit: flush ► fdatasync ► publish in the index ► outcomes are true
 *
 * A failed write fails the staged operations and leaves the shard as it was. A failed sync also stops all
 * later writes until a restart: nobody can know which pages the kernel has dropped (Rebello et al., "Can
 * Applications Recover from fsync Failures?", 2020).
 */
import { mkdirSync } from "node:fs";
import {
  JSON_PREFIX,
  JSON_SUFFIX,
  TYPE_CHUNK,
  TYPE_FLOOR,
  TYPE_FORGOTTEN,
  TYPE_MANIFEST,
  TYPE_PROMISE,
  TYPE_TOMBSTONE,
  TYPE_VALUE,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import {
  type Ballot,
  ballotAt,
  type ChunkRef,
  emptyHead,
  type Frame,
  keyBytesOf,
  keyEquals,
  type RecordHead,
  type RecordSource,
  readHead,
  recordUnits,
  typeOf,
} from "../../format/record.ts";
import { etagText } from "../../format/version.ts";
import { isOutOfDescriptors, reasonOf } from "../../platform/system-error.ts";
import { HybridClock } from "../../util/clock.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { hash32, hashBOf } from "../../util/hash.ts";
import { TAG_ENTRIES_MAX } from "../../util/limits.ts";
import { ValueScanner } from "../../value/scanner.ts";
import { Compactor } from "../compaction/compaction.ts";
import { type StoreIdentity, shardDirectory } from "../directory/store-file.ts";
import { KeyIndex } from "../index/key-index.ts";
import { DIRECTORY_GONE, DirectoryWatch } from "../list/directory-watch.ts";
import { type ReadList, readSlabList, SlabList } from "../list/slab-list.ts";
import { SlabWatch } from "../list/slab-watch.ts";
import { Appender } from "../log/appender.ts";
import { DiskPressure, Reserve, spareTarget } from "../log/reserve.ts";
import { FIGURE } from "../slabs/figures.ts";
import { type FileIo, isDiskFull, readOnlyIo } from "../slabs/io.ts";
import type { SlabMap } from "../slabs/maps.ts";
import { Scrub } from "../slabs/scrub.ts";
import { SlabTable } from "../slabs/table.ts";
import { type Progress, recoverShard } from "../start/recovery.ts";
import { writeSnapshot } from "../start/snapshot.ts";
import { floorKey } from "../state/floors.ts";
import { Ledger } from "../state/ledger.ts";
import { ShardLookup } from "../state/lookup.ts";
import type { ShardMemory } from "../state/memory.ts";
import { type Promised, Replication } from "../state/replication.ts";
import {
  failed,
  isConditional,
  judge,
  type KeyRef,
  type KeyState,
  type Outcome,
  type ShardWrite,
} from "./operations.ts";
import { isOutranked, judgeAcceptOf } from "./replica.ts";

export type SyncMode = "always" | "os";

/** Of writes whose sync failed; later ones are not begun at all. */
const SYNC_FAILED =
  "the disk failed to sync: a restart shows whether this write was kept; check the disk first, as writes are stopped";

export interface ShardSetup {
  dataDirectory: string;
  shard: number;
  store: StoreIdentity;
  sync: SyncMode;
  memory: ShardMemory;
  io: FileIo;
  /** Wall clock in milliseconds since 1970. */
  now: () => number;
  /** Something an operator should know. */
  warn: (message: string) => void;
  /** An index of fewer entries gets no snapshot when the shard is closed; left out: SNAPSHOT_ENTRIES_MIN. */
  snapshotEntriesMin?: number;
}

/** A record that is staged and not yet in the index. */
export interface Staged {
  hashA: number;
  hashB: number;
  type: number;
  unit: number;
  units: number;
  /** The record it takes the place of; slot -1: none. */
  oldSlot: number;
  oldUnit: number;
  chunks: readonly ChunkRef[];
  outcome: Outcome;
  /** What was staged before it for a key with the same bits of hash, perhaps for the same key. */
  under: Staged | undefined;
}

/** The newest state of a key, as `apply` needs it. `slot` -1: the index has nothing of it. */
export interface Current {
  state: KeyState;
  slot: number;
  unit: number;
  /** With slot -1: entries of the index that have the key's tag. */
  crowd: number;
}

/**
 * Written but unsynced chunk bytes above which a sync is made, so that the one at the end of a large value
 * stays short.
 */
export const UNSYNCED_BYTES_MAX = 16 * 1024 * 1024;
const OS_SYNC_MS = 1000;
/** A write that fails is told at most this often. */
const WARN_MS = 5000;
const REFUSED: Error = Object.assign(new Error("the disk is full"), { code: "ENOSPC" });

/** What room is needed for: only a write may not use what is kept for a full disk. */
export type RoomUse = "write" | "delete" | "move";

const NOTHING = new Uint8Array(0);
const NO_CHUNKS: readonly ChunkRef[] = [];

export class Shard {
  readonly setup: ShardSetup;
  readonly index: KeyIndex;
  readonly lookup: ShardLookup;
  readonly appender: Appender;
  readonly slabs: SlabTable;
  readonly list: SlabList;
  private readonly listRead: ReadList;
  readonly ledger: Ledger;
  readonly figures: Float64Array;
  readonly replication: Replication;
  readonly clock: HybridClock;
  private readonly compactor: Compactor;
  readonly scrub: Scrub;
  private readonly slabWatch: SlabWatch;
  private readonly scanner = new ValueScanner();
  private staged: Staged[] = [];
  /** Staged records by the hashes of their keys (53 bits of them). */
  private readonly overlay = new Map<number, Staged>();
  /** Staged promises, likewise, and staged floors by partition. */
  private readonly promiseOverlay = new Map<number, Staged>();
  private readonly stagedFloors = new Map<number, Ballot>();
  /** Outcomes that were judged by staged records: if those fail, so do these. */
  private dependents: Outcome[] = [];
  /** Called when what was staged for uploads since the last commit is lost. */
  private uploadFailures: ((outcome: Outcome) => void)[] = [];
  writesStopped = false;
  readonly reserve: Reserve;
  /** Of the slabs whose blocks became free, those that the reserve knows of. */
  private freedSlabs = 0;
  /** Opened where nothing can be written. */
  private isReadOnly = false;
  /** When a warning of a failed write was last given, by `setup.now`, and how many were not since. */
  private warnedAt = Number.NEGATIVE_INFINITY;
  private unwarned = 0;
  private lastOsSync = 0;
  private osSync: Promise<void> | null = null;
  readonly head: RecordHead = emptyHead();
  private readonly directoryWatch: DirectoryWatch;
  /** What of the data directory is gone, for a person; null: nothing. */
  private gone: string | null = null;
  /** Whether the spare slab is being made. */
  private growing = false;

  private constructor(setup: ShardSetup) {
    const { dataDirectory, shard, store, memory } = setup;
    const io: FileIo = {
      ...setup.io,
      // Like any sync: which creations and unlinks are lost nobody knows.
      syncDirectory: (directory) => {
        try {
          setup.io.syncDirectory(directory);
        } catch (error) {
          // Where the directory could not even be opened, no sync has failed.
          if (!isOutOfDescriptors(error)) this.stopWrites(error);
          throw error;
        }
      },
    };
    this.setup = setup;
    this.figures = new Float64Array(memory.figures);
    this.index = new KeyIndex(memory.index);
    const slots = new Int32Array(memory.slots);
    const ownHeld = new SharedArrayBuffer(memory.slots.byteLength);
    this.lookup = new ShardLookup(dataDirectory, shard, store, memory, ownHeld, this.index);
    const directory = shardDirectory(dataDirectory, shard);
    this.directoryWatch = new DirectoryWatch(directory);
    const listIdentity = { shard, storeId: store.id };
    this.listRead = readSlabList(directory, listIdentity);
    this.list = new SlabList(io, directory, listIdentity, this.listRead, (error) => this.stopWrites(error));
    this.slabs = new SlabTable(io, directory, this.list, store.slabBytes, slots, memory.held, this.figures);
    this.ledger = new Ledger(this.slabs, this.lookup, this.figures);
    this.clock = new HybridClock(setup.now);
    this.appender = new Appender(
      io,
      shardDirectory(dataDirectory, shard),
      shard,
      store,
      slots,
      this.list,
      (sequence, error) => {
        if (error !== null)
          setup.warn(`slab ${sequence} of shard ${shard} stays without a table: ${(error as Error).message}`);
        else this.slabs.sealed(sequence);
      },
      (error) => this.stopWrites(error),
      (sequence, error) => this.reportCut(sequence, error),
    );
    this.reserve = new Reserve(new DiskPressure(memory.pressure));
    this.compactor = new Compactor(this);
    this.scrub = new Scrub({
      directory: shardDirectory(dataDirectory, shard),
      shard,
      salt: store.salt,
      slabs: this.slabs,
      figures: this.figures,
      now: setup.now,
      warn: setup.warn,
    });
    this.slabWatch = new SlabWatch({
      directory: shardDirectory(dataDirectory, shard),
      shard,
      slabBytes: store.slabBytes,
      slabs: this.slabs,
      figures: this.figures,
      missingPages: memory.missingPages,
      warn: setup.warn,
    });
    this.replication = new Replication(this, memory.replication);
  }

  /** Opens a shard: reads its slabs back into the index. Makes its directory when there is none. */
  static open(setup: ShardSetup, progress: Progress): Shard {
    const directory = shardDirectory(setup.dataDirectory, setup.shard);
    if (mkdirSync(directory, { recursive: true, mode: 0o700 }) !== undefined)
      setup.io.syncDirectory(setup.dataDirectory);
    const shard = new Shard(setup);
    shard.appender.spare.recover();
    const { open, listed, doubt } = recoverShard(shard, directory, shard.listRead, progress, (high, low) =>
      shard.clock.observe(high, low),
    );
    shard.list.begin(setup.store.incarnation, listed, doubt);
    shard.figures[FIGURE.clockMillis] = shard.clockMillis;
    if (open !== null) shard.appender.resume(open);
    else shard.startFirstSlab();
    shard.refreshFigures();
    return shard;
  }

  /**
   * Where a full disk has no room for a slab, not even in place of the spare one, the shard serves reads, and
   * the first write that finds room opens it.
   */
  private startFirstSlab(): void {
    for (const isSpare of [false, true])
      try {
        this.startSlab();
        return;
      } catch (error) {
        if (!isDiskFull(error)) throw error;
        if (!isSpare) this.writeFailure(error);
      }
  }

  /**
   * Reads a shard's slabs into an index as a start would and writes nothing: for `minivault verify`. Its
   * index, lookup and figures can be used, and nothing else.
   */
  static examine(setup: Omit<ShardSetup, "io">, progress: Progress): Shard {
    const shard = new Shard({ ...setup, io: readOnlyIo });
    const directory = shardDirectory(setup.dataDirectory, setup.shard);
    recoverShard(shard, directory, shard.listRead, progress, () => {});
    return shard;
  }

  /** Opens a shard whose files cannot be written: it is read, and every write is refused. */
  static openReadOnly(setup: Omit<ShardSetup, "io">, progress: Progress): Shard {
    const shard = Shard.examine(setup, progress);
    shard.isReadOnly = true;
    shard.refuseWrites();
    shard.refreshFigures();
    return shard;
  }

  /** Judges one write and stages its record. `body`: as the client sent it; ignored for delete. */
  apply(write: ShardWrite, body: Uint8Array): Outcome {
    if (this.writesStopped) return this.stoppedOutcome;
    if (write.verb === "delete") return this.store(write, TYPE_TOMBSTONE, false, NOTHING, 0, [], NO_CHUNKS);
    if (write.ballot !== undefined) return this.applyStored(write, body);
    if (!write.json)
      return this.store(write, TYPE_VALUE, false, write.contentType, body.length, [body], NO_CHUNKS);
    const { scanner } = this;
    scanner.reset();
    if (!scanner.feed(body, 0, body.length) || !scanner.finish())
      return failed(scanner.error ?? "bad_json", scanner.detail);
    const text = body.subarray(scanner.valueStart, scanner.valueEnd);
    const bytes = JSON_PREFIX.length + text.length + JSON_SUFFIX.length;
    return this.store(write, TYPE_VALUE, true, NOTHING, bytes, [JSON_PREFIX, text, JSON_SUFFIX], NO_CHUNKS);
  }

  /** Judges a write whose value is `bytes` in stored form already (JSON with prefix and suffix). */
  applyStored(write: ShardWrite, bytes: Uint8Array): Outcome {
    if (this.writesStopped) return this.stoppedOutcome;
    return this.store(
      write,
      TYPE_VALUE,
      write.json,
      write.json ? NOTHING : write.contentType,
      bytes.length,
      [bytes],
      NO_CHUNKS,
    );
  }

  /** Judges a large value whose chunks are written and stages its manifest. */
  applyManifest(write: ShardWrite, manifest: Uint8Array, chunks: readonly ChunkRef[]): Outcome {
    if (this.writesStopped) return this.stoppedOutcome;
    return this.store(
      write,
      TYPE_MANIFEST,
      write.json,
      write.json ? NOTHING : write.contentType,
      manifest.length,
      [manifest],
      chunks,
    );
  }

  private store(
    write: ShardWrite,
    type: number,
    json: boolean,
    contentType: Uint8Array,
    valueBytes: number,
    parts: readonly Uint8Array[],
    chunks: readonly ChunkRef[],
  ): Outcome {
    const { key, verb } = write;
    try {
      this.makeRoom(key.length, contentType.length, valueBytes, verb === "delete" ? "delete" : "write");
    } catch (error) {
      const failure = this.writeFailure(error);
      return this.withoutRecord(write) ?? failure;
    }
    const before = this.stagedOf(write);
    const current = this.currentOf(write, before);
    const exists = current.state === "value";
    const outcome: Outcome = {
      error: null,
      detail: "",
      created: !exists && current.state !== "damaged",
      deleted: false,
      ballot: null,
      register: null,
    };
    if (before !== undefined) this.dependents.push(outcome);
    const { head } = this;
    if (write.ballot !== undefined) {
      if (!judgeAcceptOf(this, write, write.ballot, current, outcome)) return outcome;
      if (!this.admits(write, current)) return Object.assign(outcome, failed("key_refused"));
      this.describe(type, json, write.ballot, write.operationLow, write.operationHigh);
      head.outranked = isOutranked(this.promisedOf(write), write.ballot);
      this.stage(write, contentType, valueBytes, parts, chunks, current, outcome);
      return outcome;
    }
    if (isConditional(write)) {
      const refusal = judge(write, current.state, exists ? etagText(this.headOf(current)) : null);
      if (refusal !== null) return this.refuse(outcome, refusal);
    }
    if (verb === "delete" && write.ballot === undefined) {
      outcome.created = false;
      outcome.deleted = exists || current.state === "damaged";
      // Where a failed write may come back, only a record keeps it away.
      const certain = !this.appender.uncertain;
      if (current.state === "absent" && certain) return outcome;
      if (current.state === "tombstone" && certain) {
        outcome.ballot = { ...this.headOf(current) };
        return outcome;
      }
    }
    if (!this.admits(write, current)) return this.refuse(outcome, "key_refused");
    this.clock.tick();
    const ballot = {
      clockLow: this.clock.low,
      clockHigh: this.clock.high,
      node: this.setup.store.node,
      incarnation: this.setup.store.incarnation,
    };
    this.describe(type, json, ballot, write.operationLow, write.operationHigh);
    if (this.stage(write, contentType, valueBytes, parts, chunks, current, outcome)) outcome.ballot = ballot;
    return outcome;
  }

  /**
   * The outcome of a delete that needs no record, where there is no room for one: the key is not there. Null:
   * it needs one.
   */
  private withoutRecord(write: ShardWrite): Outcome | null {
    if (write.verb !== "delete" || write.ballot !== undefined || isConditional(write)) return null;
    if (this.writesStopped || this.appender.uncertain || this.stagedOf(write) !== undefined) return null;
    const current = this.currentOf(write, undefined);
    if (current.state !== "absent" && current.state !== "tombstone") return null;
    const ballot = current.state === "tombstone" ? { ...this.headOf(current) } : null;
    return { error: null, detail: "", created: false, deleted: false, ballot, register: null };
  }

  /** Fills the head of the record that is staged next. */
  describe(type: number, json: boolean, ballot: Ballot, operationLow: number, operationHigh: number): void {
    const { head } = this;
    head.type = type;
    head.json = json;
    head.outranked = false;
    head.chunk = 0;
    head.clockLow = ballot.clockLow;
    head.clockHigh = ballot.clockHigh;
    head.node = ballot.node;
    head.incarnation = ballot.incarnation;
    head.operationLow = operationLow;
    head.operationHigh = operationHigh;
  }

  /**
   * Stages the record that `head` describes, in place of `current`; there must be room. False: it failed, as
   * `outcome` then says.
   */
  stage(
    { key, hashA, hashB }: KeyRef,
    contentType: Uint8Array,
    valueBytes: number,
    parts: readonly Uint8Array[],
    chunks: readonly ChunkRef[],
    current: Current,
    outcome: Outcome,
  ): boolean {
    const { head } = this;
    const { type } = head;
    if (!this.hasPlace(type, current)) {
      Object.assign(outcome, failed("key_refused"));
      return false;
    }
    const overlay = type === TYPE_PROMISE ? this.promiseOverlay : this.overlay;
    const under = overlay.get(overlayKey(hashA, hashB));
    try {
      this.appender.append(head, key, contentType, hashA, hashB, valueBytes, parts);
    } catch (error) {
      this.dependents.push(outcome);
      this.failStaged(this.writeFailure(error));
      return false;
    }
    const staged: Staged = {
      hashA,
      hashB,
      type,
      unit: this.appender.lastUnit,
      units: this.appender.lastUnits,
      oldSlot: current.slot,
      oldUnit: current.unit,
      chunks,
      outcome,
      under,
    };
    this.staged.push(staged);
    if (type !== TYPE_FLOOR) overlay.set(overlayKey(hashA, hashB), staged);
    return true;
  }

  /** The record, or the promise, of a key that is staged in this batch: the newest. */
  private stagedIn(overlay: Map<number, Staged>, { key, hashA, hashB }: KeyRef): Staged | undefined {
    if (this.staged.length === 0) return undefined;
    let staged = overlay.get(overlayKey(hashA, hashB));
    for (; staged !== undefined; staged = staged.under) {
      const { source, unit } = this.sourceOf(staged.unit);
      if (keyEquals(source, unit, key, key.length)) return staged;
    }
    return undefined;
  }

  private stagedOf(ref: KeyRef): Staged | undefined {
    return this.stagedIn(this.overlay, ref);
  }

  /**
   * Whether the index takes an entry for a key, as far as its tag goes. What is staged is made visible first
   * where that matters.
   * @param current the newest state of the key
   */
  private admits(ref: KeyRef, current: Current): boolean {
    if (current.slot >= 0 || current.crowd + this.staged.length < TAG_ENTRIES_MAX) return true;
    if (this.staged.length === 0) return false;
    this.commit();
    return this.admits(ref, this.currentOf(ref, undefined));
  }

  /** The same for a promise, which has an index of its own. */
  admitsPromise(ref: KeyRef): boolean {
    if (this.stagedIn(this.promiseOverlay, ref) !== undefined) return true;
    if (this.replication.promiseOf(ref.key, ref.hashA, ref.hashB) !== null) return true;
    if (this.replication.met + this.staged.length < TAG_ENTRIES_MAX) return true;
    if (this.staged.length === 0) return false;
    this.commit();
    return this.admitsPromise(ref);
  }

  /**
   * Whether a write of a key would be refused for want of a place in the index. For uploads, which write long
   * before they are judged.
   */
  refusesKey(ref: KeyRef): boolean {
    return !this.admits(ref, this.currentOf(ref, this.stagedOf(ref)));
  }

  /**
   * Makes sure of the memory that publishing one more record may take in an index: afterwards it would be too
   * late.
   */
  private hasPlace(type: number, current: Current): boolean {
    if (type === TYPE_FLOOR) return true;
    if (type === TYPE_PROMISE) return this.replication.reserve(this.staged.length + 1);
    return current.slot >= 0 || this.index.reserve(this.staged.length + 1);
  }

  private refuse(outcome: Outcome, error: ErrorCode): Outcome {
    outcome.error = error;
    outcome.created = false;
    return outcome;
  }

  /** The newest state of a key: from its record staged in this batch, else from the index. */
  private currentOf(ref: KeyRef, before: Staged | undefined): Current {
    if (before !== undefined)
      return { state: stateOf(before.type), slot: this.appender.slot, unit: before.unit, crowd: 0 };
    const { lookup } = this;
    const state = lookup.find(ref.key, ref.key.length, ref.hashA, ref.hashB);
    if (!lookup.located)
      return { state: state === "absent" ? "absent" : "damaged", slot: -1, unit: 0, crowd: lookup.met };
    const { map, unit } = lookup;
    const at = { slot: map.slot, unit, crowd: 0 };
    if (state === "damaged" || !lookup.check(map, unit)) return { state: "damaged", ...at };
    return { state: stateOf(typeOf(map, unit)), ...at };
  }

  /** The newest state of a key, for an operation of replication; its outcome falls with what it rests on. */
  stateFor(ref: KeyRef, outcome: Outcome): Current {
    const before = this.stagedOf(ref);
    if (before !== undefined) this.dependents.push(outcome);
    return this.currentOf(ref, before);
  }

  /** The promise that stands for a key, staged or durable. */
  promisedOf(ref: KeyRef): Promised | null {
    const staged = this.stagedIn(this.promiseOverlay, ref);
    if (staged === undefined) return this.replication.promiseOf(ref.key, ref.hashA, ref.hashB) ?? null;
    const { source, unit } = this.sourceOf(staged.unit);
    return { ballot: ballotAt(source, unit), slot: this.appender.slot, unit: staged.unit };
  }

  /** The floor of a partition, staged or durable; an outcome that rests on it falls with it. */
  floorOf(partition: number, outcome: Outcome): Ballot | null {
    const staged = this.stagedFloors.get(partition);
    if (staged !== undefined) this.dependents.push(outcome);
    return staged ?? this.replication.floors.of(partition) ?? null;
  }

  /** Stages a floor; there must be room. False: it failed, as `outcome` then says. */
  stageFloor(partition: number, ballot: Ballot, outcome: Outcome): boolean {
    const key = floorKey(partition);
    const ref = { key, hashA: hash32(key, 0), hashB: hashBOf(key, key.length, this.setup.store.keyHash) };
    this.describe(TYPE_FLOOR, false, ballot, 0, 0);
    // A floor takes no record's place; it says its partition here.
    const current: Current = { state: "absent", slot: -1, unit: partition, crowd: 0 };
    if (!this.stage(ref, NOTHING, 0, [], NO_CHUNKS, current, outcome)) return false;
    this.stagedFloors.set(partition, ballot);
    return true;
  }

  headOf(current: Current): RecordHead {
    const inOpenSlab = current.slot === this.appender.slot;
    const { source, unit } = inOpenSlab
      ? this.sourceOf(current.unit)
      : { source: this.mapOf(current.slot), unit: current.unit };
    readHead(source, unit, this.head);
    return this.head;
  }

  /** Where a record of the open slab can be read: in the staging buffer, or in the map once it is flushed. */
  private sourceOf(unit: number): { source: RecordSource; unit: number } {
    const staged = this.appender.stagedUnit(unit);
    return staged >= 0
      ? { source: this.appender.staging, unit: staged }
      : { source: this.mapOf(this.appender.slot), unit };
  }

  mapOf(slot: number): SlabMap {
    const map = this.lookup.maps.get(slot);
    if (map === null) throw new Error(`shard ${this.setup.shard}: the index points to a slab that is gone`);
    return map;
  }

  /**
   * Writes a chunk of a large value. Throws what the disk says; `lost` is called if a later failure takes the
   * chunk back.
   */
  appendChunk(
    write: ShardWrite,
    number: number,
    frame: Frame,
    bytes: number,
    lost: (outcome: Outcome) => void,
  ): ChunkRef {
    this.makeRoom(write.key.length, 0, bytes);
    const { head, appender } = this;
    head.type = TYPE_CHUNK;
    head.json = head.outranked = false;
    head.chunk = number;
    head.clockLow = head.clockHigh = head.node = head.incarnation = 0;
    head.operationLow = write.operationLow;
    head.operationHigh = write.operationHigh;
    appender.appendFrame(head, write.key, write.hashA, write.hashB, frame, bytes);
    this.uploadFailures.push(lost);
    return {
      sequence: appender.sequence,
      unit: appender.lastUnit,
      bytes,
      checksum: appender.lastChecksum,
    };
  }

  /**
   * Opens the next slab when the open one cannot take a record of these lengths. Commits what is staged
   * first.
   * @throws what the disk says, or that it is full
   */
  makeRoom(keyBytes: number, contentTypeBytes: number, valueBytes: number, use: RoomUse = "write"): void {
    const { appender, compactor, reserve } = this;
    if (reserve.full && use === "write") {
      if (reserve.mayAsk(this.setup.now())) this.refill();
      if (reserve.full) throw REFUSED;
    }
    if (reserve.full && use === "delete" && compactor.neededBytes > 0) {
      // What compaction needs to finish is not for deletes: it would never give them more.
      const bytes = recordUnits(keyBytes, contentTypeBytes, valueBytes) * UNIT_BYTES;
      if (appender.allocatedBytes(this.setup.store.chunkBytes) - bytes < compactor.neededBytes) {
        this.commit();
        compactor.finish();
      }
    }
    if (appender.hasRoom(keyBytes, contentTypeBytes, valueBytes)) return;
    this.commit();
    this.startSlab();
  }

  /**
   * Opens the next slab; nothing may be staged. The full one is synced first: compaction may drop the source
   * of a record that was moved into it.
   */
  startSlab(): void {
    // Else what lies unsynced in the full slab would be lost under a later record that needs it.
    if (this.writesStopped || !this.syncNow()) throw new Error("writes are stopped");
    const sequence = this.slabs.nextSequence();
    this.appender.startSlab(sequence);
    this.slabWatch.began(sequence);
    this.slabs.add(sequence);
  }

  /** Writes, syncs and publishes everything staged. Never throws for the disk's sake: the outcomes tell. */
  commit(): void {
    const { appender } = this;
    try {
      appender.flush();
    } catch (error) {
      this.failStaged(this.writeFailure(error));
      return;
    }
    if (this.setup.sync === "always") {
      if (this.staged.length === 0 && appender.unsyncedBytes <= UNSYNCED_BYTES_MAX) appender.writeBehind();
      else if (!this.syncNow()) {
        this.failStaged(failed("write_stopped", SYNC_FAILED));
        return;
      }
    }
    appender.settle();
    appender.note(this.clockMillis);
    for (const staged of this.staged) this.publish(staged);
    this.clearStaged();
    this.refreshFigures();
    if (this.setup.sync === "os") this.syncInBackground();
  }

  /**
   * The shard's own clock, which no write need read again: its last version's time, in milliseconds since
   * 1970.
   */
  private get clockMillis(): number {
    return this.clock.high * 0x10000 + (this.clock.low >>> 16);
  }

  /** Syncs the open slab. False: it failed, and writes are stopped from now on. */
  syncNow(): boolean {
    try {
      this.appender.sync();
      return true;
    } catch (error) {
      this.stopWrites(error);
      return false;
    }
  }

  private stopWrites(error: unknown, what = "sync failed"): void {
    this.stop(`${what}, writes are stopped until a restart: ${(error as Error).message}`);
  }

  /** What a write is answered once writes are stopped. */
  get stoppedOutcome(): Outcome {
    return failed("write_stopped", this.gone === null ? "" : DIRECTORY_GONE);
  }

  private refuseWrites(): void {
    this.writesStopped = true;
    this.figures[FIGURE.writesStopped] = 1;
  }

  private stop(why: string): void {
    this.refuseWrites();
    this.setup.warn(`shard ${this.setup.shard}: ${why}`);
  }

  /**
   * Looks whether the files are still where they were. Once the directory is gone writes are stopped, since
   * nobody would find them again; what is mapped goes on being read. A slab whose file is gone is named; its
   * records can be read as long as it is mapped.
   */
  watch(): void {
    if (this.gone !== null || this.isReadOnly) return;
    this.gone = this.directoryWatch.look(this.appender.sequence);
    if (this.gone !== null) {
      this.figures[FIGURE.directoryGone] = 1;
      this.stop(`${this.gone}: ${DIRECTORY_GONE}`);
      return;
    }
    const present = this.directoryWatch.slabs();
    if (present === null) return;
    for (const slab of this.slabs.all()) {
      if (present.has(slab.sequence) || slab.damaged) continue;
      slab.damaged = slab.misfit = true;
      this.figures[FIGURE.damaged]++;
      this.figures[FIGURE.missingSlabs]++;
      this.setup.warn(
        `slab ${slab.sequence} of shard ${this.setup.shard}: its file was removed while the node runs; what is in it is lost at the next start, and answers 500 from then on; restore it from a copy`,
      );
    }
  }

  /** `-sync os`: bounds what a power loss can take to about a second, without anybody waiting for it. */
  private syncInBackground(): void {
    const now = this.setup.now();
    if (this.osSync !== null || now - this.lastOsSync < OS_SYNC_MS) return;
    this.lastOsSync = now;
    this.osSync = this.appender
      .syncLater()
      .catch((error) => this.stopWrites(error))
      .finally(() => {
        this.osSync = null;
      });
  }

  private clearStaged(): void {
    this.staged = [];
    this.overlay.clear();
    this.promiseOverlay.clear();
    this.stagedFloors.clear();
    this.dependents = [];
    this.uploadFailures = [];
  }

  /** Takes back everything staged: the operations fail with `why`. */
  failStaged(why: Outcome): void {
    const outcomes = [...this.staged.map(({ outcome }) => outcome), ...this.dependents];
    const uploads = this.uploadFailures;
    this.clearStaged();
    this.appender.rollBack();
    // To other nodes a full disk, or a lack of descriptors, says that nothing has happened, so it must be
    // true.
    const unknown =
      this.figures[FIGURE.replicated] !== 0 &&
      this.appender.uncertain &&
      (why.error === "disk_full" || why.error === "overloaded");
    for (const outcome of outcomes) Object.assign(outcome, unknown ? failed("internal", "unknown") : why);
    for (const lost of uploads) lost(why);
  }

  /** The outcome for a failed write call. */
  writeFailure(error: unknown): Outcome {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") this.watch();
    if (this.writesStopped) return this.stoppedOutcome;
    if (isDiskFull(error)) {
      if (error !== REFUSED) this.refusedByDisk();
      return failed("disk_full");
    }
    if (this.appender.isCut) {
      this.reportCut(this.appender.sequence, error as Error);
      return failed("internal", "a data file was cut by another program; the log has more");
    }
    if ((error as NodeJS.ErrnoException).code === "EROFS") {
      this.stopWrites(error, "a write failed");
      return this.stoppedOutcome;
    }
    this.warnOfFailure(error);
    if (isOutOfDescriptors(error)) {
      this.figures[FIGURE.outOfDescriptorsMs] = this.setup.now();
      return failed("overloaded", `a file could not be opened: ${reasonOf(error)}`);
    }
    return failed("internal", `a write to the disk failed: ${reasonOf(error)}; the log has more`);
  }

  /** With a line now and then: what keeps failing fails many times a second. */
  private warnOfFailure(error: unknown): void {
    const now = this.setup.now();
    if (Math.abs(now - this.warnedAt) < WARN_MS) {
      this.unwarned++;
      return;
    }
    const others = this.unwarned === 0 ? "" : `; ${this.unwarned} more failed since the last such line`;
    this.setup.warn(`shard ${this.setup.shard}: a write failed: ${(error as Error).message}${others}`);
    this.warnedAt = now;
    this.unwarned = 0;
  }

  /**
   * A slab was cut. The open one is then sealed as it is, so that its table still says whose records are
   * gone, and the next one begins.
   */
  private reportCut(sequence: number, { message }: Error): void {
    const slab = this.slabs.bySequence(sequence);
    if (slab !== undefined) this.slabWatch.report(slab, message);
  }

  /**
   * Looks for slabs that were cut or cannot be read. To be called about once a second. True: `idle` has
   * something to do.
   */
  look(): boolean {
    try {
      this.appender.checkSize();
    } catch (error) {
      this.reportCut(this.appender.sequence, error as Error);
    }
    this.slabWatch.look();
    return this.appender.isCut;
  }

  /** Makes a durable record the one that readers find. */
  private publish(staged: Staged): void {
    const { hashA, hashB, unit, units, type, oldSlot, oldUnit } = staged;
    const { slot } = this.appender;
    const { replication } = this;
    this.lookup.vouch(this.appender.sequence, unit);
    if (type === TYPE_PROMISE) {
      replication.publishPromise(hashA, hashB, slot, unit);
      return;
    }
    if (type === TYPE_FLOOR) {
      replication.publishFloor(oldUnit, slot, unit);
      return;
    }
    replication.publishRecord(hashA, hashB, slot, unit, oldSlot, oldUnit);
    this.slabs.live(slot, units * UNIT_BYTES);
    if (oldSlot < 0) this.index.insert(hashA, hashB, slot, unit);
    else {
      this.ledger.forget(oldSlot, oldUnit);
      this.index.replace(hashA, hashB, oldSlot, oldUnit, slot, unit);
    }
    this.ledger.count(type, 1, units * UNIT_BYTES);
    if (type === TYPE_MANIFEST) this.ledger.countChunks(keyBytesOf(this.mapOf(slot), unit), staged.chunks, 1);
  }

  /**
   * A step of work that nobody waits for: blocks ahead, freed slabs, compaction. At most about `bytesMax` are
   * moved.
   * @returns whether there is more to do at once
   */
  idle(bytesMax: number): boolean {
    if (this.writesStopped) return false;
    this.lookup.maps.release();
    this.slabs.reclaim();
    if (this.appender.isCut) this.leaveCutSlab();
    if (this.slabs.freedSlabs > this.freedSlabs) {
      this.freedSlabs = this.slabs.freedSlabs;
      this.reserve.freed();
    }
    if (this.reserve.mayAsk(this.setup.now()) && this.refill()) return true;
    const compacting = this.compactor.step(bytesMax);
    return this.replication.sumUp() || compacting;
  }

  /** Where that is not possible now, the next write tries again. */
  private leaveCutSlab(): void {
    try {
      this.commit();
      this.startSlab();
    } catch (error) {
      this.failStaged(this.writeFailure(error));
    }
  }

  /**
   * Works on the reserve: blocks ahead and the spare slab. Whether it is whole says whether the disk is full.
   * True: there is more to do now.
   */
  private refill(): boolean {
    const { appender, reserve } = this;
    const before = appender.reservedBytes;
    try {
      const state = appender.allocate(
        spareTarget(this.figures[FIGURE.storedBytes], this.index.entries, this.setup.store.slabBytes),
      );
      if (appender.reservedBytes > before) reserve.gave();
      if (state === "whole") this.setDiskFull(false);
      this.growing = state === "wait";
      return state === "step";
    } catch (error) {
      if (isDiskFull(error)) this.refusedByDisk();
      else this.writeFailure(error);
      return false;
    }
  }

  private refusedByDisk(): void {
    this.reserve.refused(this.setup.now());
    this.setDiskFull(true);
  }

  private setDiskFull(full: boolean): void {
    if (!full) this.reserve.whole();
    if (full === this.appender.diskFull) return;
    this.appender.diskFull = full;
    this.figures[FIGURE.diskFull] = full ? 1 : 0;
    if (!full) this.appender.sealing.again();
  }

  /** Whether compaction has to make room, for this shard or another one on the same disk. */
  get isPressed(): boolean {
    return this.reserve.isPressed(this.setup.now());
  }

  /** Whether idle work waits for something that happens elsewhere: call `idle` again a little later. */
  get waiting(): boolean {
    return !this.writesStopped && (this.growing || this.slabs.waiting || this.appender.diskFull);
  }

  /**
   * Writes a mark when everything is synced and nothing came since: it proves that the records before it were
   * acknowledged, so that later damage to the last of them is not taken for a torn tail.
   */
  mark(): void {
    if (this.writesStopped || this.setup.sync !== "always") return;
    try {
      this.appender.note(this.clockMillis, true);
      this.appender.mark();
      this.refreshFigures();
    } catch (error) {
      this.failStaged(this.writeFailure(error));
    }
  }

  private refreshFigures(): void {
    this.slabs.stored(this.appender.sequence, this.appender.endUnit * UNIT_BYTES);
    this.figures[FIGURE.indexBytes] = this.index.bytes;
    this.figures[FIGURE.indexGrowths] = this.index.growths;
    this.figures[FIGURE.listKept] = this.list.isKept ? 1 : 0;
  }

  /**
   * What was lost with slabs counts as absent from now on, and as replaced by nothing: for a replica that
   * does not vote before it has taken everything over from others.
   */
  settleLoss(): Outcome {
    if (this.writesStopped) return this.stoppedOutcome;
    this.commit();
    if (!this.syncNow()) return this.stoppedOutcome;
    const { figures } = this;
    const lost = new Set<number>();
    for (const slab of this.slabs.all()) if (slab.damaged) lost.add(slab.sequence);
    try {
      this.list.settle(this.appender.end, lost);
    } catch (error) {
      return this.writeFailure(error);
    }
    // The index may point there all the same, so the next start builds it anew.
    for (const slab of this.slabs.all()) slab.misfit = false;
    figures[FIGURE.doubtSequence] = figures[FIGURE.doubtUnit] = figures[FIGURE.missingSlabs] = 0;
    return { error: null, detail: "", created: false, deleted: false, ballot: null, register: null };
  }

  /** Waits for background work, syncs, closes the files, and leaves a snapshot of the index. */
  async close(): Promise<void> {
    this.commit();
    if (!this.writesStopped) this.syncNow();
    this.mark();
    if (this.osSync !== null) await this.osSync;
    await this.appender.close(!this.writesStopped);
    await this.slabs.close();
    this.scrub.close();
    if (!this.writesStopped)
      writeSnapshot(this, shardDirectory(this.setup.dataDirectory, this.setup.shard), this.clock);
  }
}

function overlayKey(hashA: number, hashB: number): number {
  return (hashA >>> 0) * 0x200000 + (hashB >>> 11);
}

function stateOf(type: number): KeyState {
  if (type === TYPE_TOMBSTONE) return "tombstone";
  return type === TYPE_FORGOTTEN ? "absent" : "value";
}
