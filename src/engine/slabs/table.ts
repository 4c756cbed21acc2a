/**
 * Which slabs a shard has and how much of each is live; gives the blocks of dropped ones back.
 */
import path from "node:path";
import { HEADER_BYTES, SLAB_SLOTS } from "../../format/offsets.ts";
import type { LogPlace, SlabEnd } from "../../format/slab-list.ts";
import { FIGURE, slotOfSequence } from "./figures.ts";
import { slabName } from "./files.ts";
import type { FileIo } from "./io.ts";

/**
 * The blocks of a dropped slab are freed in steps of this size. Measured on ext4: a sync of another file
 * waits for the step that is under way, 20 ms for 64 MiB at once, 1 ms for this.
 */
const FREE_STEP_BYTES = 1024 * 1024;

export interface Slab {
  sequence: number;
  /** End of its records in bytes, as far as known. */
  storedBytes: number;
  liveBytes: number;
  /** Uploads with chunks in it that no manifest names yet. */
  uploads: number;
  sealed: boolean;
  /** There is damage in it: it stays, so that the damage stays visible. */
  damaged: boolean;
  /**
   * It is missing or not the one that was listed, and the index is right all the same: what it points to
   * there cannot be read.
   */
  misfit: boolean;
  /** It was cut, its header is damaged, or the disk could not give a page of it. */
  broken: boolean;
}

/** Told of a slab that is about to go, as SlabList is; while it throws, the slab stays. */
export interface SlabRegister {
  drop(sequence: number, open: SlabEnd): void;
  /** Told that deletes before a place will not be told any more, before the slab that told them goes. */
  forgetBefore(horizon: LogPlace): void;
}

export class SlabTable {
  private readonly io: FileIo;
  private readonly directory: string;
  private readonly slabBytes: number;
  private readonly slots: Int32Array;
  private readonly held: Int32Array[];
  private readonly figures: Float64Array;
  private readonly slabs = new Map<number, Slab>();
  /** Unlinked slabs whose files are open until no front has them mapped. */
  private readonly dropped: { slot: number; sequence: number; fd: number }[] = [];
  /** Slabs whose blocks are being freed, one after another. */
  private freeing = 0;
  /** Slabs whose blocks were freed so far. */
  freedSlabs = 0;
  private freed: Promise<void> = Promise.resolve();
  private highest = 0;
  private readonly list: SlabRegister;

  constructor(
    io: FileIo,
    directory: string,
    list: SlabRegister,
    slabBytes: number,
    slots: Int32Array,
    held: readonly SharedArrayBuffer[],
    figures: Float64Array,
  ) {
    this.io = io;
    this.directory = directory;
    this.list = list;
    this.slabBytes = slabBytes;
    this.slots = slots;
    this.held = held.map((array) => new Int32Array(array));
    this.figures = figures;
  }

  /** A sequence for the next slab whose slot is free. */
  nextSequence(): number {
    for (let sequence = this.highest + 1; sequence <= this.highest + SLAB_SLOTS; sequence++) {
      const slot = slotOfSequence(sequence);
      if (this.slots[slot] === 0 && !this.dropped.some((slab) => slab.slot === slot)) return sequence;
    }
    throw Object.assign(new Error("the shard has no room for another slab"), { code: "ENOSPC" });
  }

  /** Takes a new or recovered slab in. */
  add(sequence: number): void {
    this.slabs.set(slotOfSequence(sequence), {
      sequence,
      storedBytes: HEADER_BYTES,
      liveBytes: 0,
      uploads: 0,
      sealed: false,
      damaged: false,
      misfit: false,
      broken: false,
    });
    this.figures[FIGURE.storedBytes] += HEADER_BYTES;
    this.figures[FIGURE.slabs]++;
    this.highest = Math.max(this.highest, sequence);
    Atomics.store(this.slots, slotOfSequence(sequence), sequence);
  }

  sealed(sequence: number): void {
    const slab = this.bySequence(sequence);
    if (slab !== undefined) slab.sealed = true;
  }

