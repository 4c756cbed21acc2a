/**
 * Accepting a loss: each kind of it is named before anything is changed; afterwards every start serves what is left, knows what is absent, and the
 * directory is whole again for `verify`.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { acceptLoss, surveyLoss } from "../../src/engine/check/accept-loss.ts";
import { verifyDirectory } from "../../src/engine/check/verify.ts";
import { shardDirectory } from "../../src/engine/directory/store-file.ts";
import { LIST_NAMES } from "../../src/engine/list/copies.ts";
import { slabName } from "../../src/engine/slabs/files.ts";
import { nodeIo } from "../../src/engine/slabs/io.ts";
import { Harness, type HarnessOptions, inDirectory, SMALL_SLAB_BYTES } from "./harness.ts";

const VALUE_BYTES = 2000;
/** Fill three slabs and begin a fourth. */
const KEYS = Math.ceil((3.3 * SMALL_SLAB_BYTES) / VALUE_BYTES);

const bodyOf = (name: string): Buffer => Buffer.alloc(VALUE_BYTES, name);
const slabFile = (directory: string, sequence: number): string =>
  path.join(shardDirectory(directory, 0), slabName(sequence));

/** "twice" is in slab 1, and newer in slab 2; "large" has its chunks in slab 2, "deleted" is deleted there. Answers the keys whose newest record is there. */
async function fill(directory: string, options: HarnessOptions): Promise<string[]> {
  const vault = await Harness.open(directory, options);
  const inSecond: string[] = [];
  let second = false;
  assert.equal(vault.put("twice", "old").error, null);
  assert.equal(vault.put("deleted", "old").error, null);
  for (let number = 0; number < KEYS; number++) {
    const key = `k${number}`;
    assert.equal(vault.put(key, bodyOf(key)).error, null);
    const { sequence } = vault.shard.log.appender;
    if (sequence === 2) inSecond.push(key);
    if (sequence !== 2 || second) continue;
    second = true;
    assert.equal(vault.put("twice", "new").error, null);
    assert.equal(vault.upload("large", Buffer.alloc(12_000, "large")).error, null);
    assert.equal(vault.remove("deleted").error, null);
  }
  assert.equal(vault.shard.log.appender.sequence, 4);
  await vault.settle();
  await vault.shard.close();
  return inSecond;
}

async function damageOf(directory: string): Promise<string[]> {
  const lines: string[] = [];
  await verifyDirectory(directory, {
    damage: ({ file, text }) => lines.push(`${file}: ${text}`),
    note: () => {},
    progress: () => {},
  });
  return lines;
}

interface Kind {
  name: string;
  lose(directory: string): void;
  /** Slabs that are named. */
  slabs: number[];
  /** Nothing of slab 2 is left. */
  isSecondGone: boolean;
}

const cut = (bytes: number) => (directory: string) => fs.truncateSync(slabFile(directory, 2), bytes);
const KINDS: Kind[] = [
  {
    name: "a slab is missing",
    lose: (directory) => fs.rmSync(slabFile(directory, 2)),
    slabs: [2],
    isSecondGone: true,
  },
  { name: "a slab has no byte left", lose: cut(0), slabs: [2], isSecondGone: true },
  { name: "a slab is cut in its header", lose: cut(100), slabs: [2], isSecondGone: true },
  { name: "a slab is cut in its records", lose: cut(9000), slabs: [2], isSecondGone: false },
  { name: "a slab has lost its table", lose: cut(SMALL_SLAB_BYTES - 64), slabs: [2], isSecondGone: false },
  {
    name: "the open slab is missing",
    lose: (directory) => fs.rmSync(slabFile(directory, 4)),
    slabs: [4],
    isSecondGone: false,
  },
  {
    name: "both copies of the list are gone",
    lose: (directory) => {
      for (const name of LIST_NAMES) fs.rmSync(path.join(shardDirectory(directory, 0), name));
    },
    slabs: [],
    isSecondGone: false,
  },
  {
    name: "a slab and both copies of the list are gone",
    lose: (directory) => {
      fs.rmSync(slabFile(directory, 2));
      for (const name of LIST_NAMES) fs.truncateSync(path.join(shardDirectory(directory, 0), name), 0);
    },
    slabs: [],
    isSecondGone: true,
  },
];

