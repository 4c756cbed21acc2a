/**
 * The shard thread's way from batch to batch: takes what the fronts have handed over, commits it as one, and
 * answers.
 */
import type { MessagePort } from "node:worker_threads";
import type { Shard } from "../../engine/shard/shard.ts";
import type { Outcome } from "../../rules/write.ts";
import { BUFFERS, Flag, FRONT_BUSY, FRONT_SLEEPS, THREAD_SLEEPS } from "../arena/arena.ts";
import type { Rope } from "../arena/bell.ts";
import { BatchBuffer } from "../arena/buffer.ts";
import { emptyOperation, OP_WRITE } from "../arena/operation.ts";
import { Patience } from "../arena/patience.ts";
import type { Clock, Timer } from "./clock.ts";
import { Dispatch } from "./dispatch.ts";
import type { Channel } from "./messages.ts";

/** How long batches may follow each other before the event loop gets a turn. */
const SERVE_MS = 4;
/**
 * How long to look for the next batch before sleeping; a client on the same machine takes about 120 µs to
 * send its next write.
 */
const LOOK_MS_MAX = 0.2;
/** Between two looks at the clock. */
const LOOKS = 32;
/** The arena of one front, and where it hears of answers. */
interface Inlet {
  buffers: BatchBuffer[];
  next: number;
  /** This thread sleeps. */
  threadFlag: Flag;
  /** The front sleeps; it has a lot to do. */
  frontFlag: Flag;
  busyFlag: Flag;
  answers: MessagePort;
}

/** A buffer that is being worked on. */
interface Batch {
  inlet: Inlet;
  buffer: BatchBuffer;
  count: number;
  positions: number[];
  outcomes: Outcome[];
}

function openInlet({ arena, answers }: Channel): Inlet {
  const threadFlag = new Flag(arena.states, THREAD_SLEEPS);
  threadFlag.set();
  return {
    buffers: Array.from({ length: BUFFERS }, (_, number) => new BatchBuffer(arena, number)),
    next: 0,
    threadFlag,
    frontFlag: new Flag(arena.states, FRONT_SLEEPS),
    busyFlag: new Flag(arena.states, FRONT_BUSY),
    answers,
  };
}

export interface LoopSetup {
  shards: ReadonlyMap<number, Shard>;
  /** One for each front. */
  channels: readonly Channel[];
  clock: Clock;
  /** Called after each batch. */
  onBatches: () => void;
  /** Wakes who follows the logs. */
  follower: Rope;
  /** Passes on what an operator should know by now. */
  tell: () => void;
}

export class ShardLoop {
  private readonly shards: ReadonlyMap<number, Shard>;
  private readonly inlets: readonly Inlet[];
  private readonly clock: Clock;
  private readonly onBatches: () => void;
  private readonly follower: Rope;
  private readonly dispatch = new Dispatch();
  private readonly operation = emptyOperation();
  /** For the next batch. */
  private readonly patience: Patience;
  private serving = false;
  /** While no batch may be begun. */
  private pause: { over: Promise<void>; end: () => void; timer: Timer } | null = null;

  /** From now on it wakes up when a front wants it to. */
  constructor({ shards, channels, clock, onBatches, follower, tell }: LoopSetup) {
    this.shards = shards;
    this.follower = follower;
    this.clock = clock;
    this.onBatches = onBatches;
    this.patience = new Patience(channels.every(({ arena }) => arena.patient) ? LOOK_MS_MAX : 0, clock.now);
    this.patience.begin(false);
    this.inlets = channels.map(openInlet);
    // What it throws ends the thread, and the node with it.
    for (const { answers } of channels) answers.on("message", () => void this.serve().then(tell));
  }

  /** Begins no batch until `resume`, or for so long. Nothing of a batch is staged when this is called. */
  hold(msMax: number): void {
    this.resume();
    let end = (): void => {};
    const over = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.pause = { over, end, timer: this.clock.after(msMax, () => void this.resume()) };
  }

