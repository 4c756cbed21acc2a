/**
 * Replication's housekeeping through the real threads: scans, digests, floors, collected tombstones, dropped partitions.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Ballot } from "../../../src/format/record.ts";
import { ballotOfMillis } from "../../../src/format/version.ts";
import { leafOf } from "../../../src/rules/digest.ts";
import type { RegisterOutcome } from "../../../src/rules/write.ts";
import type { WriteDone } from "../../../src/shards/arena/write.ts";
import type { ScannedKey } from "../../../src/shards/housekeeping/partition-scan.ts";
import type { LocalVault } from "../../../src/shards/vault/local-vault.ts";
import { openVault } from "../../../src/shards/vault/open.ts";
import { hashKey, INDEX_PARTITIONS, indexPartitionOf } from "../../../src/util/hash.ts";
import { type HashPrefix, prefixOf } from "../../../src/util/hash-prefix.ts";
import { temporaryDirectory } from "../../engine/harness.ts";
import { Random, randomSeed } from "../../random.ts";

const NOW = Date.now();

function ballot(number: number): Ballot {
  return { ...ballotOfMillis(NOW - 100_000 + number), node: 9, incarnation: 1 };
}

const keyOf = (name: string) => {
  const bytes = Buffer.from(name);
  return { bytes, length: bytes.length };
};

function partition(name: string): number {
  const { bytes, length } = keyOf(name);
  return indexPartitionOf(hashKey(bytes, length, 0));
}

/** The partition of a key in a layout of so many. */
function prefix(name: string, count = INDEX_PARTITIONS): HashPrefix {
  const { bytes, length } = keyOf(name);
  return prefixOf(hashKey(bytes, length, 0) >>> (Math.clz32(count) + 1), count);
}

function ask(send: (done: WriteDone) => boolean): Promise<RegisterOutcome> {
  return new Promise((resolve, reject) => {
    const attempt = (): void => {
      const sent = send(({ error, register }) =>
        error === null && register != null ? resolve({ ...register }) : reject(new Error(String(error))),
      );
      if (!sent) setTimeout(attempt, 2);
    };
    attempt();
  });
}

const accept = (vault: LocalVault, name: string, at: Ballot, value: Uint8Array | null) =>
  ask((done) => {
    const head = {
      key: keyOf(name),
      ballot: at,
      operationLow: 5,
      operationHigh: 6,
      json: false,
      contentType: "",
      trailer: new Uint8Array(0),
    };
    return vault.accept(head, value, done);
  });

const prepare = (vault: LocalVault, name: string, at: Ballot) =>
  ask((done) => vault.prepare(keyOf(name), at, done));

function scan(vault: LocalVault, part: HashPrefix, limit: number): ScannedKey[] {
  const keys: ScannedKey[] = [];
  for (let cursor = 0; cursor >= 0; ) {
    const step = vault.replica.scan(part, cursor, limit);
    assert.equal(step.damaged, 0);
    assert.ok(step.next < 0 || step.next >= cursor, "the cursor goes on");
    keys.push(...step.keys);
    cursor = step.next;
  }
  return keys;
}

const scanAll = (vault: LocalVault, limit: number): Map<string, ScannedKey> => {
  const all = new Map<string, ScannedKey>();
  for (let number = 0; number < INDEX_PARTITIONS; number++)
    for (const scanned of scan(vault, prefixOf(number, INDEX_PARTITIONS), limit)) {
      const name = Buffer.from(scanned.key).toString();
      assert.ok(!all.has(name), `${name} is met twice`);
      assert.equal(partition(name), number);
      all.set(name, scanned);
    }
  return all;
};

const open = (dataDirectory: string, threads: number) =>
  openVault({
    dataDirectory,
    sync: "os",
    threads,
    replicated: true,
    slabBytes: 512 * 1024,
    chunkBytes: 64 * 1024,
    warn: () => {},
    fatal: (error) => assert.fail(error),
  });

