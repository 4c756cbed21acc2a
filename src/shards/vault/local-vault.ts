/**
 * The vault of one node: finds keys through this thread's maps and sends writes to the threads that own their
 * shards.
 */

import { randomBytes } from "node:crypto";
import type { MessagePort } from "node:worker_threads";
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import { readFigures } from "../../engine/figures/stats.ts";
import { FIGURE } from "../../engine/slabs/figures.ts";
import { BEAT_MS, Residency } from "../../engine/slabs/residency.ts";
import { lookFor, type SeenState } from "../../engine/state/look-for.ts";
import { ShardLookup } from "../../engine/state/lookup.ts";
import type { ShardMemory } from "../../engine/state/memory.ts";
import { endAt } from "../../format/end.ts";
import { withEnd } from "../../format/fields/end.ts";
import { recentAt } from "../../format/fields/recent.ts";
import {
  ENDING_VERSION_MIN,
  EXTENDED_VERSION_MIN,
  TYPE_ENDED,
  TYPE_FORGOTTEN,
} from "../../format/offsets.ts";
import { type Ballot, ballotOf, emptyHead, isExtended, readHead, typeOf } from "../../format/record.ts";
import { isAbsence } from "../../format/record-types.ts";
import { loadAddon } from "../../platform/addon.ts";
import { endOfLife, hasEnded, type Life, NO_LIFE } from "../../rules/expiry.ts";
import { copyOf, NOTHING } from "../../util/bytes.ts";
import { SteadyClock } from "../../util/clock.ts";
import { Gatherings } from "../../util/gathering/gatherings.ts";
import { hashBOf, hashKey, shardOf } from "../../util/hash.ts";
import { CHUNK_BYTES, RECEIVING_BYTES_MAX, RECEIVING_MAX } from "../../util/limits.ts";
import { FrontFigures } from "../arena/front-figures.ts";
import {
  describe,
  emptyOperation,
  OP_END,
  OP_PREPARE,
  OP_WRITE,
  type Operation,
} from "../arena/operation.ts";
import type { ShardQueue } from "../arena/queue.ts";
import type { KeyBytes, Upload, WriteDone, WriteHead } from "../arena/write.ts";
import type { Backups } from "../backup/backups.ts";
import type { CatalogClient } from "../catalog/client.ts";
import { readCatalogFigures } from "../catalog/thread.ts";
import type { FeedClient } from "../feed/client.ts";
import { Housekeeping } from "../housekeeping/housekeeping.ts";
import type { FrontChannel } from "../thread/pool.ts";
import { LocalUpload } from "../upload/upload.ts";
import { FoundRecord } from "./found-record.ts";
import type { AcceptHead, FoundRegister } from "./register.ts";
import type { Found, Vault, VaultStats } from "./vault.ts";

/** Numbers of uploads that each front has for itself. */
const UPLOADS_OF_A_FRONT = 2 ** 24;

const GATHERINGS = { bytesMax: RECEIVING_BYTES_MAX, countMax: RECEIVING_MAX };

/** Says that the node is one of a cluster. */
export function markReplicated(memories: readonly ShardMemory[]): void {
  for (const memory of memories) new Float64Array(memory.figures)[FIGURE.replicated] = 1;
}

/** What a front sees of the store. */
interface FrontView {
  dataDirectory: string;
  store: StoreIdentity;
  memories: ShardMemory[];
  /** Why nothing can be written; null: it can. */
  readOnly: string | null;
  /** Number of the front: 0 is the one that opened the store. */
  front: number;
  catalogFigures: SharedArrayBuffer;
}

/** What another front thread needs to use a store that is open. The ports are transferred to it. */
export interface FrontSeat extends FrontView {
  addonDirectory: string | null;
  channels: FrontChannel[];
  catalogPort: MessagePort;
}

