/**
 * One shard: the only writer of its slabs and of its index. Runs in the thread that owns the shard.
 *
 *   State ◄ Log ◄ compaction ◄ Batch ◄ Shard
 *
 * Four parts, each of which knows only those before it: what the shard knows (state/), its slabs one after
 * another (log/), what waits for a commit (batch.ts), and here its life: opened, idle, closed. A batch is any
 * number of `apply` and upload calls and of replication's operations, then `commit`.
 */
import { mkdirSync } from "node:fs";
import { ENDING_VERSION_MIN, HEADER_BYTES } from "../../format/offsets.ts";
import { headerProblem } from "../../format/slab.ts";
import type { LogPlace, SlabEnd } from "../../format/slab-list.ts";
import { isOutOfDescriptors } from "../../platform/system-error.ts";
import { type Outcome, succeeded, type Write } from "../../rules/write.ts";
import { VaultError } from "../../util/errors.ts";
import { Batch } from "../batch/batch.ts";
import { Sweep } from "../batch/sweep.ts";
import { Compactor } from "../compaction/compaction.ts";
import { shardDirectory } from "../directory/store-file.ts";
import { type ReadList, readSlabList } from "../list/copies.ts";
import { SlabList } from "../list/slab-list.ts";
import { Log, type LogSetup } from "../log/log.ts";
import { FIGURE, logPlace } from "../slabs/figures.ts";
import { fill } from "../slabs/files.ts";
import { type FileIo, readOnlyIo } from "../slabs/io.ts";
import { Scrub } from "../slabs/scrub.ts";
import { writeSnapshot } from "../snapshot/snapshot-write.ts";
import { type Progress, recoverShard } from "../start/recovery.ts";
import { State, type StateSetup } from "../state/state.ts";
import { applyWrite } from "./writes.ts";

export interface ShardSetup extends StateSetup, LogSetup {
  io: FileIo;
  /** An index of fewer entries gets no snapshot when the shard is closed; left out: SNAPSHOT_ENTRIES_MIN. */
  snapshotEntriesMin?: number;
  /** How long deletes are told to who follows the log; left out: no longer than the space is wanted. */
  historyMs?: number;
}

export class Shard {
  readonly state: State;
  readonly log: Log;
  readonly batch: Batch;
  readonly scrub: Scrub;
  readonly sweep: Sweep;
  private readonly setup: ShardSetup;
  private readonly compactor: Compactor;
  private readonly listRead: ReadList;
  /** Opened where nothing can be written. */
  private isReadOnly = false;

  private constructor(setup: ShardSetup) {
    const { dataDirectory, shard, store, now, warn } = setup;
    const directory = shardDirectory(dataDirectory, shard);
    const io: FileIo = {
      ...setup.io,
      // Like any sync: which creations and unlinks are lost nobody knows.
      syncDirectory: (path) => {
        try {
          setup.io.syncDirectory(path);
        } catch (error) {
          // Where the directory could not even be opened, no sync has failed.
          if (!isOutOfDescriptors(error)) this.log.stopWrites(error);
          throw error;
        }
      },
    };
    this.setup = setup;
    const identity = { shard, storeId: store.slabId };
    this.listRead = readSlabList(directory, identity);
    const list = new SlabList(io, directory, identity, this.listRead, (error) => this.log.stopWrites(error));
    this.state = new State(setup, io, list);
    this.log = new Log(this.state, list, io, setup);
    this.compactor = new Compactor(this.state, this.log, now, setup.historyMs ?? 0);
    this.batch = new Batch(this.state, this.log, this.compactor);
    this.sweep = new Sweep(this.batch);
    const { slabs, figures } = this.state;
    const begins = (fd: number, sequence: number): void => this.checkHeader(fd, sequence);
    this.scrub = new Scrub({ directory, shard, salt: store.salt, slabs, figures, now, begins, warn });
  }

