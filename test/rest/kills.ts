/**
 * kill -9 under load, at random moments and at chosen ones: while a slab is sealed, while compaction runs, while the index grows, in the middle of a large
 * upload, and during recovery. Each writer has keys of its own and a log of what was acknowledged; after every restart they are read. What
 * was in flight when the process died may have happened or not; everything else must be exactly as acknowledged.
 *
 * How a moment is known to be hit: "sealing" by what the dead process left, a full slab without its footer; "recovery" by the STORE file, which is written before
 * recovery begins, and a port that is not open yet; "compaction" and "index growth" by an answer of /_stats, at most a few milliseconds old, that shows
 * progress since the one before; "upload" by a client that has sent a part of its value.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { FOOTER_BYTES } from "../../src/format/offsets.ts";
import { looksSealed } from "../../src/format/slab.ts";
import { hashKey, INDEX_PARTITIONS, indexPartitionOf, loadHash } from "../../src/util/hash.ts";
import { type Diagnostic, Random } from "../random.ts";
import { call, content, inParallel } from "./client.ts";
import { launch, printedPort, runProgram, type Server, startServer } from "./server.ts";

const WRITERS = 8;
const KEYS = 10;
const LARGE_BYTES = 2_500_000;
/** Overwriting large values fills slabs and makes garbage for compaction. */
const BULK_WRITERS = 2;
const BULK_KEYS = 20;
const BULK_BYTES_MAX = 2_000_000;
const UPLOAD_PIECES = 40;
const UPLOAD_PIECE_BYTES = 150_000;
/** How long a chosen moment is waited for; then the kill falls at once. */
const MOMENT_MS_MAX = 3000;
/** Recoveries killed one after the other before one may end. */
const RECOVERY_KILLS = 3;
const INSERT_LANES = 32;
/** Of the inserted keys so many are read after each kill, and all of them at the end. */
const SAMPLE_KEYS = 200;

type Value = Buffer | null;

export const MOMENTS = ["random", "sealing", "compaction", "indexGrowth", "upload", "recovery"] as const;
type Moment = (typeof MOMENTS)[number];

interface Entry {
  acknowledged: Value;
  etag: string;
  /** What a request without an answer may have made of it. */
  possible: Value[];
}

interface Tally {
  operations: number;
  kills: number;
  /** Kills that really fell into these moments. */
  moments: Record<Moment, number>;
  lost: number;
  wrong: number;
  resurrected: number;
  unknown: number;
}

export interface StormOptions {
  seed: number;
  kills: number;
  /** Small keys written beforehand. 0: no kills during growth of the index. */
  preload: number;
}

const same = (a: Value, b: Value): boolean => (a === null || b === null ? a === b : a.equals(b));

/** Keys of one writer, what was acknowledged for them, and what may have happened to them. */
class Keys {
  readonly entries = new Map<string, Entry>();

  constructor(name: string, count: number) {
    for (let i = 0; i < count; i++)
      this.entries.set(`/${name}/${i}`, { acknowledged: null, etag: "", possible: [] });
  }

  /** One write; false when the server is gone. */
  async write(
    port: number,
    tally: Tally,
    method: string,
    key: string,
    next: Value,
    headers: Record<string, string> = {},
    body: Value | Readable = next,
  ): Promise<boolean> {
    const entry = this.entries.get(key) as Entry;
    try {
      const reply = await call(port, method, key, body === null ? { headers } : { headers, body });
      tally.operations++;
      if (reply.status === 200 || reply.status === 201) {
        entry.acknowledged = next;
        entry.etag = next === null ? "" : String(reply.headers.etag);
      } else if (reply.status === 409)
        assert.ok(entry.acknowledged !== null, `${key}: 409 for an absent key`);
      else assert.fail(`${method} ${key} answered ${reply.status} ${reply.text}`);
      return true;
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      entry.possible.push(next);
      tally.unknown++;
      return false;
    }
  }

  /** Reads every key back and settles what was open. */
  async verify(port: number, tally: Tally): Promise<void> {
    for (const [key, entry] of this.entries) {
      const reply = await call(port, "GET", key);
      assert.ok(
        reply.status === 200 || reply.status === 404,
        `GET ${key} answered ${reply.status} ${reply.text}`,
      );
      const found: Value = reply.status === 200 ? reply.body : null;
      const allowed = [entry.acknowledged, ...entry.possible];
      if (!allowed.some((value) => same(value, found))) {
        if (found === null) tally.lost++;
        else if (entry.acknowledged === null) tally.resurrected++;
        else tally.wrong++;
      }
      entry.acknowledged = found;
      entry.etag = found === null ? "" : String(reply.headers.etag);
      entry.possible = [];
    }
  }
}

