/**
 * A model of shards that share one disk: slabs as sums of bytes, the real decisions (choose.ts, reserve.ts) and none of the files. Fast enough to play thousands of
 * mixtures through to the end: filled, partly deleted, beside others that take and give back room.
 */
import {
  type Choice,
  type Circumstances,
  chooseVictim,
  type SlabAccount,
} from "../../src/engine/compaction/choose.ts";
import { DiskPressure, leavesReserve, Reserve, spareTarget } from "../../src/engine/reserve/reserve.ts";
import { createPressureMemory } from "../../src/engine/state/memory.ts";
import type { Random } from "../random.ts";

export const MIB = 1024 * 1024;
const HEADER_BYTES = 4096;
/** The longest record, and what a full disk needs ahead, as parts of a slab: as in slabs of 64 MiB. */
const RECORD_FRACTION = 1 / 64;
const AHEAD_FULL_FRACTION = 1 / 16;
const TOMBSTONE_BYTES = 80;
const TABLE_ENTRY_BYTES = 12;
/** Of one idle turn. */
const TURN_MS = 50;
const STEP_BYTES = MIB;
const AHEAD_BYTES = 512 * 1024;

interface ModelSlab extends SlabAccount {
  sequence: number;
  storedBytes: number;
  liveBytes: number;
  /** Of the live bytes, those of tombstones. */
  tombstoneBytes: number;
  /** Bytes of its file that have blocks. */
  allocatedBytes: number;
  isOpen: boolean;
}

/** Bytes that all take from. */
export class ModelDisk {
  freeBytes: number;
  nowMs = 0;
  readonly pressure = createPressureMemory();

  constructor(bytes: number) {
    this.freeBytes = bytes;
  }

  take(bytes: number): boolean {
    if (bytes > this.freeBytes) return false;
    this.freeBytes -= bytes;
    return true;
  }
}

export class ModelShard {
  readonly slabBytes: number;
  readonly reserve: Reserve;
  private readonly disk: ModelDisk;
  private readonly random: Random;
  private readonly slabs: ModelSlab[] = [];
  private open: ModelSlab;
  private spareBytes = 0;
  private highest = 0;
  private appendedBytes = 0;
  private appendedBefore = 0;
  /** What compaction has written, and what became free by it, in all. */
  copiedBytes = 0;
  freedBytes = 0;
  /** Victims that did not fit a full disk, though they were chosen. */
  misfits = 0;
  tombstones = 0;
  values = 0;
  readonly valueBytes: number;

  constructor(disk: ModelDisk, slabBytes: number, valueBytes: number, random: Random) {
    this.disk = disk;
    this.slabBytes = slabBytes;
    this.valueBytes = valueBytes;
    this.random = random;
    this.reserve = new Reserve(new DiskPressure(disk.pressure));
    this.open = this.add(HEADER_BYTES);
    disk.take(HEADER_BYTES);
  }

  private add(allocatedBytes: number): ModelSlab {
    const slab: ModelSlab = {
      sequence: ++this.highest,
      storedBytes: HEADER_BYTES,
      liveBytes: 0,
      tombstoneBytes: 0,
      allocatedBytes,
      isOpen: true,
    };
    this.slabs.push(slab);
    return slab;
  }

  get storedBytes(): number {
    return this.slabs.reduce((sum, slab) => sum + slab.storedBytes, 0);
  }

  get liveBytes(): number {
    return this.slabs.reduce((sum, slab) => sum + slab.liveBytes, 0);
  }

  get liveValueBytes(): number {
    return this.slabs.reduce((sum, slab) => sum + slab.liveBytes - slab.tombstoneBytes, 0);
  }

  /** Bytes of blocks that hold nothing, and are not ahead of the open slab. */
  get deadBytes(): number {
    return this.slabs.reduce((sum, slab) => sum + slab.storedBytes - slab.liveBytes, 0);
  }

  get slabCount(): number {
    return this.slabs.length;
  }

  /** Makes room for a record in the open slab, as Shard and Appender do. */
  private makeRoom(bytes: number, isWrite: boolean): boolean {
    const { reserve } = this;
    if (reserve.full && isWrite) {
      if (reserve.mayAsk(this.disk.nowMs)) this.refill();
      if (reserve.full && !this.hasBeyondReserve(bytes)) return false;
    }
    const limit = reserve.full ? Math.min(this.open.allocatedBytes, this.slabBytes) : this.slabBytes;
    if (this.open.storedBytes + bytes <= limit) return true;
    return this.closeOpen() && this.open.storedBytes + bytes <= this.slabBytes;
  }

