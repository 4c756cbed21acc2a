/**
 * Backups of a shard in this thread: the moment that they show, whatever is written, compacted and dropped
 * meanwhile and afterwards; what is restored; what fails leaves nothing.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { cutShard, type ShardCut } from "../../src/engine/backup/cut.ts";
import { restoreBackup } from "../../src/engine/backup/restore.ts";
import { findPlace, leaveTarget, takeTarget } from "../../src/engine/backup/target.ts";
import {
  type BackupJob,
  type BackupSummary,
  STAGING,
  writeBackup,
} from "../../src/engine/backup/write-backup.ts";
import { verifyDirectory } from "../../src/engine/check/verify.ts";
import { demandNoBackup, readBackupFile } from "../../src/engine/directory/backup-file.ts";
import { lockDirectory } from "../../src/engine/directory/lock.ts";
import { readStoreFile, readStoreText } from "../../src/engine/directory/store-file.ts";
import type { StoreText } from "../../src/engine/directory/store-text.ts";
import { listSlabs } from "../../src/engine/slabs/files.ts";
import { Random, randomSeed } from "../random.ts";
import { Harness, inDirectory } from "./harness.ts";

type Model = Map<string, string>;

function cutOf({ shard }: Harness): ShardCut {
  const cut = cutShard(shard);
  if (!("shard" in cut)) throw new Error(`no cut: ${cut.error} ${cut.detail}`);
  return cut;
}

/** Writes down a moment that was taken before. */
async function write(
  harness: Harness,
  data: string,
  cut: ShardCut,
  to: string,
  more: Partial<BackupJob> = {},
): Promise<BackupSummary> {
  const target = await takeTarget(to, data, "backup");
  try {
    return await writeBackup({
      dataDirectory: data,
      store: harness.store,
      text: readStoreText(data) as StoreText,
      cuts: [cut],
      target,
      began: Date.now(),
      release: () => harness.shard.releaseSlabs(),
      report: () => {},
      isGivenUp: () => false,
      ...more,
    });
  } finally {
    await leaveTarget(target, "backup");
  }
}

async function damageIn(directory: string): Promise<string[]> {
  const found: string[] = [];
  await verifyDirectory(directory, {
    damage: ({ file, text }) => found.push(`${file}: ${text}`),
    note: () => {},
    progress: () => {},
  });
  return found;
}

const restore = (copy: string, to: string, incomplete = false) =>
  restoreBackup(copy, to, { incomplete, isGivenUp: () => false, report: () => {} });

function slabsOf(data: string): number[] {
  return listSlabs(path.join(data, "shard-000"));
}

function compare(harness: Harness, model: Model, keys: number): void {
  for (let key = 0; key < keys; key++) {
    const read = harness.read(`key-${key}`);
    const expected = model.get(`key-${key}`);
    assert.equal(
      read.state === "found" ? String(read.value) : read.state,
      expected ?? "absent",
      `key-${key}`,
    );
  }
}

/** Writes, replaces and deletes at random. */
function change(harness: Harness, model: Model, random: Random, keys: number, count: number): void {
  for (let i = 0; i < count; i++) {
    const key = `key-${random.below(keys)}`;
    if (random.below(5) === 0) {
      harness.remove(key);
      model.delete(key);
      continue;
    }
    const value = `${i} `.padEnd(random.below(3000) + 1, "v");
    const outcome = random.below(8) === 0 ? harness.upload(key, Buffer.from(value)) : harness.put(key, value);
    assert.equal(outcome.error, null);
    model.set(key, value);
  }
}

/** A store of 400 records of 40 keys, in a folder `data`. */
async function filledStore(folder: string): Promise<{ data: string; harness: Harness }> {
  const data = path.join(folder, "data");
  fs.mkdirSync(data, { mode: 0o700 });
  const harness = await Harness.open(data);
  for (let i = 0; i < 400; i++) harness.put(`key-${i % 40}`, "x".repeat(2000));
  return { data, harness };
}