/** Small and some large values, every verb and If-Match. */
class Writer extends Keys {
  private readonly random: Random;
  private readonly name: string;
  private counter = 0;

  constructor(name: string, seed: number) {
    super(name, KEYS);
    this.name = name;
    this.random = new Random(seed);
  }

  step(port: number, tally: Tally): Promise<boolean> {
    const { random } = this;
    const key = `/${this.name}/${random.below(KEYS)}`;
    const entry = this.entries.get(key) as Entry;
    const bytes = random.below(40) === 0 ? LARGE_BYTES : random.below(2000);
    const value = Buffer.alloc(bytes, `${key} ${++this.counter};`);
    const choice = random.below(10);
    const [method, next]: [string, Value] =
      choice < 2 ? ["DELETE", null] : [choice < 4 ? "POST" : "PUT", value];
    const headers: Record<string, string> =
      choice >= 8 && entry.etag !== "" ? { "If-Match": entry.etag } : {};
    return this.write(port, tally, method, key, next, headers);
  }
}

/** Overwrites large values as fast as it can. */
class BulkWriter extends Keys {
  private readonly random: Random;
  private readonly name: string;

  constructor(name: string, seed: number) {
    super(name, BULK_KEYS);
    this.name = name;
    this.random = new Random(seed);
  }

  step(port: number, tally: Tally): Promise<boolean> {
    const { random } = this;
    const value = content(random.word(), 1 + random.below(BULK_BYTES_MAX));
    return this.write(port, tally, "PUT", `/${this.name}/${random.below(BULK_KEYS)}`, value);
  }
}

/** Sends a large value slowly, in pieces. */
class Uploader extends Keys {
  private seed: number;
  /** A part of the value is sent, another is not. */
  underway = false;

  constructor(seed: number) {
    super("upload", 1);
    this.seed = seed;
  }

  async step(port: number, tally: Tally): Promise<boolean> {
    const value = content(++this.seed, UPLOAD_PIECES * UPLOAD_PIECE_BYTES);
    const pieces = async function* (this: Uploader) {
      for (let piece = 0; piece < UPLOAD_PIECES; piece++) {
        this.underway = piece > UPLOAD_PIECES / 4;
        yield value.subarray(piece * UPLOAD_PIECE_BYTES, (piece + 1) * UPLOAD_PIECE_BYTES);
        await sleep(4);
      }
      this.underway = false;
    };
    try {
      const body = Readable.from(pieces.call(this));
      return await this.write(port, tally, "PUT", "/upload/0", value, {}, body);
    } finally {
      this.underway = false;
    }
  }
}

/** Inserts keys that nobody overwrites, numbered, each with its number as value. */
class Inserter {
  private readonly keys: string[] = [];
  /** New keys fall into this partition, so that its part of the index grows. */
  private partition = 0;
  /** Inserts that were not answered. */
  private readonly unknown = new Set<number>();

  async preload(port: number, count: number): Promise<void> {
    for (let number = 0; number < count; number++) this.keys.push(`n/${number}`);
    await inParallel(count, INSERT_LANES, async (number) => {
      const reply = await call(port, "PUT", `/${this.keys[number]}`, { body: String(number) });
      assert.equal(reply.status, 201, reply.text);
    });
  }

  aim(partition: number): void {
    this.partition = partition;
  }

  async step(port: number, tally: Tally): Promise<boolean> {
    const number = this.keys.length;
    const key = keyIn(this.partition, `n/${number}-`);
    this.keys.push(key);
    try {
      const reply = await call(port, "PUT", `/${key}`, { body: String(number) });
      assert.equal(reply.status, 201, reply.text);
      tally.operations++;
      return true;
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      this.unknown.add(number);
      return false;
    }
  }

  /** Reads the newest keys and some of the others, or all. */
  async verify(port: number, tally: Tally, random: Random | null): Promise<void> {
    const { length } = this.keys;
    const count = random === null ? length : Math.min(length, 2 * SAMPLE_KEYS);
    await inParallel(count, INSERT_LANES, async (index) => {
      const number =
        random === null ? index : index < SAMPLE_KEYS ? length - 1 - index : random.below(length);
      if (number < 0) return;
      const reply = await call(port, "GET", `/${this.keys[number]}`);
      if (reply.status === 404 && this.unknown.has(number)) return;
      if (reply.status === 404) tally.lost++;
      else if (reply.status !== 200 || reply.text !== String(number)) tally.wrong++;
    });
  }
}

