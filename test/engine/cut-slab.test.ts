/**
 * A slab that another program cuts while the shard has it open and mapped, at every page: the process lives, nothing wrong is read, and no key that
 * is gone is called absent, before and after writes that give the file holes, after compaction and after a restart.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { verifyDirectory } from "../../src/engine/check/verify.ts";
import { shardDirectory } from "../../src/engine/directory/store-file.ts";
import { slabName } from "../../src/engine/slabs/files.ts";
import { isEndVisible } from "../../src/engine/slabs/record-end.ts";
import { PAGE_BYTES } from "../../src/engine/slabs/residence.ts";
import { withEnd } from "../../src/format/fields/end.ts";
import { NO_TRAILER, writeFields } from "../../src/format/fields/trailer.ts";
import { FIELD_METADATA, FIELD_ORIGIN, UNIT_SHIFT } from "../../src/format/offsets.ts";
import {
  isPlausible,
  originOf,
  recordSource,
  trailerBytesOf,
  unitsAt,
  valueBytesOf,
  valueOffset,
} from "../../src/format/record.ts";
import { Random, randomSeed } from "../random.ts";
import { Harness, inDirectory, SMALL_SLAB_BYTES } from "./harness.ts";

const seed = randomSeed({ diagnostic: (message) => console.log(`# ${message}`) });

type Model = Map<string, Buffer>;

/** Keys of many lengths, so that records lie across pages in all ways; one large value; one deleted key. Fills one slab and begins another. */
function fill(vault: Harness, random: Random): Model {
  const model: Model = new Map();
  const put = (key: string, value: Buffer): void => {
    assert.equal(vault.put(key, value).error, null);
    model.set(key, value);
  };
  for (let i = 0; i < 80; i++) put(`k${i}`, random.bytes(200 + random.below(1100)));
  const large = random.bytes(13_000);
  assert.equal(vault.upload("large", large).error, null);
  model.set("large", large);
  put("gone", Buffer.from("x"));
  assert.equal(vault.remove("gone").error, null);
  model.delete("gone");
  return model;
}

/** Every key is what it was, or damaged. Answers how many are damaged. */
function readAll(vault: Harness, model: Model, what: string): number {
  let damaged = 0;
  for (const [key, value] of model) {
    const read = vault.read(key);
    if (read.state === "damaged") damaged++;
    else {
      assert.equal(read.state, "found", `${what}: ${key} (seed ${seed})`);
      if (read.state === "found")
        assert.ok(read.value.equals(value), `${what}: ${key} is wrong (seed ${seed})`);
    }
  }
  // Absent is right; damaged is all that can be said where its tombstone is gone.
  assert.notEqual(vault.read("gone").state, "found", `${what}: a deleted key is back (seed ${seed})`);
  return damaged;
}

function slabsOf(directory: string): string[] {
  const folder = shardDirectory(directory, 0);
  return fs
    .readdirSync(folder)
    .filter((name) => name.endsWith(".slab"))
    .map((name) => path.join(folder, name));
}

for (const [number, name] of ["the sealed slab", "the open slab"].entries())
  for (let pages = 0; pages < SMALL_SLAB_BYTES / PAGE_BYTES; pages++)
    test(`cut slab: ${name} ends after page ${pages} while it is in use`, () =>
      inDirectory(async (directory) => {
        const random = new Random(seed + pages);
        const vault = await Harness.open(directory);
        const model = fill(vault, random);
        await vault.settle();
        // All is checked and in memory: what is read from now on is believed, unless the cut is noticed.
        assert.equal(readAll(vault, model, "before"), 0);
        const files = slabsOf(directory);
        assert.equal(files.length, 2);
        while (vault.shard.state.slabs.bySequence(1)?.sealed !== true)
          await new Promise((resolve) => setImmediate(resolve));
        const file = files[number];
        fs.truncateSync(file, pages * PAGE_BYTES);
        // Half of the runs write before anybody reads: that would give the file holes.
        if (pages % 2 === 0) readAll(vault, model, "after");
        const acknowledged: Model = new Map();
        for (let i = 0; i < 6; i++) {
          const value = random.bytes(400);
          if (vault.put(`new${i}`, value).error === null) acknowledged.set(`new${i}`, value);
        }
        assert.ok(acknowledged.size >= 5, "only one write may meet the cut");
        const damaged = readAll(vault, model, "after writes");
        assert.equal(readAll(vault, acknowledged, "written since"), 0);
        vault.shard.look();
        await vault.settle();
        assert.equal(vault.figure("brokenSlabs"), 1);
        assert.ok(
          vault.warnings.some((warning) => warning.includes(path.basename(file))),
          vault.warnings.join("\n"),
        );
        assert.equal(readAll(vault, acknowledged, "written since, later"), 0);
        // A damaged key can be written again.
        const again = [...model.keys()].find((key) => vault.read(key).state === "damaged");
        if (again !== undefined) {
          assert.equal(vault.put(again, "again").error, null);
          model.set(again, Buffer.from("again"));
          assert.equal(vault.read(again).state, "found");
        }
        if (pages < 4) assert.ok(damaged > 0, "records were in what is gone");
        await vault.shard.close();
        const reopened = await Harness.open(directory);
        readAll(reopened, model, "after a restart");
        readAll(reopened, acknowledged, "written since, after a restart");
        await reopened.shard.close();
        let places = 0;
        await verifyDirectory(directory, {
          damage: () => {
            places++;
          },
          note: () => {},
          progress: () => {},
        });
        if (damaged > 0) assert.ok(places > 0, "verify finds it");
      }));

