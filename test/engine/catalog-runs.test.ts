/**
 * Runs of keys, their merge, and the walk over them, against sorted arrays.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { before, test } from "node:test";
import fc from "fast-check";
import { MemoryRunBuilder } from "../../src/engine/catalog/runs/builder.ts";
import { RunCursor } from "../../src/engine/catalog/runs/cursor.ts";
import { afterAll, type KeyRange, rangeOf, walk } from "../../src/engine/catalog/runs/listing.ts";
import { MergedKeys } from "../../src/engine/catalog/runs/merged-keys.ts";
import { type KeyRun, RunDamage } from "../../src/engine/catalog/runs/run.ts";
import { RUN_FILE_BLOCKS_MAX, RunFiles } from "../../src/engine/catalog/runs/run-files.ts";
import { chooseMerge, TIER_RUNS, tierOf } from "../../src/engine/catalog/runs/tiers.ts";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import { KEY_BLOCK_BYTES, KeyBlock, KeyBlockWriter } from "../../src/format/keys/key-block.ts";
import { loadHash } from "../../src/util/hash.ts";
import { Random, randomSeed } from "../random.ts";
import { inDirectory } from "./harness.ts";

before(loadHash);

/** Keys with every byte, prefixes of each other, delimiters inside, long shared beginnings. */
const anyKey = fc
  .oneof(
    fc.uint8Array({ minLength: 1, maxLength: 12 }),
    fc.string({ unit: "binary", minLength: 1, maxLength: 8 }).map((text) => Buffer.from(text)),
    fc
      .array(fc.constantFrom("a", "b", "/", "//", "\u00ff", "\u{10ffff}", "a/b/"), {
        minLength: 1,
        maxLength: 6,
      })
      .map((parts) => Buffer.from(parts.join(""))),
    fc.nat(1100).map((length) => Buffer.alloc(length + 1, "p")),
    fc.nat(255).map((byte) => Buffer.from([255, 255, byte])),
  )
  .map((bytes) => Buffer.from(bytes));
const anyKeys = fc.uniqueArray(anyKey, {
  maxLength: 200,
  comparator: (a, b) => a.equals(b),
});

function sorted(keys: readonly Buffer[]): Buffer[] {
  const unique = new Map(keys.map((key) => [key.toString("latin1"), key]));
  return [...unique.values()].sort(Buffer.compare);
}

function memoryRun(keys: readonly Buffer[]): KeyRun | null {
  const builder = new MemoryRunBuilder();
  for (const key of sorted(keys)) builder.add(key, 0, key.length);
  return builder.end();
}

function currentKey({ bytes, from, to }: RunCursor): string {
  return Buffer.from(bytes.subarray(from, to)).toString("latin1");
}

function names(keys: readonly Buffer[]): string[] {
  return keys.map((key) => key.toString("latin1"));
}

test("catalog runs: a cursor goes to any key, forwards and backwards", (t) => {
  const seed = randomSeed(t);
  fc.assert(
    fc.property(anyKeys, anyKey, (keys, target) => {
      const run = memoryRun(keys);
      const all = sorted(keys);
      if (run === null) return void assert.equal(all.length, 0);
      const cursor = new RunCursor(run);
      const forward: string[] = [];
      for (cursor.seek(target, target.length); cursor.valid; cursor.next()) forward.push(currentKey(cursor));
      assert.deepEqual(forward, names(all.filter((key) => Buffer.compare(key, target) >= 0)));
      const backward: string[] = [];
      for (cursor.seekBefore(target, target.length); cursor.valid; cursor.previous())
        backward.push(currentKey(cursor));
      assert.deepEqual(backward, names(all.filter((key) => Buffer.compare(key, target) < 0)).reverse());
      cursor.seekBefore(null, 0);
      assert.equal(currentKey(cursor), all[all.length - 1].toString("latin1"));
    }),
    { seed },
  );
});

test("catalog runs: the block of FORMAT.md", () => {
  const writer = new KeyBlockWriter();
  for (const key of ["a/1", "a/2", "b"]) assert.ok(writer.add(Buffer.from(key), 0, key.length));
  writer.seal(0);
  const hex = "13 00 03 00  00 03 61 2f 31  02 01 32  00 01 62".replaceAll(" ", "");
  assert.equal(Buffer.from(writer.bytes.subarray(4, 19)).toString("hex"), hex);
  assert.ok(
    readFileSync(path.join(__dirname, "../../src/format/FORMAT.md"), "utf8").includes(
      "13 00 03 00  00 03 61 2f 31  02 01 32  00 01 62",
    ),
  );
  assert.ok(new KeyBlock().read(writer.bytes, 0));
  assert.ok(!new KeyBlock().read(writer.bytes, 1));
});

