/**
 * Upgrading a directory of an older version: ended by a loss of power at every moment, and by a failure at every step, it is of the old
 * version or of the new one and holds what it held; run again it is of the new one.
 */
import assert from "node:assert/strict";
import { cpSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { verifyDirectory } from "../../src/engine/check/verify.ts";
import { upgradeStoreFile } from "../../src/engine/directory/store-file.ts";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import { writeFields } from "../../src/format/fields/trailer.ts";
import { STORE_VERSION } from "../../src/format/offsets.ts";
import { loadHash } from "../../src/util/hash.ts";
import { runCommand } from "../cli/terminal.ts";
import { contentOf, FIELDS } from "../golden/store.ts";
import { Random, randomSeed } from "../random.ts";
import { Harness, inDirectory } from "./harness.ts";
import { RecordedDisk, writeImage } from "./recorded-disk.ts";

const OLD_VERSIONS = [1, 2, 3];
const golden = (version: number): string => path.join(__dirname, `../golden/v${version}`);

function versionOf(directory: string): number {
  return JSON.parse(readFileSync(path.join(directory, "STORE"), "utf8").split("\n")[0]).version;
}

/** Opens, reads everything, writes with fields where the version has a place for them, and reads that again. */
async function examine(directory: string, born: number): Promise<number> {
  const vault = await Harness.open(directory);
  assert.deepEqual(vault.warnings, []);
  for (const [key, value] of Object.entries(contentOf(born))) {
    const read = vault.read(key);
    if (value === null) assert.equal(read.state, "absent", key);
    else assert.ok(read.state === "found" && read.value.equals(value), key);
  }
  const version = versionOf(directory);
  const trailer = writeFields(FIELDS);
  const outcome = vault.put("fields", "value", { trailer });
  const large = vault.upload("fields/large", Buffer.alloc(3000, 1), { trailer });
  for (const [key, { error }] of [["fields", outcome] as const, ["fields/large", large] as const]) {
    const read = vault.read(key);
    if (version < 3) {
      assert.equal(error, "upgrade_first");
      assert.equal(read.state, "absent");
    } else assert.ok(read.state === "found" && read.trailer.equals(trailer));
  }
  await vault.shard.close();
  const reopened = await Harness.open(directory);
  const kept = reopened.read("fields");
  assert.equal(kept.state, version < 3 ? "absent" : "found");
  if (kept.state === "found") assert.ok(kept.trailer.equals(trailer));
  await reopened.shard.close();
  return version;
}

for (const born of OLD_VERSIONS) {
  test(`upgrade: version ${born}, cut from power at every moment`, async (t) => {
    await loadHash();
    const random = new Random(randomSeed(t));
    await inDirectory(async (directory) => {
      cpSync(golden(born), directory, { recursive: true });
      const disk = new RecordedDisk(directory);
      assert.equal(upgradeStoreFile(disk.io, directory), born);
      const seen = new Set<number>();
      for (const { moment, survival, image } of disk.images(random, 1))
        await inDirectory(async (copy) => {
          writeImage(image, copy);
          const found = versionOf(copy);
          seen.add(found);
          assert.ok(
            found === born || found === STORE_VERSION,
            `moment ${moment}, ${survival}: version ${found}`,
          );
          assert.equal(await examine(copy, born), found);
          assert.equal(upgradeStoreFile(nodeIo, copy), found);
          assert.equal(versionOf(copy), STORE_VERSION);
        });
      assert.deepEqual([...seen].sort(), [born, STORE_VERSION]);
    });
  });

  test(`upgrade: version ${born}, with a failure at every step`, async () => {
    await loadHash();
    for (let step = 0, isOver = false; !isOver; step++)
      await inDirectory(async (directory) => {
        cpSync(golden(born), directory, { recursive: true });
        isOver = !failsAt(step, (io) => upgradeStoreFile(io, directory));
        const found = versionOf(directory);
        assert.ok(found === born || found === STORE_VERSION);
        await examine(directory, born);
        upgradeStoreFile(nodeIo, directory);
        assert.equal(versionOf(directory), STORE_VERSION);
        await examine(directory, born);
      });
  });

  test(`upgrade: the command turns version ${born} into ${STORE_VERSION}, once, and compaction its slabs`, () =>
    inDirectory(async (directory) => {
      cpSync(golden(born), directory, { recursive: true });
      const first = await upgrade(directory);
      assert.equal(first.status, 0, first.text);
      assert.match(first.text, new RegExp(`has format version ${STORE_VERSION} now, it had ${born}\n$`));
      assert.match(
        (await upgrade(directory)).text,
        new RegExp(`has format version ${STORE_VERSION} already\n$`),
      );
      const vault = await Harness.open(directory);
      const busy = await upgrade(directory);
      // In this process the lock is the command's own; a node holds it as long as it runs.
      assert.equal(busy.status, 0);
      // What is left of the first slabs is little, so they go first once there are enough slabs.
      vault.put("big", "small");
      for (let i = 0; i < 300; i++) vault.put(i % 4 === 0 ? `kept ${i}` : "churn", Buffer.alloc(900, i));
      await vault.sealed();
      await vault.settle();
      assert.ok(vault.figure("compactedBytes") > 0);
      const { lookup, slabs } = vault.shard.state;
      const formats = [...slabs.all()].map(({ sequence }) => lookup.maps.bySequence(sequence)?.words[2]);
      assert.deepEqual([...new Set(formats)], [2]);
      for (const [key, value] of Object.entries({ ...contentOf(born), big: Buffer.from("small") })) {
        const read = vault.read(key);
        assert.ok(
          value === null ? read.state === "absent" : read.state === "found" && read.value.equals(value),
          key,
        );
      }
      await vault.shard.close();
      const quiet = (): void => {};
      const summary = await verifyDirectory(directory, { damage: quiet, note: quiet, progress: quiet });
      assert.equal(summary?.damage, 0);
    }));
}

/** Runs work whose step of that number fails, and all after it. False: there were not so many. */
function failsAt(step: number, work: (io: FileIo) => unknown): boolean {
  let steps = 0;
  const io = Object.fromEntries(
    Object.entries(nodeIo).map(([name, call]) => [
      name,
      (...words: unknown[]) => {
        if (name !== "close" && steps++ >= step) throw new Error("killed");
        return (call as (...words: unknown[]) => unknown)(...words);
      },
    ]),
  ) as unknown as FileIo;
  try {
    work(io);
  } catch (error) {
    if ((error as Error).message !== "killed") throw error;
    return true;
  }
  return false;
}

async function upgrade(directory: string): Promise<{ status: number; text: string }> {
  const { status, out, err } = await runCommand(["upgrade", directory]);
  return { status, text: out + err };
}
