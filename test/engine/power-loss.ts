/**
 * Power loss: a run of the real engine on a recorded disk, then the real recovery on images of what the disk may hold after a loss of power
 * at any moment, and a second loss of power during and after some of these recoveries.
 *
 * The keys of an image must stand as after some prefix of the writes, in the order in which they were acknowledged: a value is whole, what
 * was deleted in that prefix is not back. The prefix holds everything that was acknowledged (`-sync always`), or synced before the loss (`-sync os`).
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { endOf } from "../../src/format/end.ts";
import { recordUnits } from "../../src/format/record.ts";
import { type Diagnostic, Random } from "../random.ts";
import { Harness, SMALL_CHUNK_BYTES, SMALL_SLAB_BYTES } from "./harness.ts";
import { type Image, RecordedDisk, writeImage } from "./recorded-disk.ts";

type SyncMode = "always" | "os";
type Value = Buffer | null;

export interface PowerLossOptions {
  seed: number;
  sync: SyncMode;
  /** Runs go on until this many images were opened. */
  images: number;
  /** Of the images of a run one in so many is opened. */
  oneIn: number;
}

const KEYS = 9;
const STEPS = 130;
/** Of the moments that are no sync, one in so many is looked at. */
const EVERY = 7;
/** One image in so many has its recovery recorded, too, and is cut from power a second time. */
const SECOND_LOSS_EVERY = 12;
const SECOND_LOSS_IMAGES = 12;
const SECOND_LOSS_STEPS = 12;
const CLOCK_STEP_MS = 50;

/** What tells a run from the one before it on the same files: its numbers of values and its ends of life begin where no other's are. */
interface RunStart {
  counter: number;
  /** Milliseconds since 1970. */
  end: number;
}
/** Ends of life are far away and come one after the other, when the run says so: nothing is marked that the history does not know. */
const FIRST_RUN: RunStart = { counter: 0, end: Date.UTC(2100, 0, 1) };
/** Its ends come after all of the first run's: a shard's clock goes on from the last end that its log has seen. */
const SECOND_RUN: RunStart = { counter: 500_000, end: Date.UTC(2200, 0, 1) };
/** From one end to the next it is longer than a run takes. */
const BETWEEN_ENDS_MS = 86_400_000;

interface Write {
  key: string;
  value: Value;
}

/** Writes in order; `moments[i]` is when write i was begun, and when it was certain to be kept. */
class History {
  readonly writes: Write[] = [];
  private readonly begun: number[] = [];
  private readonly certain: number[] = [];

  /** @param initial state that is certain from the beginning */
  constructor(initial: ReadonlyMap<string, Value> = new Map()) {
    for (const [key, value] of initial) this.add({ key, value }, 0, 0);
  }

  add(write: Write, begun: number, certain: number): void {
    this.writes.push(write);
    this.begun.push(begun);
    this.certain.push(certain);
  }

  /** Everything so far is certain from now on. */
  settle(moment: number): void {
    for (let i = this.certain.length - 1; i >= 0 && this.certain[i] === Number.POSITIVE_INFINITY; i--)
      this.certain[i] = moment;
  }

  current(key: string): Value {
    return this.writes.findLast((write) => write.key === key)?.value ?? null;
  }

  /** The lengths of prefix that a loss at `moment` may leave, least and most. */
  prefixes(moment: number): [least: number, most: number] {
    let least = 0;
    let most = 0;
    for (let i = 0; i < this.writes.length; i++) {
      if (this.certain[i] <= moment) least = i + 1;
      if (this.begun[i] < moment) most = i + 1;
    }
    return [least, Math.max(least, most)];
  }
}

interface Tally {
  runs: number;
  images: number;
  secondLosses: number;
  lost: number;
  wrong: number;
  /** Of the recorded runs. */
  slabs: number;
  spares: number;
  ended: number;
  compactedBytes: number;
}

const same = (a: Value, b: Value): boolean => (a === null || b === null ? a === b : a.equals(b));
const keyName = (number: number): string => `key ${number}${" long".repeat(number * 3)}`;
const ALL_KEYS = Array.from({ length: KEYS }, (_, number) => keyName(number));

/** Images lie in memory where the machine has such a folder: nothing of theirs needs a disk. */
function imageDirectory(): string {
  const folder = fs.existsSync("/dev/shm") ? "/dev/shm" : os.tmpdir();
  return fs.mkdtempSync(path.join(folder, "minivault-test-"));
}

