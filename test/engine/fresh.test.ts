/**
 * The fresh bit against a list of keys as simple as can be: at every moment each key that the index has is in the list, or its record lies
 * beyond the watermark and is fresh (FORMAT.md, "Fresh").
 */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { upgradeStoreFile } from "../../src/engine/directory/store-file.ts";
import { dropTombstone, prepare } from "../../src/engine/shard/replica.ts";
import { FIGURE, logPlace } from "../../src/engine/slabs/figures.ts";
import { nodeIo } from "../../src/engine/slabs/io.ts";
import type { SlabMap } from "../../src/engine/slabs/maps.ts";
import { scanSlab } from "../../src/engine/slabs/scan.ts";
import { type Ballot, isFresh, keyOf, placeOf, typeOf } from "../../src/format/record.ts";
import { isAbsence, isIndexed } from "../../src/format/record-types.ts";
import { decodeFooter, tableFresh, tableType, tableUnit, tableWords } from "../../src/format/slab.ts";
import { Random, randomSeed } from "../random.ts";
import { Harness, inDirectory } from "./harness.ts";

const RUNS = Number(process.env.RUNS ?? 6);
const STEPS = 400;
const KEYS = 40;

/** Who keeps a list of keys: reads what is fresh beyond the watermark, then raises it to the end of the log. */
class Lister {
  readonly keys = new Set<string>();
  watermark = 0;

  /** Looks through the log as the catalog will: by the tables of sealed slabs, and of the open one. */
  advance(vault: Harness): void {
    const { state, log } = vault.shard;
    for (const { sequence } of state.slabs.all()) {
      const map = state.lookup.maps.bySequence(sequence);
      if (map === null) continue;
      for (const [word, unit] of rowsOf(vault, sequence, map)) {
        const place = logPlace({ sequence, unit });
        const fresh = tableFresh(word);
        assert.equal(isFresh(map, unit), fresh, "table and record agree");
        if (isIndexed(tableType(word)) && fresh && place >= this.watermark)
          this.keys.add(Buffer.from(keyOf(map, unit)).toString());
      }
    }
    const { sequence, endUnit: unit } = log.appender;
    this.raise(vault, logPlace({ sequence, unit }));
  }

  /** A list is built anew: from the index, at once. */
  rebuild(vault: Harness): void {
    this.keys.clear();
    for (const { key } of indexed(vault)) this.keys.add(key);
    const { sequence, endUnit: unit } = vault.shard.log.appender;
    this.raise(vault, logPlace({ sequence, unit }));
  }

  raise(vault: Harness, place: number): void {
    this.watermark = place;
    vault.shard.state.figures[FIGURE.watermark] = place;
  }
}

function rowsOf(vault: Harness, sequence: number, map: SlabMap): [word: number, unit: number][] {
  const { store } = vault;
  const footer = decodeFooter(map.bytes, sequence);
  // A full slab gets its table in the background.
  const table =
    footer === null
      ? scanSlab(map, (unit) => placeOf(store.salt, 0, sequence, unit), store.keyHash).table
      : tableWords(map.bytes, footer);
  return Array.from({ length: table.length / 3 }, (_, row) => {
    const word = table[row * 3 + 2];
    return [word, tableUnit(word)];
  });
}

const NAMES = Array.from({ length: KEYS }, (_, number) => `key ${number}`);

/** What the index has of these keys. */
function* indexed(
  vault: Harness,
  keys: readonly string[] = NAMES,
): Iterable<{ key: string; map: SlabMap; unit: number }> {
  const { lookup } = vault.shard.state;
  for (const key of keys) {
    const { bytes, hashA, hashB } = vault.hashes(key);
    lookup.find(bytes, bytes.length, hashA, hashB);
    if (lookup.located) yield { key, map: lookup.map, unit: lookup.unit };
  }
}

function check(vault: Harness, lister: Lister, what: string): void {
  for (const { key, map, unit } of indexed(vault)) {
    // What says that a key is not there may be back after a crash, when no list knows the key any more.
    if (isAbsence(typeOf(map, unit))) continue;
    const beyond = logPlace({ sequence: map.sequence, unit }) >= lister.watermark;
    assert.ok(
      lister.keys.has(key) || (beyond && isFresh(map, unit)),
      `${what}: ${key} (type ${typeOf(map, unit)}) would be in no list`,
    );
  }
}

function ballot(number: number): Ballot {
  return { clockLow: number, clockHigh: 1, node: 7, incarnation: 1 };
}

/** A step of what changes records. */
function change(vault: Harness, random: Random, step: number, replicated: boolean): void {
  const key = NAMES[random.below(KEYS)];
  const kind = random.below(10);
  const value = Buffer.alloc(random.below(kind === 0 ? 12_000 : 900), step);
  if (!replicated) {
    if (kind === 0) vault.upload(key, value);
    else if (kind < 7) vault.put(key, value);
    else vault.remove(key);
    return;
  }
  const { bytes, hashA, hashB } = vault.hashes(key);
  const ref = { key: bytes, hashA, hashB };
  const write = { ...vault.write(key, { verb: kind < 7 ? "put" : "delete" }), ballot: ballot(step) };
  if (kind === 9) prepare(vault.shard.batch, ref, ballot(step));
  else vault.shard.apply(write, kind < 7 ? value : Buffer.alloc(0));
  vault.shard.commit();
  if (kind === 8) dropTombstone(vault.shard.batch, ref, ballot(step));
  vault.shard.commit();
}