for (const { name, lose, slabs, isSecondGone } of KINDS)
  for (const snapshot of [false, true])
    test(`accept loss: ${name}${snapshot ? ", beside an index snapshot" : ""}`, () =>
      inDirectory(async (directory) => {
        const options = snapshot ? { snapshotEntriesMin: 1 } : {};
        const inSecond = await fill(directory, options);
        assert.deepEqual(surveyLoss(directory), [], "nothing is lost yet");
        lose(directory);
        const before = fs.readdirSync(shardDirectory(directory, 0)).sort();
        const losses = surveyLoss(directory);
        assert.deepEqual(fs.readdirSync(shardDirectory(directory, 0)).sort(), before, "nothing was changed");
        // With the list gone only the snapshot, if there is one, knows that a slab is missing.
        if (losses?.length === 0) assert.ok(snapshot && slabs.length === 0 && !isSecondGone);
        else {
          assert.equal(losses?.length, 1);
          const [loss] = losses ?? [];
          if (slabs.length > 0) assert.deepEqual(loss.slabs, slabs);
          assert.ok(loss.findings.length > 0);
          assert.equal(loss.keys === null, !snapshot);
        }
        await acceptLoss(directory, losses ?? [], () => {});
        for (let start = 0; start < 3; start++) {
          const vault = await Harness.open(directory, options);
          assert.equal(vault.figure("doubtSequence"), 0, `start ${start}`);
          assert.equal(vault.figure("missingSlabs"), 0, `start ${start}: ${vault.warnings}`);
          assert.equal(vault.read("never").state, "absent");
          for (let number = 0; number < KEYS; number++) {
            const key = `k${number}`;
            const read = vault.read(key);
            if (read.state === "found") assert.ok(read.value.equals(bodyOf(key)), key);
            else if (slabs[0] !== 4)
              assert.ok(inSecond.includes(key), `${key} is ${read.state} and was not lost`);
          }
          if (isSecondGone) {
            for (const key of inSecond) assert.equal(vault.read(key).state, "absent");
            const twice = vault.read("twice");
            assert.equal(twice.state === "found" && twice.value.toString(), "old");
          }
          assert.equal(vault.put(`after ${start}`, "after").error, null);
          await vault.settle();
          await vault.shard.close();
          if (!name.includes("header"))
            assert.deepEqual(await damageOf(directory), [], `after start ${start}`);
        }
        assert.deepEqual(surveyLoss(directory), []);
      }));

test("accept loss: a large value whose pieces are lost is damaged until it is written again, and reads end", () =>
  inDirectory(async (directory) => {
    const vault = await Harness.open(directory);
    const value = Buffer.alloc(SMALL_SLAB_BYTES * 2, "large");
    assert.equal(vault.upload("large", value).error, null);
    await vault.shard.close();
    fs.rmSync(slabFile(directory, 1));
    await acceptLoss(directory, surveyLoss(directory) ?? [], () => {});
    const again = await Harness.open(directory);
    assert.equal(again.read("large").state, "damaged");
    assert.equal(again.upload("large", value).error, null);
    assert.equal(again.read("large").state, "found");
    await again.settle();
    await again.shard.close();
  }));

test("accept loss: an older copy of a slab is taken as it is, and deleted keys of its time are back", () =>
  inDirectory(async (directory) => {
    const vault = await Harness.open(directory);
    vault.put("deleted", "value");
    const older = fs.readFileSync(slabFile(directory, 1));
    vault.remove("deleted");
    await vault.shard.close();
    fs.writeFileSync(slabFile(directory, 1), older);
    const losses = surveyLoss(directory) ?? [];
    assert.deepEqual(losses[0].slabs, [1]);
    assert.match(losses[0].findings.join(), /an older copy/);
    await acceptLoss(directory, losses, () => {});
    const again = await Harness.open(directory);
    assert.equal(again.read("deleted").state, "found");
    assert.equal(again.read("never").state, "absent");
    await again.shard.close();
    assert.deepEqual(await damageOf(directory), []);
  }));

test("accept loss: after a failure of the disk the loss is missed as before, or is settled", () =>
  inDirectory(async (directory) => {
    await fill(directory, {});
    fs.rmSync(slabFile(directory, 2));
    const image = `${directory}-image`;
    fs.cpSync(directory, image, { recursive: true });
    try {
      let done = false;
      for (let failing = 0; !done; failing++) {
        fs.rmSync(directory, { recursive: true });
        fs.cpSync(image, directory, { recursive: true });
        let calls = 0;
        const count = (): void => {
          if (calls++ === failing) throw Object.assign(new Error("no room"), { code: "ENOSPC" });
        };
        const io = {
          ...nodeIo,
          pwrite: (...words: Parameters<typeof nodeIo.pwrite>) => {
            count();
            nodeIo.pwrite(...words);
          },
        };
        const losses = surveyLoss(directory) ?? [];
        await acceptLoss(directory, losses, () => {}, io).then(
          () => {
            done = calls <= failing;
          },
          (error) => assert.match(error.message, /no room|the disk is full/),
        );
        const vault = await Harness.open(directory);
        assert.match(vault.read("never").state, /absent|damaged/);
        if (vault.figure("missingSlabs") > 0) assert.equal(vault.read("never").state, "damaged");
        await vault.shard.close();
      }
    } finally {
      fs.rmSync(image, { recursive: true });
    }
  }));