export class LocalVault implements Vault {
  readonly store: StoreIdentity;
  readonly readOnly: string | null;
  readonly keepsFields: boolean;
  readonly keepsEnds: boolean;
  readonly remembers: boolean;
  /** For the other front threads. */
  readonly seats: readonly FrontSeat[];
  /** Copies of the store while it serves; null: another front thread makes them. */
  readonly backups: Backups | null;
  /** Housekeeping of replication. */
  readonly replica: Housekeeping;
  readonly gatherings: Gatherings;
  readonly figures = new FrontFigures();
  /** All keys in order. */
  readonly catalog: CatalogClient;
  /** What has changed. */
  readonly feed: FeedClient;
  private readonly catalogFigures: SharedArrayBuffer;
  private readonly dataDirectory: string;
  private readonly memories: ShardMemory[];
  private readonly queues: ShardQueue[];
  private readonly shut: () => Promise<void>;
  private readonly lookups: ShardLookup[];
  private readonly found: FoundRecord;
  private readonly held: FoundRegister;
  private readonly operation: Operation = emptyOperation();
  private readonly operationNode = randomBytes(4).readUInt32LE(0);
  private operations = randomBytes(4).readUInt32LE(0);
  private readonly releaseTimer: NodeJS.Timeout;
  private readonly residency = new Residency();
  private coldLookup: ShardLookup;
  /** Uploads of all fronts meet in the shard threads: each front has its own numbers. */
  private readonly firstUpload: number;
  private nextUpload = 0;
  private closing: Promise<void> | null = null;
  private hashA = 0;
  private hashB = 0;
  private readonly clock = new SteadyClock();

  constructor(
    { dataDirectory, store, memories, readOnly, front, catalogFigures }: FrontView,
    queues: ShardQueue[],
    catalog: CatalogClient,
    shut: () => Promise<void>,
    seats: readonly FrontSeat[],
    backups: Backups | null = null,
  ) {
    // The first read may come when there is no descriptor for them.
    loadAddon("mmap");
    loadAddon("guard");
    this.backups = backups;
    this.dataDirectory = dataDirectory;
    this.gatherings = new Gatherings(dataDirectory, GATHERINGS);
    this.store = store;
    this.readOnly = readOnly;
    this.keepsFields = store.version >= EXTENDED_VERSION_MIN;
    this.keepsEnds = this.remembers = store.version >= ENDING_VERSION_MIN;
    this.memories = memories;
    this.queues = queues;
    for (const queue of queues) queue.figures = this.figures;
    this.residency.onRead = () => {
      this.figures.coldReads[0]++;
    };
    this.catalog = catalog;
    this.feed = catalog.feed;
    this.catalogFigures = catalogFigures;
    this.shut = shut;
    this.seats = seats;
    this.firstUpload = front * UPLOADS_OF_A_FRONT;
    this.lookups = memories.map(
      (memory, shard) => new ShardLookup(dataDirectory, shard, store, memory, memory.held[front]),
    );
    this.coldLookup = this.lookups[0];
    this.found = new FoundRecord(this.residency);
    this.replica = new Housekeeping({ store, memories, lookups: this.lookups, queues });
    this.held = { state: "absent", head: emptyHead(), found: this.found, ended: false, end: 0, recent: null };
    // As the shards do: what has ended by their logs has ended.
    this.clock.observe(this.replica.clockMillis);
    this.releaseTimer = setInterval(() => {
      for (const lookup of this.lookups) lookup.maps.release();
      this.residency.beat((map) => this.lookups.some((lookup) => lookup.maps.isLive(map)));
    }, BEAT_MS);
    this.releaseTimer.unref();
  }

  /** Sets a key's hashes and answers its shard. */
  private route(key: KeyBytes): number {
    this.hashA = hashKey(key.bytes, key.length, 0);
    this.hashB = hashBOf(key.bytes, key.length, this.store.keyHash);
    return this.store.shards === 1 ? 0 : shardOf(this.hashA, this.hashB, this.store.shards);
  }

  find(key: KeyBytes): Found {
    const lookup = this.lookups[this.route(key)];
    const state = lookup.find(key.bytes, key.length, this.hashA, this.hashB);
    return this.judged(lookup, key, this.valueState(lookup, state));
  }

  findResident(key: KeyBytes): Found {
    const lookup = this.lookups[this.route(key)];
    this.coldLookup = lookup;
    const state = lookup.findResident(this.residency, key.bytes, key.length, this.hashA, this.hashB);
    return this.judged(lookup, key, this.valueState(lookup, state));
  }

  /** What was found, at this moment. */
  private judged(lookup: ShardLookup, key: KeyBytes, state: Found["state"]): Found {
    const found = this.found.set(lookup, key, this.hashA, this.hashB, state);
    if (found.state === "found" && found.end !== 0 && hasEnded(found.end, this.clock.now()))
      // Where nothing can be written only the clock can tell.
      found.state = this.readOnly === null ? "ended" : "absent";
    return found;
  }

