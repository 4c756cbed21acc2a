/**
 * A shard whose writes are sent again, beside a model of what it has to remember: random writes with and without an `Idempotency-Key`, repeated
 * at random, several in a batch, over kills, restarts, compaction, ends of life and the ten minutes after which they are new.
 */
import assert from "node:assert/strict";
import { NAME_BYTES, REQUEST_BYTES, withOnce } from "../../src/format/fields/recent.ts";
import { NO_TRAILER } from "../../src/format/fields/trailer.ts";
import { RECENT_BYTES_MAX } from "../../src/format/offsets.ts";
import { RECENT_MS } from "../../src/rules/recent.ts";
import type { Outcome } from "../../src/rules/write.ts";
import type { Random } from "../random.ts";
import { type Condition, Harness, type HarnessOptions } from "./harness.ts";

interface Sent {
  key: string;
  value: string;
  condition: Condition;
  /** Of its key; 0: it has none. */
  name: number;
  request: number;
}

interface Value {
  value: string;
  etag: string;
  end: number;
}

interface Remembered {
  request: number;
  atMs: number;
  created: boolean;
  deleted: boolean;
  etag: string;
}

const KEYS = 8;
const SENT_MAX = 200;
/** So near to the ten minutes nothing is said. */
const EDGE_MS = 2000;
const ENTRY_BYTES = 33;
const FULL_BYTES = RECENT_BYTES_MAX - ENTRY_BYTES - 63 - 8;

export class OnceModel {
  private readonly directory: string;
  private readonly random: Random;
  private readonly options: HarnessOptions;
  private readonly values = new Map<string, Value>();
  private readonly remembered = new Map<string, Map<number, Remembered>>();
  private readonly sent: Sent[] = [];
  private vault!: Harness;
  private wall = Date.UTC(2026, 0, 1);
  private monotonic = 0;
  private written = 0;
  private lastName = 0;
  /** Writes that were known. */
  replayed = 0;
  reused = 0;

  constructor(directory: string, random: Random, options: HarnessOptions) {
    this.directory = directory;
    this.random = random;
    this.options = options;
  }

  private async open(): Promise<void> {
    const now = () => this.wall;
    const monotonic = () => this.monotonic;
    this.vault = await Harness.open(this.directory, { ...this.options, now, monotonic });
  }

  async run(steps: number): Promise<void> {
    await this.open();
    for (let step = 0; step < steps; step++) await this.step();
    for (const key of this.keys()) this.read(key);
    await this.vault.shard.close();
    await this.open();
    for (const key of this.keys()) this.read(key);
    for (const sent of this.sent) this.send([sent]);
    await this.vault.shard.close();
  }

  private keys(): string[] {
    return Array.from({ length: KEYS }, (_, key) => `key ${key}`);
  }

  private async step(): Promise<void> {
    const { random, vault } = this;
    const what = random.below(100);
    if (what < 66) this.send(Array.from({ length: random.below(4) === 0 ? 4 : 1 }, () => this.draw()));
    else if (what < 74) this.large();
    else if (what < 82) this.read(`key ${random.below(KEYS)}`);
    else if (what < 90) this.pass(random.below(4) === 0 ? random.below(200_000) : random.below(2000));
    else if (what < 96) {
      await vault.sealed();
      vault.shard.idle(random.below(64 * 1024));
    } else {
      if (what < 98) await vault.crash();
      else await vault.shard.close();
      await this.open();
    }
  }

  private pass(ms: number): void {
    this.wall += ms;
    this.monotonic += ms;
  }

  /** A new write, or one that was sent before, or another one under its name. */
  private draw(): Sent {
    const { random, sent } = this;
    const again = sent.length > 0 ? sent[random.below(sent.length)] : null;
    const what = random.below(100);
    if (again !== null && what < 35) return again;
    const key = again !== null && what < 40 ? again.key : `key ${random.below(KEYS)}`;
    const verb = (["put", "put", "put", "post", "delete", "touch"] as const)[random.below(6)];
    const value =
      verb === "put" || verb === "post" ? `${++this.written} ${"x".repeat(random.below(300))}` : "";
    const condition: Condition = { verb };
    if (verb !== "delete" && random.below(3) === 0) condition.end = this.wall + 1 + random.below(20_000);
    else if (verb === "touch") condition.end = 0;
    else if (verb === "put" && random.below(5) === 0) condition.keepsEnd = true;
    const there = this.values.get(key);
    if (random.below(4) === 0) condition.ifMatch = there?.etag ?? '"none"';
    const isReused = again !== null && what < 40 && again.name !== 0;
    const name = isReused ? again.name : random.below(10) < 7 ? ++this.lastName : 0;
    const made: Sent = { key, value, condition, name, request: random.word() >>> 0 };
    if (name !== 0 && !isReused) {
      if (sent.length >= SENT_MAX) sent[random.below(SENT_MAX)] = made;
      else sent.push(made);
    }
    return made;
  }