  bySequence(sequence: number): Slab | undefined {
    const slab = this.slabs.get(slotOfSequence(sequence));
    return slab?.sequence === sequence ? slab : undefined;
  }

  /** Sequence of the slab in a slot, 0 for none. */
  sequenceIn(slot: number): number {
    return this.slots[slot];
  }

  /** Adds to the live bytes of the slab in a slot. */
  live(slot: number, bytes: number): void {
    const slab = this.slabs.get(slot);
    if (slab === undefined) throw new Error("live bytes of a slab that is gone");
    slab.liveBytes += bytes;
    this.figures[FIGURE.liveBytes] += bytes;
  }

  /** Adds to the live bytes of a slab, if it is still there. */
  liveIn(sequence: number, bytes: number): void {
    if (this.bySequence(sequence) !== undefined) this.live(slotOfSequence(sequence), bytes);
  }

  /** An upload put its first chunk into a slab (1), or is over (-1): in between the slab is not compacted. */
  upload(sequence: number, sign: 1 | -1): void {
    const slab = this.bySequence(sequence);
    if (slab !== undefined) slab.uploads += sign;
  }

  all(): IterableIterator<Slab> {
    return this.slabs.values();
  }

  get count(): number {
    return this.slabs.size;
  }

  /**
   * Takes a slab out of use. Its records must have been moved, and synced where they went. Once the list does
   * not name it any more it is gone, whatever becomes of its file: the next start removes what is left.
   * @param open how far the open slab is durable
   */
  drop(sequence: number, open: SlabEnd): void {
    const slot = slotOfSequence(sequence);
    const file = path.join(this.directory, slabName(sequence));
    const fd = this.io.open(file, "r+");
    try {
      this.list.drop(sequence, open);
    } catch (error) {
      this.io.close(fd);
      throw error;
    }
    // Before the file goes: who finds no file under a sequence that counts takes it for lost.
    Atomics.store(this.slots, slot, 0);
    const slab = this.slabs.get(slot);
    this.slabs.delete(slot);
    this.figures[FIGURE.slabs]--;
    this.figures[FIGURE.storedBytes] -= slab?.storedBytes ?? 0;
    this.figures[FIGURE.liveBytes] -= slab?.liveBytes ?? 0;
    this.dropped.push({ slot, sequence, fd });
    this.io.unlink(file);
    this.io.syncDirectory(this.directory);
  }

  /** Frees the blocks of dropped slabs that no front holds any more, in the background. */
  reclaim(): void {
    for (let i = this.dropped.length - 1; i >= 0; i--) {
      const { slot, sequence, fd } = this.dropped[i];
      if (this.held.some((held) => Atomics.load(held, slot) === sequence)) continue;
      this.dropped.splice(i, 1);
      this.freeing++;
      this.freed = this.freed.then(() => this.free(fd));
    }
  }

  private async free(fd: number): Promise<void> {
    try {
      // Under another name, such as a backup's, it is somebody else's now, and has to stay as it is.
      for (let bytes = this.io.links(fd) > 0 ? 0 : this.slabBytes; bytes > 0; ) {
        bytes = Math.max(0, bytes - FREE_STEP_BYTES);
        await this.io.ftruncateAsync(fd, bytes);
      }
    } catch {
      // The blocks then go with the last map of the unlinked file.
    }
    this.io.close(fd);
    this.freeing--;
    this.freedSlabs++;
  }

  /** Whether there are dropped slabs whose blocks are not free yet. */
  get waiting(): boolean {
    return this.dropped.length > 0 || this.freeing > 0;
  }

  /** Notes up to which byte a slab holds records. */
  stored(sequence: number, bytes: number): void {
    const slab = this.bySequence(sequence);
    if (slab === undefined) return;
    this.figures[FIGURE.storedBytes] += bytes - slab.storedBytes;
    slab.storedBytes = bytes;
  }

  /** Closes the files of dropped slabs, once what is under way is done. */
  async close(): Promise<void> {
    for (const { fd } of this.dropped.splice(0)) this.io.close(fd);
    await this.freed;
  }
}