test("backup: each shows its own moment, beside writes and compaction, and restores to it", async (t) => {
  const random = new Random(randomSeed(t));
  await inDirectory(async (folder) => {
    const data = path.join(folder, "data");
    fs.mkdirSync(data, { mode: 0o700 });
    const harness = await Harness.open(data);
    const model: Model = new Map();
    const kept: { to: string; model: Model; slabs: number[] }[] = [];
    for (let round = 0; round < 6; round++) {
      change(harness, model, random, 40, 120);
      if (random.below(2) === 0) await harness.settle();
      const cut = cutOf(harness);
      const then = new Map(model);
      // What comes between the moment and its writing is not in it.
      change(harness, model, random, 40, 20);
      const to = path.join(folder, `copy-${round}`);
      const { problems, slabs } = await write(harness, data, cut, to);
      assert.deepEqual(problems, []);
      assert.equal(slabs, cut.list.slabs.length);
      kept.push({ to, model: then, slabs: slabsOf(to) });
    }
    change(harness, model, random, 40, 400);
    await harness.sealed();
    await harness.settle();
    await harness.shard.close();
    assert.ok(!fs.existsSync(path.join(data, STAGING)));
    for (const [index, { to, model: then, slabs }] of kept.entries()) {
      assert.deepEqual(slabsOf(to), slabs);
      assert.deepEqual(await damageIn(to), []);
      const again = path.join(folder, `again-${index}`);
      await restore(to, again);
      assert.deepEqual(await damageIn(again), []);
      const restored = await Harness.open(again);
      assert.deepEqual(restored.warnings, []);
      compare(restored, then, 40);
      // It lives on as its own, and the copy stays as it was.
      change(restored, then, random, 40, 200);
      await restored.settle();
      compare(restored, then, 40);
      await restored.shard.close();
      assert.deepEqual(await damageIn(to), []);
    }
  });
});

test("backup: no slab goes before it has a second name, and its blocks stay when it goes", async () => {
  await inDirectory(async (folder) => {
    const data = path.join(folder, "data");
    fs.mkdirSync(data, { mode: 0o700 });
    const harness = await Harness.open(data);
    const model: Model = new Map();
    const fill = (text: string): void => {
      for (let i = 0; i < 400; i++) {
        harness.put(`key-${i % 40}`, text.padEnd(2000, "."));
        model.set(`key-${i % 40}`, text.padEnd(2000, "."));
      }
    };
    fill("first");
    await harness.sealed();
    const cut = cutOf(harness);
    const then = new Map(model);
    const listed = cut.list.slabs.map(({ sequence }) => sequence);
    fill("second");
    await harness.sealed();
    await harness.settle();
    assert.ok(listed.every((sequence) => slabsOf(data).includes(sequence)));
    const to = path.join(folder, "copy");
    const { linked } = await write(harness, data, cut, to);
    assert.ok(linked > 0);
    await harness.settle();
    assert.ok(listed.some((sequence) => !slabsOf(data).includes(sequence)));
    await harness.shard.close();
    assert.deepEqual(await damageIn(to), []);
    await restore(to, path.join(folder, "again"));
    const restored = await Harness.open(path.join(folder, "again"));
    compare(restored, then, 40);
    await restored.shard.close();
  });
});

test("backup: a copy has no identity to start with; what is restored has one of its own", async () => {
  await inDirectory(async (folder) => {
    const data = path.join(folder, "data");
    fs.mkdirSync(data, { mode: 0o700 });
    const harness = await Harness.open(data);
    const { ballot } = harness.put("k", "v");
    const to = path.join(folder, "copy");
    await write(harness, data, cutOf(harness), to);
    assert.deepEqual(fs.readdirSync(to).sort(), ["BACKUP", "shard-000"]);
    assert.throws(() => demandNoBackup(to), /is a backup.*minivault restore/);
    assert.throws(() => findPlace(to, data, "backup"), {
      code: "conflict",
      message: /a whole backup already/,
    });
    const own = readStoreFile(data);
    const stores = [];
    for (const name of ["one", "two"]) {
      await restore(to, path.join(folder, name));
      stores.push(readStoreFile(path.join(folder, name)));
    }
    await harness.shard.close();
    for (const store of stores) {
      assert.deepEqual(store?.slabId, own?.slabId);
      assert.notDeepEqual(store?.id, own?.id);
      assert.notEqual(store?.node, own?.node);
      assert.deepEqual(store?.keyHash, own?.keyHash);
    }
    assert.notDeepEqual(stores[0]?.id, stores[1]?.id);
    const restored = await Harness.open(path.join(folder, "one"));
    const again = restored.put("k", "w").ballot;
    assert.ok(again !== null && ballot !== null && again.node !== ballot.node);
    await restored.shard.close();
  });
});