/** A key of a partition: the beginning, and a number that makes it one. */
function keyIn(partition: number, beginning: string): string {
  for (let salt = 0; ; salt++) {
    const key = Buffer.from(beginning + salt);
    if (indexPartitionOf(hashKey(key, key.length, 0)) === partition) return key.toString();
  }
}

/** Whether the process died between a full slab's last record and its footer. */
function diedSealing(data: string): boolean {
  for (const shard of fs.readdirSync(data).filter((name) => name.startsWith("shard-"))) {
    const folder = path.join(data, shard);
    const slabs = fs
      .readdirSync(folder)
      .filter((name) => name.endsWith(".slab"))
      .sort();
    for (const name of slabs.slice(0, -1)) {
      const fd = fs.openSync(path.join(folder, name), "r");
      const footer = Buffer.alloc(FOOTER_BYTES);
      fs.readSync(fd, footer, 0, FOOTER_BYTES, fs.fstatSync(fd).size - FOOTER_BYTES);
      fs.closeSync(fd);
      if (!looksSealed(footer)) return true;
    }
  }
  return false;
}

class Storm {
  readonly tally: Tally = {
    operations: 0,
    kills: 0,
    moments: { random: 0, sealing: 0, compaction: 0, indexGrowth: 0, upload: 0, recovery: 0 },
    lost: 0,
    wrong: 0,
    resurrected: 0,
    unknown: 0,
  };
  readonly starts: number[] = [];
  server: Server;
  private readonly random: Random;
  private readonly writers: Writer[];
  private readonly bulk: BulkWriter[];
  private readonly uploader: Uploader;
  readonly inserter = new Inserter();

  constructor(server: Server, seed: number) {
    this.server = server;
    this.random = new Random(seed);
    this.writers = Array.from({ length: WRITERS }, (_, i) => new Writer(`w${i}`, seed + i));
    this.bulk = Array.from({ length: BULK_WRITERS }, (_, i) => new BulkWriter(`b${i}`, seed + 100 + i));
    this.uploader = new Uploader(seed);
  }

  /** One kill under load, at the given moment if it comes in time, then a restart and a look at all keys. */
  async round(moment: Moment): Promise<void> {
    const { server, tally, random } = this;
    const { port } = server;
    const steps: (() => Promise<boolean>)[] = this.writers.map((writer) => () => writer.step(port, tally));
    if (moment === "sealing" || moment === "compaction")
      for (const writer of this.bulk) steps.push(() => writer.step(port, tally));
    if (moment === "upload") steps.push(() => this.uploader.step(port, tally));
    this.inserter.aim(random.below(INDEX_PARTITIONS));
    if (moment === "indexGrowth")
      for (let lane = 0; lane < INSERT_LANES; lane++) steps.push(() => this.inserter.step(port, tally));
    const load = Promise.all(
      steps.map(async (step) => {
        while (await step());
      }),
    );
    const met = await this.waitFor(moment);
    await server.kill("SIGKILL");
    tally.kills++;
    await load;
    const sealing = diedSealing(server.data);
    if (sealing) tally.moments.sealing++;
    if (met && moment !== "sealing") tally.moments[moment]++;
    else if (!sealing) tally.moments.random++;
    if (moment === "recovery") for (let i = 0; i < RECOVERY_KILLS; i++) await this.killRecovery();
    await server.restart();
    this.starts.push(server.startMs);
    const all = [...this.writers, ...this.bulk, this.uploader];
    await Promise.all(all.map((keys) => keys.verify(server.port, tally)));
    await this.inserter.verify(server.port, tally, random);
  }

  /** Waits for the moment; false when it did not come. */
  private async waitFor(moment: Moment): Promise<boolean> {
    const { random, server } = this;
    if (moment === "random" || moment === "recovery") {
      await sleep(random.below(250));
      return moment === "random";
    }
    const until = performance.now() + MOMENT_MS_MAX;
    await sleep(random.below(100));
    let last: { slabs: number; compactedBytes: number; indexGrowths: number } | null = null;
    while (performance.now() < until) {
      if (moment === "upload") {
        if (this.uploader.underway) {
          await sleep(random.below(60));
          if (this.uploader.underway) return true;
        }
        await sleep(2);
        continue;
      }
      const now = (await call(server.port, "GET", "/_stats")).json();
      if (last !== null) {
        if (moment === "sealing" && now.slabs > last.slabs) return true;
        if (moment === "compaction" && now.compactedBytes > last.compactedBytes) return true;
        if (moment === "indexGrowth" && now.indexGrowths > last.indexGrowths) return true;
      }
      last = now;
    }
    return false;
  }

