/**
 * The front's end of the way to one shard thread: an arena (buffer.ts) that this front alone fills, whom to
 * answer, and what waits while the arena is full. Every front has one of these for each shard thread.
 */
import type { MessagePort } from "node:worker_threads";
import { etagScratch } from "../../format/version.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { type Arena, BUFFER_BYTES, BUFFERS, Flag, FRONT_BUSY, FRONT_SLEEPS, THREAD_SLEEPS } from "./arena.ts";
import { BatchBuffer } from "./buffer.ts";
import { FrontFigures } from "./front-figures.ts";
import { type Operation, operationBytes } from "./operation.ts";
import { Pace, WaitingList } from "./overload.ts";
import { Busyness, Patience } from "./patience.ts";
import type { WriteDone, WriteResult } from "./write.ts";

/**
 * Clients that wait for their answers all come back at once, so that front and thread would work by turns.
 * Handing over when a third of what was lately under way has gathered keeps both at work: one batch is
 * received, one is written, one is answered.
 */
const BATCHES_UNDER_WAY = 3;
/** A smaller batch is not worth a sync of its own. */
const SHARE_MIN = 16;
/** Per batch. */
const PEAK_DECAY = 15 / 16;
/**
 * How long to look for answers, once in each turn of the event loop, before sleeping: as long as a sync of a
 * fast disk may take.
 */
const LOOK_MS_MAX = 0.5;

export class ShardQueue {
  private readonly threadFlag: Flag;
  private readonly frontFlag: Flag;
  private readonly busyness: Busyness;
  /** Threads may look for each other's work before they sleep. */
  readonly patient: boolean;
  /** For the next answers. */
  private readonly patience: Patience;
  private readonly buffers: BatchBuffer[];
  /** Of each buffer, whom to answer. */
  private readonly callbacks: WriteDone[][] = Array.from({ length: BUFFERS }, () => []);
  /** Buffer to add to, and the one whose answers come next. */
  private filling = 0;
  private reading = 0;
  /** Operations in the arena that are not answered, and how many there were lately. */
  private inArena = 0;
  private arenaBytes = 0;
  private readonly pace = new Pace();
  /** Of each buffer, since when its first operation waits. */
  private readonly sinceMs = new Float64Array(BUFFERS);
  private peak = 0;
  /** Operations at which a buffer is handed over early. */
  private share = SHARE_MIN;
  /** Whether this front is awake: `turn` is called in each turn of the event loop. */
  private turning = false;
  private roomCalls: (() => void)[] = [];
  private readonly waiting = new WaitingList();
  private dead = false;
  private drained: (() => void) | null = null;
  private readonly port: MessagePort;
  private readonly etag = etagScratch();
  private readonly result: WriteResult = {
    error: null,
    detail: "",
    created: false,
    deleted: false,
    etag: null,
    register: null,
  };
  /** Those of its front. */
  figures = new FrontFigures();

  /**
   * @param port a message on it says that there are answers while this front sleeps; one that is not null
   * carries warnings. To the thread: look at the arena
   */
  constructor(arena: Arena, port: MessagePort, warn: (message: string) => void) {
    this.threadFlag = new Flag(arena.states, THREAD_SLEEPS);
    this.frontFlag = new Flag(arena.states, FRONT_SLEEPS);
    this.busyness = new Busyness(new Flag(arena.states, FRONT_BUSY));
    this.frontFlag.set();
    this.patient = arena.patient;
    this.patience = new Patience(arena.patient ? LOOK_MS_MAX : 0);
    this.buffers = Array.from({ length: BUFFERS }, (_, number) => new BatchBuffer(arena, number));
    this.port = port;
    port.on("message", (warnings: string[] | null) => {
      if (warnings !== null) for (const warning of warnings) warn(warning);
      if (!this.turning) this.sleep();
    });
  }

  get queuedWrites(): number {
    return this.callbacks.reduce((sum, callbacks) => sum + callbacks.length, this.waiting.length);
  }

  get queuedBytes(): number {
    return this.arenaBytes + this.waiting.bytes;
  }

  /**
   * Queues an operation; its arrays are copied before this returns. False: too much is waiting.
   * @param force take it all the same: parts of an upload, which bound themselves
   */
  submit(operation: Operation, done: WriteDone, force = false): boolean {
    if (this.dead || (!force && this.overloaded)) return false;
    const bytes = operationBytes(operation);
    if (this.waiting.length === 0 && this.add(operation, bytes, done)) this.schedule();
    else if (!this.waiting.add(operation, bytes, done, force)) return false;
    this.figures.queued(bytes);
    return true;
  }

  /**
   * Whether a write that came now would wait too long. The oldest one is in the buffer that is answered next.
   */
  private get overloaded(): boolean {
    if (this.inArena === 0) return false;
    return this.pace.isTooSlow(
      this.inArena + this.waiting.length,
      this.queuedBytes,
      this.sinceMs[this.reading],
    );
  }