class Run {
  readonly history = new History();
  private readonly disk: RecordedDisk;
  private readonly random: Random;
  private readonly sync: SyncMode;
  private readonly directory: string;
  private counter: number;
  /** Of the values that have one. */
  private readonly ends = new Map<string, number>();
  private lastEnd: number;
  spares = 0;
  ended = 0;

  constructor(directory: string, random: Random, sync: SyncMode, start: RunStart) {
    this.directory = directory;
    this.disk = new RecordedDisk(directory);
    this.random = random;
    this.sync = sync;
    this.counter = start.counter;
    this.lastEnd = start.end;
  }

  /** Takes over what an earlier run has left, with its ends of life, whose turn comes first. */
  goOn(vault: Harness, found: History): void {
    for (const write of found.writes) {
      this.history.add(write, 0, 0);
      const read = vault.read(write.key);
      const end = read.state === "found" ? endOf(read.trailer) : 0;
      if (end > 0) this.ends.set(write.key, end);
    }
  }

  get recorded(): RecordedDisk {
    return this.disk;
  }

  open(): Promise<Harness> {
    return Harness.open(this.directory, {
      io: this.disk.io,
      sync: this.sync,
      slabBytes: SMALL_SLAB_BYTES,
      chunkBytes: SMALL_CHUNK_BYTES,
      // A clock that runs fast, so that the syncs in the background of -sync os come, too.
      now: () => Date.now() + this.counter * CLOCK_STEP_MS,
    });
  }

  /**
   * What `work` accepts enters the history: certain at its end under `-sync always`, else when it is synced.
   * Answers whether that is all of it.
   */
  private note(writes: Write[], work: () => (string | null)[], sync = this.sync): boolean {
    const begun = this.disk.now;
    const errors = work();
    const certain = sync === "always" ? this.disk.now : Number.POSITIVE_INFINITY;
    for (const [i, write] of writes.entries()) {
      if (errors[i] === null) {
        this.history.add(write, begun, certain);
        this.ends.delete(write.key);
      } else assert.match(errors[i] as string, /exists|precondition_failed|disk_full/);
    }
    return errors.every((error) => error === null);
  }

  /** A value that no other write has: its number is all over it. */
  private value(key: string): Buffer {
    const bytes = [this.random.below(60), this.random.below(1500), 6000, 30_000][
      Math.floor(Math.sqrt(this.random.below(16)))
    ];
    return Buffer.alloc(
      8 + (this.random.below(3) > 0 ? this.random.below(1500) : bytes),
      `${++this.counter};${key} `,
    );
  }

  /** One random step of a writer. */
  async step(vault: Harness): Promise<void> {
    const { random } = this;
    const choice = random.below(24);
    const key = keyName(random.below(KEYS));
    if (choice >= 20) this.stepOfEnds(vault, key, choice);
    else if (choice < 4) {
      this.note([{ key, value: null }], () => [vault.remove(key).error]);
    } else if (choice < 6) {
      const value = this.value(key);
      this.note([{ key, value }], () => [vault.put(key, value, { verb: "post" }).error]);
    } else if (choice < 8) {
      const value = this.value(key);
      const read = vault.read(key);
      const ifMatch = read.state === "found" ? read.etag : '"0"';
      this.note([{ key, value }], () => [vault.put(key, value, { ifMatch }).error]);
    } else if (choice < 11) {
      const value = Buffer.alloc(5000 + random.below(20_000), `${++this.counter};${key} `);
      this.note([{ key, value }], () => [vault.upload(key, value).error]);
    } else if (choice < 13) {
      const writes = Array.from({ length: 2 + random.below(6) }, () => {
        const name = keyName(random.below(KEYS));
        return { key: name, value: random.below(4) === 0 ? null : this.value(name) };
      });
      this.note(writes, () => {
        const outcomes = writes.map((write) =>
          write.value === null
            ? vault.stage(write.key, "", { verb: "delete" })
            : vault.stage(write.key, write.value),
        );
        vault.shard.commit();
        return outcomes.map((outcome) => outcome.error);
      });
    } else if (choice === 13 && random.below(2) === 0) this.fullDisk(vault);
    else if (choice === 14) vault.abandon(key, Buffer.alloc(9000, "abandoned"));
    else {
      const value = this.value(key);
      this.note([{ key, value }], () => [vault.put(key, value).error]);
    }
    if (random.below(3) > 0) vault.shard.idle(4096);
    if (random.below(4) === 0) await new Promise((resolve) => setImmediate(resolve));
    if (random.below(9) === 0) vault.shard.mark();
  }

