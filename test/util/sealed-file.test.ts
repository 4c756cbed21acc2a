import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { SEALED_BYTES_MAX } from "../../src/util/bounded-file.ts";
import { loadHash } from "../../src/util/hash.ts";
import { readSealed, writeSealed } from "../../src/util/sealed-file.ts";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "minivault-sealed-"));
const file = path.join(folder, "FILE");
const document = { format: "test", version: 1, text: "ü\n", list: [1, 2] };
before(loadHash);
after(() => fs.rmSync(folder, { recursive: true }));

test("sealed file: what is written is read; a rest of an interrupted write does not matter", () => {
  assert.equal(readSealed(file, "test", 1), null);
  fs.writeFileSync(`${file}.new`, "half");
  writeSealed(file, document);
  assert.deepEqual(readSealed(file, "test", 1), document);
  writeSealed(file, { ...document, list: [] } as never);
  assert.deepEqual(readSealed(file, "test", 1)?.list, []);
  assert.deepEqual(fs.readdirSync(folder), ["FILE"]);
});

test("sealed file: every flipped byte and every cut is noticed", () => {
  writeSealed(file, document);
  const whole = fs.readFileSync(file);
  for (let offset = 0; offset < whole.length; offset++) {
    const flipped = Buffer.from(whole);
    flipped[offset] ^= 1;
    fs.writeFileSync(file, flipped);
    assert.throws(() => readSealed(file, "test", 1), /is damaged, or no file of minivault/, `byte ${offset}`);
    fs.writeFileSync(file, whole.subarray(0, offset));
    assert.throws(
      () => readSealed(file, "test", 1),
      /is damaged, or no file of minivault/,
      `cut at ${offset}`,
    );
  }
});

test("sealed file: another kind or version of file is named", () => {
  writeSealed(file, { ...document, version: 2 } as never);
  assert.throws(() => readSealed(file, "test", 1), /has version 2; this program reads 1/);
  assert.throws(() => readSealed(file, "other", 1), /is no other file/);
});

test("sealed file: one that has grown without bound is named, and not read", () => {
  writeSealed(file, document);
  // Sparse: to read it would take the memory of a machine.
  fs.truncateSync(file, 2 ** 40);
  assert.throws(() => readSealed(file, "test", 1), /FILE is damaged: it has 1099511627776 bytes/);
  fs.truncateSync(file, SEALED_BYTES_MAX);
  assert.throws(() => readSealed(file, "test", 1), /FILE is damaged, or no file of minivault/);
});
