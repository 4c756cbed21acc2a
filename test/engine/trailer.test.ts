/**
 * Extended records in the engine: their fields stay through everything that copies a record, whether this program knows them or not.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { applyManifest } from "../../src/engine/shard/writes.ts";
import { type Field, fieldOf, isTrailer, readFields, writeFields } from "../../src/format/fields/trailer.ts";
import { type ChunkRef, writeManifest } from "../../src/format/manifest.ts";
import { MANIFEST_ENTRY_BYTES, MANIFEST_HEADER_BYTES, TRAILER_BYTES_MAX } from "../../src/format/offsets.ts";
import { createFrame, frameBytes } from "../../src/format/write-record.ts";
import { RECORD_KEY_BYTES_MAX } from "../../src/util/limits.ts";
import { Random, randomSeed } from "../random.ts";
import { Harness, inDirectory, SMALL_CHUNK_BYTES } from "./harness.ts";

/** Of types that mean nothing to this program: one of an operation (FIELD_ONCE) becomes another one, for one. */
const UNKNOWN_TYPES = [0x100, 0xff00] as const;

function randomFields(random: Random): Field[] {
  const [from, to] = UNKNOWN_TYPES;
  return Array.from({ length: 1 + random.below(4) }, () => ({
    type: from + random.below(to - from),
    bytes: Buffer.alloc(random.below(3) === 0 ? 0 : random.below(900), random.below(256)),
  }));
}

test("trailer: fields are read as they were written; what does not add up is none", (t) => {
  const random = new Random(randomSeed(t));
  for (let run = 0; run < 300; run++) {
    const fields = randomFields(random);
    const trailer = writeFields(fields);
    assert.ok(isTrailer(trailer));
    const read = readFields(trailer) as Field[];
    assert.deepEqual(
      read.map(({ type, bytes }) => [type, Buffer.from(bytes)]),
      fields.map(({ type, bytes }) => [type, Buffer.from(bytes)]),
    );
    const { type } = fields[random.below(fields.length)];
    const first = fields.find((field) => field.type === type) as Field;
    assert.ok(Buffer.from(fieldOf(trailer, type) as Uint8Array).equals(Buffer.from(first.bytes)));
    const ends = new Set([0]);
    for (const [i, { bytes }] of fields.entries()) ends.add([...ends][i] + 4 + bytes.length);
    for (let cut = 0; cut < trailer.length; cut++)
      assert.equal(readFields(trailer.subarray(0, cut)) !== null, ends.has(cut), `cut at ${cut}`);
  }
  assert.ok(isTrailer(new Uint8Array(0)));
  assert.ok(!isTrailer(new Uint8Array(TRAILER_BYTES_MAX + 4)));
  assert.throws(() => writeFields([{ type: 1, bytes: new Uint8Array(TRAILER_BYTES_MAX) }]));
});

test("trailer: fields of values of all sizes stay through overwriting, compaction, restarts and crashes", async (t) => {
  const random = new Random(randomSeed(t));
  await inDirectory(async (directory) => {
    const options = { snapshotEntriesMin: 1 };
    let vault = await Harness.open(directory, options);
    const expected = new Map<string, { value: Buffer; trailer: Uint8Array }>();
    let isCompacted = false;
    // Random keys are overwritten, so sooner or later slabs are mostly dead and compaction copies the rest.
    for (let step = 0; step < 500 || !isCompacted; step++) {
      const key = `key ${random.below(80)}`;
      const trailer = random.below(3) === 0 ? new Uint8Array(0) : writeFields(randomFields(random));
      const value = Buffer.alloc(random.below(6) === 0 ? random.below(20_000) : random.below(900), step);
      const outcome =
        value.length > SMALL_CHUNK_BYTES
          ? vault.upload(key, value, { trailer })
          : vault.put(key, value, { trailer });
      assert.equal(outcome.error, null);
      expected.set(key, { value, trailer });
      if (random.below(80) === 0) await vault.settle();
      isCompacted ||= vault.figure("compactedBytes") > 0;
      if (random.below(60) > 0) continue;
      await (random.below(2) === 0 ? vault.shard.close() : vault.crash());
      vault = await Harness.open(directory, options);
      assert.deepEqual(vault.warnings, []);
      for (const [name, { value, trailer }] of expected) {
        const read = vault.read(name);
        assert.ok(read.state === "found" && read.value.equals(value), name);
        assert.ok(read.trailer.equals(trailer), `fields of ${name}`);
      }
    }
    for (const [name, { trailer }] of expected) {
      const read = vault.read(name);
      assert.ok(read.state === "found" && read.trailer.equals(trailer), `fields of ${name}`);
    }
    await vault.shard.close();
  });
});