  /** Records are found without it; a start, and who repairs by hand, needs it. */
  private checkHeader(fd: number, sequence: number): void {
    const { shard, store } = this.setup;
    const page = new Uint8Array(HEADER_BYTES);
    fill(fd, 0, page, () => {});
    const problem = headerProblem(page, {
      ...{ shard, sequence, slabBytes: store.slabBytes, storeId: store.slabId },
    });
    if (problem !== null)
      this.log.reportBroken(sequence, new Error(`its header is damaged (${problem.text})`));
  }

  /** Opens a shard: reads its slabs back into the index. Makes its directory when there is none. */
  static open(setup: ShardSetup, progress: Progress): Shard {
    const directory = shardDirectory(setup.dataDirectory, setup.shard);
    if (mkdirSync(directory, { recursive: true, mode: 0o700 }) !== undefined)
      setup.io.syncDirectory(setup.dataDirectory);
    const shard = new Shard(setup);
    const { state, log } = shard;
    log.succession.spare.recover();
    const { open, listed, doubt, forgotten } = recoverShard(state, log, setup.io, shard.listRead, progress);
    const next = 1 + Math.max(0, ...listed.map((slab) => slab.sequence));
    shard.tellsFrom(forgotten, open ?? { sequence: next, endUnit: 0 });
    log.list.begin(setup.store.incarnation, listed, doubt);
    state.figures[FIGURE.clockMillis] = state.clockMillis;
    if (open !== null) log.succession.resume(open);
    else log.startFirstSlab();
    shard.openedAt(log.appender);
    shard.beginSweep();
    log.refreshFigures();
    return shard;
  }

  /** What ends is judged from here on by a clock that is not behind what the log has seen. */
  private beginSweep(): void {
    const { ends, clockMillis, figures, slabs, store } = this.state;
    ends.clock.observe(clockMillis);
    const sequences = [...slabs.all()].map(({ sequence }) => sequence).sort((a, b) => a - b);
    const hasEnds = store.version >= ENDING_VERSION_MIN;
    this.sweep.begin(hasEnds ? sequences : [], figures[FIGURE.openedEnd]);
  }

  private openedAt({ sequence, endUnit }: { sequence: number; endUnit: number }): void {
    const { figures } = this.state;
    figures[FIGURE.openedEnd] = figures[FIGURE.lastNews] = logPlace({ sequence, unit: endUnit });
    this.state.answeredUpTo(sequence, endUnit);
  }

  /**
   * Finds the place from which on the log tells all deletes: the one that the list says, else the end of the
   * log, which it never passes. The list of this start says it, too.
   * @param forgotten see Recovered
   */
  private tellsFrom(forgotten: LogPlace, { sequence, endUnit }: Omit<SlabEnd, "last">): void {
    const { figures, keepsOrigins } = this.state;
    const { list } = this.log;
    const end = { sequence, unit: endUnit };
    const listed = (keepsOrigins ? list.horizon : null) ?? end;
    const later = logPlace(listed) < logPlace(forgotten) ? forgotten : listed;
    const horizon = logPlace(later) < logPlace(end) ? later : end;
    figures[FIGURE.horizon] = logPlace(horizon);
    if (keepsOrigins) list.forgetBefore(horizon);
  }

  /**
   * Reads a shard's slabs into an index as a start would and writes nothing: for `minivault verify`. Its
   * state can be used, and nothing else.
   */
  static examine(setup: Omit<ShardSetup, "io">, progress: Progress): Shard {
    const shard = new Shard({ ...setup, io: readOnlyIo });
    const { open } = recoverShard(shard.state, shard.log, readOnlyIo, shard.listRead, progress);
    if (open !== null) shard.openedAt(open);
    // Nobody can follow what nobody can write.
    return shard;
  }

  /** Opens a shard whose files cannot be written: it is read, and every write is refused. */
  static openReadOnly(setup: Omit<ShardSetup, "io">, progress: Progress): Shard {
    const shard = Shard.examine(setup, progress);
    shard.isReadOnly = true;
    shard.log.refuseWrites();
    shard.log.refreshFigures();
    return shard;
  }

