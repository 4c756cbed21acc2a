/**
 * `minivault verify` and `minivault inspect` on real directories: what they print, and their exit status.
 */
import assert from "node:assert/strict";
import { chmodSync, cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { writeClusterFile } from "../../src/cluster/layout/cluster-file.ts";
import { firstLayout } from "../../src/cluster/layout/steps.ts";
import { lockDirectory } from "../../src/engine/directory/lock.ts";
import { Harness, temporaryDirectory } from "../engine/harness.ts";
import { runCommand } from "./terminal.ts";

const GOLDEN = path.join(__dirname, "../golden/v2");
const FIRST_SLAB = "shard-000/0000000001.slab";

const run = (...words: string[]) => runCommand(words);

/** As on a terminal where this is typed. */
const runAnswering = (typed: string, ...words: string[]) => runCommand(words, { ask: async () => typed });

async function withGolden(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = temporaryDirectory();
  try {
    cpSync(GOLDEN, directory.path, { recursive: true });
    await work(directory.path);
  } finally {
    directory.remove();
  }
}

function flip(file: string, at: number): void {
  const bytes = readFileSync(file);
  bytes[at] ^= 1;
  writeFileSync(file, bytes);
}

function items(said: Awaited<ReturnType<typeof run>>): Record<string, unknown>[] {
  return said.out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

test("verify: a sound directory", () =>
  withGolden(async (directory) => {
    const said = await run("verify", directory);
    assert.equal(said.status, 0, said.out + said.err);
    assert.match(
      said.out,
      /^sound: 1 shards, 2 slabs, \d+ records, 1 large values of 20 chunks, 5 keys and 1 tombstones; /,
    );
  }));

test("verify: names file, byte, type and key of a damaged record, and the large value that needs it", () =>
  withGolden(async (directory) => {
    const file = path.join(directory, FIRST_SLAB);
    const listed = items(await run("inspect", file, "-json"));
    const value = listed.find((item) => item.key === "raw/ünï") as { offset: number };
    const chunk = listed.find((item) => item.what === "chunk") as { offset: number };
    flip(file, value.offset + 60);
    flip(file, chunk.offset + 100);
    const said = await run("verify", directory);
    assert.equal(said.status, 1);
    assert.match(said.out, new RegExp(`^damaged: ${FIRST_SLAB}, byte ${value.offset}: value`, "m"));
    assert.match(
      said.out,
      new RegExp(`^damaged: ${FIRST_SLAB}, byte ${chunk.offset}: chunk of key "big"`, "m"),
    );
    assert.match(said.out, /: manifest of key "big": its chunk 0 of 20 .* is damaged$/m);
    assert.match(said.out, /^damaged in 3 places: /m);
    const inspected = await run("inspect", file);
    assert.equal(inspected.status, 1);
    assert.match(inspected.out, /DAMAGED: the checksum does not hold/);
  }));

test("verify: a torn tail is no damage; a byte that was synced is", async () => {
  const directory = temporaryDirectory();
  try {
    const vault = await Harness.open(directory.path);
    vault.put("a", "first");
    vault.put("b", "second");
    await vault.shard.close();
    const file = path.join(directory.path, FIRST_SLAB);
    const listed = items(await run("inspect", file, "-json"));
    const end = listed.find((item) => item.what === "end of records") as { offset: number };
    const bytes = readFileSync(file);
    bytes.fill(0x5a, end.offset, end.offset + 20);
    writeFileSync(file, bytes);
    const torn = await run("verify", directory.path);
    assert.equal(torn.status, 0, torn.out);
    assert.match(torn.out, new RegExp(`^note: .*: 20 bytes from byte ${end.offset} on are a torn tail`, "m"));
    const first = listed.find((item) => item.key === "a") as { offset: number };
    flip(file, first.offset + 50);
    const damaged = await run("verify", directory.path);
    assert.equal(damaged.status, 1);
    assert.match(damaged.out, new RegExp(`byte ${first.offset}: .*no valid record`));
  } finally {
    directory.remove();
  }
});

test("verify: a directory in use, and what is none", () =>
  withGolden(async (directory) => {
    const lock = await lockDirectory(directory);
    try {
      const said = await run("verify", directory);
      assert.equal(said.status, 1);
      assert.match(said.err, /^minivault verify: .*\n$/);
    } finally {
      await lock.release();
    }
    assert.equal((await run("verify", path.join(directory, "nothing"))).status, 2);
    assert.equal((await run("verify", path.join(directory, "shard-000"))).status, 2);
    assert.equal((await run("inspect", path.join(directory, "nothing"))).status, 2);
    assert.equal((await run("inspect", __filename)).status, 2);
  }));

test("verify: an index snapshot that does not hold", async () => {
  const directory = temporaryDirectory();
  try {
    const vault = await Harness.open(directory.path, { snapshotEntriesMin: 1 });
    for (let i = 0; i < 100; i++) vault.put(`key ${i}`, "value");
    await vault.shard.close();
    assert.equal((await run("verify", directory.path)).status, 0);
    const file = path.join(directory.path, "shard-000/index.snapshot");
    assert.equal((await run("inspect", file)).status, 0);
    flip(file, 500);
    const said = await run("verify", directory.path);
    assert.equal(said.status, 1);
    assert.match(said.out, /index\.snapshot: index snapshot: its checksum does not hold/);
  } finally {
    directory.remove();
  }
});

test("inspect: a cut slab, a slab without its store, STORE", () =>
  withGolden(async (directory) => {
    const alone = path.join(directory, "0000000001.slab");
    cpSync(path.join(directory, FIRST_SLAB), alone);
    const without = await run("inspect", alone);
    assert.equal(without.status, 0, without.out);
    assert.match(without.out, /checksums of records cannot be judged without the STORE file two folders up/);
    assert.match(without.out, /key "greeting".*checksum "unknown"/);
    const store = items(await run("inspect", path.join(directory, "STORE"), "-json"));
    assert.deepEqual([store[0].what, store[0].checksum], ["store", "good"]);
    const { hashSecret } = JSON.parse(readFileSync(path.join(directory, "STORE"), "utf8").split("\n")[0]);
    assert.match(hashSecret, /^[0-9a-f]{32}$/);
    writeFileSync(
      path.join(directory, "STORE.damaged"),
      readFileSync(path.join(directory, "STORE")).subarray(0, -40),
    );
    for (const name of ["STORE", "STORE.damaged"])
      for (const form of [[], ["-json"]]) {
        const { out } = await run("inspect", path.join(directory, name), ...form);
        assert.match(out, /hashSecret/);
        assert.ok(!out.includes(hashSecret), "the secret of the hash stays in the file");
      }
    const file = path.join(directory, FIRST_SLAB);
    truncateSync(file, 5000);
    const cut = await run("inspect", file);
    assert.equal(cut.status, 1);
    assert.match(cut.out, /5000 {2}end of file DAMAGED: the file was cut here/);
    for (const length of [4097, 4096, 100, 64, 7, 0]) {
      truncateSync(file, length);
      assert.equal((await run("inspect", file)).status, 1, `${length} bytes`);
    }
  }));

test("accept-loss: says what is lost, and changes nothing before that is accepted", () =>
  withGolden(async (directory) => {
    chmodSync(directory, 0o700);
    assert.deepEqual(await run("accept-loss", directory), {
      status: 0,
      out: "nothing is lost: there is nothing to accept\n",
      err: "",
    });
    rmSync(path.join(directory, FIRST_SLAB));
    const store = readFileSync(path.join(directory, "STORE"), "utf8");
    const refused = await run("accept-loss", directory);
    assert.equal(refused.status, 1);
    assert.match(refused.out, /slab 1 of shard 0 is damaged: the file is missing/);
    assert.match(refused.out, /shard 0 \(slabs 1\): nobody knows which keys/);
    assert.match(refused.err, /not accepted, and nothing has changed; .* -yes accepts it/);
    for (const typed of ["", "no", "accept it"])
      assert.deepEqual(await runAnswering(typed, "accept-loss", directory), {
        ...refused,
        err: "not accepted, and nothing has changed\n",
      });
    assert.equal(readFileSync(path.join(directory, "STORE"), "utf8"), store);
    const accepted = await runAnswering("accept", "accept-loss", directory);
    assert.deepEqual([accepted.status, accepted.err], [0, ""], accepted.err);
    assert.match(accepted.out, /accepted: the next start serves what is left/);
    assert.equal(
      (await run("accept-loss", directory, "-yes")).out,
      "nothing is lost: there is nothing to accept\n",
    );
  }));

test("accept-loss: a node of a cluster is refused, and so is a directory that is in use, or none", () =>
  withGolden(async (directory) => {
    chmodSync(directory, 0o700);
    const layout = firstLayout(
      ["http://a:1", "http://b:1"].map((url) => ({
        id: url,
        url,
        host: "h",
        region: "default",
        state: "active" as const,
      })),
      2,
    );
    writeClusterFile(directory, {
      ...{ url: "http://a:1", store: "", member: "", number: 1, incarnation: 1, masters: [] },
      ...{ voting: true, layout, birth: {}, finished: 0 },
    });
    rmSync(path.join(directory, FIRST_SLAB));
    const refused = await run("accept-loss", directory, "-yes");
    assert.equal(refused.status, 1);
    assert.match(
      refused.err,
      /belongs to a cluster of 2 nodes: start this one, it takes what it lost from the others/,
    );
    const lock = await lockDirectory(directory);
    assert.match((await run("accept-loss", directory, "-yes")).err, /is in use/);
    await lock.release();
    assert.equal((await run("accept-loss", path.join(directory, "shard-000"))).status, 2);
  }));

test("verify: what a node has kept of its cluster, which a start would refuse", () =>
  withGolden(async (directory) => {
    const file = path.join(directory, "CLUSTER");
    writeClusterFile(directory, {
      ...{ url: "http://a:1", store: "", member: "", number: 1, incarnation: 1, masters: [] },
      ...{ voting: true, layout: null, birth: {}, finished: 0 },
    });
    assert.equal((await run("verify", directory)).status, 0);
    flip(file, 40);
    const said = await run("verify", directory);
    assert.equal(said.status, 1);
    assert.match(
      said.out,
      /^damaged: CLUSTER: what it knows of its cluster: .*checksum does not hold; restore it /m,
    );
    assert.match(said.out, /^damaged in 1 place: /m);
  }));

test("verify: its lock leaves no file, and keeps a node from starting meanwhile", async () => {
  const directory = temporaryDirectory();
  try {
    const lock = await lockDirectory(directory.path, { readOnly: true });
    assert.deepEqual(readdirSync(directory.path), []);
    if (process.platform === "linux") await assert.rejects(lockDirectory(directory.path), /is in use/);
    await lock.release();
    const node = await lockDirectory(directory.path);
    await assert.rejects(lockDirectory(directory.path, { readOnly: true }), /is in use/);
    await node.release();
  } finally {
    directory.remove();
  }
});
