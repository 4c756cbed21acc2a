/** Clients that keep a copy by the feed of changes, over compaction, restarts and kills of both sides; a short form of test/storm/feed.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { LocalVault } from "../../../src/shards/vault/local-vault.ts";
import { openVault } from "../../../src/shards/vault/open.ts";
import { temporaryDirectory } from "../../engine/harness.ts";
import { Random, randomSeed } from "../../random.ts";
import { ask, Client, changesOf, follow, listOf, write } from "./follow-model.ts";

const RUNS = 3;
const OPERATIONS = 60;

test("feed: a client that keeps a copy by it has what the list has, over compaction, restarts and kills", async (t) => {
  const random = new Random(randomSeed(t));
  const total = { resets: 0, restarts: 0, compacted: 0 };
  for (let run = 0; run < RUNS; run++) {
    const { resets, restarts, compacted } = await follow(random, OPERATIONS);
    total.resets += resets;
    total.restarts += restarts;
    total.compacted += compacted;
  }
  t.diagnostic(JSON.stringify(total));
});

async function withVault(
  historyMs: number,
  work: (vault: LocalVault, reopen: () => Promise<LocalVault>) => Promise<void>,
): Promise<void> {
  const directory = temporaryDirectory();
  const open = (): Promise<LocalVault> =>
    openVault({
      ...{
        dataDirectory: directory.path,
        sync: "os",
        threads: 1,
        historyMs,
        slabBytes: 512 * 1024,
        chunkBytes: 16 * 1024,
      },
      warn: () => {},
      fatal: (error) => assert.fail(error),
    });
  let vault = await open();
  try {
    await work(vault, async () => {
      await vault.close();
      vault = await open();
      return vault;
    });
  } finally {
    await vault.close();
    directory.remove();
  }
}

const BODY = Buffer.alloc(2000, "x");

async function fill(vault: LocalVault, from: number, count: number): Promise<void> {
  const writes: Promise<unknown>[] = [];
  for (let i = from; i < from + count; i++) writes.push(write(vault, "put", `fill/${i % 40}`, BODY));
  await Promise.all(writes);
}

/** Writes until slabs have been compacted so many times more. */
async function compact(vault: LocalVault, times: number): Promise<void> {
  let before = vault.stats().shards[0].compactedBytes;
  for (let i = 0, done = 0; done < times; i++) {
    assert.ok(i < 5000, "nothing is compacted");
    await fill(vault, i * 100, 100);
    const now = vault.stats().shards[0].compactedBytes;
    if (now > before) done++;
    before = now;
  }
}

test("feed: copies by compaction are no news to who has seen what they were copied from, and news to who has not", async () => {
  await withVault(3_600_000, async (vault) => {
    const before = await ask(vault, {});
    assert.ok(before.kind === "changes");
    await write(vault, "put", "old", Buffer.from("1"));
    const after = await ask(vault, {});
    assert.ok(after.kind === "changes");
    // The slab with "old" is gone, and its copy stands further on.
    await compact(vault, 3);
    const keysSince = async (since: string): Promise<string[]> => {
      const keys: string[] = [];
      let place = since;
      for (;;) {
        const answer = await ask(vault, { since: place, catchesUp: true });
        if (answer.kind !== "changes") throw new Error(answer.detail);
        keys.push(...changesOf(answer).map(({ key }) => key));
        if (!answer.more) return keys;
        place = answer.place;
      }
    };
    assert.ok((await keysSince(before.place)).includes("old"));
    // Its own slab counts as not seen as a whole; from the one after it on it was.
    const later = await ask(vault, {});
    assert.ok(later.kind === "changes");
    await compact(vault, 3);
    assert.ok(!(await keysSince(later.place)).includes("old"));
  });
});