async function digests(vault: LocalVault): Promise<string> {
  while (vault.replica.digests(prefixOf(0, 1024)) === null)
    await new Promise((resolve) => setTimeout(resolve, 10));
  const all: number[] = [];
  for (let number = 0; number < INDEX_PARTITIONS; number++)
    all.push(...(vault.replica.digests(prefixOf(number, INDEX_PARTITIONS)) as Int32Array));
  return all.join();
}

test("replica: scans and digests are the same on nodes of different shards, over writes and restarts", async (t) => {
  const random = new Random(randomSeed(t));
  const places = [temporaryDirectory(), temporaryDirectory()];
  try {
    const vaults = [await open(places[0].path, 1), await open(places[1].path, 3)];
    const expected = new Map<string, { ballot: Ballot; tombstone: boolean; bytes: number }>();
    // The second node sees the same records in another order, some of them too late to count.
    const records: { name: string; at: Ballot; value: Buffer | null }[] = [];
    for (let i = 1; i <= 4000; i++) {
      const name = `key ${random.below(2500)}`;
      const value = random.below(8) === 0 ? null : Buffer.alloc(random.below(300), `${i} `);
      records.push({ name, at: ballot(i), value });
      expected.set(name, { ballot: ballot(i), tombstone: value === null, bytes: value?.length ?? 0 });
    }
    await Promise.all(records.map(({ name, at, value }) => accept(vaults[0], name, at, value)));
    await digests(vaults[0]);
    const shuffled = [...records];
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
    }
    await Promise.all(shuffled.map(({ name, at, value }) => accept(vaults[1], name, at, value)));
    const sums = await Promise.all(vaults.map(digests));
    assert.equal(sums[0], sums[1]);
    for (const vault of vaults) {
      const all = scanAll(vault, 7);
      assert.equal(all.size, expected.size);
      for (const [name, { ballot: at, tombstone, bytes }] of expected) {
        const scanned = all.get(name) as ScannedKey;
        assert.deepEqual(scanned.ballot, at);
        assert.equal(scanned.tombstone, tombstone);
        assert.equal(scanned.valueBytes, bytes);
        assert.equal(scanned.operationLow, 5);
      }
    }
    // A write that only one has: exactly the leaf of its key differs.
    await accept(vaults[0], "key 1", ballot(5000), Buffer.from("more"));
    for (let count = 1024; count <= 65536; count *= 2) {
      const [one, other] = vaults.map((vault) => vault.replica.digests(prefix("key 1", count)) as Int32Array);
      const leaves = new Set([...one.keys()].filter((i) => one[i] !== other[i]).map((i) => i >> 1));
      const { bytes, length } = keyOf("key 1");
      assert.deepEqual([...leaves], [leafOf(hashKey(bytes, length, 0), prefix("key 1", count))]);
    }
    const changed = await digests(vaults[0]);
    await vaults[0].close();
    vaults[0] = await open(places[0].path, 1);
    assert.equal(await digests(vaults[0]), changed, "the same again when counted anew");
    assert.ok(vaults[0].replica.clockMillis >= NOW - 100_000 + 5000);
    await Promise.all(vaults.map((vault) => vault.close()));
  } finally {
    for (const place of places) place.remove();
  }
});

