/** `verify` and `inspect` on the catalog's files. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { Catalog } from "../../src/engine/catalog/catalog.ts";
import { RunFiles } from "../../src/engine/catalog/runs/run-files.ts";
import { Slices } from "../../src/engine/catalog/slices.ts";
import type { Damage } from "../../src/engine/check/findings.ts";
import { type Item, inspectFile } from "../../src/engine/check/inspect.ts";
import { verifyDirectory } from "../../src/engine/check/verify.ts";
import type { StoreIdentity } from "../../src/engine/directory/store-file.ts";
import { nodeIo } from "../../src/engine/slabs/io.ts";
import { Harness, inDirectory } from "./harness.ts";

const KEYS = 500;

/** A store of some keys, stopped in order, so that all keys are in a run. */
async function fill(directory: string): Promise<StoreIdentity> {
  const harness = await Harness.open(directory, { readers: 1 });
  const catalog = new Catalog({
    dataDirectory: directory,
    store: harness.store,
    memories: [harness.memory],
    held: [harness.memory.held[1]],
    io: nodeIo,
    readOnly: false,
    warn: assert.fail,
  });
  for (let i = 0; i < KEYS; i++) harness.stage(`key/${String(i).padStart(4, "0")}`, "v");
  harness.shard.commit();
  harness.remove("key/0000");
  const slices = new Slices();
  while (!catalog.absorb(slices));
  await harness.shard.close();
  await catalog.close();
  return harness.store;
}

async function verify(directory: string): Promise<{ damage: Damage[]; notes: string[] }> {
  const damage: Damage[] = [];
  const notes: string[] = [];
  await verifyDirectory(directory, {
    damage: (one) => void damage.push(one),
    note: (text) => void notes.push(text),
    progress: () => {},
  });
  return { damage, notes };
}

function runFile(directory: string): string {
  const folder = path.join(directory, "keys");
  return path.join(folder, readdirSync(folder).find((name) => name.endsWith(".keys")) as string);
}

test("verify: a catalog is sound, or damaged, or one key short, or only not there", async () => {
  await inDirectory(async (directory) => {
    const store = await fill(directory);
    assert.deepEqual(await verify(directory), { damage: [], notes: [] });

    const file = runFile(directory);
    const good = readFileSync(file);
    const bad = Buffer.from(good);
    bad[50] ^= 4;
    // A file of its own: the first one may still be mapped.
    rmSync(file);
    writeFileSync(file, bad);
    const damaged = await verify(directory);
    assert.equal(damaged.damage.length, 1);
    assert.match(damaged.damage[0].text, /block 0 is damaged/);

    // A good run without one of the keys.
    rmSync(file);
    const files = new RunFiles({ io: nodeIo, directory: path.dirname(file), salt: store.salt, next: 1 });
    await files.write(async function* (add) {
      for (let i = 0; i < KEYS; i++) {
        const key = Buffer.from(`key/${String(i).padStart(4, "0")}`);
        if (i !== 77) add(key, 0, key.length);
      }
      yield;
      return true;
    });
    const short = await verify(directory);
    assert.equal(short.damage.length, 1);
    assert.match(short.damage[0].text, /500 keys and tombstones, and the runs know 499/);

    rmSync(path.dirname(file), { recursive: true });
    assert.deepEqual(await verify(directory), { damage: [], notes: [] });
  });
});

function inspect(file: string): Item[] {
  const items: Item[] = [];
  const steps = inspectFile(file);
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done === true) {
      assert.equal(step.value, true);
      return items;
    }
    items.push(step.value);
  }
}

test("inspect: prints a run and its manifest", async () => {
  await inDirectory(async (directory) => {
    await fill(directory);
    const file = runFile(directory);
    const items = inspect(file);
    assert.equal(items[0].what, "run of keys");
    assert.equal(items[0].keys, KEYS);
    const keys = items.filter(({ what }) => what === "key").map(({ key }) => key);
    assert.equal(keys.length, KEYS);
    assert.deepEqual([keys[0], keys[KEYS - 1]], ["key/0000", `key/0${KEYS - 1}`]);
    const [manifest] = inspect(path.join(path.dirname(file), "CATALOG"));
    assert.equal(manifest.what, "catalog");
    assert.equal(manifest.checksum, "good");
    const bytes = readFileSync(file);
    bytes[20] ^= 1;
    rmSync(file);
    writeFileSync(file, bytes);
    assert.ok(inspect(file).some(({ problem }) => problem !== undefined));
  });
});
