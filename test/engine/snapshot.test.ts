/**
 * The index snapshot of a clean stop: what is read after it is what is read without it, and nothing that can happen to it makes it be used wrongly.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { prepare as prepareOn, raiseFloor } from "../../src/engine/shard/replica.ts";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import type { Ballot } from "../../src/format/record.ts";
import { Random, randomSeed } from "../random.ts";
import { Harness, temporaryDirectory } from "./harness.ts";

const WITH_SNAPSHOT = { snapshotEntriesMin: 1 };
type Content = Map<string, Buffer | null>;

function snapshotOf(directory: string): string {
  return path.join(directory, "shard-000", "index.snapshot");
}

/** Writes, replaces and deletes; several slabs of small values and a few large ones. */
function work(vault: Harness, content: Content, random: Random, operations: number): void {
  for (let i = 0; i < operations; i++) {
    const key = `key ${random.below(120)}`;
    if (random.below(6) === 0) {
      assert.equal(vault.remove(key).error, null);
      content.set(key, null);
      continue;
    }
    const value = Buffer.alloc(random.below(25) === 0 ? 9000 : 300, `${i} ${random.word()} `);
    assert.equal((value.length > 4096 ? vault.upload(key, value) : vault.put(key, value)).error, null);
    content.set(key, value);
  }
}

function check(vault: Harness, content: Content, what: string): void {
  for (const [key, value] of content) {
    const read = vault.read(key);
    assert.equal(read.state, value === null ? "absent" : "found", `${what}: ${key}`);
    if (read.state === "found") assert.ok(value?.equals(read.value), `${what}: ${key}`);
  }
  assert.equal(vault.read("never").state, "absent", what);
}

/** Promises a ballot of now for a key. */
function prepare(vault: Harness, key: string): Ballot {
  const millis = Date.now();
  const clockLow = (millis % 0x10000) * 0x10000;
  const ballot = { clockHigh: Math.floor(millis / 0x10000), clockLow, node: 7, incarnation: 3 };
  const outcome = prepareOn(vault.shard.batch, vault.write(key, {}), ballot);
  vault.shard.commit();
  assert.equal(outcome.register?.verdict, "yes");
  return ballot;
}

const FIGURES = ["keys", "tombstones", "liveBytes", "storedBytes", "slabs"] as const;

function figures(vault: Harness): number[] {
  return FIGURES.map((name) => vault.figure(name));
}

test("snapshot: after a clean stop the index comes from it, with the same content and figures, again and again", async (t) => {
  const random = new Random(randomSeed(t));
  const directory = temporaryDirectory();
  const content: Content = new Map();
  try {
    for (let round = 0; round < 4; round++) {
      const vault = await Harness.open(directory.path, WITH_SNAPSHOT);
      assert.equal(vault.slabsRead, round === 0, `round ${round}`);
      assert.ok(!fs.existsSync(snapshotOf(directory.path)), "a start removes the snapshot");
      check(vault, content, `round ${round}`);
      work(vault, content, random, 300);
      if (round % 2 === 0) await vault.settle();
      const promised = prepare(vault, `promised ${round}`);
      raiseFloor(vault.shard.batch, round, promised);
      vault.shard.commit();
      await vault.shard.close();
      const before = figures(vault);
      assert.ok(fs.existsSync(snapshotOf(directory.path)));
      const again = await Harness.open(directory.path, WITH_SNAPSHOT);
      assert.equal(again.slabsRead, false);
      assert.deepEqual(figures(again), before);
      const { bytes, hashA, hashB } = again.hashes(`promised ${round}`);
      assert.deepEqual(again.shard.state.replication.promiseOf(bytes, hashA, hashB)?.ballot, promised);
      assert.equal(again.shard.state.replication.promises?.entries, round + 1);
      assert.deepEqual(again.shard.state.replication.floors.of(round), promised);
      await again.shard.close();
      fs.rmSync(snapshotOf(directory.path));
      const rebuilt = await Harness.open(directory.path, WITH_SNAPSHOT);
      assert.equal(rebuilt.slabsRead, true);
      assert.deepEqual(figures(rebuilt), before);
      check(rebuilt, content, `round ${round}, rebuilt`);
      assert.deepEqual(rebuilt.warnings, []);
      await rebuilt.shard.close();
    }
  } finally {
    directory.remove();
  }
});

