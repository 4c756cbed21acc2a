/**
 * Shard threads: a pool of one thread for each, since all that is to be done for a shard must reach the
 * thread that owns it. Tasks open and close the shards. In between, a
 * message of a front wakes the idle thread, which then works through the arenas (buffer.ts) of all fronts
 * until they are empty; while it does, the fronts only add to their arenas and read answers from them. To
 * wake it with a task costs more, and while the front is busy, the next task waits until it has heard that
 * the last one is done.
 */

import path from "node:path";
import { MessageChannel, type MessagePort } from "node:worker_threads";
import type { ShardCut } from "../../engine/backup/cut.ts";
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import type { SyncMode } from "../../engine/log/log.ts";
import type { ShardMemory } from "../../engine/state/memory.ts";
import { addonDirectory } from "../../platform/addon.ts";
import { ERRORS, VaultError } from "../../util/errors.ts";
import { type Arena, createArena } from "../arena/arena.ts";
import type { BellEnd } from "../arena/bell.ts";
import { ShardQueue } from "../arena/queue.ts";
import type { Channel, Task, TaskAnswer } from "./messages.ts";
import { OwnThread } from "./own-thread.ts";

export interface ThreadSetup {
  dataDirectory: string;
  store: StoreIdentity;
  sync: SyncMode;
  /** How long deletes are told to who follows the log; left out: no longer than the space is wanted. */
  historyMs?: number;
  /** Nothing can be written. */
  readOnly: boolean;
  shards: { shard: number; memory: ShardMemory }[];
  /** Wakes the thread that follows the logs. */
  follower: BellEnd;
  /** Fronts that write to it, this one included. */
  fronts: number;
  /** Whether front and thread may look for each other's work for a while before they sleep. */
  patient: boolean;
  warn: (message: string) => void;
  /** The thread died or threw: its state is unknown, the process must end. */
  fatal: (error: Error) => void;
}

/**
 * One end of a channel between a front and a shard thread: what the front needs to make a ShardQueue of it.
 */
export interface FrontChannel {
  arena: Arena;
  port: MessagePort;
}

export class ShardThread {
  /** The queue of this front, the first. */
  readonly queue: ShardQueue;
  /** Ends for the other fronts, to be transferred to their threads. */
  readonly others: FrontChannel[] = [];
  private readonly setup: ThreadSetup;
  private readonly thread: OwnThread<Task, TaskAnswer>;
  private readonly channels: Channel[] = [];
  private dead: Error | null = null;
  private readonly progress = new Float64Array(new SharedArrayBuffer(16));

  constructor(setup: ThreadSetup) {
    this.setup = setup;
    const ends: FrontChannel[] = [];
    for (let front = 0; front < setup.fronts; front++) {
      const { port1, port2 } = new MessageChannel();
      const arena = createArena(setup.patient);
      ends.push({ arena, port: port1 });
      this.channels.push({ arena, answers: port2 });
    }
    this.queue = new ShardQueue(ends[0].arena, ends[0].port, setup.warn);
    this.others = ends.slice(1);
    // A thread's uncaught error surfaces in the task that was running, or here when none was.
    this.thread = new OwnThread(path.join(__dirname, "handler.ts"), (error) => this.die(error));
  }

  /** Starts the thread and reads its shards back. */
  async open(): Promise<void> {
    const { dataDirectory, store, sync, historyMs = 0, readOnly, shards, follower } = this.setup;
    const progress = this.progress.buffer as SharedArrayBuffer;
    const { channels } = this;
    this.report(
      await this.thread.run(
        {
          kind: "open",
          dataDirectory,
          addonDirectory: addonDirectory(),
          store,
          sync,
          historyMs,
          readOnly,
          channels,
          follower,
          shards,
          progress,
        },
        [...channels.map((channel) => channel.answers), follower.port],
      ),
    );
  }

  /** Bytes read back so far and in all, while `open` runs. */
  get recovered(): { doneBytes: number; totalBytes: number } {
    return { doneBytes: this.progress[0], totalBytes: this.progress[1] };
  }

  /**
   * What the thread's shards consist of; from then on no batch is begun until `resume`, and no slab dropped
   * until `releaseSlabs`.
   * @throws VaultError why that cannot be told: then nothing is held
   */
  async cut(): Promise<ShardCut[]> {
    const answer = await this.thread.run({ kind: "cut" });
    this.report(answer);
    const { cuts, refused } = answer;
    if (cuts !== undefined) return cuts;
    const { code = "internal", detail = "" } = refused ?? {};
    throw new VaultError(code, detail === "" ? ERRORS[code].message : detail);
  }

  /** Batches go on. False: they did by themselves before. */
  async resume(): Promise<boolean> {
    return (await this.thread.run({ kind: "resume" })).held === true;
  }

  /** Slabs may be dropped again. */
  async releaseSlabs(): Promise<void> {
    if (this.dead === null) await this.thread.run({ kind: "release" });
  }

  private report(answer: TaskAnswer): void {
    for (const warning of answer.warnings) this.setup.warn(warning);
  }

  private die(error: Error): void {
    if (this.dead !== null) return;
    this.dead = error;
    this.queue.fail();
    this.setup.fatal(error);
  }

  /**
   * Waits for what this front has queued, then closes the shards and ends the thread. The other fronts must
   * be closed already.
   */
  async close(): Promise<void> {
    await this.queue.drain();
    if (this.dead === null) this.report(await this.thread.run({ kind: "close" }));
    this.dead ??= new Error("closed");
    this.queue.close();
    await this.thread.destroy();
  }
}
