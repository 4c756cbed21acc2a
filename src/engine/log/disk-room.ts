/**
 * What the disk still gives a shard: blocks ahead of the open slab, then those of the spare slabs, a step at
 * a time. Whether all of it is there says whether the disk is full (reserve.ts has the rules).
 */
import { tailBytes } from "../../format/slab.ts";
import type { Appender } from "../open/appender.ts";
import { DiskPressure, leavesReserve, Reserve, spareTarget } from "../reserve/reserve.ts";
import { FIGURE } from "../slabs/figures.ts";
import { isDiskFull } from "../slabs/io.ts";
import type { ShardMemory } from "../state/memory.ts";
import type { State } from "../state/state.ts";
import type { Succession } from "./succession.ts";

/** So much appended since the last step means that large values come in. */
const STREAMING_BYTES_MIN = 512 * 1024;
/** The table of the open slab is left room for so many more entries. */
const TABLE_AHEAD_ENTRIES = 4096;
/** Steps in which the spare slab grows at a time; more while writes wait for it. */
const SPARE_STEPS = 1;
const SPARE_STEPS_FULL = 8;
/** That it is full is said at most this often. */
const SAY_AGAIN_MS = 60_000;
export const REFUSED: Error = Object.assign(new Error("the disk is full"), { code: "ENOSPC" });

export class DiskRoom {
  private readonly state: State;
  private readonly appender: Appender;
  private readonly succession: Succession;
  private readonly reserve: Reserve;
  private readonly now: () => number;
  private readonly onFailure: (error: unknown) => void;
  /** Of the slabs whose blocks became free, those that the reserve knows of. */
  private freedSlabs = 0;
  /** Bytes appended in all when blocks were last allocated. */
  private appendedBefore = 0;
  /** Whether the spare slab is being made. */
  isGrowing = false;
  /** When it was said last that the disk is full, by `now`, and whether that stands. */
  private saidMs = Number.NEGATIVE_INFINITY;
  private isSaid = false;

  /** @param onFailure the disk refused for another reason than that it is full */
  constructor(
    state: State,
    appender: Appender,
    succession: Succession,
    memory: Pick<ShardMemory, "pressure">,
    now: () => number,
    onFailure: (error: unknown) => void,
  ) {
    this.state = state;
    this.appender = appender;
    this.succession = succession;
    this.reserve = new Reserve(new DiskPressure(memory.pressure));
    this.now = now;
    this.onFailure = onFailure;
  }

  /** Writes are refused, and only blocks are used that are allocated already. */
  get isFull(): boolean {
    return this.reserve.full;
  }

  /** Whether compaction has to make room, for this shard or another one on the same disk. */
  get isPressed(): boolean {
    return this.reserve.isPressed(this.now());
  }

  /**
   * Throws that the disk is full, unless it gives something now, or more is allocated than the reserve. Only
   * for writes: deletes use the reserve.
   */
  require(bytes: number): void {
    if (this.reserve.mayAsk(this.now())) this.refill();
    if (!this.reserve.full) return;
    const { appender, succession, state } = this;
    const aheadBytes = appender.allocatedBytes(bytes);
    if (!leavesReserve(aheadBytes, succession.spare.allocatedBytes, this.spareTarget, state.store.slabBytes))
      throw REFUSED;
  }

  private get spareTarget(): number {
    const { figures, index, store } = this.state;
    return spareTarget(figures[FIGURE.storedBytes], index.entries, store.slabBytes);
  }

  /**
   * Bytes that can be appended although the disk is full, as far as one record of `recordBytes` does not fail
   * to fit.
   */
  allocatedBytes(recordBytes: number): number {
    return this.appender.allocatedBytes(recordBytes) + this.succession.spare.room(recordBytes);
  }

  /** The disk had no room for something. */
  refused(): void {
    this.reserve.refused(this.now());
    this.setFull(true);
  }

  private setFull(full: boolean): void {
    if (!full) this.reserve.whole();
    if (full === this.appender.diskFull) return;
    this.appender.diskFull = full;
    this.state.figures[FIGURE.diskFull] = full ? 1 : 0;
    if (!full) this.succession.sealing.again();
    this.say(full);
  }

  private say(full: boolean): void {
    const { shard, warn } = this.state;
    const nowMs = this.now();
    if (!full && this.isSaid) warn(`shard ${shard}: the disk has room again`);
    if (!full) this.isSaid = false;
    else if (Math.abs(nowMs - this.saidMs) >= SAY_AGAIN_MS) {
      warn(
        `shard ${shard}: the disk is full (no blocks, or no inodes for another file): values are refused until there is room; deletes go on`,
      );
      this.saidMs = nowMs;
      this.isSaid = true;
    }
  }

  /**
   * A step of work on it, if it is time for one.
   * @returns whether there is more to do at once
   */
  idle(): boolean {
    const { freedSlabs } = this.state.slabs;
    if (freedSlabs > this.freedSlabs) {
      this.freedSlabs = freedSlabs;
      this.reserve.freed();
    }
    return this.reserve.mayAsk(this.now()) && this.refill();
  }

  /** True: there is more to do now. */
  private refill(): boolean {
    const before = this.reservedBytes;
    try {
      const progress = this.allocate(this.spareTarget);
      if (this.reservedBytes > before) this.reserve.gave();
      if (progress === "whole") this.setFull(false);
      this.isGrowing = progress === "wait";
      return progress === "step";
    } catch (error) {
      if (isDiskFull(error)) this.refused();
      else this.onFailure(error);
      return false;
    }
  }

  /** Bytes that were allocated so far: it rises when the disk gives. */
  private get reservedBytes(): number {
    return this.appender.file.blocksBytes + this.succession.spare.allocatedBytes;
  }

  /**
   * Allocates blocks ahead of the end, then those of the spare slab, a step at a time. While large values
   * come in there are none ahead: they would be overwritten at once.
   * @param spareBytes what the spare slabs should have, two slabs at most
   * @returns "step": call again; "wait": call again later; "whole": there is nothing to do
   * @throws what the disk says
   */
  private allocate(spareBytes: number): "step" | "wait" | "whole" {
    const { file, diskFull, appendedBytes } = this.appender;
    const { spare } = this.succession;
    if (!this.appender.isFlushed || file.isCut) return "wait";
    this.succession.probe();
    const isStreaming = !diskFull && appendedBytes - this.appendedBefore > STREAMING_BYTES_MIN;
    this.appendedBefore = appendedBytes;
    const endBytes =
      this.state.store.slabBytes - tailBytes(this.appender.table.entries + TABLE_AHEAD_ENTRIES);
    const isShort = file.isShort(endBytes, diskFull);
    if (isShort && !isStreaming) {
      file.allocate(endBytes);
      return "step";
    }
    if (spare.allocatedBytes >= spareBytes) return isShort ? "wait" : "whole";
    if (!spare.busy) spare.grow(spareBytes, diskFull ? SPARE_STEPS_FULL : SPARE_STEPS);
    return "wait";
  }
}
