/**
 * The shard thread: owns some shards and works on one batch at a time (loop.ts). Between batches it does the
 * shards' idle work in small steps (chores.ts). Here they are opened and closed.
 */
import { existsSync } from "node:fs";
import { cutShard, type ShardCut } from "../../engine/backup/cut.ts";
import { shardDirectory } from "../../engine/directory/store-file.ts";
import { Shard } from "../../engine/shard/shard.ts";
import { nodeIo } from "../../engine/slabs/io.ts";
import { loadAddon, setAddonDirectory } from "../../platform/addon.ts";
import { writeProblem } from "../../platform/private-directory.ts";
import { sentenceOf } from "../../platform/system-error.ts";
import { loadHash } from "../../util/hash.ts";
import { Rope } from "../arena/bell.ts";
import { Chores } from "./chores.ts";
import { systemClock } from "./clock.ts";
import { ShardLoop } from "./loop.ts";
import type { OpenTask, Task, TaskAnswer } from "./messages.ts";

/** Longest that a backup may keep writes waiting, if another thread's disk is slow. */
const HOLD_MS_MAX = 5000;

/** The thread's only state: what it closes when it is told to. */
let opened: ShardThreadPart | null = null;

/** Piscina's task handler: opens the thread's shards, or closes them. */
export default async function handle(task: Task): Promise<TaskAnswer> {
  let more: Partial<TaskAnswer> = {};
  try {
    if (task.kind === "open") {
      if (opened !== null) throw new Error("the shards of this thread are open already");
      await prepareThread(task);
      opened = new ShardThreadPart();
      opened.open(task);
    } else if (task.kind === "close") await opened?.close();
    else more = opened?.forBackup(task.kind) ?? {};
  } catch (error) {
    // On its way to the other thread an error keeps its message and nothing else.
    throw new Error(sentenceOf(error as Error), { cause: error });
  }
  return { warnings: opened?.warnings.splice(0) ?? [], ...more };
}

async function prepareThread({ addonDirectory }: OpenTask): Promise<void> {
  if (addonDirectory !== null) setAddonDirectory(addonDirectory);
  // Where it cannot be loaded, the start fails with the reason, and not the first write.
  loadAddon("mmap");
  loadAddon("guard");
  await loadHash();
}

/** The shards of one thread, and what works on them. */
class ShardThreadPart {
  /** What an operator should know, collected until it can be said. */
  readonly warnings: string[] = [];
  private readonly shards = new Map<number, Shard>();
  private loop: ShardLoop | null = null;
  private chores: Chores | null = null;

  open(task: OpenTask): void {
    const { channels, shards, follower } = task;
    const tell = (): void => {
      if (this.warnings.length > 0) channels[0].answers.postMessage(this.warnings.splice(0));
    };
    const loop = new ShardLoop({
      shards: this.shards,
      channels,
      clock: systemClock,
      onBatches: () => this.chores?.worked(),
      follower: new Rope(follower),
      tell,
    });
    this.loop = loop;
    const progress = new Float64Array(task.progress);
    for (const { shard, memory } of shards) this.openShard(task, shard, memory, progress);
    this.chores = new Chores({
      shards: [...this.shards.values()],
      clock: systemClock,
      hasPending: () => loop.hasPending(),
      tell,
    });
  }

  private openShard(
    { dataDirectory, store, sync, historyMs, readOnly }: OpenTask,
    shard: number,
    memory: OpenTask["shards"][number]["memory"],
    progress: Float64Array,
  ): void {
    const before = progress[0];
    const setup = {
      dataDirectory,
      shard,
      store,
      sync,
      historyMs,
      memory,
      now: Date.now,
      warn: (message: string) => void this.warnings.push(message),
    };
    const told = (done: number, total: number): void => {
      progress[0] = before + done;
      progress[1] = before + total;
    };
    const isReadOnly = readOnly || this.problemOf(dataDirectory, shard) !== null;
    this.shards.set(
      shard,
      isReadOnly ? Shard.openReadOnly(setup, told) : Shard.open({ ...setup, io: nodeIo }, told),
    );
  }

  /**
   * Why a shard that is there cannot be written, such as a disk of its own that is mounted read-only; null:
   * it can.
   */
  private problemOf(dataDirectory: string, shard: number): string | null {
    const directory = shardDirectory(dataDirectory, shard);
    const problem = existsSync(directory) ? writeProblem(directory) : null;
    if (problem !== null) this.warnings.push(`shard ${shard} serves reads only until a restart: ${problem}`);
    return problem;
  }

  /** What a backup needs of the thread: see messages.ts. */
  forBackup(kind: "cut" | "resume" | "release"): Partial<TaskAnswer> {
    const { loop } = this;
    if (loop === null) throw new Error("the shards of this thread are not open yet");
    if (kind === "resume") return { held: loop.resume() };
    if (kind === "cut") return this.cut(loop);
    for (const shard of this.shards.values()) shard.releaseSlabs();
    return {};
  }

  private cut(loop: ShardLoop): Partial<TaskAnswer> {
    loop.hold(HOLD_MS_MAX);
    const cuts: ShardCut[] = [];
    for (const shard of this.shards.values()) {
      const cut = cutShard(shard);
      if ("shard" in cut) {
        cuts.push(cut);
        continue;
      }
      for (const { shard: number } of cuts) this.shards.get(number)?.releaseSlabs();
      loop.resume();
      return { refused: { code: cut.error ?? "internal", detail: cut.detail } };
    }
    return { cuts };
  }

  async close(): Promise<void> {
    this.chores?.close();
    this.loop?.close();
    await Promise.all([...this.shards.values()].map((shard) => shard.close()));
    this.shards.clear();
  }
}