test("catalog runs: several runs as one have each key once", (t) => {
  const seed = randomSeed(t);
  fc.assert(
    fc.property(fc.array(anyKeys, { maxLength: 6 }), anyKey, (groups, target) => {
      const runs = groups.map(memoryRun).filter((run) => run !== null);
      const all = sorted(groups.flat());
      const merged = new MergedKeys(runs);
      const forward: string[] = [];
      for (merged.seek(target, target.length); merged.valid; merged.advance())
        forward.push(currentKey(merged.current));
      assert.deepEqual(forward, names(all.filter((key) => Buffer.compare(key, target) >= 0)));
      const backward: string[] = [];
      for (merged.seekBefore(null, 0); merged.valid; merged.advance())
        backward.push(currentKey(merged.current));
      assert.deepEqual(backward, names(all).reverse());
    }),
    { seed },
  );
});

/** What a walk gives in pages of `limit`, with stops after `stop` keys. */
function pages(
  run: KeyRun | null,
  range: KeyRange,
  live: ReadonlySet<string>,
  limit: number,
  stop: number,
): string[] {
  const found: string[] = [];
  let left: KeyRange | null = range;
  for (let page = 0; left !== null; page++) {
    assert.ok(page < 10_000, "pages without end");
    let taken = 0;
    let seen = 0;
    const isThere = (key: Uint8Array): boolean => live.has(Buffer.from(key).toString("latin1"));
    left = walk(new MergedKeys(run === null ? [] : [run]), left, {
      key(key) {
        if (!isThere(key)) return false;
        taken++;
        found.push(`k${Buffer.from(key).toString("latin1")}`);
        return true;
      },
      isThere,
      prefix(prefix) {
        taken++;
        found.push(`p${Buffer.from(prefix).toString("latin1")}`);
      },
      isOver: () => seen++ >= stop,
      isFull: () => taken >= limit,
    });
  }
  return found;
}

/** The same, thought simply. */
function expected(keys: readonly Buffer[], prefix: Buffer, delimiter: Buffer | null): string[] {
  const found: string[] = [];
  for (const key of sorted(keys)) {
    if (!key.subarray(0, prefix.length).equals(prefix)) continue;
    const at = delimiter === null ? -1 : key.indexOf(delimiter, prefix.length);
    const entry =
      at < 0 || delimiter === null
        ? `k${key.toString("latin1")}`
        : `p${key.toString("latin1", 0, at + delimiter.length)}`;
    if (found[found.length - 1] !== entry) found.push(entry);
  }
  return found;
}

test("catalog listing: prefixes, delimiters, both directions, pages of any size", (t) => {
  const seed = randomSeed(t);
  const short = fc.oneof(
    fc.constant(Buffer.alloc(0)),
    anyKey.map((key) => key.subarray(0, 2)),
  );
  const delimiters = fc.option(
    fc.oneof(
      fc.constantFrom("/", "//", "\u00ff").map((text) => Buffer.from(text)),
      fc.nat(255).map((byte) => Buffer.from([byte])),
    ),
  );
  const numbers = fc.integer({ min: 1, max: 20 });
  fc.assert(
    fc.property(
      anyKeys,
      anyKeys,
      short,
      delimiters,
      fc.boolean(),
      numbers,
      numbers,
      (live, dead, prefix, delimiter, reverse, limit, stop) => {
        const isLive = new Set(names(live));
        const found = pages(
          memoryRun([...live, ...dead]),
          rangeOf(prefix, reverse, delimiter),
          isLive,
          limit,
          stop,
        );
        const wanted = expected(live, prefix, delimiter);
        assert.deepEqual(found, reverse ? wanted.reverse() : wanted);
      },
    ),
    { seed, numRuns: 300 },
  );
});

test("catalog listing: what follows all that begin with a prefix", () => {
  assert.equal(Buffer.from(afterAll(Buffer.from("a")) ?? []).toString(), "b");
  assert.equal(Buffer.from(afterAll(Buffer.from([97, 255, 255])) ?? []).toString(), "b");
  assert.equal(afterAll(Buffer.from([255, 255])), null);
  assert.equal(afterAll(Buffer.alloc(0)), null);
});