  /** Judges one write and stages its record. `body`: as the client sent it; ignored for delete. */
  apply(write: Write, body: Uint8Array): Outcome {
    return applyWrite(this.batch, write, body);
  }

  /** Writes, syncs and publishes everything staged. Never throws for the disk's sake: the outcomes tell. */
  commit(): void {
    this.batch.commit();
  }

  /**
   * Looks whether the files are still where they were. To be called every WATCH_MS; cheap where nothing has
   * changed.
   */
  watch(): void {
    if (!this.isReadOnly) this.log.watch();
  }

  /**
   * Looks for slabs that were cut or cannot be read, and for values whose end has come. To be called about
   * once a second. True: `idle` has
   * something to do.
   */
  look(): boolean {
    this.log.look();
    return this.log.appender.file.isCut || this.sweep.isDue;
  }

  /**
   * A step of work that nobody waits for: blocks ahead, freed slabs, compaction, ends. At most about
   * `bytesMax` are moved.
   * @returns whether there is more to do at once
   */
  idle(bytesMax: number): boolean {
    const { state, log } = this;
    if (log.writesStopped) return false;
    state.lookup.maps.release();
    state.slabs.reclaim();
    if (log.appender.file.isCut) this.leaveCutSlab();
    if (log.room.idle()) return true;
    try {
      const compacting = this.compactor.step(bytesMax);
      const sweeping = this.sweep.isDue && this.sweep.step();
      return state.replication.sumUp() || compacting || sweeping;
    } catch (error) {
      // A data file cannot be opened now: what was to be done is tried again.
      if (!(error instanceof VaultError)) throw error;
      this.batch.fail(log.failure(error));
      return false;
    }
  }

  /** Where that is not possible now, the next write tries again. */
  private leaveCutSlab(): void {
    try {
      this.commit();
      this.log.startSlab();
    } catch (error) {
      this.batch.fail(this.log.failure(error));
    }
  }

  /** No slab is dropped until `releaseSlabs`, unless the disk gets full. */
  holdSlabs(): void {
    this.compactor.hold();
  }

  releaseSlabs(): void {
    this.compactor.release();
  }

  /** Whether compaction has to make room, for this shard or another one on the same disk. */
  get isPressed(): boolean {
    return this.log.room.isPressed;
  }

  /** Whether idle work waits for something that happens elsewhere: call `idle` again a little later. */
  get waiting(): boolean {
    return this.log.waiting;
  }

  /** To be called when everything is synced and nothing came since: see `Log.mark`. */
  mark(): void {
    try {
      this.log.mark();
    } catch (error) {
      this.batch.fail(this.log.failure(error));
    }
  }

  /**
   * What was lost with slabs counts as absent from now on, and as replaced by nothing: for a replica that
   * does not vote before it has taken everything over from others.
   */
  settleLoss(): Outcome {
    const { state, log } = this;
    if (log.writesStopped) return log.stoppedOutcome;
    this.commit();
    if (!log.syncNow()) return log.stoppedOutcome;
    const { figures, slabs } = state;
    const lost = new Set<number>();
    for (const slab of slabs.all()) if (slab.damaged) lost.add(slab.sequence);
    try {
      log.list.settle(log.appender.end, lost);
    } catch (error) {
      return log.failure(error);
    }
    // The index may point there all the same, so the next start builds it anew.
    for (const slab of slabs.all()) slab.misfit = false;
    figures[FIGURE.doubtSequence] = figures[FIGURE.doubtUnit] = figures[FIGURE.missingSlabs] = 0;
    return succeeded();
  }

  /** Waits for background work, syncs, closes the files, and leaves a snapshot of the index. */
  async close(): Promise<void> {
    const { state, log, setup } = this;
    this.commit();
    if (!log.writesStopped) log.syncNow();
    this.mark();
    await log.close();
    await state.slabs.close();
    this.scrub.close();
    if (!log.writesStopped) writeSnapshot(state, log, setup.io, setup.snapshotEntriesMin);
  }
}