for (const [what, spoil, said] of [
  ["missing", (file: string) => fs.rmSync(file), "is missing in the store, too"],
  ["cut", (file: string) => fs.truncateSync(file, 5000), "is cut in the store, too"],
  ["empty", (file: string) => fs.truncateSync(file, 0), "is cut in the store, too"],
] as const)
  for (const how of ["before the start", "while it serves"])
    test(`backup: a slab that is ${what} in the store, since ${how}, is so in the copy, and said`, async () => {
      await inDirectory(async (folder) => {
        const data = path.join(folder, "data");
        fs.mkdirSync(data, { mode: 0o700 });
        const first = await Harness.open(data);
        for (let i = 0; i < 100; i++) first.put(`key-${i}`, "x".repeat(2000));
        await first.shard.close();
        const [gone] = slabsOf(data);
        const spoilIt = () => spoil(path.join(data, "shard-000", `${String(gone).padStart(10, "0")}.slab`));
        if (how === "before the start") spoilIt();
        const harness = await Harness.open(data);
        if (how === "while it serves") spoilIt();
        harness.shard.log.look();
        harness.shard.log.watch();
        const to = path.join(folder, "copy");
        const { problems } = await write(harness, data, cutOf(harness), to);
        await harness.shard.close();
        assert.deepEqual(problems, [`slab ${gone} of shard 0 ${said}`]);
        assert.ok((await damageIn(to)).length > 0);
        await assert.rejects(
          restore(to, path.join(folder, "again")),
          /1 slabs are missing, cut or damaged.*-incomplete/,
        );
        assert.ok(!fs.existsSync(path.join(folder, "again")));
        assert.equal((await restore(to, path.join(folder, "again"), true)).missing.length, 1);
        const restored = await Harness.open(path.join(folder, "again"));
        assert.ok(restored.warnings.length > 0);
        for (let i = 0; i < 100; i++) assert.notEqual(restored.read(`key-${i}`).state, "absent");
        await restored.shard.close();
      });
    });

test("backup: a folder that cannot be used is refused before anything is done, and stays as it is", async () => {
  await inDirectory(async (folder) => {
    const data = path.join(folder, "data");
    fs.mkdirSync(path.join(data, "inner"), { recursive: true, mode: 0o700 });
    fs.symlinkSync(data, path.join(folder, "link"));
    fs.mkdirSync(path.join(folder, "full"));
    fs.writeFileSync(path.join(folder, "full", "file"), "");
    fs.writeFileSync(path.join(folder, "file"), "");
    fs.mkdirSync(path.join(folder, "open"));
    fs.chmodSync(path.join(folder, "open"), 0o777);
    const wrong: [string, RegExp][] = [
      ["relative/path", /absolute path/],
      [`${folder}/a\0b`, /none that a system takes/],
      [`/${"x/".repeat(3000)}`, /none that a system takes/],
      [data, /lie in each other/],
      [folder, /lie in each other/],
      ["/", /lie in each other/],
      [path.join(data, "inner", "copy"), /lie in each other/],
      [path.join(folder, "link", "copy"), /lie in each other/],
      [path.join(folder, "none", "copy"), /is not there/],
      [path.join(folder, "full"), /not empty/],
      [path.join(folder, "file"), /is no folder/],
      [path.join(folder, "open"), /other users may write/],
      [path.join(folder, "file", "below"), /cannot be used/],
    ];
    const before = fs.readdirSync(folder, { recursive: true }).sort();
    for (const [target, pattern] of wrong)
      assert.throws(() => findPlace(target, data, "backup"), pattern, target);
    assert.deepEqual(fs.readdirSync(folder, { recursive: true }).sort(), before);
    const twice = path.join(folder, "twice");
    const first = await takeTarget(twice, data, "backup");
    await assert.rejects(takeTarget(twice, data, "backup"), { code: "conflict", message: /is in use by/ });
    await assert.rejects(takeTarget(twice, data, "restore"), { code: "conflict", message: /is not empty/ });
    await leaveTarget(first, "backup");
    const [one, two] = await Promise.allSettled([1, 2].map(() => takeTarget(twice, data, "backup")));
    assert.deepEqual([one.status, two.status].sort(), ["fulfilled", "rejected"]);
    for (const taken of [one, two])
      if (taken.status === "fulfilled") await leaveTarget(taken.value, "backup");
    const place = { directory: path.join(folder, "new"), isLeft: false };
    assert.deepEqual(findPlace(place.directory, data, "backup"), { ...place, made: true });
    assert.deepEqual(findPlace(place.directory, data, "restore"), { ...place, made: false });
  });
});