for (const replicated of [false, true])
  test(`fresh: a list that reads only fresh records beyond its watermark misses no key${replicated ? " of a replica" : ""}`, async (t) => {
    const random = new Random(randomSeed(t));
    let moved = 0;
    let overwritten = 0;
    for (let run = 0; run < RUNS; run++)
      await inDirectory(async (directory) => {
        const options = { replicated, snapshotEntriesMin: 1 };
        let vault = await Harness.open(directory, options);
        const lister = new Lister();
        for (let step = 1; step <= STEPS; step++) {
          change(vault, random, run * STEPS + step, replicated);
          if (random.below(5) === 0) vault.shard.idle(16 * 1024);
          if (random.below(25) === 0) lister.advance(vault);
          if (random.below(150) === 0) lister.rebuild(vault);
          if (random.below(60) === 0) {
            moved += vault.figure("compactedBytes");
            await (random.below(2) === 0 ? vault.shard.close() : vault.crash());
            vault = await Harness.open(directory, options);
            // What it knows is on its own disk; the shard hears of it later.
            if (random.below(2) === 0) change(vault, random, run * STEPS + step, replicated);
            lister.raise(vault, lister.watermark);
          }
          check(vault, lister, `run ${run}, step ${step}`);
        }
        moved += vault.figure("compactedBytes");
        for (const { map, unit } of indexed(vault)) if (!isFresh(map, unit)) overwritten++;
        await vault.shard.close();
      });
    assert.ok(moved > 0, "compaction had its part");
    assert.ok(overwritten > 0, "not everything is fresh");
  });

test("fresh: the next start says the same of every record, by tables or by records", () =>
  inDirectory(async (directory) => {
    let vault = await Harness.open(directory);
    for (let i = 0; i < 40; i++) {
      vault.put(`key ${i % 9}`, Buffer.alloc(700, i));
      if (i === 20) {
        const { sequence, endUnit: unit } = vault.shard.log.appender;
        vault.shard.state.figures[FIGURE.watermark] = logPlace({ sequence, unit });
      }
    }
    const words = (): number[] =>
      [...vault.shard.state.slabs.all()].flatMap(({ sequence }) =>
        rowsOf(vault, sequence, vault.shard.state.lookup.maps.bySequence(sequence) as SlabMap).map(
          ([word]) => word,
        ),
      );
    const before = words();
    assert.ok(before.some((word) => tableFresh(word)) && before.some((word) => !tableFresh(word)));
    await vault.crash();
    vault = await Harness.open(directory);
    assert.deepEqual(words(), before);
    await vault.shard.close();
  }));

test("fresh: a directory of an older version has no fresh record, and counts its records as fresh once it is upgraded", async () => {
  await inDirectory(async (directory) => {
    cpSync(path.join(__dirname, "../golden/v2"), directory, { recursive: true });
    let vault = await Harness.open(directory);
    vault.put("replaced", "third");
    const keys = ["replaced", "new", "greeting", "big"];
    for (const { map, unit } of indexed(vault, keys)) assert.equal(isFresh(map, unit), false);
    await vault.shard.close();
    assert.equal(upgradeStoreFile(nodeIo, directory), 2);
    vault = await Harness.open(directory);
    vault.put("replaced", "fourth");
    vault.put("new", "first");
    const fresh = [...indexed(vault, keys)]
      .filter(({ map, unit }) => isFresh(map, unit))
      .map(({ key }) => key);
    assert.deepEqual(fresh.sort(), ["new", "replaced"]);
    await vault.shard.close();
  });
});

test("fresh: a key whose tombstone comes back with its slab after a crash is listed again when it is written", () =>
  inDirectory(async (directory) => {
    let vault = await Harness.open(directory);
    const lister = new Lister();
    vault.put("key 0", "gone soon");
    vault.remove("key 0");
    const others = Array.from({ length: 100 }, (_, number) => `other ${number}`);
    for (const key of ["key 1", "key 2", ...others]) vault.put(key, Buffer.alloc(9000));
    const { slabs } = vault.shard.state;
    await vault.sealed();
    // What has been written is paid for by steps that find nothing to do; the first slab is then the cheapest,
    // and a step ends within it.
    for (let step = 0; step < 50; step++) vault.shard.idle(1);
    others.forEach((key, number) => {
      if (number < 5 || number % 7 > 2) vault.remove(key);
    });
    for (let step = 0; [...indexed(vault, ["key 0"])].length > 0; step++) {
      assert.ok(step < 1000, "compaction comes to the tombstone");
      vault.shard.idle(1);
    }
    assert.ok(slabs.bySequence(1) !== undefined, "its slab is still there");
    lister.rebuild(vault);
    assert.ok(!lister.keys.has("key 0"));
    await vault.crash();
    vault = await Harness.open(directory);
    lister.raise(vault, lister.watermark);
    assert.equal([...indexed(vault, ["key 0"])].length, 1, "the tombstone is back");
    vault.put("key 0", "again");
    check(vault, lister, "after the crash");
    await vault.shard.close();
  }));