test("replica: promises, floors, a collected tombstone and a dropped partition stay over a restart", async () => {
  const place = temporaryDirectory();
  try {
    let vault = await open(place.path, 2);
    assert.equal((await prepare(vault, "promised", ballot(10))).verdict, "yes");
    assert.equal((await accept(vault, "both", ballot(10), Buffer.from("x"))).verdict, "yes");
    const answer = await prepare(vault, "both", ballot(20));
    assert.equal(answer.verdict, "yes");
    assert.deepEqual(answer.ballot, ballot(10));
    await accept(vault, "deleted", ballot(11), Buffer.from("x"));
    await accept(vault, "deleted", ballot(12), null);
    const drop = (name: string, at: Ballot) =>
      new Promise<boolean>((resolve) =>
        vault.replica.dropTombstone(keyOf(name), at, false, (error, dropped) => {
          assert.equal(error, null);
          resolve(dropped);
        }),
      );
    assert.equal(await drop("deleted", ballot(11)), false);
    assert.equal(vault.findRegister(keyOf("deleted")).state, "tombstone");
    assert.equal(await drop("deleted", ballot(12)), true);
    const check = async (): Promise<void> => {
      assert.equal(vault.findRegister(keyOf("deleted")).state, "absent");
      assert.equal(vault.find(keyOf("deleted")).state, "absent");
      assert.deepEqual(vault.replica.floorOf(partition("deleted")), ballot(12));
      const late = await accept(vault, "deleted", ballot(11), Buffer.from("late"));
      assert.equal(late.verdict, "no");
      assert.deepEqual(late.ballot, ballot(12));
      assert.deepEqual(scan(vault, prefix("deleted"), 10), []);
      const [promised] = scan(vault, prefix("promised"), 10);
      assert.equal(promised.ballot, null);
      assert.deepEqual(promised.promised, ballot(10));
      const [both] = scan(vault, prefix("both"), 10);
      assert.deepEqual(both.ballot, ballot(10));
      assert.deepEqual(both.promised, ballot(20));
      assert.equal((await accept(vault, "both", ballot(19), null)).verdict, "no");
      assert.equal((await prepare(vault, "promised", ballot(9))).verdict, "no");
    };
    await check();
    await vault.close();
    vault = await open(place.path, 2);
    await check();

    const number = partition("both");
    await new Promise<void>((resolve) =>
      vault.replica.raiseFloor(number, ballot(30), (error) => {
        assert.equal(error, null);
        resolve();
      }),
    );
    await new Promise<void>((resolve) =>
      vault.replica.dropPartition(prefix("both"), (error) => {
        assert.equal(error, null);
        resolve();
      }),
    );
    const gone = async (): Promise<void> => {
      assert.equal(vault.find(keyOf("both")).state, "absent");
      assert.deepEqual(scan(vault, prefix("both"), 10), []);
      assert.deepEqual((await prepare(vault, "both", ballot(29))).ballot, ballot(30));
    };
    await gone();
    await vault.close();
    vault = await open(place.path, 2);
    await gone();
    const fresh = await prepare(vault, "both", ballot(31));
    assert.equal(fresh.verdict, "yes");
    assert.deepEqual(fresh.floor, ballot(30));
    await vault.close();
  } finally {
    place.remove();
  }
});

test("replica: a scan meets every key that stays, whatever is written and compacted meanwhile", async (t) => {
  const random = new Random(randomSeed(t));
  const place = temporaryDirectory();
  try {
    const vault = await open(place.path, 1);
    t.after(() => vault.close());
    const steady = new Set<string>();
    for (let i = 0; steady.size < 40; i++) if (partition(`steady ${i}`) < 40) steady.add(`steady ${i}`);
    await Promise.all([...steady].map((name) => accept(vault, name, ballot(1), Buffer.from(name))));
    let running = true;
    let number = 1;
    const writing = (async () => {
      while (running) {
        const writes = Array.from({ length: 200 }, () =>
          accept(vault, `other ${random.below(100)}`, ballot(++number), Buffer.alloc(2000)),
        );
        await Promise.all(writes);
      }
    })();
    const compacted = () => vault.stats().shards[0].compactedBytes;
    for (let round = 0; round < 5 || compacted() === 0; round++) {
      const met = new Set<string>();
      for (let p = 0; p < 40; p++)
        for (let cursor = 0; cursor >= 0; ) {
          const step = vault.replica.scan(prefixOf(p, 1024), cursor, 3);
          for (const { key } of step.keys) met.add(Buffer.from(key).toString());
          cursor = step.next;
          await new Promise((resolve) => setImmediate(resolve));
        }
      for (const name of steady) assert.ok(met.has(name), `${name} is missed`);
    }
    running = false;
    await writing;
    assert.ok(compacted() > 0);
  } finally {
    place.remove();
  }
});