  private hasBeyondReserve(bytes: number): boolean {
    const ahead = Math.min(this.open.allocatedBytes, this.slabBytes) - this.open.storedBytes;
    return leavesReserve(ahead - bytes, this.spareBytes, this.spareTarget, this.slabBytes);
  }

  private get spareTarget(): number {
    return spareTarget(this.storedBytes, this.values + this.tombstones, this.slabBytes);
  }

  /** Whether values are taken again. */
  get isWritable(): boolean {
    return !this.reserve.full || this.hasBeyondReserve(MIB);
  }

  private closeOpen(): boolean {
    let allocatedBytes = HEADER_BYTES;
    if (this.reserve.full) {
      allocatedBytes = Math.min(this.spareBytes, this.slabBytes);
      if (allocatedBytes < HEADER_BYTES + 16 * 1024) return false;
      this.spareBytes -= allocatedBytes;
    } else if (!this.disk.take(HEADER_BYTES)) {
      this.reserve.refused(this.disk.nowMs);
      return false;
    }
    this.open.isOpen = false;
    this.open = this.add(allocatedBytes);
    return true;
  }

  private append(bytes: number, tombstoneBytes: number): boolean {
    const { open } = this;
    const end = open.storedBytes + bytes;
    if (end > open.allocatedBytes) {
      if (!this.disk.take(end - open.allocatedBytes)) {
        this.reserve.refused(this.disk.nowMs);
        return false;
      }
      open.allocatedBytes = end;
    }
    open.storedBytes = end;
    this.appendedBytes += bytes;
    open.liveBytes += bytes;
    open.tombstoneBytes += tombstoneBytes;
    return true;
  }

  put(): boolean {
    if (!this.makeRoom(this.valueBytes, true) || !this.append(this.valueBytes, 0)) return false;
    this.values++;
    return true;
  }

  /** Deletes a value somewhere. False: there was no room for the tombstone. */
  remove(): boolean {
    let at = this.random.below(Math.max(1, Math.floor(this.liveValueBytes)));
    const slab = this.slabs.find((candidate) => {
      at -= candidate.liveBytes - candidate.tombstoneBytes;
      return at < 0;
    });
    if (slab === undefined) return true;
    if (!this.makeRoom(TOMBSTONE_BYTES, false) || !this.append(TOMBSTONE_BYTES, TOMBSTONE_BYTES))
      return false;
    slab.liveBytes -= Math.min(this.valueBytes, slab.liveBytes - slab.tombstoneBytes);
    this.values--;
    this.tombstones++;
    return true;
  }

  private refill(): boolean {
    const { open, reserve } = this;
    const isStreaming = !reserve.full && this.appendedBytes - this.appendedBefore > AHEAD_BYTES;
    this.appendedBefore = this.appendedBytes;
    const room = Math.min(STEP_BYTES, this.slabBytes - open.allocatedBytes - 4096 * TABLE_ENTRY_BYTES);
    const ahead = open.allocatedBytes - open.storedBytes;
    const isShort =
      ahead < (reserve.full ? this.slabBytes * AHEAD_FULL_FRACTION : AHEAD_BYTES) && room >= 64 * 1024;
    if (isShort && !isStreaming) {
      if (!this.ask(room, (bytes) => (open.allocatedBytes += bytes))) return false;
      return true;
    }
    const target = this.spareTarget;
    if (this.spareBytes >= target) {
      if (!isShort) reserve.whole();
      return false;
    }
    for (let step = 0; step < (reserve.full ? 8 : 1) && this.spareBytes < target; step++)
      if (!this.ask(Math.min(STEP_BYTES, target - this.spareBytes), (bytes) => (this.spareBytes += bytes)))
        break;
    return false;
  }

  private ask(bytes: number, got: (bytes: number) => void): boolean {
    for (let part = bytes; ; part = Math.max(64 * 1024, part >>> 1)) {
      if (this.disk.take(part)) {
        got(part);
        this.reserve.gave();
        return true;
      }
      if (part <= 64 * 1024) break;
    }
    this.reserve.refused(this.disk.nowMs);
    return false;
  }

  circumstances(pressed = this.reserve.isPressed(this.disk.nowMs)): Circumstances<ModelSlab> {
    const { open, slabBytes } = this;
    const room = (bytes: number): number => Math.max(0, bytes - HEADER_BYTES - slabBytes * RECORD_FRACTION);
    const spare = room(Math.min(this.spareBytes, slabBytes)) + room(this.spareBytes - slabBytes);
    const here = Math.min(open.allocatedBytes, slabBytes) - open.storedBytes - slabBytes * RECORD_FRACTION;
    return {
      slabBytes,
      full: this.reserve.full,
      pressed,
      roomBytes: Math.max(0, here) + spare,
      spareBytes: spare,
      entries: this.values + this.tombstones,
      tombstones: this.tombstones,
      tombstoneBytes: this.tombstones * TOMBSTONE_BYTES,
      stateOf: (slab) => (slab.isOpen ? "open" : "ready"),
      isOutlived: () => true,
      measure: (slab, oldest) => this.measure(slab, oldest),
    };
  }

