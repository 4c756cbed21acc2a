/**
 * What a shard knows: which slabs there are, where the record of each key stands, what was promised, and the
 * accounts of all that. Only the verbs here touch index and accounts: `load` at a start, then `publish`,
 * `move` and `remove`.
 *
 * Invariants: what the index points to is durable, or a copy of something durable; the live bytes of a slab
 * are those of the records in it that the index, a promise, a floor or a manifest names, and of nothing else.
 */

import { endAt } from "../../format/end.ts";
import type { ChunkRef } from "../../format/manifest.ts";
import {
  ENDING_VERSION_MIN,
  EXTENDED_VERSION_MIN,
  TYPE_ENDED,
  TYPE_FLOOR,
  TYPE_FORGOTTEN,
  TYPE_MANIFEST,
  TYPE_PROMISE,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import {
  isExtended,
  isFresh,
  keyBytesOf,
  originOf,
  type RecordSource,
  unitsAt,
} from "../../format/record.ts";
import { isAbsence, isIndexed, isValue } from "../../format/record-types.ts";
import { recordFormat } from "../../format/slab.ts";
import { HybridClock, SteadyClock } from "../../util/clock.ts";
import { type StoreIdentity, shardDirectory } from "../directory/store-file.ts";
import { Ends } from "../ends/ends.ts";
import { KeyIndex } from "../index/key-index.ts";
import { FIGURE, logPlace } from "../slabs/figures.ts";
import type { FileIo } from "../slabs/io.ts";
import type { SlabMap } from "../slabs/maps.ts";
import { type SlabRegister, SlabTable } from "../slabs/table.ts";
import type { Place } from "./floors.ts";
import { Ledger, type Published, type Totals } from "./ledger.ts";
import { ShardLookup } from "./lookup.ts";
import type { ShardMemory } from "./memory.ts";
import { Replication } from "./replication.ts";

export interface StateSetup {
  dataDirectory: string;
  shard: number;
  store: StoreIdentity;
  memory: ShardMemory;
  /** Wall clock in milliseconds since 1970. */
  now: () => number;
  /** Milliseconds that only go forward; left out: those of this process. */
  monotonic?: () => number;
  /** Something an operator should know. */
  warn: (message: string) => void;
}

export class State {
  readonly shard: number;
  readonly store: StoreIdentity;
  readonly dataDirectory: string;
  /** Of this shard. */
  readonly directory: string;
  readonly figures: Float64Array;
  readonly index: KeyIndex;
  readonly lookup: ShardLookup;
  readonly slabs: SlabTable;
  readonly replication: Replication;
  readonly clock: HybridClock;
  readonly ends: Ends;
  readonly warn: (message: string) => void;
  private readonly ledger: Ledger;
  private readonly list: SlabRegister;

  /** @param list told of a slab that is about to go */
  constructor(setup: StateSetup, io: FileIo, list: SlabRegister) {
    const { dataDirectory, shard, store, memory } = setup;
    this.shard = shard;
    this.store = store;
    this.dataDirectory = dataDirectory;
    this.directory = shardDirectory(dataDirectory, shard);
    this.warn = setup.warn;
    this.list = list;
    this.clock = new HybridClock(setup.now);
    this.figures = new Float64Array(memory.figures);
    this.index = new KeyIndex(memory.index);
    const slots = new Int32Array(memory.slots);
    const ownHeld = new SharedArrayBuffer(memory.slots.byteLength);
    this.lookup = new ShardLookup(dataDirectory, shard, store, memory, ownHeld, this.index);
    this.slabs = new SlabTable(io, this.directory, list, store.slabBytes, slots, memory.held, this.figures);
    this.ends = new Ends(this.figures, new SteadyClock(setup.now, setup.monotonic));
    this.ledger = new Ledger(this.slabs, this.lookup, this.figures, this.ends);
    this.replication = new Replication(
      { index: this.index, lookup: this.lookup, slabs: this.slabs, figures: this.figures, store },
      memory.replication,
    );
  }

  /** Time of the last version that this shard gave or saw, in milliseconds since 1970. */
  get clockMillis(): number {
    return this.clock.high * 0x10000 + (this.clock.low >>> 16);
  }

  /** At a start: enters the sums of what the index was built or read from. */
  load({ keys, tombstones, forgotten, absenceBytes }: Totals): void {
    this.figures[FIGURE.keys] += keys;
    this.figures[FIGURE.tombstones] += tombstones;
    this.figures[FIGURE.forgotten] += forgotten;
    this.figures[FIGURE.absenceBytes] += absenceBytes;
  }

  /** At a start: the chunks of a manifest that counts. */
  loadChunks(keyBytes: number, chunks: readonly ChunkRef[]): void {
    this.ledger.countChunks(keyBytes, chunks, 1);
  }

  /** Makes a durable record of the slab in `slot`, which is `sequence`, the one that readers find. */
  publish(record: Published, sequence: number, slot: number): void {
    const { hashA, hashB, unit, units, type, oldSlot, oldUnit } = record;
    const { replication } = this;
    this.lookup.vouch(sequence, unit);
    if (type === TYPE_PROMISE) {
      replication.publishPromise(hashA, hashB, slot, unit);
      return;
    }
    if (type === TYPE_FLOOR) {
      replication.publishFloor(record.partition, slot, unit);
      return;
    }
    replication.publishRecord(hashA, hashB, slot, unit, oldSlot, oldUnit);
    if (type === TYPE_FORGOTTEN && oldSlot >= 0) this.forgetDelete(this.lookup.mapOf(oldSlot), oldUnit);
    this.slabs.live(slot, units * UNIT_BYTES);
    if (oldSlot < 0) this.index.insert(hashA, hashB, slot, unit);
    else {
      this.ledger.forget(oldSlot, oldUnit);
      this.index.replace(hashA, hashB, oldSlot, oldUnit, slot, unit);
    }
    this.ledger.count(type, 1, units * UNIT_BYTES);
    if (record.end !== 0) this.ends.entered(record.end, sequence, unit);
    else if (type === TYPE_ENDED) this.figures[FIGURE.marked]++;
    if (type === TYPE_MANIFEST)
      this.ledger.countChunks(keyBytesOf(this.lookup.mapOf(slot), unit), record.chunks, 1);
  }

  /** Whether copies say where they were first appended, and the list from where on all deletes are told. */
  get keepsOrigins(): boolean {
    return this.store.version >= ENDING_VERSION_MIN;
  }

  /** Whether records of this directory say that they are fresh. */
  get marksFresh(): boolean {
    return this.store.version >= EXTENDED_VERSION_MIN;
  }

  /**
   * Whether a record of a key is fresh and beyond the watermark, so that what takes its place, or a copy of
   * it, is fresh. Records of format 1 say nothing of that and count as fresh.
   * @param source where it can be read, at `at`
   * @param slot where it stands, at `unit`
   */
  isFresh(source: RecordSource, at: number, slot: number, unit: number): boolean {
    if (!this.marksFresh) return false;
    const place = logPlace({ sequence: this.slabs.sequenceIn(slot), unit });
    if (place < this.figures[FIGURE.watermark]) return false;
    return isFresh(source, at) || recordFormat(this.lookup.mapOf(slot)) === 1;
  }

  /**
   * Notes a fresh record that takes the place of another one, or is a copy of it, and whose key may be news
   * to who keeps lists: one that it has not met yet, which begins before or at the last news. What came after
   * them replaced a record that was known, or was to be met.
   * @param was where the other one stands; null: none was known
   * @param unit where it stands in the open slab of this sequence
   */
  noteFresh(was: { slot: number; unit: number } | null, sequence: number, unit: number): void {
    const { figures } = this;
    if (was !== null) {
      const place = logPlace({ sequence: this.slabs.sequenceIn(was.slot), unit: was.unit });
      if (place < figures[FIGURE.followedEnd] || place > figures[FIGURE.lastNews]) return;
    }
    figures[FIGURE.lastNews] = logPlace({ sequence, unit });
  }

  /** The records before this place are in the index and about to be told of. */
  answeredUpTo(sequence: number, unit: number): void {
    this.figures[FIGURE.answeredEnd] = logPlace({ sequence, unit });
    this.publishedUpTo(sequence, unit);
  }

  /**
   * Tells who follows the log that all before this place is in the index: after `publish` and `move`, and
   * before a slab goes that something was moved out of.
   */
  publishedUpTo(sequence: number, unit: number): void {
    this.figures[FIGURE.publishedEnd] = logPlace({ sequence, unit });
  }

  /** Whether a record still counts, so that it must be carried on when its slab goes. */
  counts(type: number, hashA: number, hashB: number, map: SlabMap, unit: number): boolean {
    return isIndexed(type)
      ? this.index.holds(hashA, hashB, map.slot, unit)
      : this.replication.holds(type, hashA, hashB, map, unit);
  }

  /** A copy of a record that counts, `toUnits` long, takes its place. */
  move(
    type: number,
    hashA: number,
    hashB: number,
    map: SlabMap,
    unit: number,
    to: Place,
    toUnits: number,
  ): void {
    const bytes = unitsAt(map, unit) * UNIT_BYTES;
    const toBytes = toUnits * UNIT_BYTES;
    if (isIndexed(type)) this.index.replace(hashA, hashB, map.slot, unit, to.slot, to.unit);
    else this.replication.moved(type, hashA, hashB, { slot: map.slot, unit }, to);
    this.slabs.live(map.slot, -bytes);
    this.slabs.live(to.slot, toBytes);
    if (isAbsence(type)) this.figures[FIGURE.absenceBytes] += toBytes - bytes;
    if (isExtended(map, unit) && isValue(type))
      this.ends.moved(endAt(map, unit), map.sequence, unit, this.slabs.sequenceIn(to.slot), to.unit);
  }

  /** What says that a value has ended, `units` long, takes the place of it. It must be durable. */
  moveEnded(hashA: number, hashB: number, from: Place, to: Place, units: number): void {
    this.ledger.forget(from.slot, from.unit);
    this.index.replace(hashA, hashB, from.slot, from.unit, to.slot, to.unit);
    this.slabs.live(to.slot, units * UNIT_BYTES);
    this.ledger.count(TYPE_ENDED, 1, units * UNIT_BYTES);
    this.figures[FIGURE.marked]++;
  }

  /**
   * A manifest that names other places of the same chunks, `units` long, takes the place of one that counts.
   */
  moveManifest(
    hashA: number,
    hashB: number,
    from: Place,
    to: Place,
    units: number,
    keyBytes: number,
    chunks: readonly ChunkRef[],
  ): void {
    const end = endAt(this.lookup.mapOf(from.slot), from.unit);
    this.ledger.forget(from.slot, from.unit);
    this.index.replace(hashA, hashB, from.slot, from.unit, to.slot, to.unit);
    this.slabs.live(to.slot, units * UNIT_BYTES);
    if (end !== 0) this.ends.entered(end, this.slabs.sequenceIn(to.slot), to.unit);
    this.ledger.count(TYPE_MANIFEST, 1, 0);
    this.ledger.countChunks(keyBytes, chunks, 1);
  }

  /** A record that only keeps older ones away goes, as there are none any more. */
  remove(type: number, hashA: number, hashB: number, map: SlabMap, unit: number): void {
    this.index.remove(hashA, hashB, map.slot, unit);
    const bytes = unitsAt(map, unit) * UNIT_BYTES;
    this.slabs.live(map.slot, -bytes);
    this.ledger.count(type, -1, bytes);
  }

  /** A record goes that may be a delete: who is not beyond where it was first appended misses it. */
  forgetDelete(map: SlabMap, unit: number): void {
    const origin = originOf(map, unit);
    // Of a copy only the slab is known in which that was.
    const behind = { sequence: map.sequence, unit: unit + unitsAt(map, unit) };
    const horizon = origin === 0 ? behind : { sequence: origin + 1, unit: 0 };
    if (logPlace(horizon) <= this.figures[FIGURE.horizon]) return;
    this.figures[FIGURE.horizon] = logPlace(horizon);
    if (this.keepsOrigins) this.list.forgetBefore(horizon);
  }

  /** Notes that there is damage in a slab: it stays where it is. */
  damaged(sequence: number): void {
    const slab = this.slabs.bySequence(sequence);
    if (slab !== undefined) slab.damaged = true;
    this.figures[FIGURE.damaged]++;
  }

  /**
   * Notes that a slab is missing, or another one than was listed, and that the index is right all the same.
   */
  misfits(sequence: number): void {
    this.damaged(sequence);
    this.figures[FIGURE.missingSlabs]++;
    const slab = this.slabs.bySequence(sequence);
    if (slab !== undefined) slab.misfit = true;
  }
}