  /** Sends some in one batch. */
  private send(batch: readonly Sent[]): void {
    const told = batch.filter((sent) => !this.isOnEdge(sent));
    const outcomes = told.map(({ key, value, condition, name, request }) => {
      const once = Buffer.alloc(NAME_BYTES + REQUEST_BYTES);
      once.writeUInt32LE(name, 0);
      once.writeUInt32LE(request, NAME_BYTES);
      const trailer = name === 0 ? NO_TRAILER : withOnce(NO_TRAILER, once);
      return this.vault.stage(key, value, { ...condition, trailer });
    });
    this.vault.shard.commit();
    told.forEach((sent, index) => {
      this.judge(sent, outcomes[index]);
    });
  }

  private memoryOf(key: string): Map<number, Remembered> {
    let memory = this.remembered.get(key);
    if (memory === undefined) {
      memory = new Map();
      this.remembered.set(key, memory);
    }
    for (const [name, { atMs }] of memory) if (this.wall - atMs > RECENT_MS + EDGE_MS) memory.delete(name);
    return memory;
  }

  /** Whether nobody can tell if it is known, or how many are. */
  private isOnEdge({ key, name }: Sent): boolean {
    const memory = this.memoryOf(key);
    const isEdge = ({ atMs }: Remembered): boolean => Math.abs(this.wall - atMs - RECENT_MS) <= EDGE_MS;
    if (name === 0) return false;
    const known = memory.get(name);
    if (known !== undefined) return isEdge(known);
    return [...memory.values()].some(isEdge) && memory.size * ENTRY_BYTES > FULL_BYTES / 2;
  }

  private there(key: string): Value | null {
    const value = this.values.get(key) ?? null;
    if (value === null || value.end === 0 || value.end > this.wall) return value;
    this.values.delete(key);
    return null;
  }

  /** The answer, and what it makes of the model. */
  private judge(sent: Sent, outcome: Outcome): void {
    const { key, value, condition, name, request } = sent;
    const memory = this.memoryOf(key);
    const known = name === 0 ? undefined : memory.get(name);
    const what = `${condition.verb} of ${key} as ${name}`;
    if (known !== undefined) {
      if (known.request !== request) {
        this.reused++;
        assert.equal(outcome.error, "key_reused", what);
        return;
      }
      this.replayed++;
      assert.deepEqual([outcome.error, outcome.replayed], [null, true], what);
      const { created, deleted, etag } = known;
      if (condition.verb === "delete") assert.equal(outcome.deleted, deleted, what);
      else assert.equal(outcome.created, created, what);
      assert.equal(this.vault.etag(outcome), etag, what);
      return;
    }
    assert.notEqual(outcome.replayed, true, what);
    if (name !== 0 && memory.size * ENTRY_BYTES > FULL_BYTES) {
      assert.equal(outcome.error, "unremembered", what);
      return;
    }
    const there = this.there(key);
    const refusal = refusalOf(condition, there);
    assert.equal(outcome.error, refusal, what);
    if (refusal !== null) return;
    const created = there === null && condition.verb !== "touch";
    if (condition.verb === "delete") {
      assert.equal(outcome.deleted, there !== null, what);
      this.values.delete(key);
    } else {
      assert.equal(outcome.created, created, what);
      const kept = condition.verb === "touch" ? (there as Value).value : value;
      const end = condition.keepsEnd === true ? (there?.end ?? 0) : (condition.end ?? 0);
      this.values.set(key, { value: kept, etag: this.vault.etag(outcome), end });
    }
    if (name === 0) return;
    const etag = this.vault.etag(outcome);
    memory.set(name, { request, atMs: this.wall, created, deleted: there !== null, etag });
  }

  /** A value in chunks, which has no key, and remembers all the same. */
  private large(): void {
    const key = `key ${this.random.below(KEYS)}`;
    const there = this.there(key);
    const value = `${++this.written} ${"y".repeat(5000 + this.random.below(8000))}`;
    const outcome = this.vault.upload(key, Buffer.from(value));
    assert.deepEqual([outcome.error, outcome.created], [null, there === null]);
    this.values.set(key, { value, etag: this.vault.etag(outcome), end: 0 });
  }

  private read(key: string): void {
    const there = this.there(key);
    const read = this.vault.read(key);
    if (there !== null) {
      assert.ok(read.state === "found", `${key} is ${read.state}`);
      assert.deepEqual([read.value.toString(), read.etag], [there.value, there.etag]);
    } else if (read.state === "found") assert.equal(this.vault.end(key, this.wall).error, null);
    else assert.equal(read.state, "absent");
  }
}

function refusalOf({ verb, ifMatch = "" }: Condition, there: Value | null): Outcome["error"] {
  if (verb === "touch" && there === null) return "not_found";
  if (ifMatch !== "" && ifMatch !== there?.etag) return "precondition_failed";
  return verb === "post" && there !== null ? "exists" : null;
}