  /** A value that ends, another end for what is there, or the end of the one whose turn it is: somebody is told then. */
  private stepOfEnds(vault: Harness, key: string, choice: number): void {
    this.lastEnd += BETWEEN_ENDS_MS;
    const end = this.lastEnd;
    if (choice === 20) {
      const value = this.value(key);
      if (this.note([{ key, value }], () => [vault.put(key, value, { end }).error])) this.ends.set(key, end);
    } else if (choice === 21) {
      const value = Buffer.alloc(5000 + this.random.below(20_000), `${++this.counter};${key} `);
      if (this.note([{ key, value }], () => [vault.upload(key, value, { end }).error]))
        this.ends.set(key, end);
    } else if (choice === 22) {
      const value = this.history.current(key);
      if (value === null) return;
      if (this.note([{ key, value }], () => [vault.touch(key, end).error])) this.ends.set(key, end);
    } else {
      const [first] = [...this.ends].sort(([, a], [, b]) => a - b);
      if (first === undefined) return;
      this.note([{ key: first[0], value: null }], () => [vault.end(...first).error]);
      this.ended++;
    }
  }

  /** The disk is full and the open slab too: the spare slab takes its place, if it is there already. */
  private fullDisk(vault: Harness): void {
    vault.shard.log.appender.diskFull = true;
    try {
      vault.shard.batch.makeRoom(recordUnits(1, 1, SMALL_SLAB_BYTES), true);
      this.spares++;
    } catch (error) {
      assert.match((error as Error).message, /spare slab is used up/);
    }
  }

  /** The last write before kill -9: in the file, neither synced nor answered. The recovery shows it, so it must stay from then on. */
  private unanswered(vault: Harness): void {
    const key = keyName(0);
    const value = this.value(key);
    const work = () => {
      const { error } = vault.stage(key, value);
      vault.shard.log.appender.flush();
      assert.ok(error === null || error === "disk_full", `${error}`);
      return [error];
    };
    // In either mode it is certain only when it is synced.
    this.note([{ key, value }], work, "os");
  }

  /** A whole run, with a restart in the middle: with a clean stop, or as after kill -9. */
  async work(tally: Tally): Promise<void> {
    let vault = await this.open();
    for (let half = 0; half < 2; half++) {
      for (let i = 0; i < STEPS / 2; i++) await this.step(vault);
      if (this.random.below(2) === 0) await vault.settle();
      tally.compactedBytes += vault.figure("compactedBytes");
      if (this.random.below(2) === 0) {
        this.unanswered(vault);
        await vault.crash();
      } else {
        await vault.shard.close();
        this.history.settle(this.disk.now);
      }
      if (half === 0) {
        vault = await this.open();
        // What recovery shows it has synced.
        this.history.settle(this.disk.now);
      }
    }
    tally.spares += this.spares;
    tally.ended += this.ended;
    tally.slabs += Math.max(
      ...fs.readdirSync(path.join(this.directory, "shard-000")).map((name) => Number.parseInt(name, 10) || 0),
    );
  }
}

/** Reads all keys and answers what they hold; counts what no prefix of the history explains. */
function judge(vault: Harness, history: History, moment: number, tally: Tally): Map<string, Value> | string {
  const [least, most] = history.prefixes(moment);
  const possible = Array.from({ length: most - least + 1 }, () => true);
  const found = new Map<string, Value>();
  for (const key of ALL_KEYS) {
    const read = vault.read(key);
    const value = read.state === "found" ? read.value : null;
    found.set(key, value);
    let any = false;
    let state: Value = null;
    for (let length = 0; length <= most; length++) {
      const write = history.writes[length - 1];
      if (length > 0 && write.key === key) state = write.value;
      if (length < least) continue;
      if (read.state === "damaged" || !same(state, value)) possible[length - least] = false;
      else any = true;
    }
    if (!any) {
      if (value === null) tally.lost++;
      else tally.wrong++;
      const seen = value === null ? read.state : `${value.length} bytes, ${value.subarray(0, 30)}`;
      return `${key} is ${seen}; of ${least} to ${most} writes; ${vault.warnings.join("; ")}`;
    }
  }
  if (!possible.includes(true)) {
    tally.wrong++;
    return `no prefix of ${least} to ${most} writes leaves this mixture of keys`;
  }
  if (vault.figure("damaged") > 0) return `damage is reported: ${vault.warnings.join("; ")}`;
  return found;
}