  now(): number {
    return this.clock.now();
  }

  end(key: KeyBytes, done: WriteDone, nowMs = this.clock.now()): boolean {
    if (this.closing !== null) return false;
    const operation = emptyOperation();
    operation.op = OP_END;
    operation.shard = this.route(key);
    operation.key = key.bytes.subarray(0, key.length);
    operation.hashA = this.hashA;
    operation.hashB = this.hashB;
    operation.operationLow = nowMs % 2 ** 32;
    operation.operationHigh = Math.floor(nowMs / 2 ** 32);
    return this.queues[operation.shard % this.queues.length].submit(operation, done);
  }

  warm(done: () => void): void {
    this.coldLookup.warm(this.residency, done);
  }

  /** What a search has found, seen as a value. */
  private valueState(lookup: ShardLookup, state: Found["state"]): Found["state"] {
    if (state !== "found") return state;
    const { map, unit } = lookup;
    // `FoundRecord` looks at the count of missing pages before it says "found".
    if (!lookup.wasChecked(map, unit) && !lookup.check(map, unit)) return "damaged";
    if (!isAbsence(typeOf(map, unit))) return "found";
    return lookup.check(map, unit) ? "absent" : "damaged";
  }

  /** Fills the reused operation for a key; `LocalUpload` keeps its own copy. */
  private address(head: WriteHead): Operation {
    const { operation } = this;
    operation.shard = this.route(head.key);
    operation.key = head.key.bytes.subarray(0, head.key.length);
    operation.hashA = this.hashA;
    operation.hashB = this.hashB;
    this.operations = (this.operations + 1) >>> 0;
    operation.operationLow = this.operations;
    operation.operationHigh = this.operationNode;
    operation.op = OP_WRITE;
    describe(operation, head);
    if (head.life !== NO_LIFE) operation.trailer = this.withLife(head.trailer, head.life);
    return operation;
  }

  private withLife(trailer: Uint8Array, life: Life): Uint8Array {
    return withEnd(trailer, endOfLife(life, this.clock.now()));
  }

  submit(head: WriteHead, body: Uint8Array, done: WriteDone): boolean {
    if (this.closing !== null) return false;
    if (body.length > CHUNK_BYTES) throw new Error("submit takes bodies of at most CHUNK_BYTES");
    const operation = this.address(head);
    operation.body = body;
    return this.queues[operation.shard % this.queues.length].submit(operation, done);
  }

  upload(head: WriteHead): Upload | null {
    if (this.closing !== null) return null;
    const upload = this.beginUpload(this.address(head));
    const { life, trailer, trailerAtEnd } = head;
    if (upload !== null && (life.ttlMs > 0 || trailerAtEnd !== undefined))
      upload.trailerAtEnd = () => this.withLife(trailerAtEnd?.() ?? trailer, life);
    return upload;
  }

  /** The node is one of a cluster from now on: tombstones stay until its replicas agree that they may go. */
  setReplicated(): void {
    markReplicated(this.memories);
  }

  /**
   * What is held of a key, with its ballot: for replication. Valid until the next call of this or of `find`.
   */
  findRegister(key: KeyBytes): FoundRegister {
    const lookup = this.lookups[this.route(key)];
    return this.heldOf(lookup, key, lookFor(lookup, key, this.hashA, this.hashB, null) as SeenState);
  }

  /** Like `findRegister`; null instead of waiting for the disk: then call `warm`, and this again. */
  findRegisterResident(key: KeyBytes): FoundRegister | null {
    const lookup = this.lookups[this.route(key)];
    this.coldLookup = lookup;
    const state = lookFor(lookup, key, this.hashA, this.hashB, this.residency);
    return state === "cold" ? null : this.heldOf(lookup, key, state);
  }

