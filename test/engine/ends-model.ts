/**
 * A shard whose values end, beside a model of what its clients know: random writes and reads, clocks that are set forth and back, kills.
 *
 * The model's one rule: a value that somebody was told is gone is never read again; and one whose end has not come, by the highest time that
 * any clock here has shown, is there.
 */
import assert from "node:assert/strict";
import { endOf } from "../../src/format/end.ts";
import { hasEnded } from "../../src/rules/expiry.ts";
import { SteadyClock } from "../../src/util/clock.ts";
import type { Random } from "../random.ts";
import { Harness, type HarnessOptions } from "./harness.ts";

interface Known {
  value: string;
  etag: string;
  end: number;
}

const KEYS = 24;

export class EndsModel {
  private readonly directory: string;
  private readonly random: Random;
  private readonly options: HarnessOptions;
  private readonly known = new Map<string, Known>();
  private vault!: Harness;
  /** A front's. */
  private clock!: SteadyClock;
  private wall = Date.UTC(2026, 0, 1);
  private monotonic = 0;
  /** The highest time that any clock here can show; never behind the wall clock. */
  private highest = this.wall;
  private values = 0;
  marked = 0;
  told = 0;

  constructor(directory: string, random: Random, options: HarnessOptions) {
    this.directory = directory;
    this.random = random;
    this.options = options;
  }

  async open(): Promise<void> {
    const now = () => this.wall;
    const monotonic = () => this.monotonic;
    this.vault = await Harness.open(this.directory, { ...this.options, now, monotonic });
    this.clock = new SteadyClock(now, monotonic);
    this.clock.observe(this.vault.figure("clockMillis"));
  }

  async run(steps: number): Promise<void> {
    await this.open();
    for (let step = 0; step < steps; step++) await this.step();
    for (let key = 0; key < KEYS; key++) this.read(`key ${key}`);
    await this.vault.shard.close();
    await this.open();
    for (let key = 0; key < KEYS; key++) this.read(`key ${key}`);
    // What has an end is counted, once the tables are looked through.
    await this.vault.settle();
    this.pass(10 * 3_600_000);
    await this.vault.settle();
    assert.equal(this.vault.figure("ending"), 0, "all have ended and are marked");
    assert.equal(this.vault.figure("keys"), [...this.known.values()].filter(({ end }) => end === 0).length);
    await this.vault.shard.close();
  }

  private get now(): number {
    const now = this.clock.now();
    this.highest = Math.max(this.highest, now);
    return now;
  }

  /** Time goes by, on all clocks: also where the wall clock was set back, for who has seen the time before. */
  private pass(ms: number): void {
    this.wall += ms;
    this.monotonic += ms;
    this.highest += ms;
  }

  private async step(): Promise<void> {
    const { random, vault } = this;
    const key = `key ${random.below(KEYS)}`;
    const what = random.below(100);
    if (what < 30) this.put(key);
    else if (what < 36) this.touch(key);
    else if (what < 42) this.remove(key);
    else if (what < 75) this.read(key);
    else if (what < 85) this.pass(random.below(400));
    else if (what < 93) vault.shard.idle(random.below(16 * 1024));
    else if (what < 95) this.setWall(random.below(20_000) - 10_000);
    else if (what < 98) {
      await this.vault.crash();
      if (random.below(3) === 0) this.wall -= random.below(3_600_000);
      await this.open();
    } else {
      await this.vault.shard.close();
      if (random.below(3) === 0) this.wall -= random.below(3_600_000);
      await this.open();
    }
  }

  private setWall(by: number): void {
    this.wall += by;
    this.highest = Math.max(this.highest, this.wall);
  }

  /** Whether the value of a key is there for sure, may be, or is not. */
  private stateOf(key: string): "there" | "perhaps" | "gone" {
    const known = this.known.get(key);
    if (known === undefined) return "gone";
    // The shard may have found by a clock that was ahead that it has ended, and have marked it; or not yet.
    return hasEnded(known.end, Math.max(this.highest, this.now)) ? "perhaps" : "there";
  }

  private put(key: string): void {
    const { random, vault } = this;
    const kind = random.below(5);
    const verb = kind === 0 ? "post" : "put";
    const keepsEnd = kind === 1;
    const end =
      kind === 2 || keepsEnd ? 0 : this.now + 1 + random.below(random.below(2) === 0 ? 300 : 100_000);
    const known = this.known.get(key);
    const ifMatch = kind === 3 && known !== undefined ? known.etag : "";
    const value = `${++this.values} ${"x".repeat(random.below(3) === 0 ? 6000 : random.below(200))}`;
    const before = this.stateOf(key);
    const condition = { verb, keepsEnd, end, ifMatch } as const;
    const outcome =
      value.length > 4096
        ? vault.upload(key, Buffer.from(value), condition)
        : vault.put(key, value, condition);
    const told = `${key} was ${before}, ${verb} ${outcome.error}`;
    if (verb === "post" && outcome.error !== null) {
      assert.equal(outcome.error, "exists", told);
      assert.notEqual(before, "gone", told);
      return;
    }
    if (ifMatch !== "" && outcome.error !== null) {
      assert.equal(outcome.error, "precondition_failed", told);
      assert.notEqual(before, "there", told);
      this.gone(key);
      return;
    }
    assert.equal(outcome.error, null, told);
    if (before !== "perhaps") assert.equal(outcome.created, before === "gone", told);
    // Of what was perhaps there: the answer says it.
    const kept = keepsEnd && !outcome.created ? (known?.end ?? 0) : 0;
    this.known.set(key, { value, etag: vault.etag(outcome), end: end || kept });
  }

  private touch(key: string): void {
    const before = this.stateOf(key);
    const end = this.random.below(4) === 0 ? 0 : this.now + 1 + this.random.below(5000);
    const outcome = this.vault.touch(key, end);
    const told = `${key} was ${before}, touch ${outcome.error}`;
    if (outcome.error === "not_found") {
      assert.notEqual(before, "there", told);
      this.gone(key);
      return;
    }
    assert.equal(outcome.error, null, told);
    assert.notEqual(before, "gone", told);
    const known = this.known.get(key) as Known;
    this.known.set(key, { ...known, etag: this.vault.etag(outcome), end });
  }

  private remove(key: string): void {
    const before = this.stateOf(key);
    const { deleted } = this.vault.remove(key);
    if (before !== "perhaps") assert.equal(deleted, before === "there", `${key} was ${before}`);
    this.gone(key);
  }

  private gone(key: string): void {
    if (this.known.delete(key)) this.told++;
  }

  /** As a front reads. */
  private read(key: string): void {
    const before = this.stateOf(key);
    let read = this.vault.read(key);
    if (read.state === "found" && hasEnded(endOf(read.trailer), this.now)) {
      assert.equal(this.vault.end(key, this.now).error, null);
      read = this.vault.read(key);
      assert.equal(read.state, "absent", `${key}: what was made known`);
    }
    if (read.state === "found") {
      const known = this.known.get(key);
      assert.notEqual(before, "gone", `${key} is back`);
      assert.equal(read.value.toString(), known?.value);
      assert.equal(read.etag, known?.etag);
      assert.equal(endOf(read.trailer), known?.end);
    } else {
      assert.equal(read.state, "absent");
      assert.notEqual(before, "there", `${key} is missing`);
      this.gone(key);
    }
  }
}