test("snapshot: from before a crash, or with other slabs, it is not used", async (t) => {
  const random = new Random(randomSeed(t));
  const directory = temporaryDirectory();
  const content: Content = new Map();
  try {
    const first = await Harness.open(directory.path, WITH_SNAPSHOT);
    work(first, content, random, 200);
    await first.shard.close();
    const snapshot = snapshotOf(directory.path);
    const old = fs.readFileSync(snapshot);

    const second = await Harness.open(directory.path, WITH_SNAPSHOT);
    work(second, content, random, 50);
    await second.crash();
    assert.ok(!fs.existsSync(snapshot));
    fs.writeFileSync(snapshot, old);
    const third = await Harness.open(directory.path, WITH_SNAPSHOT);
    assert.equal(third.slabsRead, true);
    assert.match(third.warnings.join(), /not used.*last stop/);
    check(third, content, "stale");
    await third.shard.close();

    // A slab that came from elsewhere: a copy of the directory that was put together from two.
    const slabs = fs.readdirSync(path.dirname(snapshot)).filter((name) => name.endsWith(".slab"));
    const kept = path.join(path.dirname(snapshot), slabs[0]);
    const bytes = fs.readFileSync(kept);
    fs.rmSync(kept);
    const fourth = await Harness.open(directory.path, WITH_SNAPSHOT);
    assert.equal(fourth.slabsRead, false);
    assert.match(fourth.warnings.join(), /is damaged: the file is missing/);
    // The index knows what was in the slab: those keys are damaged, and no others.
    const lost = [...content].filter(([key]) => fourth.read(key).state === "damaged");
    assert.ok(lost.length > 0 && lost.length < content.size);
    for (const [key] of lost) content.delete(key);
    check(fourth, content, "a slab is missing");
    assert.equal(fourth.read("never there").state, "absent");
    for (const [key, value] of lost) content.set(key, value);
    await fourth.crash();
    fs.writeFileSync(kept, bytes);
    const fifth = await Harness.open(directory.path, WITH_SNAPSHOT);
    check(fifth, content, "put back");
    await fifth.shard.close();
  } finally {
    directory.remove();
  }
});

test("snapshot: flipped bytes and cut files are noticed, and the slabs are read", async (t) => {
  const random = new Random(randomSeed(t));
  const directory = temporaryDirectory();
  const content: Content = new Map();
  try {
    const first = await Harness.open(directory.path, WITH_SNAPSHOT);
    work(first, content, random, 150);
    await first.shard.close();
    const snapshot = snapshotOf(directory.path);
    const damages: ((bytes: Buffer) => Buffer)[] = [
      (bytes) => bytes.subarray(0, random.below(bytes.length)),
      (bytes) => bytes.subarray(0, bytes.length - 1),
      (bytes) => Buffer.concat([bytes, Buffer.alloc(1)]),
      () => Buffer.alloc(0),
    ];
    // Every field of the header, the sections at its end, and anywhere.
    for (let at = 0; at < 128; at += 5) damages.push((bytes) => flipped(bytes, at));
    for (let i = 0; i < 6; i++) damages.push((bytes) => flipped(bytes, bytes.length - 1 - i * 1700));
    for (let i = 0; i < 12; i++) damages.push((bytes) => flipped(bytes, random.below(bytes.length)));
    for (const [number, damage] of damages.entries()) {
      fs.writeFileSync(snapshot, damage(fs.readFileSync(snapshot)));
      const vault = await Harness.open(directory.path, WITH_SNAPSHOT);
      assert.equal(vault.slabsRead, true, `damage ${number}`);
      assert.match(vault.warnings.join(), /snapshot is not used/);
      check(vault, content, `damage ${number}`);
      await vault.shard.close();
    }
  } finally {
    directory.remove();
  }
});

function flipped(bytes: Buffer, at: number): Buffer {
  bytes[at] ^= 1 << (at & 7);
  return bytes;
}

test("snapshot: a call that fails while it is written costs the snapshot and nothing else", async (t) => {
  const random = new Random(randomSeed(t));
  const directory = temporaryDirectory();
  const content: Content = new Map();
  let failAt = 0;
  let calls = 0;
  let partial = false;
  let hasBegun = false;
  const run = <Result>(work: () => Result, partly: () => void = () => {}): Result => {
    if (failAt > 0 && hasBegun && ++calls === failAt) {
      if (partial) partly();
      throw Object.assign(new Error("ENOSPC: injected"), { code: "ENOSPC" });
    }
    return work();
  };
  const io: FileIo = {
    ...nodeIo,
    open: (file, flags) => {
      if (!file.includes("snapshot")) return nodeIo.open(file, flags);
      hasBegun = true;
      return run(() => nodeIo.open(file, flags));
    },
    pwrite: (fd, bytes, offset, length, position) =>
      run(
        () => nodeIo.pwrite(fd, bytes, offset, length, position),
        () => fs.writeSync(fd, bytes, offset, length >> 1, position),
      ),
    fsync: (fd) => run(() => nodeIo.fsync(fd)),
    rename: (from, to) => run(() => nodeIo.rename(from, to)),
    syncDirectory: (folder) => run(() => nodeIo.syncDirectory(folder)),
  };
  try {
    let failures = 0;
    for (let at = 1; ; at++) {
      failAt = 0;
      const vault = await Harness.open(directory.path, { ...WITH_SNAPSHOT, io });
      check(vault, content, `call ${at}`);
      work(vault, content, random, 40);
      vault.shard.mark();
      calls = 0;
      hasBegun = false;
      failAt = at;
      partial = at % 2 === 0;
      await vault.shard.close();
      const fired = calls >= at;
      const names = fs.readdirSync(path.join(directory.path, "shard-000"));
      assert.ok(!names.includes("index.snapshot.new"), `call ${at}: a leftover`);
      if (!fired) break;
      assert.match(vault.warnings.join(), /no index snapshot was written/);
      failures++;
    }
    t.diagnostic(`${failures} failures injected`);
    assert.ok(failures >= 7);
  } finally {
    directory.remove();
  }
});
