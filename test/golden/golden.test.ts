import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { writeFields } from "../../src/format/fields/trailer.ts";
import {
  FIRST_UNIT,
  TYPE_ENDED,
  TYPE_FLOOR,
  TYPE_FORGOTTEN,
  TYPE_PROMISE,
  TYPE_TOMBSTONE,
  TYPE_VALUE,
  UNIT_BYTES,
} from "../../src/format/offsets.ts";
import { isOutranked, isPlausible, keyOf, recordSource, typeOf, unitsAt } from "../../src/format/record.ts";
import { indexPartitionOf } from "../../src/util/hash.ts";
import { Harness, temporaryDirectory } from "../engine/harness.ts";
import { contentOf, FIELDS, goldenBallot, writeGoldenReplica, writeGoldenStore } from "./store.ts";

const VERSIONS = [1, 2, 3, 4];
const isSlab = (name: string): boolean => name.endsWith(".slab");

for (const version of VERSIONS)
  test(`golden: this program writes the very bytes of format version ${version}`, async () => {
    const directory = temporaryDirectory();
    try {
      await writeGoldenStore(directory.path, version);
      const golden = path.join(__dirname, `v${version}`);
      const files = (root: string): string[] => readdirSync(path.join(root, "shard-000")).sort();
      // Version 1 is from a time without lists of slabs: this program adds them, and says so in STORE.
      const known = (name: string): boolean => version > 1 || isSlab(name);
      assert.deepEqual(files(directory.path).filter(known), files(golden));
      for (const file of [
        ...(version > 1 ? ["STORE"] : []),
        ...files(golden).map((name) => `shard-000/${name}`),
      ])
        assert.ok(
          readFileSync(path.join(directory.path, file)).equals(readFileSync(path.join(golden, file))),
          `${file} differs`,
        );
    } finally {
      directory.remove();
    }
  });

for (const version of VERSIONS) {
  test(`golden: a directory of format version ${version} opens, holds what it held and keeps its version`, async () => {
    const directory = temporaryDirectory();
    try {
      cpSync(path.join(__dirname, `v${version}`), directory.path, { recursive: true });
      const vault = await Harness.open(directory.path);
      for (const [key, value] of Object.entries(contentOf(version))) {
        const read = vault.read(key);
        if (value === null) assert.equal(read.state, "absent", key);
        else assert.ok(read.state === "found" && read.value.equals(value), key);
      }
      const values = Object.values(contentOf(version)).filter((value) => value !== null);
      assert.equal(vault.figure("keys"), values.length);
      for (const key of version < 3 ? [] : ["described", "described/big"]) {
        const read = vault.read(key);
        assert.ok(read.state === "found" && read.trailer.equals(writeFields(FIELDS)), `fields of ${key}`);
      }
      assert.deepEqual(vault.warnings, []);
      await vault.shard.close();
      assert.equal(
        JSON.parse(readFileSync(path.join(directory.path, "STORE"), "utf8").split("\n")[0]).version,
        version,
      );
    } finally {
      directory.remove();
    }
  });
}

for (const version of VERSIONS)
  test(`golden: the records of replication of version ${version} are written to the very byte, open again and say what they said`, async () => {
    const golden = path.join(__dirname, `replica-v${version}`);
    const fresh = temporaryDirectory();
    const directory = temporaryDirectory();
    try {
      await writeGoldenReplica(fresh.path, version);
      const names = readdirSync(path.join(golden, "shard-000")).filter(isSlab).sort();
      assert.deepEqual(readdirSync(path.join(fresh.path, "shard-000")).filter(isSlab).sort(), names);
      for (const name of names)
        assert.ok(
          readFileSync(path.join(fresh.path, "shard-000", name)).equals(
            readFileSync(path.join(golden, "shard-000", name)),
          ),
          `${name} differs`,
        );
      cpSync(golden, directory.path, { recursive: true });
      const types = new Set<number>();
      let outranked = 0;
      for (const name of names) {
        const slab = readFileSync(path.join(golden, "shard-000", name));
        const source = recordSource(new Uint8Array(slab));
        for (let unit = FIRST_UNIT; isPlausible(source, unit, slab.length / UNIT_BYTES); ) {
          types.add(typeOf(source, unit));
          if (isOutranked(source, unit)) outranked++;
          unit += unitsAt(source, unit);
        }
      }
      for (const type of [TYPE_PROMISE, TYPE_FLOOR, TYPE_FORGOTTEN, TYPE_TOMBSTONE])
        assert.ok(types.has(type), `a record of type ${type}`);
      assert.ok(outranked > 0, "a copy behind its promise");
      const vault = await Harness.open(directory.path, { replicated: true });
      assert.deepEqual(vault.warnings, []);
      const { replication } = vault.shard.state;
      const promised = (key: string) => {
        const { bytes, hashA, hashB } = vault.hashes(key);
        return replication.promiseOf(bytes, hashA, hashB)?.ballot ?? null;
      };
      assert.deepEqual(promised("outranked"), goldenBallot(9));
      assert.deepEqual(promised("promised only"), goldenBallot(8));
      assert.equal(promised("replicated"), null);
      assert.deepEqual(
        replication.floors.of(indexPartitionOf(vault.hashes("collected").hashA)),
        goldenBallot(301),
      );
      assert.equal(vault.figure("forgotten"), 1);
      // From version 4 on a value that has ended, and one that was touched.
      assert.equal(vault.figure("tombstones"), version < 4 ? 1 : 2);
      assert.equal(vault.figure("keys"), version < 4 ? 18 : 19);
      const read = vault.read("outranked");
      assert.ok(read.state === "found" && read.value.toString() === "below its promise");
      await vault.shard.close();
    } finally {
      fresh.remove();
      directory.remove();
    }
  });

/** The record of a key in a golden store as FORMAT.md shows it. */
function recordOf(folder: string, name: string, key: string, type: number): string {
  const slab = readFileSync(path.join(__dirname, folder, "shard-000", name));
  const source = recordSource(new Uint8Array(slab));
  let unit = FIRST_UNIT;
  while (Buffer.from(keyOf(source, unit)).toString() !== key || typeOf(source, unit) !== type)
    unit += unitsAt(source, unit);
  const record = slab.subarray(unit * UNIT_BYTES, (unit + unitsAt(source, unit)) * UNIT_BYTES);
  const lines: string[] = [];
  for (let at = 0; at < record.length; at += 16) {
    const row = record.subarray(at, at + 16);
    const hex = row.toString("hex").replace(/(..)(?!$)/g, "$1 ");
    const text = row.toString("latin1").replace(/[^ -~]/g, ".");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${hex}  ${text}`);
  }
  return lines.join("\n");
}

test("golden: the records in FORMAT.md are those of the golden store", () => {
  const format = readFileSync(path.join(__dirname, "../../src/format/FORMAT.md"), "utf8");
  for (const [folder, name, key, type] of [
    ["v3", "0000000001.slab", "greeting", TYPE_VALUE],
    ["v3", "0000000002.slab", "described", TYPE_VALUE],
    ["v4", "0000000003.slab", "ended", TYPE_ENDED],
  ] as const) {
    const shown = recordOf(folder, name, key, type);
    assert.ok(format.includes(shown), `FORMAT.md should show\n${shown}`);
  }
});