async function* fill(
  keys: readonly Buffer[],
  add: (key: Uint8Array, from: number, to: number) => void,
): AsyncGenerator<void, boolean> {
  for (const [i, key] of keys.entries()) {
    add(key, 0, key.length);
    if (i % 100 === 99) yield;
  }
  return true;
}

function runFiles(directory: string, io: FileIo = nodeIo): RunFiles {
  return new RunFiles({ io, directory, salt: 12345, next: 1 });
}

function all(run: KeyRun): string[] {
  const cursor = new RunCursor(run);
  const keys: string[] = [];
  for (cursor.seek(new Uint8Array(0), 0); cursor.valid; cursor.next()) keys.push(currentKey(cursor));
  return keys;
}

test("catalog runs: what was written to a file is read back, from each key on", async (t) => {
  const random = new Random(randomSeed(t));
  await inDirectory(async (directory) => {
    const keys = sorted(
      Array.from({ length: 3000 }, () =>
        Buffer.from(`${random.below(50)}/${random.bytes(6).toString("hex")}`),
      ),
    );
    const files = runFiles(directory);
    const run = await files.write((add) => fill(keys, add));
    assert.ok(run !== null && run !== "empty");
    assert.equal(run.keys, keys.length);
    assert.deepEqual(all(run), names(keys));
    const again = files.open([1]);
    const cursor = new RunCursor(again);
    for (let i = 0; i < 300; i++) {
      const at = random.below(keys.length);
      cursor.seek(keys[at], keys[at].length);
      assert.equal(currentKey(cursor), keys[at].toString("latin1"));
      cursor.seekBefore(keys[at], keys[at].length);
      assert.equal(
        cursor.valid ? currentKey(cursor) : null,
        at === 0 ? null : keys[at - 1].toString("latin1"),
      );
    }
    assert.equal(await files.write((add) => fill([], add)), "empty");
  });
});

test("catalog runs: every damaged byte of a file is found, and never a shorter list", async (t) => {
  const random = new Random(randomSeed(t));
  await inDirectory(async (directory) => {
    const keys = Array.from({ length: 800 }, (_, i) => Buffer.from(`key/${String(i).padStart(6, "0")}`));
    const files = runFiles(directory);
    await files.write((add) => fill(keys, add));
    const file = path.join(directory, "0000000001.keys");
    const good = readFileSync(file);
    for (let i = 0; i < 200; i++) {
      const bad = Buffer.from(good);
      bad[random.below(bad.length)] ^= 1 << random.below(8);
      rmSync(file);
      writeFileSync(file, bad);
      assert.throws(() => all(files.open([1])), RunDamage);
    }
    rmSync(file);
    writeFileSync(file, good);
    truncateSync(file, good.length - KEY_BLOCK_BYTES);
    assert.throws(() => all(files.open([1])), RunDamage);
    rmSync(file);
    assert.throws(() => files.open([1]), RunDamage);
  });
});

test("catalog runs: a write that fails leaves nothing behind", async () => {
  await inDirectory(async (directory) => {
    let writes = 0;
    const full = Object.assign(new Error("no space"), { code: "ENOSPC" });
    const io: FileIo = {
      ...nodeIo,
      pwrite(...call) {
        if (++writes > 1) throw full;
        nodeIo.pwrite(...call);
      },
    };
    const keys = Array.from({ length: 60_000 }, (_, i) => Buffer.from(`key/${String(i).padStart(9, "0")}`));
    await assert.rejects(
      runFiles(directory, io).write((add) => fill(keys, add)),
      { code: "ENOSPC" },
    );
    assert.deepEqual(readdirSync(directory), []);
  });
});

test("catalog tiers: full tiers are merged, the lowest first, and all where half may be dead", () => {
  assert.equal(tierOf(1, 100), 0);
  assert.equal(tierOf(100, 100), 0);
  assert.equal(tierOf(101, 100), 1);
  assert.equal(tierOf(100 * TIER_RUNS, 100), 1);
  assert.equal(chooseMerge([], 100, 0), null);
  assert.equal(chooseMerge([100, 100, 100], 100, 1000), null);
  assert.deepEqual(chooseMerge([100, 400, 90, 1, 400, 100, 400, 400], 100, 1000), [0, 2, 3, 5]);
  assert.deepEqual(chooseMerge([400, 400, 400, 400], 100, 1000), [0, 1, 2, 3]);
  assert.deepEqual(chooseMerge([400, 90], 100, 100), [0, 1]);
  assert.ok(RUN_FILE_BLOCKS_MAX * KEY_BLOCK_BYTES < 64 * 1024 * 1024);
});