  private measure(slab: ModelSlab, oldest: boolean): number {
    const bytes = slab.liveBytes - (oldest ? slab.tombstoneBytes : 0);
    return bytes + (bytes / this.valueBytes) * TABLE_ENTRY_BYTES;
  }

  choose(pressed?: boolean): Choice<ModelSlab> {
    return chooseVictim(this.slabs, this.circumstances(pressed));
  }

  /** One turn of idle work. True: something was done. */
  idle(): boolean {
    if (this.reserve.mayAsk(this.disk.nowMs) && this.refill()) return true;
    const choice = this.choose();
    if (choice === null) return false;
    if (choice.kind === "close") return this.closeOpen();
    this.compact(choice.slab, choice.oldest);
    return true;
  }

  private compact(slab: ModelSlab, oldest: boolean): void {
    const values = slab.liveBytes - slab.tombstoneBytes;
    // Where the disk is not known to be full, it may turn out to be.
    const mustFit = this.reserve.full;
    const pieces: [number, number][] = oldest ? [] : [[slab.tombstoneBytes, slab.tombstoneBytes]];
    for (let rest = values; rest > 0; rest -= this.valueBytes)
      pieces.push([Math.min(rest, this.valueBytes), 0]);
    for (const [bytes, tombstoneBytes] of pieces) {
      if (bytes === 0) continue;
      if (!this.makeRoom(bytes, false) || !this.append(bytes, tombstoneBytes)) {
        if (mustFit) this.misfits++;
        return;
      }
      slab.liveBytes -= bytes;
      slab.tombstoneBytes -= tombstoneBytes;
      this.copiedBytes += bytes;
      this.freedBytes -= bytes;
    }
    if (oldest) this.tombstones -= Math.round(slab.tombstoneBytes / TOMBSTONE_BYTES);
    this.slabs.splice(this.slabs.indexOf(slab), 1);
    this.disk.freeBytes += slab.allocatedBytes;
    this.freedBytes += slab.storedBytes;
    this.reserve.freed();
  }
}

export class Model {
  readonly disk: ModelDisk;
  readonly shards: ModelShard[];
  private takenBytes = 0;

  constructor(bytes: number, shards: number, slabBytes: number, valueBytes: number, random: Random) {
    this.disk = new ModelDisk(bytes);
    this.shards = Array.from(
      { length: shards },
      () => new ModelShard(this.disk, slabBytes, valueBytes, random),
    );
  }

  /** All shards' idle work until there is none for longer than the disk is left alone; answers the turns. */
  settle(turnsMax: number): number {
    let quiet = 0;
    for (let turn = 0; turn < turnsMax; turn++) {
      const full = this.shards.filter(({ reserve }) => reserve.full).length;
      const free = this.disk.freeBytes;
      let done = false;
      for (const shard of this.shards) if (shard.idle()) done = true;
      this.disk.nowMs += TURN_MS;
      const same = full === this.shards.filter(({ reserve }) => reserve.full).length;
      quiet = done || !same || free !== this.disk.freeBytes ? 0 : quiet + 1;
      if (quiet * TURN_MS > 4000) return turn;
    }
    return turnsMax;
  }

  /** Writes to all shards until each refuses. */
  fill(): void {
    for (let refused = 0; refused < this.shards.length; ) {
      refused = 0;
      for (const shard of this.shards) {
        let written = 0;
        while (written < MIB && shard.put()) written += shard.valueBytes;
        if (written === 0) refused++;
        shard.idle();
      }
      this.disk.nowMs += TURN_MS;
    }
  }

  /** Others take what is free, or so much of it. */
  othersTake(bytes = this.disk.freeBytes): void {
    const taken = Math.min(bytes, this.disk.freeBytes);
    this.disk.freeBytes -= taken;
    this.takenBytes += taken;
  }

  othersGive(bytes = this.takenBytes): void {
    const given = Math.min(bytes, this.takenBytes);
    this.disk.freeBytes += given;
    this.takenBytes -= given;
  }

  sum(figure: (shard: ModelShard) => number): number {
    return this.shards.reduce((total, shard) => total + figure(shard), 0);
  }
}
