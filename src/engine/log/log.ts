/**
 * The log of a shard: its slabs one after another, the open one at the end. Syncs what was appended, begins
 * the next slab, keeps the reserve for a full disk, and says what a failed write means. It knows nothing of
 * what waits for a commit.
 */
import { UNIT_BYTES } from "../../format/offsets.ts";
import { isOutOfDescriptors, reasonOf, sentenceOf } from "../../platform/system-error.ts";
import { failed, type Outcome } from "../../rules/write.ts";
import { DIRECTORY_GONE, DirectoryWatch } from "../list/directory-watch.ts";
import type { SlabList } from "../list/slab-list.ts";
import { SlabWatch } from "../list/slab-watch.ts";
import { Appender } from "../open/appender.ts";
import { FIGURE } from "../slabs/figures.ts";
import { type FileIo, isDiskFull } from "../slabs/io.ts";
import type { ShardMemory } from "../state/memory.ts";
import type { State } from "../state/state.ts";
import { DiskRoom, REFUSED } from "./disk-room.ts";
import { Succession } from "./succession.ts";
import { DiskTrouble } from "./trouble.ts";

/** `always`: synced before it is told; `os`: synced about a second later. */
export type SyncMode = "always" | "os";

export interface LogSetup {
  memory: ShardMemory;
  sync: SyncMode;
  /** Wall clock in milliseconds since 1970. */
  now: () => number;
}

/** Of writes whose sync failed; later ones are not begun at all. */
const SYNC_FAILED =
  "the disk failed to sync: a restart shows whether this write was kept; check the disk first, as writes are stopped";
/**
 * Written but unsynced chunk bytes above which a sync is made, so that the one at the end of a large value
 * stays short.
 */
export const UNSYNCED_BYTES_MAX = 16 * 1024 * 1024;
const OS_SYNC_MS = 1000;

export class Log {
  readonly appender: Appender;
  readonly list: SlabList;
  readonly succession: Succession;
  readonly room: DiskRoom;
  private readonly state: State;
  private readonly trouble: DiskTrouble;
  private readonly sync: SyncMode;
  private readonly now: () => number;
  private readonly slabWatch: SlabWatch;
  private readonly directoryWatch: DirectoryWatch;
  /** What of the data directory is gone, for a person; null: nothing. */
  private gone: string | null = null;
  private lastOsSync = 0;
  private osSync: Promise<void> | null = null;
  constructor(state: State, list: SlabList, io: FileIo, { memory, sync, now }: LogSetup) {
    const { shard, store, directory, slabs, figures, warn } = state;
    this.state = state;
    this.list = list;
    this.sync = sync;
    this.now = now;
    this.trouble = new DiskTrouble(state, now);
    this.directoryWatch = new DirectoryWatch(directory);
    const onSyncFailed = (error: unknown): void => this.stopWrites(error);
    this.appender = new Appender(io, directory, shard, store, onSyncFailed);
    this.succession = new Succession({ io, directory, shard, store, memory, list }, this.appender, {
      onSealed: (sequence, error) => {
        if (error !== null)
          warn(`slab ${sequence} of shard ${shard} stays without a table: ${sentenceOf(error as Error)}`);
        else slabs.sealed(sequence);
      },
      onSyncFailed,
      onCut: (sequence, error) => this.reportBroken(sequence, error),
    });
    this.room = new DiskRoom(state, this.appender, this.succession, memory, now, (error) =>
      this.failure(error),
    );
    const { slabBytes } = store;
    const { missingPages } = memory;
    this.slabWatch = new SlabWatch({ directory, shard, slabBytes, slabs, figures, missingPages, warn });
  }

  get writesStopped(): boolean {
    return this.trouble.writesStopped;
  }

  /** What a write is answered once writes are stopped. */
  get stoppedOutcome(): Outcome {
    return failed("write_stopped", this.gone === null ? "" : DIRECTORY_GONE);
  }

  /** No write is taken from now on, as nothing can be written. */
  refuseWrites(): void {
    this.trouble.refuseWrites();
  }

  /** Nobody knows what is on the disk now: no write is taken until a restart. */
  stopWrites(error: unknown): void {
    this.trouble.stopFor(error);
  }

  /**
   * At a start that found no slab to go on with. Where a full disk has no room for one, not even in place of
   * the spare one, the shard serves reads, and the first write that finds room opens it.
   */
  startFirstSlab(): void {
    for (const isSpare of [false, true])
      try {
        this.startSlab();
        return;
      } catch (error) {
        if (!isDiskFull(error)) throw error;
        if (!isSpare) this.failure(error);
      }
  }

  /**
   * Opens the next slab; nothing may be staged. The full one is synced first: compaction may drop the source
   * of a record that was moved into it.
   */
  startSlab(): void {
    // Else what lies unsynced in the full slab would be lost under a later record that needs it.
    if (this.writesStopped || !this.syncNow()) throw new Error("writes are stopped");
    const { slabs } = this.state;
    const sequence = slabs.nextSequence();
    this.succession.start(sequence);
    this.slabWatch.began(sequence);
    slabs.add(sequence);
  }

  /**
   * Opens the next slab when the open one cannot take a copy of a record of these lengths. What was copied
   * before must be settled.
   * @throws what the disk says, or that it is full
   */
  makeRoomToMove(units: number): void {
    if (this.appender.hasRoom(units)) return;
    this.commit(false);
    this.settled();
    this.startSlab();
  }

