/**
 * Replication's operations on a shard against the pure rules of register.ts over a Map: random ballots, restarts, crashes, compactions.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  dropPartition,
  dropTombstone,
  foldPromises,
  prepare,
  raiseFloor,
} from "../../src/engine/shard/replica.ts";
import { UploadWriter } from "../../src/engine/shard/uploads.ts";
import { FloorReader } from "../../src/engine/state/floors.ts";
import type { Ballot } from "../../src/format/record.ts";
import {
  ballotOfMillis,
  compareBallots,
  compareOptionalBallots,
  etagText,
} from "../../src/format/version.ts";
import { cellAt, DIGEST_BYTES, digestOf } from "../../src/rules/digest.ts";
import {
  ALREADY,
  canFoldPromise,
  floorWithout,
  judgeAccept,
  judgePrepare,
  NO,
  obstacleOf,
  type RegisterState,
} from "../../src/rules/register.ts";
import type { Outcome, RegisterOutcome } from "../../src/rules/write.ts";
import { indexPartitionOf } from "../../src/util/hash.ts";
import { prefixOf, startsWith } from "../../src/util/hash-prefix.ts";
import { PROMISE_FOLD_MS } from "../../src/util/limits.ts";
import { Random, randomSeed } from "../random.ts";
import { Harness, type HarnessOptions, temporaryDirectory } from "./harness.ts";

const START = Date.UTC(2026, 0, 1);

/** A ballot of a small number, so that equal and crossing ones are frequent. */
function ballot(number: number, node = 7): Ballot {
  const millis = START + Math.floor(number / 4);
  return {
    clockLow: ((millis % 0x10000) * 0x10000 + (number % 4)) >>> 0,
    clockHigh: Math.floor(millis / 0x10000),
    node,
    incarnation: 1,
  };
}

function accept(
  vault: Harness,
  key: string,
  at: Ballot,
  value: Buffer | null,
  options: { operation?: number; repair?: boolean; json?: boolean } = {},
): Outcome {
  const write = {
    ...vault.write(key, { verb: value === null ? "delete" : "put", json: options.json ?? false }),
    operationLow: options.operation ?? 1,
    operationHigh: 2,
    ballot: at,
    repair: options.repair ?? false,
  };
  let outcome: Outcome;
  if (value !== null && value.length > vault.store.chunkBytes) {
    const writer = new UploadWriter(vault.shard.batch, write);
    writer.part(value);
    outcome = writer.finish(at);
  } else outcome = vault.shard.apply(write, value ?? Buffer.alloc(0));
  return outcome;
}

function ask(vault: Harness, key: string, at: Ballot, repair = false): Outcome {
  const { bytes, hashA, hashB } = vault.hashes(key);
  return prepare(vault.shard.batch, { key: bytes, hashA, hashB }, at, repair);
}

function register(outcome: Outcome): RegisterOutcome {
  assert.equal(outcome.error, null);
  assert.ok(outcome.register !== null);
  return outcome.register;
}

function open(directory: string, options: HarnessOptions = {}): Promise<Harness> {
  return Harness.open(directory, { replicated: true, now: () => START + 10_000, ...options });
}

interface Entry {
  state: RegisterState;
  value: Buffer | null;
}

/** What the pure rules say. */
class Model {
  readonly keys = new Map<string, Entry>();
  readonly floors = new Map<number, Ballot>();

  state(key: string): RegisterState | null {
    return this.keys.get(key)?.state ?? null;
  }

  entry(key: string): Entry {
    const entry = this.keys.get(key) ?? {
      state: {
        ...{ promised: null, ballot: null, tombstone: false, ended: false, end: 0 },
        ...{ operationLow: 0, operationHigh: 0 },
      },
      value: null,
    };
    this.keys.set(key, entry);
    return entry;
  }
}

const KEYS = Array.from({ length: 14 }, (_, n) => `key ${n} ${"k".repeat(n * 9)}`);

class Run {
  private readonly random: Random;
  private readonly model = new Model();
  private counter = 0;
  /** Checks to be made once the batch is committed. */
  private checks: (() => void)[] = [];
  vault: Harness;
  ballots = 0;

  constructor(vault: Harness, random: Random) {
    this.vault = vault;
    this.random = random;
  }

  partition(key: string): number {
    return indexPartitionOf(this.vault.hashes(key).hashA);
  }

  floor(key: string): Ballot | null {
    return this.model.floors.get(this.partition(key)) ?? null;
  }

  /** Mostly rising, sometimes of the past. */
  private ballot(): Ballot {
    if (this.random.below(3) > 0) this.ballots += this.random.below(4);
    return ballot(Math.max(1, this.ballots - this.random.below(6)), 7 + this.random.below(2));
  }

  step(): void {
    const key = KEYS[this.random.below(KEYS.length)];
    const kind = this.random.below(20);
    if (kind < 7) this.prepare(key);
    else if (kind < 16) this.accept(key);
    else if (kind < 17) this.raiseFloor(key);
    else if (kind < 19) this.dropTombstone(key);
    else if (this.random.below(3) > 0) this.foldPromises(key);
    else if (this.random.below(2) === 0) this.dropPartition(key);
    if (this.random.below(3) === 0) this.commit();
  }

