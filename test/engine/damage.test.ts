/**
 * Flipped bytes and cut files: never a wrong value, never "absent" for a key that is there, never a crash. The short form takes
 * every STRIDE-th byte, from a start that differs by run; STRIDE=1 takes all.
 */
import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { verifyDirectory } from "../../src/engine/check/verify.ts";
import { NO_TRAILER, writeFields } from "../../src/format/fields/trailer.ts";
import { loadHash } from "../../src/util/hash.ts";
import { contentOf, FIELDS } from "../golden/store.ts";
import { Random, randomSeed } from "../random.ts";
import { Harness, MEMORY_FOLDER, temporaryDirectory } from "./harness.ts";

/** The golden store of this format version is damaged. */
const GOLDEN = path.join(__dirname, "../golden", process.env.GOLDEN ?? "v3");
const CONTENT = contentOf(Number(path.basename(GOLDEN).slice(1)));
const STRIDE = Number(process.env.STRIDE ?? 131);
/** Set to one of both, the other is left out. */
const ONLY = process.env.DAMAGE ?? "";

interface Tally {
  refused: number;
  damaged: number;
  intact: number;
  /** Images that verify calls damaged. */
  verified: number;
}

/** How many places of a directory verify calls damaged. */
async function placesOfDamage(directory: string): Promise<number> {
  await loadHash();
  const quiet = (): void => {};
  const summary = await verifyDirectory(directory, { damage: quiet, note: quiet, progress: quiet });
  return summary?.damage ?? 1;
}

/** Opens a damaged copy and checks every key. */
async function examine(directory: string, what: string, tally: Tally): Promise<void> {
  const places = await placesOfDamage(directory);
  if (places > 0) tally.verified++;
  let vault: Harness;
  try {
    vault = await Harness.open(directory);
  } catch (error) {
    assert.match(
      (error as Error).message,
      /damaged|format version|byte order|belongs|unit size|slab size|place|STORE|not a minivault/,
      what,
    );
    assert.ok(places > 0, `${what}: verify calls sound what does not open`);
    tally.refused++;
    return;
  }
  let damaged = false;
  for (const [key, value] of Object.entries(CONTENT)) {
    const read = vault.read(key);
    if (read.state === "damaged") {
      damaged = true;
      // With a damaged chunk the manifest still says that the key exists.
      const refusals = key.endsWith("big") ? ["corrupt", "exists"] : ["corrupt"];
      assert.ok(
        refusals.includes(String(vault.put(key, "x", { verb: "post" }).error)),
        `${what}: POST of ${key}`,
      );
      assert.equal(vault.put(key, "healed").error, null, what);
      const healed = vault.read(key);
      assert.ok(
        healed.state === "found" && healed.value.toString() === "healed",
        `${what}: ${key} after PUT`,
      );
    } else if (value === null) assert.equal(read.state, "absent", `${what}: the deleted key came back`);
    else {
      assert.ok(read.state === "found", `${what}: ${key} is ${read.state}`);
      assert.ok(read.value.equals(value), `${what}: ${key} has a wrong value`);
      const fields = key.startsWith("described") ? writeFields(FIELDS) : NO_TRAILER;
      assert.ok(read.trailer.equals(fields), `${what}: ${key} has other fields`);
    }
  }
  if (vault.reader.find(Buffer.from("never"), 5, ...hashes(vault)) === "damaged") damaged = true;
  assert.ok(!damaged || places > 0, `${what}: verify calls sound what cannot be served`);
  await vault.settle();
  await vault.shard.close();
  if (damaged) tally.damaged++;
  else tally.intact++;
}

function hashes(vault: Harness): [number, number] {
  const { hashA, hashB } = vault.hashes("never");
  return [hashA, hashB];
}

test("damage: verify calls the golden store sound", async () => {
  const directory = temporaryDirectory();
  try {
    cpSync(GOLDEN, directory.path, { recursive: true });
    assert.equal(await placesOfDamage(directory.path), 0);
  } finally {
    directory.remove();
  }
});

const files = ["STORE", ...readdirSync(path.join(GOLDEN, "shard-000")).map((name) => `shard-000/${name}`)];

test("damage: a flipped byte anywhere is noticed or harmless", { skip: ONLY === "cuts" }, async (t) => {
  const random = new Random(randomSeed(t));
  const tally: Tally = { refused: 0, damaged: 0, intact: 0, verified: 0 };
  for (const file of files) {
    const content = readFileSync(path.join(GOLDEN, file));
    for (let at = random.below(STRIDE); at < content.length; at += STRIDE) {
      const directory = temporaryDirectory(MEMORY_FOLDER);
      try {
        cpSync(GOLDEN, directory.path, { recursive: true });
        const flipped = Buffer.from(content);
        flipped[at] ^= 1 << random.below(8);
        writeFileSync(path.join(directory.path, file), flipped);
        await examine(directory.path, `${file} byte ${at}`, tally);
      } finally {
        directory.remove();
      }
    }
  }
  t.diagnostic(`${JSON.stringify(tally)}; wrong values 0, damaged keys called absent 0, missed by verify 0`);
  assert.ok(tally.damaged > 0 && tally.intact > 0);
});

test("damage: a file cut at any length is noticed or harmless", { skip: ONLY === "flips" }, async (t) => {
  const random = new Random(randomSeed(t));
  const tally: Tally = { refused: 0, damaged: 0, intact: 0, verified: 0 };
  for (const file of files) {
    const bytes = readFileSync(path.join(GOLDEN, file)).length;
    for (let length = random.below(STRIDE); length < bytes; length += STRIDE) {
      const directory = temporaryDirectory(MEMORY_FOLDER);
      try {
        cpSync(GOLDEN, directory.path, { recursive: true });
        truncateSync(path.join(directory.path, file), length);
        await examine(directory.path, `${file} cut to ${length}`, tally);
      } finally {
        directory.remove();
      }
    }
  }
  t.diagnostic(`${JSON.stringify(tally)}; wrong values 0, damaged keys called absent 0, missed by verify 0`);
});