test("trailer: a tombstone has none, and what replaces a value keeps nothing of its fields", () =>
  inDirectory(async (directory) => {
    const vault = await Harness.open(directory);
    vault.put("key", "one", { trailer: writeFields([{ type: 9, bytes: Buffer.from("x") }]) });
    vault.put("key", "two");
    const read = vault.read("key");
    assert.ok(read.state === "found" && read.trailer.length === 0);
    vault.remove("key");
    assert.equal(vault.read("key").state, "absent");
    await vault.shard.close();
  }));

test("format 2: keys as long as a record can have, found again after a restart", () =>
  inDirectory(async (directory) => {
    const key = "k".repeat(RECORD_KEY_BYTES_MAX);
    let vault = await Harness.open(directory);
    assert.equal(vault.put(key, "small").error, null);
    assert.equal(vault.upload(`${key.slice(1)}l`, Buffer.alloc(9000, 7)).error, null);
    await vault.crash();
    vault = await Harness.open(directory);
    const small = vault.read(key);
    const large = vault.read(`${key.slice(1)}l`);
    assert.ok(small.state === "found" && small.value.toString() === "small");
    assert.ok(large.state === "found" && large.value.equals(Buffer.alloc(9000, 7)));
    await vault.shard.close();
  }));

test("format 2: a manifest of chunks of any length, moved by compaction and read back", async (t) => {
  const random = new Random(randomSeed(t));
  await inDirectory(async (directory) => {
    let vault = await Harness.open(directory);
    const parts = Array.from({ length: 12 }, (_, number) =>
      Buffer.alloc(1 + random.below(SMALL_CHUNK_BYTES), number + 1),
    );
    const whole = Buffer.concat(parts);
    assert.equal(writeParts(vault, "parts", parts).error, null);
    await vault.sealed();
    await vault.settle();
    assert.ok(vault.figure("compactedBytes") > 0);
    const moved = vault.read("parts");
    assert.ok(moved.state === "found" && moved.value.equals(whole));
    await vault.shard.close();
    vault = await Harness.open(directory);
    const read = vault.read("parts");
    assert.ok(read.state === "found" && read.value.equals(whole));
    await vault.shard.close();
  });
});

/** A large value whose chunks are these, as one that is put together from parts. */
function writeParts(vault: Harness, key: string, parts: readonly Uint8Array[]) {
  const { batch } = vault.shard;
  const write = vault.write(key, {});
  const chunks = parts.map((part, number): ChunkRef => {
    const frame = createFrame(new Uint8Array(frameBytes(part.length)), write.key.length, part.length);
    frame.value.set(part);
    const chunk = batch.appendChunk(write, number, frame, part.length, () => assert.fail("a chunk is lost"));
    // Most of each slab is dead, so that compaction moves the chunks.
    vault.upload("churn", Buffer.alloc(30_000, number));
    return chunk;
  });
  const manifest = new Uint8Array(MANIFEST_HEADER_BYTES + MANIFEST_ENTRY_BYTES * chunks.length);
  writeManifest(
    manifest,
    0,
    parts.reduce((sum, part) => sum + part.length, 0),
    chunks,
  );
  const outcome = applyManifest(batch, write, manifest, chunks);
  vault.shard.commit();
  return outcome;
}