test("feed: deletes are kept as long as -history says, and a place from before one that is gone is too old", async () => {
  await withVault(3_600_000, async (vault) => {
    const place = await begin(vault);
    await deleteMany(vault);
    for (let i = 0; i < 40; i++) await fill(vault, i * 100, 100);
    assert.ok((await countDeletes(vault, place)) >= 10_500);
  });
  await withVault(0, async (vault) => {
    const place = await begin(vault);
    await deleteMany(vault);
    for (let i = 0; vault.stats().shards[0].tombstones > 9_000; i++) {
      assert.ok(i < 2000, "no tombstone is dropped");
      await fill(vault, i * 100, 100);
    }
    // Memory may still tell them; the slabs cannot.
    const answer = await ask(vault, { since: place, catchesUp: true });
    assert.equal(answer.kind === "refused" && answer.code, "place_too_old");
  });
});

async function begin(vault: LocalVault): Promise<string> {
  const answer = await ask(vault, {});
  assert.ok(answer.kind === "changes");
  return answer.place;
}

async function deleteMany(vault: LocalVault): Promise<void> {
  for (let i = 0; i < 10_500; i += 500) {
    const writes: Promise<unknown>[] = [];
    for (let j = i; j < i + 500; j++) writes.push(write(vault, "put", `gone/${j}`, Buffer.from("x")));
    await Promise.all(writes);
    const deletes: Promise<unknown>[] = [];
    for (let j = i; j < i + 500; j++) deletes.push(write(vault, "delete", `gone/${j}`, Buffer.from("")));
    await Promise.all(deletes);
  }
}

async function countDeletes(vault: LocalVault, since: string): Promise<number> {
  const gone = new Set<string>();
  let place = since;
  for (;;) {
    const answer = await ask(vault, { since: place });
    if (answer.kind !== "changes") throw new Error(`${answer.code}: ${answer.detail}`);
    for (const { event, key } of changesOf(answer)) if (event === "delete") gone.add(key);
    if (!answer.more) return gone.size;
    place = answer.place;
  }
}

test("feed: pages of one change each, by their places alone, tell each change once", async () => {
  await withVault(0, async (vault) => {
    let place = await begin(vault);
    const keys = Array.from({ length: 300 }, (_, i) => `page/${i}`);
    await Promise.all(keys.map((key) => write(vault, "put", key, Buffer.from("x"))));
    const told: string[] = [];
    for (let more = true; more; ) {
      const answer = await ask(vault, { since: place, countMax: 1 });
      assert.ok(answer.kind === "changes");
      told.push(...changesOf(answer).map(({ key }) => key));
      assert.ok(told.length <= keys.length, "a change is told again");
      ({ place, more } = answer);
    }
    assert.deepEqual(told, keys);
  });
});

test("feed: prefixes, exact keys, waits, and what is no place", async () => {
  await withVault(0, async (vault, reopen) => {
    const waiting = ask(vault, { prefixes: ["a/", "b/"], waitMs: 60_000 });
    const exact = ask(vault, { prefixes: ["a/1"], exact: true, waitMs: 60_000 });
    const silent = ask(vault, { prefixes: ["c"], waitMs: 200 });
    // They wait: what is asked later is answered after them.
    const place = await begin(vault);
    await write(vault, "put", "a/12", Buffer.from("1"));
    const told = await waiting;
    assert.ok(told.kind === "changes");
    assert.deepEqual(
      changesOf(told).map(({ event, key }) => [event, key]),
      [["put", "a/12"]],
    );
    await write(vault, "put", "a/1", Buffer.from("1"));
    const told2 = await exact;
    assert.ok(told2.kind === "changes");
    assert.deepEqual(
      changesOf(told2).map(({ key }) => key),
      ["a/1"],
    );
    const nothing = await silent;
    assert.ok(nothing.kind === "changes" && nothing.count === 0);
    for (const since of ["x", "AAAA", `${place.slice(0, -2)}zz`]) {
      const answer = await ask(vault, { since });
      assert.equal(answer.kind === "refused" && answer.code, "bad_request", since);
    }
    const again = await reopen();
    const answer = await ask(again, { since: place, values: true });
    assert.ok(answer.kind === "changes");
    assert.deepEqual(
      changesOf(answer).map(({ key, base64 }) => [key, base64]),
      [
        ["a/12", "MQ=="],
        ["a/1", "MQ=="],
      ],
    );
    const client = new Client(new Random(1));
    await client.catchUp(again);
    assert.deepEqual(client.map, await listOf(again));
  });
});
