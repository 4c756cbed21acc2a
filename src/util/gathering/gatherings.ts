/**
 * Bytes that have come and are not a record yet: bodies in a front, chunks in a shard thread. They are in
 * memory while they move; when memory gets short, what has not moved for the longest is put aside, into a
 * file without a name. So what stands still holds a place on the disk and no memory, and however many slow
 * clients there are, a fast one finds room.
 *
 *   append ─► buffer ──────────────► whole ─► a record, or a part of an upload
 *               │  others need memory    ▲
 *               └─► place in the file ───┘
 *
 * Invariants: all buffers together stay under `bytesMax`; the file has at most `countMax` places of
 * CHUNK_BYTES.
 */

import { NOTHING } from "../bytes.ts";
import { CHUNK_BYTES } from "../limits.ts";
import { type PlaceHolder, Places } from "../places.ts";
import { AsideFile } from "./aside-file.ts";

/** First size of a buffer; it doubles with what really arrives, up to a chunk. */
const BUFFER_BYTES_MIN = 16 * 1024;

/**
 * From this size on a buffer is better a whole chunk's that the last one left: fresh memory costs more than
 * copying into it.
 */
const LEFT_USE_BYTES_MIN = CHUNK_BYTES / 4;

/** A slow gathering had to make room for others. */
export const GAVE_WAY = new Error("others needed the place of a body that came too slowly");

export interface GatheringLimits {
  /** Memory of all buffers; one chunk at least. */
  bytesMax: number;
  /** Gatherings at once. */
  countMax: number;
}

export class Gatherings {
  private held: Float64Array = new Float64Array(1);
  /** What is put aside. */
  readonly aside: AsideFile;
  private readonly bytesMax: number;
  private readonly places: Places;
  /** Those with a buffer, the one that has not moved for the longest first. */
  private readonly moving = new Set<Gathering>();
  /** A whole chunk's buffer that the last one left to the next. */
  private left: Uint8Array | null = null;

  /** @param directory on a disk: a temporary folder may lie in memory */
  constructor(directory: string, { bytesMax, countMax }: GatheringLimits) {
    if (bytesMax < CHUNK_BYTES) throw new Error("not even one chunk would find room");
    this.aside = new AsideFile(directory);
    this.bytesMax = bytesMax;
    this.places = new Places(countMax);
  }

  get count(): number {
    return this.places.count;
  }

  /** Gatherings that are put aside. */
  get asideCount(): number {
    return this.aside.count;
  }

  /** Memory that buffers have now. */
  get heldBytes(): number {
    return this.held[0];
  }

  /** Keeps `heldBytes` here from now on, for others to see. */
  showIn(memory: Float64Array): void {
    memory[0] = this.heldBytes;
    this.held = memory;
  }

  /**
   * Begins one. Null: there are too many, and none of them is slow.
   * @param onLost called once, later, if what it has is lost: with GAVE_WAY, or with what the disk said
   * @param expectedBytes no buffer needs to be larger
   */
  open(onLost: (error: Error) => void, expectedBytes = CHUNK_BYTES): Gathering | null {
    const gathering = new Gathering(this, onLost, Math.min(expectedBytes, CHUNK_BYTES));
    return this.places.enter(gathering) ? gathering : null;
  }

  // ---- for Gathering -----------------------------------------------------------------------------------------------------------------

  /** It has moved: it is the last to be put aside. */
  touch(gathering: Gathering): void {
    this.moving.delete(gathering);
    this.moving.add(gathering);
  }

  /** A buffer in place of another one, or null: everything else is put aside, and it is still too much. */
  exchange(asker: Gathering, before: Uint8Array, bytes: number): Uint8Array | null {
    const { left } = this;
    const isLeft = left !== null && bytes >= LEFT_USE_BYTES_MIN;
    const length = isLeft ? left.length : bytes;
    if (!this.makeRoom(asker, length - before.length)) return null;
    this.held[0] += length - before.length;
    if (!isLeft) return Buffer.allocUnsafeSlow(length);
    this.left = null;
    return left;
  }

  private makeRoom(asker: Gathering, bytes: number): boolean {
    while (this.heldBytes + bytes > this.bytesMax) {
      const [oldest, next] = this.moving;
      const idle = oldest === asker ? next : oldest;
      if (idle === undefined) return false;
      idle.putAside();
    }
    return true;
  }

  /** Takes back a buffer. */
  giveBack(gathering: Gathering, buffer: Uint8Array): void {
    this.moving.delete(gathering);
    this.held[0] -= buffer.length;
    if (buffer.length === CHUNK_BYTES) this.left = buffer;
  }

  leave(gathering: Gathering): void {
    this.places.leave(gathering);
  }
}