/** What a file that is cut there shows of its bytes: the rest of the page is zeros. */
function cutWithin(bytes: Uint8Array, cut: number): Uint8Array {
  const page = bytes.slice();
  return page.fill(0, cut, Math.ceil((cut + 1) / PAGE_BYTES) * PAGE_BYTES);
}

test("cut slab: within a page, the end of each record shows it at every byte", () =>
  inDirectory(async (directory) => {
    const vault = await Harness.open(directory);
    const end = 1_795_986_119_592;
    const text = Buffer.from("x-meta-a: b");
    const described = withEnd(writeFields([{ type: FIELD_METADATA, bytes: text }]), end);
    const originated = writeFields([{ type: FIELD_ORIGIN, bytes: Buffer.from([3, 0, 0, 0]) }]);
    for (const [key, value, trailer] of [
      ["plain", "value", NO_TRAILER],
      ["zeros", Buffer.alloc(40), NO_TRAILER],
      ["ends", "value", withEnd(NO_TRAILER, end)],
      ["ends, zeros", Buffer.alloc(9), withEnd(NO_TRAILER, end)],
      ["described", "value", described],
      ["copied", "value", originated],
      ["copied, ends", "value", Buffer.concat([originated, withEnd(NO_TRAILER, end)])],
      ["empty", "", NO_TRAILER],
    ] as const)
      assert.equal(vault.put(key, value, { trailer: Buffer.from(trailer) }).error, null, key);
    assert.equal(vault.remove("plain").error, null);
    await vault.shard.close();
    const bytes = new Uint8Array(fs.readFileSync(slabsOf(directory)[0]));
    const whole = recordSource(bytes);
    let records = 0;
    let visible = 0;
    for (let unit = PAGE_BYTES >>> UNIT_SHIFT; isPlausible(whole, unit, bytes.length >>> UNIT_SHIFT); ) {
      const after = unit + unitsAt(whole, unit);
      const to = valueOffset(whole, unit) + valueBytesOf(whole, unit) + trailerBytesOf(whole, unit);
      // The number of an origin is of no value.
      const own = originOf(whole, unit) > 0 && trailerBytesOf(whole, unit) === 8 ? to - 4 : to;
      const from = unit << UNIT_SHIFT;
      for (let cut = from; cut < to; cut++) {
        const seen = cutWithin(bytes, cut);
        const isSame = Buffer.compare(seen.subarray(from, own), bytes.subarray(from, own)) === 0;
        if (!isSame)
          assert.equal(isEndVisible(recordSource(seen), unit), false, `unit ${unit}, byte ${cut - from}`);
      }
      if (isEndVisible(whole, unit)) visible++;
      records++;
      unit = after;
    }
    assert.ok(records >= 9, `${records} records`);
    assert.ok(visible >= 7, `${visible} of ${records} need no checksum`);
  }));