  private heldOf(lookup: ShardLookup, key: KeyBytes, state: SeenState): FoundRegister {
    const { held } = this;
    held.state = state;
    held.ended = false;
    held.end = 0;
    held.recent = null;
    if (state !== "found") return held;
    const { map, unit } = lookup;
    if (!lookup.check(map, unit)) held.state = "damaged";
    else {
      readHead(map, unit, held.head);
      held.ended = held.head.type === TYPE_ENDED;
      held.end = endAt(map, unit);
      if (isExtended(map, unit)) held.recent = recentAt(map, unit)?.slice() ?? null;
      if (lookup.missingPages !== lookup.missingAtCheck) held.state = "damaged";
      else if (held.head.type === TYPE_FORGOTTEN) held.state = "absent";
      else if (isAbsence(held.head.type)) held.state = "tombstone";
      else {
        held.found = this.found.set(lookup, key, this.hashA, this.hashB, "found");
        held.state = held.found.state === "found" ? "found" : "damaged";
      }
    }
    return held;
  }

  /** Asks the shard for a promise (rules/register.ts). False: the queue is full. */
  prepare(key: KeyBytes, ballot: Ballot, done: WriteDone): boolean {
    if (this.closing !== null) return false;
    const operation = this.register(key, ballot, 0, 0);
    operation.op = OP_PREPARE;
    operation.body = NOTHING;
    return this.queues[operation.shard % this.queues.length].submit(operation, done);
  }

  /** Asks the shard to hold a small value in stored form, or a tombstone (null). False: the queue is full. */
  accept(head: AcceptHead, value: Uint8Array | null, done: WriteDone): boolean {
    if (this.closing !== null) return false;
    const operation = this.register(head.key, head.ballot, head.operationLow, head.operationHigh);
    operation.verb = value === null ? "delete" : "put";
    operation.repair = head.repair === true;
    operation.json = head.json;
    operation.contentType = head.json ? NOTHING : Buffer.from(head.contentType);
    operation.ended = head.ended === true;
    operation.trailer = head.trailer;
    operation.body = value ?? NOTHING;
    return this.queues[operation.shard % this.queues.length].submit(operation, done);
  }

  /**
   * Asks the shard to hold the value that it holds at the version `base` at another one, with these fields.
   * `not_found`: it holds another version, and nothing has changed. False: the queue is full.
   */
  touch(head: AcceptHead & { base: Ballot }, done: WriteDone): boolean {
    if (this.closing !== null) return false;
    const operation = this.register(head.key, head.ballot, head.operationLow, head.operationHigh);
    operation.verb = "touch";
    operation.repair = head.repair === true;
    operation.trailer = head.trailer;
    operation.base = head.base;
    return this.queues[operation.shard % this.queues.length].submit(operation, done);
  }

  /** Begins a value in stored form, to be accepted once its ballot is known. Null: there are too many. */
  stage(head: AcceptHead): LocalUpload | null {
    if (this.closing !== null) return null;
    const operation = this.register(head.key, head.ballot, head.operationLow, head.operationHigh);
    operation.repair = head.repair === true;
    operation.json = head.json;
    operation.contentType = head.json ? NOTHING : Buffer.from(head.contentType);
    return this.beginUpload(operation);
  }

  private register(key: KeyBytes, ballot: Ballot, operationLow: number, operationHigh: number): Operation {
    const operation = emptyOperation();
    operation.shard = this.route(key);
    operation.key = key.bytes.subarray(0, key.length);
    operation.hashA = this.hashA;
    operation.hashB = this.hashB;
    operation.operationLow = operationLow;
    operation.operationHigh = operationHigh;
    operation.ballot = ballotOf(ballot);
    return operation;
  }

  private beginUpload(operation: Operation): LocalUpload | null {
    const own = { ...operation, key: copyOf(operation.key), upload: this.firstUpload + this.nextUpload };
    this.nextUpload = (this.nextUpload + 1) % UPLOADS_OF_A_FRONT;
    const thread = this.queues[own.shard % this.queues.length];
    return LocalUpload.begin(thread, own, this.dataDirectory, this.gatherings);
  }

  /** Whether there are processors for all threads, so that they may look for work before they sleep. */
  get patient(): boolean {
    return this.queues[0].patient;
  }

  stats(): VaultStats {
    return {
      shards: this.memories.map((memory, shard) => readFigures(shard, memory)),
      catalog: readCatalogFigures(this.catalogFigures),
    };
  }

  close(): Promise<void> {
    this.closing ??= (async () => {
      await this.shut();
      clearInterval(this.releaseTimer);
      this.residency.close();
    })();
    return this.closing;
  }
}