interface Place {
  seed: number;
  what: string;
}

/** Opens an image with the real recovery, judges it, and goes on with it. */
async function tryImage(
  image: Image,
  history: History,
  moment: number,
  options: PowerLossOptions,
  random: Random,
  place: Place,
  tally: Tally,
  depth: number,
): Promise<void> {
  const directory = imageDirectory();
  const what = `SEED=${place.seed}: ${place.what}`;
  tally.images++;
  try {
    writeImage(image, directory);
    const again = depth === 0 && random.below(SECOND_LOSS_EVERY) === 0;
    const run = again ? new Run(directory, random, options.sync, SECOND_RUN) : null;
    const vault = await (run?.open() ?? Harness.open(directory, { sync: options.sync }));
    const found = judge(vault, history, moment, tally);
    if (typeof found === "string") assert.fail(`${what}: ${found}`);
    if (run !== null) {
      await secondLoss(run, vault, new History(found), options, random, place, tally);
      return;
    }
    for (const [i, key] of ALL_KEYS.entries()) {
      const later = i % 3 === 0 ? null : Buffer.alloc(10 + i * 900, `later ${i}`);
      if (i % 3 === 1) continue;
      assert.equal((later === null ? vault.remove(key) : vault.put(key, later)).error, null, what);
      found.set(key, later);
      vault.shard.idle(8192);
    }
    await vault.shard.close();
    const reopened = await Harness.open(directory, { sync: options.sync });
    for (const [key, value] of found) {
      const read = reopened.read(key);
      assert.ok(same(read.state === "found" ? read.value : null, value), `${what}: ${key} after a restart`);
    }
    await reopened.crash();
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

/** A second loss of power, during the recovery from the first or in the writes after it. */
async function secondLoss(
  run: Run,
  vault: Harness,
  found: History,
  options: PowerLossOptions,
  random: Random,
  place: Place,
  tally: Tally,
): Promise<void> {
  run.goOn(vault, found);
  for (let i = 0; i < SECOND_LOSS_STEPS; i++) await run.step(vault);
  await vault.crash();
  tally.secondLosses++;
  let left = SECOND_LOSS_IMAGES;
  for (const { moment, survival, image } of run.recorded.images(random, EVERY)) {
    if (random.below(4) > 0) continue;
    const where = { ...place, what: `${place.what}, then at ${moment} (${survival})` };
    await tryImage(image, run.history, moment, options, random, where, tally, 1);
    if (--left === 0) break;
  }
}

/** Cuts runs of the engine from power until enough images were opened; prints the figures. */
export async function powerLosses(t: Diagnostic, options: PowerLossOptions): Promise<void> {
  const tally: Tally = {
    runs: 0,
    images: 0,
    secondLosses: 0,
    lost: 0,
    wrong: 0,
    slabs: 0,
    spares: 0,
    ended: 0,
    compactedBytes: 0,
  };
  while (tally.images < options.images) {
    const seed = options.seed + tally.runs++;
    const random = new Random(seed);
    const directory = imageDirectory();
    try {
      const run = new Run(directory, random, options.sync, FIRST_RUN);
      await run.work(tally);
      for (const { moment, survival, image } of run.recorded.images(random, EVERY)) {
        if (tally.images >= options.images) break;
        if (random.below(options.oneIn) > 0) continue;
        const place = { seed, what: `-sync ${options.sync}, power lost at ${moment} (${survival})` };
        await tryImage(image, run.history, moment, options, random, place, tally, 0);
      }
    } finally {
      fs.rmSync(directory, { recursive: true, force: true });
    }
  }
  t.diagnostic(`-sync ${options.sync}: ${JSON.stringify(tally)}`);
  assert.deepEqual([tally.lost, tally.wrong], [0, 0]);
  assert.ok(tally.compactedBytes > 0 && tally.slabs > tally.runs, "slabs were sealed and compacted");
}