  /**
   * Adds an operation to the buffer being filled, or to the next one; false when the arena is full.
   * @param sinceMs since when it waits; 0: it has just come
   */
  private add(operation: Operation, bytes: number, done: WriteDone, sinceMs = 0): boolean {
    for (;;) {
      const buffer = this.buffers[this.filling];
      if (buffer.hasRoom(bytes)) {
        if (buffer.push(operation, bytes)) {
          const filled = this.callbacks[this.filling].push(done);
          if (filled === 1) this.sinceMs[this.filling] = sinceMs || performance.now();
          if (this.inArena++ === 0) this.patience.begin(this.busyness.isBusy);
          this.arenaBytes += bytes;
          if (filled >= this.share) this.handOver();
          return true;
        }
      } else buffer.close();
      // Closed, by the thread or just now. The next one is free unless its answers are still to come, or to
      // be read.
      const next = (this.filling + 1) % BUFFERS;
      if (this.buffers[next].closed) return false;
      this.filling = next;
    }
  }

  /**
   * Closes the buffer being filled before the thread asks for it, if the next one is empty: see
   * BATCHES_UNDER_WAY.
   */
  private handOver(): void {
    const next = (this.filling + 1) % BUFFERS;
    if (this.callbacks[next].length > 0 || this.buffers[next].closed) return;
    this.buffers[this.filling].close();
    this.filling = next;
    this.wake();
  }

  /**
   * Whether a part of an upload may be sent now: uploads fill at most half of a batch, so that small writes
   * find room beside them.
   */
  hasRoomForPart(bytes: number): boolean {
    const buffer = this.buffers[this.filling];
    return this.waiting.length === 0 && (buffer.closed || buffer.used + bytes <= BUFFER_BYTES / 2);
  }

  /**
   * Calls back once, when there may be room. Only to be used after `hasRoomForPart` said no: answers are then
   * to come.
   */
  whenRoom(call: () => void): void {
    this.roomCalls.push(call);
  }

  /** Stays awake, or wakes up, as there is something to hand over and to wait for. */
  private schedule(): void {
    if (this.turning) return;
    this.turning = true;
    this.frontFlag.reset();
    this.awaitTurn();
  }

  private awaitTurn(): void {
    this.busyness.awaitTurn();
    setImmediate(this.turn);
  }

  /** Comes after every request of this turn of the event loop had its chance to join the batch. */
  private readonly turn = (): void => {
    this.busyness.turned(this.peak);
    this.wake();
    this.collect();
    // Answers may have brought new operations.
    this.wake();
    if (this.inArena > 0 && this.patience.lasts) {
      this.awaitTurn();
      return;
    }
    this.turning = false;
    this.sleep();
  };

  /** Lets the thread send a message with the next answers, but for those that are there already. */
  private sleep(): void {
    this.frontFlag.set();
    this.collect();
  }

  /** Wakes the thread, if it sleeps: for what must not wait until the end of this turn of the event loop. */
  wake(): void {
    if (!this.dead && this.inArena > 0 && this.threadFlag.reset()) this.port.postMessage(null);
  }

  /** Reads the answers of all buffers that have them. */
  private collect(): void {
    if (!this.buffers[this.reading].done) return;
    this.patience.end();
    this.peak = Math.max(this.inArena, this.peak * PEAK_DECAY);
    this.share = Math.max(SHARE_MIN, this.peak / BATCHES_UNDER_WAY);
    const sinceMs = this.sinceMs[this.reading];
    let operations = 0;
    let bytes = 0;
    while (this.buffers[this.reading].done) {
      const number = this.reading;
      const buffer = this.buffers[number];
      const callbacks = this.callbacks[number];
      this.callbacks[number] = [];
      this.reading = (number + 1) % BUFFERS;
      // Nothing was added since the thread closed it: it is this one's turn to be left behind.
      if (this.filling === number) this.filling = this.reading;
      this.figures.answered(callbacks.length, buffer.used);
      this.inArena -= callbacks.length;
      this.arenaBytes -= buffer.used;
      operations += callbacks.length;
      bytes += buffer.used;
      let position = 0;
      for (const done of callbacks) {
        position = buffer.result(position, this.result, this.etag);
        done(this.result);
      }
      buffer.clear();
    }
    this.patience.begin(this.busyness.isBusy);
    this.pace.measure(operations, bytes, sinceMs);
    this.admit();
    const calls = this.roomCalls;
    this.roomCalls = [];
    for (const call of calls) call();
    this.checkDrained();
  }

  /** Moves what waits into the arena. */
  private admit(): void {
    const taken = this.waiting.move(({ operation, bytes, done, sinceMs }) =>
      this.add(operation, bytes, done, sinceMs),
    );
    if (taken > 0) this.schedule();
  }

  private checkDrained(): void {
    if (this.drained !== null && this.queuedWrites === 0) this.drained();
  }

  /** Waits until everything that was queued is answered. */
  async drain(): Promise<void> {
    if (this.dead || this.queuedWrites === 0) return;
    await new Promise<void>((resolve) => {
      this.drained = resolve;
    });
  }

  /** The thread has died: everything that waits fails, and what comes later is refused. */
  fail(): void {
    this.dead = true;
    const begun = this.callbacks.flat();
    const waiting = this.waiting.clear();
    for (const callbacks of this.callbacks) callbacks.length = 0;
    const tell = (error: ErrorCode, calls: readonly WriteDone[]): void => {
      Object.assign(this.result, { error, detail: "", created: false, deleted: false, etag: null });
      for (const done of calls) done(this.result);
    };
    // What was handed over may be on the disk already.
    tell("unknown_outcome", begun);
    tell("unavailable", waiting);
    this.drained?.();
  }

  /** Takes nothing more. */
  close(): void {
    this.dead = true;
    this.port.close();
  }
}