for (const [number, name] of ["the sealed slab", "the open slab"].entries())
  test(`cut slab: ${name} ends within a page while it is in use, and nobody has looked yet`, () =>
    inDirectory(async (folder) => {
      const random = new Random(seed + 1000);
      for (let round = 0; round < 12; round++) {
        const directory = path.join(folder, String(round));
        fs.mkdirSync(directory, { mode: 0o700 });
        const vault = await Harness.open(directory);
        const model = fill(vault, random);
        await vault.settle();
        assert.equal(readAll(vault, model, "before"), 0);
        fs.truncateSync(slabsOf(directory)[number], PAGE_BYTES + random.below(SMALL_SLAB_BYTES - PAGE_BYTES));
        const keys = [...model.entries()];
        // Mostly the last page is met before those that are missing.
        const order = random.below(3) === 0 ? keys : keys.reverse();
        readAll(vault, new Map(order), `round ${round}`);
        await vault.shard.close();
      }
    }));

test("cut slab: compaction copies nothing out of a page that is missing", () =>
  inDirectory(async (directory) => {
    const random = new Random(seed);
    const vault = await Harness.open(directory);
    const model: Model = new Map();
    for (let i = 0; i < 400; i++) {
      const value = random.bytes(700);
      assert.equal(vault.put(`k${i}`, value).error, null);
      model.set(`k${i}`, value);
    }
    // Mostly dead, so that all of these slabs are to be compacted.
    const kept: Model = new Map();
    for (const [key, value] of model) {
      if (kept.size < 40 && random.below(8) === 0) kept.set(key, value);
      else assert.equal(vault.remove(key).error, null);
    }
    readAll(vault, kept, "before");
    for (const file of slabsOf(directory).slice(0, -1)) fs.truncateSync(file, 5 * PAGE_BYTES);
    for (let round = 0; round < 20; round++) {
      await vault.settle();
      vault.put(`more${round}`, random.bytes(300));
    }
    readAll(vault, kept, "after");
    await vault.shard.close();
    const reopened = await Harness.open(directory);
    readAll(reopened, kept, "after a restart");
    await reopened.shard.close();
  }));

test("cut slab: a file that gets its bytes back is read again after a while", (t) =>
  inDirectory(async (directory) => {
    const vault = await Harness.open(directory);
    assert.equal(vault.put("key", "value").error, null);
    const file = path.join(shardDirectory(directory, 0), slabName(1));
    const whole = fs.readFileSync(file);
    fs.truncateSync(file, 0);
    assert.equal(vault.read("key").state, "damaged");
    fs.writeFileSync(file, whole);
    vault.reader.maps.release();
    assert.equal(vault.read("key").state, "damaged", "the map still has zeros there");
    const now = performance.now();
    t.mock.method(performance, "now", () => now + 60_000);
    vault.reader.maps.release();
    assert.equal(vault.read("key").state, "found");
    await vault.shard.close();
  }));

for (const sealed of [true, false])
  test(`unreadable sectors: a start over ${sealed ? "a sealed" : "an open"} slab reads the rest, and takes nothing that is gone for absent`, (t) =>
    inDirectory(async (directory) => {
      const random = new Random(seed);
      const vault = await Harness.open(directory);
      const model = fill(vault, random);
      await vault.crash();
      const bad = path.join(shardDirectory(directory, 0), slabName(sealed ? 1 : 2));
      const { dev, ino } = fs.statSync(bad);
      const original = fs.readSync;
      // Page 2 cannot be read, by whatever it is asked for.
      t.mock.method(
        fs,
        "readSync",
        (fd: number, bytes: Uint8Array, at: number, count: number, from: number) => {
          const stat = fs.fstatSync(fd);
          if (stat.dev === dev && stat.ino === ino && from < 3 * PAGE_BYTES && from + count > 2 * PAGE_BYTES)
            throw Object.assign(new Error("EIO: i/o error, read"), { code: "EIO" });
          return original(fd, bytes, at, count, from);
        },
      );
      // Without its table, so that its records are read.
      fs.writeSync(fs.openSync(bad, "r+"), Buffer.alloc(64), 0, 64, SMALL_SLAB_BYTES - 64);
      const reopened = await Harness.open(directory);
      assert.match(reopened.warnings.join("\n"), /the disk cannot read 1 pages of it/);
      assert.ok(reopened.figure("damaged") > 0);
      readAll(reopened, model, "after a start");
      assert.equal(reopened.put("new", "value").error, null);
      await reopened.shard.close();
      const places: string[] = [];
      await verifyDirectory(directory, {
        damage: ({ text }) => places.push(text),
        note: () => {},
        progress: () => {},
      });
      assert.ok(
        places.some((text) => text.includes("cannot be read: EIO")),
        places.join("\n"),
      );
    }));