  /** Goes on. False: it has already. */
  resume(): boolean {
    const { pause } = this;
    if (pause === null) return false;
    this.pause = null;
    pause.timer.stop();
    pause.end();
    return true;
  }

  /** Hears no front any more. */
  close(): void {
    this.resume();
    for (const { answers } of this.inlets) answers.close();
    this.follower.close();
    this.dispatch.close();
  }

  /** Takes batch after batch until there is none. */
  private async serve(): Promise<void> {
    // Whoever serves already looks at all arenas again before it ends.
    if (this.serving) return;
    this.serving = true;
    try {
      for (;;) {
        if (this.pause !== null) await this.pause.over;
        const until = this.clock.now() + SERVE_MS;
        while (this.clock.now() < until) if (!this.serveOnce()) return;
        // Sealing, compaction and timers need their turn of the event loop.
        await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      this.serving = false;
    }
  }

  /**
   * Runs the next batch of every front as one. False: there is none, and whoever brings one wakes this
   * thread.
   */
  private serveOnce(): boolean {
    const batches: Batch[] = [];
    for (const inlet of this.inlets) {
      const buffer = inlet.buffers[inlet.next];
      const count = buffer.close();
      if (count === 0) continue;
      inlet.next = (inlet.next + 1) % BUFFERS;
      batches.push({ inlet, buffer, count, positions: new Array(count), outcomes: new Array(count) });
    }
    if (batches.length > 0) {
      this.patience.end();
      this.runBatches(batches);
      this.patience.begin(this.inlets.some(({ busyFlag }) => busyFlag.isSet));
      return true;
    }
    while (this.patience.lasts) for (let look = 0; look < LOOKS; look++) if (this.hasPending()) return true;
    for (const { threadFlag } of this.inlets) threadFlag.set();
    // Something may have come just before the flag was seen; if the front has reset it, it wakes this thread.
    let more = false;
    for (const { buffers, next, threadFlag } of this.inlets)
      if (buffers[next].pending && threadFlag.reset()) more = true;
    return more;
  }

  /** Whether a front has handed something over that is not begun yet. */
  hasPending(): boolean {
    const { inlets } = this;
    for (let i = 0; i < inlets.length; i++) if (inlets[i].buffers[inlets[i].next].pending) return true;
    return false;
  }

  /** One commit for all: a sync serves the writes of every front. */
  private runBatches(batches: readonly Batch[]): void {
    const touched = new Set<Shard>();
    for (const { buffer, count, positions, outcomes } of batches) {
      let position = 0;
      for (let i = 0; i < count; i++) {
        positions[i] = position;
        position = buffer.read(position, this.operation);
        const shard = this.shards.get(this.operation.shard) as Shard;
        touched.add(shard);
        outcomes[i] = this.dispatch.run(shard, this.operation);
      }
    }
    for (const shard of touched) shard.commit();
    for (const { buffer, positions, outcomes } of batches) this.retryDeletes(buffer, positions, outcomes);
    for (const { inlet, buffer, count, positions, outcomes } of batches) {
      for (let i = 0; i < count; i++) buffer.answer(positions[i], outcomes[i]);
      buffer.finish();
      if (inlet.frontFlag.reset()) inlet.answers.postMessage(null);
    }
    this.follower.ring();
    this.onBatches();
  }

  /** The write that met the end of the disk has failed its whole batch; for deletes there is the reserve. */
  private retryDeletes(buffer: BatchBuffer, positions: readonly number[], outcomes: Outcome[]): void {
    const touched = new Set<Shard>();
    for (const [i, { error }] of outcomes.entries()) {
      if (error !== "disk_full") continue;
      buffer.read(positions[i], this.operation);
      if (this.operation.op !== OP_WRITE || this.operation.verb !== "delete") continue;
      const shard = this.shards.get(this.operation.shard) as Shard;
      touched.add(shard);
      outcomes[i] = this.dispatch.run(shard, this.operation);
    }
    for (const shard of touched) shard.commit();
  }
}
