import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { FIRST_UNIT, UNIT_BYTES } from "../../src/format/layout.ts";
import { recordSource, unitsAt } from "../../src/format/record.ts";
import { Harness, temporaryDirectory } from "../engine/harness.ts";
import { CONTENT, writeGoldenStore } from "./store.ts";

const CURRENT = "v1";

test("golden: this program writes the very bytes of the current format version", async () => {
  const directory = temporaryDirectory();
  try {
    await writeGoldenStore(directory.path);
    const golden = path.join(__dirname, CURRENT);
    const files = (root: string): string[] => readdirSync(path.join(root, "shard-000")).sort();
    assert.deepEqual(files(directory.path), files(golden));
    for (const file of ["STORE", ...files(golden).map((name) => `shard-000/${name}`)])
      assert.ok(
        readFileSync(path.join(directory.path, file)).equals(readFileSync(path.join(golden, file))),
        `${file} differs`,
      );
  } finally {
    directory.remove();
  }
});

for (const version of readdirSync(__dirname).filter((name) => /^v\d+$/.test(name))) {
  test(`golden: a directory of format ${version} opens and holds what it held`, async () => {
    const directory = temporaryDirectory();
    try {
      cpSync(path.join(__dirname, version), directory.path, { recursive: true });
      const vault = await Harness.open(directory.path);
      for (const [key, value] of Object.entries(CONTENT)) {
        const read = vault.read(key);
        if (value === null) assert.equal(read.state, "absent", key);
        else assert.ok(read.state === "found" && read.value.equals(value), key);
      }
      assert.equal(vault.figure("keys"), 5);
      assert.deepEqual(vault.warnings, []);
      await vault.shard.close();
    } finally {
      directory.remove();
    }
  });
}

/** The first record of the golden store as FORMAT.md shows it. */
function firstRecord(): string {
  const slab = readFileSync(path.join(__dirname, CURRENT, "shard-000/0000000001.slab"));
  const source = recordSource(new Uint8Array(slab));
  const record = slab.subarray(
    FIRST_UNIT * UNIT_BYTES,
    (FIRST_UNIT + unitsAt(source, FIRST_UNIT)) * UNIT_BYTES,
  );
  const lines: string[] = [];
  for (let at = 0; at < record.length; at += 16) {
    const row = record.subarray(at, at + 16);
    const hex = row.toString("hex").replace(/(..)(?!$)/g, "$1 ");
    const text = row.toString("latin1").replace(/[^ -~]/g, ".");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${hex}  ${text}`);
  }
  return lines.join("\n");
}

test("golden: the record in FORMAT.md is the first one of the golden store", () => {
  const format = readFileSync(path.join(__dirname, "../../src/format/FORMAT.md"), "utf8");
  assert.ok(format.includes(firstRecord()), `FORMAT.md should show\n${firstRecord()}`);
});
