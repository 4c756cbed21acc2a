/**
 * One slab after another: makes the file of the next one, on a full disk out of a spare one, has the full one
 * sealed, and tells the list of it all.
 *
 * A new file gets its full size and its header first, then its name, then its place in the list; only then
 * may it hold anything that somebody is told of.
 */
import path from "node:path";
import {
  CHAINED_VERSION_MIN,
  EXTENDED_VERSION_MIN,
  FOOTER_BYTES,
  SLAB_VERSION,
  SLAB_VERSION_MIN,
} from "../../format/offsets.ts";
import { encodeHeader, footerSeal } from "../../format/slab.ts";
import { LISTED_FULL, type ListedSlab } from "../../format/slab-list.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import type { SlabList } from "../list/slab-list.ts";
import type { Appender, OpenSlab } from "../open/appender.ts";
import { SpareSlabs } from "../reserve/spare.ts";
import { slabName, UNFINISHED } from "../slabs/files.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";
import type { ShardMemory } from "../state/memory.ts";
import { Sealing } from "./sealing.ts";

export interface SuccessionSetup {
  io: FileIo;
  directory: string;
  shard: number;
  store: StoreIdentity;
  memory: Pick<ShardMemory, "slots">;
  list: SlabList;
}

export interface SuccessionEvents {
  /** A slab was sealed; with an error, if it stays without a footer until the next start. */
  onSealed(sequence: number, error: unknown): void;
  /** A sync in the background failed; it must not be retried. */
  onSyncFailed(error: unknown): void;
  /** Another program has cut a slab. */
  onCut(sequence: number, error: Error): void;
}

export class Succession {
  private readonly setup: SuccessionSetup;
  private readonly appender: Appender;
  private readonly slots: Int32Array;
  readonly sealing: Sealing;
  readonly spare: SpareSlabs;
  /** The disk had no room for a new file: blocks may be there, and no inodes. */
  private fileRefused = false;

  constructor(setup: SuccessionSetup, appender: Appender, events: SuccessionEvents) {
    const { io, directory, store, memory } = setup;
    this.setup = setup;
    this.appender = appender;
    this.slots = new Int32Array(memory.slots);
    this.sealing = new Sealing(io, store.slabBytes, events.onSealed, events.onCut);
    this.spare = new SpareSlabs(io, directory, store.slabBytes, events.onSyncFailed);
  }

  /** Goes on with a slab that recovery found open. */
  resume(open: OpenSlab): void {
    this.appender.resume(this.setup.io.open(this.fileOf(open.sequence), "r+"), open);
  }

  private fileOf(sequence: number): string {
    return path.join(this.setup.directory, slabName(sequence));
  }

  /**
   * Makes slab `sequence`, which is appended to from now on. What is staged must have been flushed and
   * synced.
   */
  start(sequence: number): void {
    const { appender } = this;
    if (appender.diskFull) this.spare.require();
    const full = appender.file.isOpen ? this.fullSlab() : null;
    const { fd, allocatedBytes } = this.make(sequence, full?.listed ?? null);
    const before = appender.sequence;
    const fullFd = appender.begin(fd, sequence, allocatedBytes);
    if (full !== null) this.sealing.start({ fd: fullFd, sequence: before, tail: full.tail });
    Atomics.store(this.slots, appender.slot, sequence);
  }

  /** How the open slab ends now that it is full: table and footer, and what the list says of it. */
  private fullSlab(): { tail: Uint8Array; listed: ListedSlab } {
    const tail = this.appender.encodeTail();
    const seal = footerSeal(tail.subarray(-FOOTER_BYTES)) as number;
    return { tail, listed: { ...this.appender.end, state: LISTED_FULL, seal } };
  }

  /** Makes the file of a slab. `full`: the one before it. */
  private make(sequence: number, full: ListedSlab | null): { fd: number; allocatedBytes: number } {
    const { io, directory, shard, store, list } = this.setup;
    const { version, slabBytes, slabId: storeId } = store;
    const file = this.fileOf(sequence);
    const spare = this.appender.diskFull ? this.spare.take() : null;
    const fresh = spare?.file ?? `${file}${UNFINISHED}`;
    const fd = spare?.fd ?? this.makeFile(fresh);
    try {
      io.ftruncate(fd, slabBytes);
      const previous = version >= CHAINED_VERSION_MIN ? full : null;
      const format = version >= EXTENDED_VERSION_MIN ? SLAB_VERSION : SLAB_VERSION_MIN;
      const header = encodeHeader({ shard, sequence, slabBytes, storeId }, format, previous);
      io.pwrite(fd, header, 0, header.length, 0);
      io.fsync(fd);
      // Under its own name a slab has always had its full size and its header: one that has not was damaged
      // later.
      io.rename(fresh, file);
      io.syncDirectory(directory);
      // Before it holds anything that somebody is told of: what is not listed may go missing unnoticed.
      list.add(sequence, full);
    } catch (error) {
      io.close(fd);
      // The list may name it already. An empty one that is not listed does no harm.
      if (list.hasFailed) throw error;
      for (const leftover of [fresh, file]) {
        try {
          io.unlink(leftover);
        } catch {
          // Not there, or recovery finds it: unfinished, or a slab without records.
        }
      }
      throw error;
    }
    return { fd, allocatedBytes: spare?.allocatedBytes ?? 0 };
  }

  private makeFile(file: string): number {
    try {
      return this.setup.io.open(file, "wx+");
    } catch (error) {
      if (isDiskFull(error)) this.fileRefused = true;
      throw error;
    }
  }

  /** Finds out whether a disk that had no room for a file has it again. Throws what it says. */
  probe(): void {
    if (!this.fileRefused) return;
    const { io, directory } = this.setup;
    const file = path.join(directory, `probe${UNFINISHED}`);
    io.close(io.open(file, "wx+"));
    io.unlink(file);
    this.fileRefused = false;
  }

  /** Notes in the list how far the open slab is durable: now and then, and when it comes to rest. */
  note(nowMs: number, atRest = false): void {
    const { file, settledEnd } = this.appender;
    if (settledEnd.endUnit !== file.syncedTo) return;
    this.setup.list.note(settledEnd.sequence, settledEnd.endUnit, settledEnd.last, nowMs, atRest);
  }

  /**
   * Closes the files without flushing or syncing anything, after slabs being sealed are done: for tests of
   * crashes.
   */
  async abandon(): Promise<void> {
    await this.sealing.close();
    this.spare.close();
    this.setup.list.close();
    await this.appender.file.close();
  }

  /**
   * Flushes, syncs, waits for slabs being sealed, and closes the open slab. `inOrder`: the list says where it
   * ends.
   */
  async close(inOrder: boolean): Promise<void> {
    const { appender } = this;
    try {
      appender.flush();
      appender.file.sync();
      if (inOrder) this.setup.list.end(appender.end);
    } catch (error) {
      // What the list says of the end was true before.
      if (!isDiskFull(error)) throw error;
    } finally {
      await this.abandon();
    }
  }
}