test("backup: given up in the middle, it leaves nothing, and slabs may go again", async () => {
  await inDirectory(async (folder) => {
    const { data, harness } = await filledStore(folder);
    for (const made of [true, false]) {
      const to = path.join(folder, `copy-${made}`);
      if (!made) fs.mkdirSync(to, { mode: 0o700 });
      const cut = cutOf(harness);
      let asked = 0;
      let released = 0;
      const more = {
        release: () => {
          released++;
          harness.shard.releaseSlabs();
        },
        isGivenUp: () => ++asked > 3,
      };
      await assert.rejects(write(harness, data, cut, to, more), { code: "stopping" });
      assert.equal(released, 1);
      assert.equal(fs.existsSync(to), !made);
      if (!made) assert.deepEqual(fs.readdirSync(to), []);
    }
    assert.ok(!fs.existsSync(path.join(data, STAGING)));
    await harness.shard.close();
  });
});

test("backup: ended at any step, it is run again; what is no rest of one, whole, or in use, stays", async (t) => {
  const random = new Random(randomSeed(t));
  await inDirectory(async (folder) => {
    const { data, harness } = await filledStore(folder);
    const to = path.join(folder, "to");
    const left = path.join(folder, "left");
    const keep = path.join(folder, "keep");
    const cut = cutOf(harness);
    const all = cut.list.slabs.length;
    const stopAt = 1 + random.below(all);
    assert.ok(all > 2);
    // What a process leaves that is killed here.
    const report = (done: number): void => {
      if (done === stopAt) fs.cpSync(to, left, { recursive: true });
    };
    await write(harness, data, cut, to, { report });
    assert.deepEqual(fs.readdirSync(to).sort(), ["BACKUP", "shard-000"]);
    assert.ok(["BACKUP.new", "LOCK", "shard-000"].every((name) => fs.existsSync(path.join(left, name))));
    // And where all was written but the last name.
    const nearly = path.join(folder, "nearly");
    fs.cpSync(to, nearly, { recursive: true });
    fs.renameSync(path.join(nearly, "BACKUP"), path.join(nearly, "BACKUP.new"));

    for (const rest of [left, nearly]) {
      for (const look of [demandNoBackup, readBackupFile])
        assert.throws(() => look(rest), /was not finished: wait for it, or run the backup into .* again/);
      await assert.rejects(restore(rest, path.join(folder, "never")), /was not finished/);
      assert.match((await damageIn(rest)).join(), /^STORE: .* was not finished/);
      await assert.rejects(takeTarget(rest, data, "restore"), /is not empty/);
      fs.cpSync(rest, keep, { recursive: true });
      fs.writeFileSync(path.join(keep, "mine"), "x");
      const names = fs.readdirSync(keep, { recursive: true });
      await assert.rejects(takeTarget(keep, data, "backup"), /is not empty \(it has mine\)/);
      assert.deepEqual(fs.readdirSync(keep, { recursive: true }), names);
      fs.rmSync(keep, { recursive: true });
      const lock = await lockDirectory(rest);
      await assert.rejects(takeTarget(rest, data, "backup"), { code: "conflict", message: /is in use by/ });
      await lock.release();

      fs.writeFileSync(path.join(rest, "shard-000", "0000009999.slab"), "torn");
      harness.put("since", path.basename(rest));
      await write(harness, data, cutOf(harness), rest);
      assert.deepEqual(fs.readdirSync(rest).sort(), ["BACKUP", "shard-000"]);
      assert.deepEqual(await damageIn(rest), []);
      assert.ok(!slabsOf(rest).includes(9999));
      // One that is whole is never taken for a rest, whatever says so.
      fs.writeFileSync(path.join(rest, "BACKUP.new"), "");
      await assert.rejects(write(harness, data, cutOf(harness), rest), /a whole backup already/);
      harness.shard.releaseSlabs();
      fs.rmSync(path.join(rest, "BACKUP.new"));
      const again = path.join(folder, `again-${path.basename(rest)}`);
      await restore(rest, again);
      const restored = await Harness.open(again);
      const read = restored.read("since");
      assert.equal(read.state === "found" && String(read.value), path.basename(rest));
      await restored.shard.close();
    }
    await harness.shard.close();
    assert.deepEqual(await damageIn(data), []);
  });
});

