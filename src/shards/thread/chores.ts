/**
 * What a shard thread does when no batch is at hand: sealing and compaction in small steps, the scrub, and
 * looking after the data directory and the slabs.
 */
import { WATCH_MS } from "../../engine/list/directory-watch.ts";
import type { Shard } from "../../engine/shard/shard.ts";
import type { Clock, Timer } from "./clock.ts";

/**
 * Bytes an idle step may move when nobody waits, and the least where somebody may; with many writes it moves
 * more.
 */
const IDLE_STEP_BYTES = 256 * 1024;
const BUSY_STEP_BYTES = 32 * 1024;
/** How long after the last batch a shard counts as being at rest. */
const REST_MS = 50;
/**
 * How fast a thread's shards are scrubbed when nobody waits, and how much slower where somebody may. Records
 * of 100 bytes cost 4.7 ms of processor a MiB, so 1.9 % of a core; larger ones a tenth of it. And what is
 * read once is the first that Linux drops from its page cache: so little of it does not push out what is in
 * use.
 */
const SCRUB_BYTES_PER_SECOND = 4 * 1024 * 1024;
const SCRUB_BUSY_FACTOR = 10;
const SCRUB_MS_MIN = 50;
/** How often it is asked whether a pass is due. */
const SCRUB_IDLE_MS = 60_000;
/** How often slabs that were cut are looked for. */
const LOOK_MS = 1000;

/** What of a shard the chores are about. */
export type Tended = Pick<Shard, "idle" | "mark" | "waiting" | "look" | "watch" | "isPressed"> & {
  scrub: Pick<Shard["scrub"], "step">;
};

export interface ChoresSetup {
  shards: readonly Tended[];
  clock: Clock;
  /** Whether a front has handed something over that is not begun yet. */
  hasPending: () => boolean;
  /** Passes on what an operator should know by now. */
  tell: () => void;
}

export class Chores {
  private readonly shards: readonly Tended[];
  private readonly clock: Clock;
  private readonly hasPending: () => boolean;
  private readonly tell: () => void;
  private readonly timers: readonly Timer[];
  private idleQueued = false;
  private batchesSinceIdle = 0;
  private batchesSinceScrub = 0;
  private restTimer: Timer | null = null;
  private scrubTimer: Timer;
  private scrubTurn = 0;
  private closed = false;

  /** Begins at once. */
  constructor({ shards, clock, hasPending, tell }: ChoresSetup) {
    this.shards = shards;
    this.clock = clock;
    this.hasPending = hasPending;
    this.tell = tell;
    this.queueIdle();
    this.scrubTimer = clock.after(SCRUB_MS_MIN, this.scrub);
    this.timers = [clock.every(WATCH_MS, () => this.watch()), clock.every(LOOK_MS, () => this.look())];
  }

  /** A batch has been done. */
  worked(): void {
    this.batchesSinceIdle++;
    this.batchesSinceScrub++;
    this.queueIdle();
  }

  /** Ends them all. */
  close(): void {
    this.closed = true;
    this.scrubTimer.stop();
    this.restTimer?.stop();
    for (const timer of this.timers) timer.stop();
  }

  private queueIdle(): void {
    if (this.idleQueued) return;
    this.idleQueued = true;
    this.clock.soon(this.idle);
  }

  private readonly idle = (): void => {
    this.idleQueued = false;
    if (this.closed) return;
    const bytes = this.batchesSinceIdle > 0 ? BUSY_STEP_BYTES : IDLE_STEP_BYTES;
    this.batchesSinceIdle = 0;
    let more = false;
    for (const shard of this.shards) if (shard.idle(bytes)) more = true;
    if (more) this.queueIdle();
    else if (this.restTimer === null) this.restTimer = this.clock.after(REST_MS, this.rest);
    else this.restTimer.again();
  };

  private readonly rest = (): void => {
    this.restTimer = null;
    if (this.batchesSinceIdle > 0) return;
    let waiting = false;
    for (const shard of this.shards) {
      shard.mark();
      if (shard.waiting) waiting = true;
    }
    if (waiting) this.queueIdle();
  };

  /**
   * Looks whether the data directory is still there, and whether other shards on its disk have no room: then
   * those at rest compact, too.
   */
  private watch(): void {
    for (const shard of this.shards) {
      shard.watch();
      if (shard.isPressed) this.queueIdle();
    }
    this.tell();
  }

  /** Looks after the slabs of all shards. */
  private look(): void {
    for (const shard of this.shards) if (shard.look()) this.queueIdle();
    this.tell();
  }

  /** Checks a little of one shard, then waits as long as that much may take. */
  private readonly scrub = (): void => {
    const { shards } = this;
    const isBusy = this.batchesSinceScrub > 0;
    this.batchesSinceScrub = 0;
    let bytes = 0;
    const hasWaiting = this.hasPending();
    if (!hasWaiting) {
      for (let i = 0; i < shards.length && bytes === 0; i++)
        bytes = shards[this.scrubTurn++ % shards.length].scrub.step();
      this.tell();
    }
    const pauseMs = Math.max(SCRUB_MS_MIN, (bytes / SCRUB_BYTES_PER_SECOND) * 1000);
    const isOver = bytes === 0 && !hasWaiting;
    const waitMs = isOver ? SCRUB_IDLE_MS : isBusy ? pauseMs * SCRUB_BUSY_FACTOR : pauseMs;
    this.scrubTimer = this.clock.after(waitMs, this.scrub);
  };
}