  /**
   * Writes what is staged, syncs it as far as somebody waits for that, and declares it good.
   * @param isAwaited something that is staged will be told of
   * @returns why it failed; the caller then takes it back (`rollBack`). Null: it is done
   */
  commit(isAwaited: boolean): Outcome | null {
    const { appender } = this;
    try {
      appender.flush();
    } catch (error) {
      return this.failure(error);
    }
    if (this.sync === "always") {
      if (!isAwaited && appender.file.unsyncedBytes <= UNSYNCED_BYTES_MAX) appender.file.writeBehind();
      else if (!this.syncNow()) return failed("write_stopped", SYNC_FAILED);
    }
    appender.settle();
    this.succession.note(this.state.clockMillis);
    return null;
  }

  /** After a commit whose records are published. */
  settled(): void {
    this.refreshFigures();
    if (this.sync === "os") this.syncInBackground();
  }

  /** Takes back what was appended since the last commit. */
  rollBack(): void {
    this.appender.rollBack();
  }

  /** Syncs the open slab. False: it failed, and writes are stopped from now on. */
  syncNow(): boolean {
    try {
      this.appender.file.sync();
      return true;
    } catch (error) {
      this.stopWrites(error);
      return false;
    }
  }

  /** `-sync os`: bounds what a power loss can take to about a second, without anybody waiting for it. */
  private syncInBackground(): void {
    const now = this.now();
    if (this.osSync !== null || now - this.lastOsSync < OS_SYNC_MS) return;
    this.lastOsSync = now;
    this.osSync = this.appender.file
      .syncLater()
      .catch((error) => this.stopWrites(error))
      .finally(() => {
        this.osSync = null;
      });
  }

  /** What a failed write call means for who waits for it; notes what it says of the disk. */
  failure(error: unknown): Outcome {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") this.watch();
    if (this.writesStopped) return this.stoppedOutcome;
    if (isDiskFull(error)) {
      if (error !== REFUSED) this.room.refused();
      return failed("disk_full");
    }
    if (this.appender.file.isCut) {
      this.reportBroken(this.appender.sequence, error as Error);
      return failed("internal", "a data file was cut by another program; the log has more");
    }
    if ((error as NodeJS.ErrnoException).code === "EROFS") {
      this.trouble.stopFor(error, "a write failed");
      return this.stoppedOutcome;
    }
    this.trouble.warnOfFailure(error);
    if (isOutOfDescriptors(error)) {
      this.state.figures[FIGURE.outOfDescriptorsMs] = this.now();
      return failed("overloaded", `a file could not be opened: ${reasonOf(error)}`);
    }
    this.state.figures[FIGURE.writeFailedMs] = this.now();
    return failed("internal", `a write to the disk failed: ${reasonOf(error)}; the log has more`);
  }

  /**
   * Looks whether the files are still where they were. Once the directory is gone writes are stopped, since
   * nobody would find them again; what is mapped goes on being read. A slab whose file is gone is named; its
   * records can be read as long as it is mapped.
   */
  watch(): void {
    if (this.gone !== null) return;
    const { state } = this;
    this.gone = this.directoryWatch.look(this.appender.sequence);
    if (this.gone !== null) {
      state.figures[FIGURE.directoryGone] = 1;
      this.trouble.stop(`${this.gone}: ${DIRECTORY_GONE}`);
      return;
    }
    const present = this.directoryWatch.slabs();
    if (present === null) return;
    for (const { sequence, damaged } of state.slabs.all()) {
      if (present.has(sequence) || damaged) continue;
      state.misfits(sequence);
      state.warn(
        `slab ${sequence} of shard ${state.shard}: its file was removed while the node runs; what is in it is lost at the next start, and answers 500 from then on; restore it from a copy`,
      );
    }
  }

  /**
   * A slab is not whole. The open one is sealed as it is where it was cut, so that its table still says whose
   * records are gone, and the next one begins.
   */
  reportBroken(sequence: number, { message }: Error): void {
    const slab = this.state.slabs.bySequence(sequence);
    if (slab !== undefined) this.slabWatch.report(slab, message);
  }

  /** Looks for slabs that were cut or cannot be read. */
  look(): void {
    try {
      this.appender.file.checkSize();
    } catch (error) {
      this.reportBroken(this.appender.sequence, error as Error);
    }
    this.slabWatch.look();
  }

  /** Whether idle work waits for something that happens elsewhere. */
  get waiting(): boolean {
    return !this.writesStopped && (this.room.isGrowing || this.state.slabs.waiting || this.appender.diskFull);
  }

  /**
   * Writes a mark when everything is synced and nothing came since: it proves that the records before it were
   * acknowledged, so that later damage to the last of them is not taken for a torn tail.
   * @throws what the disk says; the caller then takes back what is staged
   */
  mark(): void {
    if (this.writesStopped || this.sync !== "always") return;
    this.succession.note(this.state.clockMillis, true);
    this.appender.mark();
    this.refreshFigures();
  }

  /** Brings the figures up to date that are not counted as they change. */
  refreshFigures(): void {
    const { figures, index, slabs } = this.state;
    slabs.stored(this.appender.sequence, this.appender.endUnit * UNIT_BYTES);
    figures[FIGURE.indexBytes] = index.bytes;
    figures[FIGURE.indexGrowths] = index.growths;
    figures[FIGURE.listKept] = this.list.isKept ? 1 : 0;
  }

  /** Waits for background work and closes the files. */
  async close(): Promise<void> {
    if (this.osSync !== null) await this.osSync;
    await this.succession.close(!this.writesStopped);
  }
}