  /** Starts the program and kills it while it recovers. */
  private async killRecovery(): Promise<void> {
    const { server, tally, random } = this;
    const store = path.join(server.data, "STORE");
    const before = fs.statSync(store).ino;
    const quiet = server.log().length;
    const start = server.restart().catch(() => {});
    const until = performance.now() + MOMENT_MS_MAX;
    while (fs.statSync(store).ino === before && performance.now() < until) await sleep(1);
    await sleep(random.below(12));
    const serving = printedPort(server.log().slice(quiet)) !== null;
    await server.kill("SIGKILL");
    await start;
    tally.kills++;
    tally.moments[serving ? "random" : "recovery"]++;
  }
}

/** Runs the storm and prints its figures. Fails on anything lost, wrong or back from the dead. Answers how often each moment was hit. */
export async function killStorm(t: Diagnostic, options: StormOptions): Promise<Record<Moment, number>> {
  const server = await startServer({ sync: "always" });
  try {
    const storm = new Storm(server, options.seed);
    const { tally, starts } = storm;
    await loadHash();
    await storm.inserter.preload(server.port, options.preload);
    const moments = MOMENTS.filter((moment) => options.preload > 0 || moment !== "indexGrowth");
    for (let round = 0; tally.kills < options.kills; round++)
      await storm.round(moments[round % moments.length]);
    await storm.inserter.verify(server.port, tally, null);
    starts.sort((a, b) => a - b);
    const p50 = Math.round(starts[starts.length >> 1]);
    const longest = Math.round(starts[starts.length - 1]);
    t.diagnostic(`${JSON.stringify(tally)}; start to 200: p50 ${p50} ms, max ${longest} ms`);
    assert.deepEqual([tally.lost, tally.wrong, tally.resurrected], [0, 0, 0]);
    return tally.moments;
  } finally {
    await server.dispose();
  }
}

/** After a directory's upgrade: what turns its slabs into the new format, and what reads them. */
const UPGRADED_MOMENTS = ["compaction", "random", "sealing", "compaction", "recovery"] as const;
/** Kills of `minivault upgrade` before it may end. */
const UPGRADE_KILLS = 5;

/**
 * The same over upgrades: an older program fills a directory under kills, `minivault upgrade` is killed again and again, and the program goes on
 * under kills. Fails on anything lost, wrong or back from the dead, and on what verify finds. Answers how often the command was killed before it had ended.
 * @param older the older program's file
 */
export async function upgradeStorm(
  t: Diagnostic,
  options: { seed: number; directories: number; older: string },
): Promise<number> {
  await loadHash();
  const random = new Random(options.seed);
  let killed = 0;
  for (let number = 0; number < options.directories; number++) {
    const first = await startServer({ program: options.older });
    const { data } = first;
    let storm: Storm | null = null;
    try {
      storm = new Storm(first, options.seed + number);
      await storm.inserter.preload(first.port, 1000);
      for (const moment of ["compaction", "upload"] as const) await storm.round(moment);
      await first.stop();
      for (let kill = 0; kill < UPGRADE_KILLS; kill++) if (await upgradeKilled(data, random)) killed++;
      const { status, output } = await runProgram(["upgrade", data]);
      assert.equal(status, 0, output);
      storm.server = await startServer({ data });
      for (const moment of UPGRADED_MOMENTS) await storm.round(moment);
      await storm.inserter.verify(storm.server.port, storm.tally, null);
      await storm.server.stop();
      const verified = await runProgram(["verify", data]);
      assert.equal(verified.status, 0, verified.output);
      const { lost, wrong, resurrected } = storm.tally;
      t.diagnostic(`directory ${number + 1}: ${JSON.stringify(storm.tally)}`);
      assert.deepEqual([lost, wrong, resurrected], [0, 0, 0]);
    } finally {
      await storm?.server.dispose();
      await first.dispose();
    }
  }
  return killed;
}

/** Whether a run of `minivault upgrade` was killed before it had ended. */
async function upgradeKilled(data: string, random: Random): Promise<boolean> {
  const upgrade = await launch(["upgrade", data]);
  const store = path.join(data, "STORE");
  const { ino } = fs.statSync(store);
  // Half of them at any moment, half of them when the file is replaced.
  const isAtReplacement = random.below(2) === 0;
  const untilMs = performance.now() + (isAtReplacement ? MOMENT_MS_MAX : random.below(400));
  const { child } = upgrade;
  while (performance.now() < untilMs && child.exitCode === null) {
    if (isAtReplacement && fs.readdirSync(data).some((name) => name.startsWith("STORE."))) break;
    if (isAtReplacement && fs.statSync(store).ino !== ino) break;
    await sleep(random.below(2));
  }
  child.kill("SIGKILL");
  return (await upgrade.ended).signal === "SIGKILL";
}