  commit(): void {
    this.vault.shard.commit();
    for (const check of this.checks) check();
    this.checks = [];
  }

  private prepare(key: string): void {
    const at = this.ballot();
    const state = this.model.state(key);
    const floor = this.floor(key);
    const verdict = judgePrepare(state, floor, at);
    const expected = verdict === NO ? obstacleOf(state, floor) : (state?.ballot ?? null);
    const { tombstone = false, operationLow = 0 } = state ?? {};
    if (verdict !== NO) this.model.entry(key).state.promised = at;
    const outcome = ask(this.vault, key, at);
    this.checks.push(() => {
      const answer = register(outcome);
      assert.equal(answer.verdict, verdict === NO ? "no" : "yes");
      assert.deepEqual(answer.ballot, expected);
      if (verdict === NO) return;
      assert.equal(answer.tombstone, expected !== null && tombstone);
      assert.equal(answer.operationLow, expected === null ? 0 : operationLow);
      assert.deepEqual(answer.floor, expected === null ? floor : null);
    });
  }

  private accept(key: string): void {
    const state = this.model.state(key);
    // Often what a coordinator does: accept what was promised.
    const at = state?.promised != null && this.random.below(2) === 0 ? state.promised : this.ballot();
    const floor = this.floor(key);
    const verdict = judgeAccept(state, floor, at);
    const deletion = this.random.below(4) === 0;
    const size = this.random.below(12) === 0 ? 5000 + this.random.below(20_000) : this.random.below(600);
    const value = deletion ? null : Buffer.alloc(size, `${++this.counter} `);
    const before = verdict === NO ? obstacleOf(state, floor) : (state?.ballot ?? null);
    const existed = state?.ballot != null && !state.tombstone;
    const operation = ++this.counter;
    const outcome = accept(this.vault, key, at, value, { operation });
    if (verdict !== NO && verdict !== ALREADY) {
      const entry = this.model.entry(key);
      entry.value = value;
      entry.state.ballot = at;
      entry.state.tombstone = deletion;
      entry.state.operationLow = operation;
      entry.state.operationHigh = 2;
      if (compareOptionalBallots(entry.state.promised, at) <= 0) entry.state.promised = null;
    }
    this.checks.push(() => {
      const answer = register(outcome);
      assert.equal(answer.verdict, verdict === NO ? "no" : verdict === ALREADY ? "already" : "yes");
      assert.deepEqual(answer.ballot, before);
      if (verdict !== NO && verdict !== ALREADY) assert.equal(outcome.created, !existed);
    });
  }

  private raiseFloor(key: string): void {
    const partition = this.partition(key);
    // Of the past, as floors are, so that not everything is refused.
    const at = ballot(Math.max(1, this.ballots - 8));
    if (compareOptionalBallots(at, this.floor(key)) > 0) this.model.floors.set(partition, at);
    const outcome = raiseFloor(this.vault.shard.batch, partition, at);
    this.checks.push(() => assert.equal(register(outcome).verdict, "yes"));
  }

  private dropTombstone(key: string): void {
    const state = this.model.state(key);
    const right = state?.ballot != null && this.random.below(4) > 0;
    const at = right ? (state.ballot as Ballot) : this.ballot();
    const { bytes, hashA, hashB } = this.vault.hashes(key);
    const outcome = dropTombstone(this.vault.shard.batch, { key: bytes, hashA, hashB }, at);
    const drops = state?.ballot != null && state.tombstone && compareBallots(state.ballot, at) === 0;
    if (drops) {
      this.model.floors.set(this.partition(key), floorWithout(state, this.floor(key)) as Ballot);
      this.model.keys.delete(key);
    }
    this.checks.push(() => assert.equal(register(outcome).verdict, drops ? "yes" : "no"));
  }

  /** All that are old by a clock that has come so far; the model folds key by key. */
  foldPromises(
    key: string,
    millis = START + PROMISE_FOLD_MS + Math.floor(this.random.below(this.ballots + 8) / 4),
  ): void {
    this.commit();
    for (let next = 0; next >= 0; ) {
      const outcome = foldPromises(this.vault.shard.batch, this.partition(key), next, ballotOfMillis(millis));
      this.commit();
      assert.equal(register(outcome).verdict, "yes");
      next = register(outcome).next;
    }
    for (const name of KEYS) {
      const state = this.model.state(name);
      if (this.partition(name) !== this.partition(key) || state === null) continue;
      if (!canFoldPromise(state, millis)) continue;
      this.model.floors.set(this.partition(name), floorWithout(state, this.floor(name)) as Ballot);
      this.model.keys.delete(name);
    }
  }

  /** Of a layout of any number of partitions. */
  private dropPartition(key: string): void {
    this.commit();
    const bits = 10 + this.random.below(7);
    const prefix = prefixOf(this.vault.hashes(key).hashA >>> (32 - bits), 2 ** bits);
    for (let next = 0; next >= 0; ) {
      const outcome = dropPartition(this.vault.shard.batch, prefix, next);
      this.commit();
      next = register(outcome).next;
    }
    for (const name of KEYS)
      if (startsWith(this.vault.hashes(name).hashA, prefix)) this.model.keys.delete(name);
  }