test("restore: ended at any step, it is run again; what is no rest of one, or in use, stays", async (t) => {
  const random = new Random(randomSeed(t));
  await inDirectory(async (folder) => {
    const { data, harness } = await filledStore(folder);
    const copy = path.join(folder, "copy");
    await write(harness, data, cutOf(harness), copy);
    await harness.shard.close();

    const to = path.join(folder, "to");
    const left = path.join(folder, "left");
    const keep = path.join(folder, "keep");
    let files = 0;
    const whole = await restoreBackup(copy, to, {
      incomplete: false,
      isGivenUp: () => false,
      // What a process leaves that is killed here.
      report: (done, all) => {
        files = all;
        if (done === 1 || random.below(3) === 0) {
          fs.rmSync(left, { recursive: true, force: true });
          fs.cpSync(to, left, { recursive: true });
        }
      },
    });
    assert.ok(whole.slabs > 2 && files === whole.slabs + 2);
    assert.deepEqual(await damageIn(to), []);
    assert.ok(!fs.existsSync(path.join(to, "BACKUP.new")));
    // One that is whole is never taken for a rest, whatever says so.
    fs.copyFileSync(path.join(left, "BACKUP.new"), path.join(to, "BACKUP.new"));
    await assert.rejects(restore(copy, to), { code: "conflict", message: /is not empty \(it has STORE\)/ });
    assert.deepEqual(await damageIn(to), []);

    for (const look of [demandNoBackup, readBackupFile])
      assert.throws(() => look(left), /has not finished: wait for it, or run minivault restore/);
    fs.cpSync(left, keep, { recursive: true });
    fs.writeFileSync(path.join(keep, "mine"), "x");
    await assert.rejects(restore(copy, keep), /is not empty \(it has mine\)/);
    assert.equal(fs.readdirSync(keep).length, fs.readdirSync(left).length + 1);
    const lock = await lockDirectory(left);
    await assert.rejects(restore(copy, left), /in use/);
    await lock.release();
    fs.writeFileSync(path.join(left, "shard-000", "0000009999.slab"), "torn");
    await restore(copy, left);
    assert.deepEqual(await damageIn(left), []);
    assert.deepEqual(
      fs.readdirSync(left, { recursive: true }).sort(),
      fs
        .readdirSync(to, { recursive: true })
        .filter((name) => name !== "BACKUP.new")
        .sort(),
    );

    // An interrupt leaves nothing.
    const none = path.join(folder, "none");
    let asked = 0;
    const interrupted = restoreBackup(copy, none, {
      incomplete: false,
      isGivenUp: () => ++asked > 2,
      report: () => {},
    });
    await assert.rejects(interrupted, /interrupted: nothing is restored/);
    assert.ok(!fs.existsSync(none));
  });
});

test("backup: one that was not finished is none", async () => {
  await inDirectory(async (folder) => {
    fs.writeFileSync(path.join(folder, "BACKUP.new"), "");
    assert.throws(() => readBackupFile(folder), /was not finished/);
    assert.throws(() => demandNoBackup(folder), /was not finished/);
    fs.writeFileSync(path.join(folder, "BACKUP"), "{}\n00000000\n");
    assert.throws(() => readBackupFile(folder), /is damaged/);
  });
});