/** At most CHUNK_BYTES. Every call throws once the gathering was lost, until `close`. */
export class Gathering implements PlaceHolder {
  /** Bytes that have come and were not used yet. */
  bytes = 0;
  movedBytes = 0;
  readonly sinceMs = performance.now();
  private readonly all: Gatherings;
  private readonly onLost: (error: Error) => void;
  private readonly expectedBytes: number;
  private buffer: Uint8Array = NOTHING;
  /** Its place in the file, or -1: it is in memory. */
  private place = -1;
  private closed = false;
  private lost: Error | null = null;

  constructor(all: Gatherings, onLost: (error: Error) => void, expectedBytes: number) {
    this.all = all;
    this.onLost = onLost;
    this.expectedBytes = expectedBytes;
  }

  /**
   * Copies bytes behind those that are there. False: there is no room for them. Throws what the disk says.
   */
  append(bytes: Uint8Array): boolean {
    this.assertOpen(this.bytes + bytes.length);
    this.movedBytes += bytes.length;
    if (this.place >= 0) this.all.aside.write(this.place, this.bytes, bytes);
    else {
      if (!this.reserve(this.bytes + bytes.length)) return false;
      this.buffer.set(bytes, this.bytes);
      this.all.touch(this);
    }
    this.bytes += bytes.length;
    return true;
  }

  /**
   * Has `read` put bytes behind those that are there.
   * @param most how many there are to read
   * @param read writes into a buffer from an offset on, answers how many bytes
   */
  fill(most: number, read: (target: Uint8Array, offset: number) => number): boolean {
    const wanted = Math.min(this.bytes + most, CHUNK_BYTES);
    this.assertOpen(wanted);
    if (!this.bringBack() || !this.reserve(wanted)) return false;
    const bytes = read(this.buffer, this.bytes);
    this.movedBytes += bytes;
    this.bytes += bytes;
    this.all.touch(this);
    return true;
  }

  /** All bytes, valid until the next call. Throws when they cannot be read back. */
  whole(): Uint8Array {
    this.assertOpen(this.bytes);
    if (!this.bringBack()) throw new Error("there is no memory for what was put aside");
    return this.buffer.subarray(0, this.bytes);
  }

  /** They were used: the next ones come. */
  empty(): void {
    this.bytes = 0;
    if (this.place >= 0) this.leavePlace();
  }

  private reserve(bytes: number): boolean {
    let length = this.buffer.length;
    if (bytes <= length) return true;
    if (length === 0) length = BUFFER_BYTES_MIN;
    while (length < bytes) length *= 2;
    const larger = this.all.exchange(
      this,
      this.buffer,
      Math.min(length, Math.max(bytes, this.expectedBytes)),
    );
    if (larger === null) return false;
    if (this.buffer.length > 0) larger.set(this.buffer.subarray(0, this.bytes));
    this.buffer = larger;
    return true;
  }

  private bringBack(): boolean {
    if (this.place < 0) return true;
    const { place, bytes } = this;
    if (!this.reserve(bytes)) return false;
    this.all.aside.read(place, this.buffer, bytes);
    this.leavePlace();
    this.all.touch(this);
    return true;
  }

  /** Others need the memory. What the disk does not take is lost. */
  putAside(): void {
    const { buffer, bytes } = this;
    if (bytes > 0) {
      this.place = this.all.aside.takePlace();
      try {
        this.all.aside.write(this.place, 0, buffer.subarray(0, bytes));
      } catch (error) {
        this.lose(error as Error);
        return;
      }
    }
    this.leaveBuffer();
  }

  giveWay(): void {
    this.lose(GAVE_WAY);
  }

  private lose(error: Error): void {
    this.lost = error;
    this.release();
    // Later: this is somebody else's turn.
    setImmediate(() => {
      if (!this.closed) this.onLost(error);
    });
  }

  /** Idempotent. */
  close(): void {
    this.closed = true;
    this.release();
  }

  private release(): void {
    this.all.leave(this);
    this.leaveBuffer();
    this.bytes = 0;
    if (this.place >= 0) this.leavePlace();
  }

  private leaveBuffer(): void {
    // Also one without a byte: it has moved, and must not be found again by who makes room.
    this.all.giveBack(this, this.buffer);
    this.buffer = NOTHING;
  }

  private leavePlace(): void {
    const { place } = this;
    this.place = -1;
    this.all.aside.freePlace(place);
  }

  private assertOpen(bytes: number): void {
    if (this.lost !== null) throw this.lost;
    if (this.closed || bytes > CHUNK_BYTES) throw new Error("a gathering is closed, or takes one chunk only");
  }
}