  /** Everything that can be read is what the model says; also that of two records of a key the later one counts. */
  check(): void {
    let keys = 0;
    let promises = 0;
    let inFloor = 0;
    for (const key of KEYS) {
      const entry = this.model.keys.get(key);
      const read = this.vault.read(key);
      if (entry?.value == null) assert.equal(read.state, "absent", key);
      else {
        keys++;
        assert.ok(read.state === "found", `${key} is ${read.state}`);
        assert.ok(read.value.equals(entry.value), `${key} has a wrong value`);
        assert.equal(read.etag, etagText(entry.state.ballot as Ballot));
      }
      if (entry?.state.promised != null) promises++;
      // For an absent key it says nothing more than the floor, and may be gone by now.
      const isAbsent = entry?.state.ballot == null;
      const mayBeGone =
        isAbsent && compareOptionalBallots(entry?.state.promised ?? null, this.floor(key)) <= 0;
      const { bytes, hashA, hashB } = this.vault.hashes(key);
      const promise = this.vault.shard.state.replication.promiseOf(bytes, hashA, hashB);
      if (mayBeGone && promise === null) inFloor += entry?.state.promised != null ? 1 : 0;
      else assert.deepEqual(promise?.ballot ?? null, entry?.state.promised ?? null, `promise of ${key}`);
    }
    assert.equal(this.vault.figure("keys"), keys);
    assert.equal(this.vault.shard.state.replication.promises?.entries ?? 0, promises - inFloor);
    const floors = new FloorReader(this.vault.memory.replication.floors);
    for (const [partition, floor] of this.model.floors) assert.deepEqual(floors.of(partition), floor);
  }

  /** The digests, once complete, are those of the model. */
  checkDigests(): void {
    assert.equal(this.vault.figure("digestsReady"), 1);
    const expected = new Int32Array(DIGEST_BYTES / 4);
    for (const [key, { state }] of this.model.keys) {
      if (state.ballot === null) continue;
      const { hashA } = this.vault.hashes(key);
      const { clockLow, clockHigh, node, incarnation } = state.ballot;
      const [low, high] = digestOf(hashA, [clockLow, clockHigh, node, incarnation], 0);
      expected[cellAt(hashA)] ^= low;
      expected[cellAt(hashA) + 1] ^= high;
    }
    assert.deepEqual(new Int32Array(this.vault.memory.replication.digests), expected);
  }
}

test("replication: a shard answers as the register's rules over a Map, over restarts, crashes and compactions", async (t) => {
  const random = new Random(randomSeed(t));
  const runs = Number(process.env.RUNS ?? 6);
  for (let number = 0; number < runs; number++) {
    const directory = temporaryDirectory();
    try {
      const run = new Run(await open(directory.path), random);
      for (let i = 0; i < 600; i++) {
        run.step();
        if (random.below(8) === 0) {
          run.commit();
          run.vault.shard.idle(8192);
        }
        if (random.below(60) > 0) continue;
        run.commit();
        run.check();
        if (random.below(2) === 0) {
          await run.vault.settle();
          run.check();
          run.checkDigests();
        }
        if (random.below(2) === 0) await run.vault.shard.close();
        else await run.vault.crash();
        run.vault = await open(directory.path);
        assert.deepEqual(run.vault.warnings, []);
        run.check();
      }
      run.commit();
      await run.vault.settle();
      run.check();
      run.checkDigests();
      // What says nothing more than the floor may be counted or not.
      for (const key of KEYS) run.foldPromises(key, START + 2 * PROMISE_FOLD_MS + run.ballots);
      const accounted = run.vault.figure("liveBytes");
      await run.vault.shard.close();
      run.vault = await open(directory.path);
      run.check();
      assert.equal(run.vault.figure("liveBytes"), accounted, "live bytes are the same when counted anew");
      await run.vault.shard.close();
    } finally {
      directory.remove();
    }
  }
});

test("replication: what is promised after its partition was dropped stands after a restart, whatever the ballots", async () => {
  for (const number of [5, 9]) {
    const directory = temporaryDirectory();
    try {
      let vault = await open(directory.path);
      const [key] = KEYS;
      const { bytes, hashA, hashB } = vault.hashes(key);
      accept(vault, key, ballot(9), Buffer.from("value"), { operation: 1 });
      vault.shard.commit();
      for (let next = 0; next >= 0; ) {
        const outcome = dropPartition(vault.shard.batch, prefixOf(indexPartitionOf(hashA), 1024), next);
        vault.shard.commit();
        next = register(outcome).next;
      }
      const outcome = ask(vault, key, ballot(number));
      vault.shard.commit();
      assert.equal(register(outcome).verdict, "yes");
      await vault.crash();
      vault = await open(directory.path);
      const promise = vault.shard.state.replication.promiseOf(bytes, hashA, hashB);
      assert.deepEqual(promise?.ballot, ballot(number));
      await vault.shard.close();
    } finally {
      directory.remove();
    }
  }
});
