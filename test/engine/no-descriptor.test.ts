/**
 * No descriptor left for a data file that the shard has not mapped yet: what needs it fails and is tried again, nothing is taken for damaged, and
 * the shard goes on.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import { mock, test } from "node:test";
import { emptyOperation } from "../../src/shards/arena/operation.ts";
import { Dispatch } from "../../src/shards/thread/dispatch.ts";
import { Harness, inDirectory } from "./harness.ts";

const VALUE_BYTES = 700;
const KEYS = 400;

function value(number: number): Buffer {
  return Buffer.alloc(VALUE_BYTES, number);
}

/** Opens a store of several slabs, none of which is mapped, as after a start from a snapshot. */
async function unmapped(directory: string, now: () => number = Date.now): Promise<Harness> {
  const options = { snapshotEntriesMin: 1, sync: "os", now } as const;
  const before = await Harness.open(directory, options);
  for (let number = 0; number < KEYS; number++) before.put(`key ${number}`, value(number));
  await before.sealed();
  await before.shard.close();
  const vault = await Harness.open(directory, options);
  assert.equal(vault.slabsRead, false);
  return vault;
}

/** Until `end` no slab can be opened, and a descriptor that is given back goes to somebody else. */
function withoutDescriptors(): { refused(): number; end(): void } {
  const { openSync } = fs;
  const opened = mock.method(fs, "openSync", ((file: string, ...rest: [string]) => {
    if (!/\.slab$|null$/.test(String(file))) return openSync(file, ...rest);
    throw Object.assign(new Error(`EMFILE: too many open files, open '${file}'`), { code: "EMFILE" });
  }) as typeof openSync);
  return {
    refused: () => opened.mock.calls.length,
    end: () => opened.mock.restore(),
  };
}

test("no descriptor: a write that needs an old record fails with its batch, and the next one is good", () =>
  inDirectory(async (directory) => {
    const vault = await unmapped(directory);
    const dispatch = new Dispatch();
    const put = (key: string) =>
      dispatch.run(vault.shard, { ...emptyOperation(), ...vault.write(key, {}), body: value(7) });
    const fault = withoutDescriptors();
    const staged = put("new");
    assert.equal(staged.error, null);
    const outcome = put("key 0");
    assert.ok(fault.refused() > 0);
    fault.end();
    assert.deepEqual([outcome.error, staged.error], ["overloaded", "overloaded"]);
    assert.match(outcome.detail, /\(ulimit -n\)/);
    vault.shard.commit();
    assert.equal(vault.read("new").state, "absent");
    for (const key of ["new", "key 0"]) assert.equal(put(key).error, null);
    vault.shard.commit();
    for (const key of ["new", "key 0"])
      assert.deepEqual((vault.read(key) as { value: Buffer }).value, value(7));
    await vault.shard.close();
  }));

test("no descriptor: compaction waits until there is one", () =>
  inDirectory(async (directory) => {
    let now = Date.now();
    const vault = await unmapped(directory, () => now);
    for (let number = 0; number < KEYS; number++) if (number % 8 !== 0) vault.remove(`key ${number}`);
    const slabs = vault.figure("slabs");
    await vault.shard.close();
    const again = await Harness.open(directory, { snapshotEntriesMin: 1, sync: "os", now: () => now });
    const fault = withoutDescriptors();
    again.shard.idle(64 * 1024);
    assert.ok(fault.refused() > 0, "it wanted to map a slab");
    fault.end();
    now += 3600_000;
    await again.settle();
    assert.ok(again.figure("slabs") < slabs, "it goes on");
    for (let number = 0; number < KEYS; number += 8)
      assert.deepEqual((again.read(`key ${number}`) as { value: Buffer }).value, value(number));
    await again.shard.close();
  }));

test("no descriptor: the scrub calls nothing damaged, and goes on where it was", () =>
  inDirectory(async (directory) => {
    const vault = await unmapped(directory);
    const fault = withoutDescriptors();
    for (let step = 0; step < 10; step++) assert.ok(vault.shard.scrub.step() > 0);
    fault.end();
    assert.equal(vault.figure("scrubPasses"), 0);
    while (vault.shard.scrub.step() > 0);
    assert.deepEqual([vault.figure("scrubPasses"), vault.figure("scrubDamaged")], [1, 0]);
    assert.ok(vault.figure("scrubbedBytes") > KEYS * VALUE_BYTES);
    await vault.shard.close();
  }));

test("no descriptor: a thread keeps one for the map of a slab", () =>
  inDirectory(async (directory) => {
    const vault = await unmapped(directory);
    const { openSync, closeSync } = fs;
    let free = 0;
    mock.method(fs, "closeSync", (fd: number) => {
      closeSync(fd);
      free++;
    });
    mock.method(fs, "openSync", ((file: string, ...rest: [string]) => {
      if (free-- > 0) return openSync(file, ...rest);
      free = 0;
      throw Object.assign(new Error("EMFILE"), { code: "EMFILE" });
    }) as typeof openSync);
    try {
      for (const number of [0, KEYS - 1, KEYS / 2])
        assert.deepEqual((vault.read(`key ${number}`) as { value: Buffer }).value, value(number));
    } finally {
      mock.restoreAll();
    }
    await vault.shard.close();
  }));
