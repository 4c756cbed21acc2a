/**
 * The vault with its real threads: many writes at once, a full arena, uploads beside small writes, and closing in the middle.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_LIFE } from "../../../src/rules/expiry.ts";
import type { WriteVerb } from "../../../src/rules/write.ts";
import type { WriteDone, WriteHead } from "../../../src/shards/arena/write.ts";
import type { LocalVault } from "../../../src/shards/vault/local-vault.ts";
import { openVault } from "../../../src/shards/vault/open.ts";
import { CHUNK_BYTES } from "../../../src/util/limits.ts";
import { temporaryDirectory } from "../../engine/harness.ts";
import { Random, randomSeed } from "../../random.ts";

const key = (text: string) => {
  const bytes = Buffer.from(text);
  return { bytes, length: bytes.length };
};

const head = (verb: WriteVerb, name: string): WriteHead => ({
  verb,
  key: key(name),
  json: false,
  contentType: "text/plain",
  trailer: new Uint8Array(0),
  life: NO_LIFE,
  ifMatch: "",
  ifNoneMatch: "",
});

/** Submits, again and again while the queue is full; answers the error or null. */
function write(vault: LocalVault, verb: WriteVerb, name: string, body: Uint8Array): Promise<string | null> {
  return new Promise((resolve) => {
    const done: WriteDone = (result) => resolve(result.error);
    const attempt = (): void => {
      if (!vault.submit(head(verb, name), body, done)) setTimeout(attempt, 1);
    };
    attempt();
  });
}

function read(vault: LocalVault, name: string): Buffer | null {
  const found = vault.find(key(name));
  if (found.state !== "found") return null;
  const reader = found.open();
  const parts: Buffer[] = [];
  for (let at = 0; at < reader.valueBytes; ) {
    const piece = reader.read(at);
    parts.push(Buffer.from(piece));
    at += piece.length;
  }
  reader.close();
  return Buffer.concat(parts);
}

async function withVault(
  threads: number,
  work: (vault: LocalVault, directory: string) => Promise<void>,
): Promise<void> {
  const directory = temporaryDirectory();
  try {
    const vault = await openVault({
      dataDirectory: directory.path,
      sync: "os",
      threads,
      warn: () => {},
      fatal: (error) => assert.fail(error),
    });
    try {
      await work(vault, directory.path);
    } finally {
      await vault.close();
    }
  } finally {
    directory.remove();
  }
}

for (const threads of [1, 3])
  test(`vault: thousands of writes of mixed sizes at once, ${threads} thread(s): each answered once, each read back`, async (t) => {
    const random = new Random(randomSeed(t));
    await withVault(threads, async (vault) => {
      const expected = new Map<string, Buffer>();
      const writes: Promise<unknown>[] = [];
      for (let i = 0; i < 4000; i++) {
        const name = `k${i}`;
        const body = Buffer.alloc(
          random.below(20) === 0 ? random.below(CHUNK_BYTES) : random.below(500),
          `${i} `,
        );
        expected.set(name, body);
        writes.push(write(vault, "put", name, body).then((error) => assert.equal(error, null)));
        // Bursts of all lengths, so that buffers close at every fill.
        if (random.below(40) === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(writes);
      for (const [name, body] of expected) assert.ok(read(vault, name)?.equals(body), name);
    });
  });

test("vault: of many POSTs of one key exactly one is created, whatever batch they fall into", async () => {
  await withVault(1, async (vault) => {
    for (let round = 0; round < 30; round++) {
      const outcomes = await Promise.all(
        Array.from({ length: 50 }, () => write(vault, "post", `r${round}`, Buffer.from("x"))),
      );
      assert.equal(outcomes.filter((error) => error === null).length, 1);
      assert.equal(outcomes.filter((error) => error === "exists").length, 49);
    }
  });
});

test("vault: an upload that does not wait for room keeps its order and its bytes, beside small writes", async (t) => {
  const random = new Random(randomSeed(t));
  await withVault(1, async (vault) => {
    const body = random.bytes(24 * CHUNK_BYTES + 12_345);
    const upload = vault.upload(head("put", "big"));
    assert.ok(upload !== null);
    let asked = 0;
    for (let at = 0; at < body.length; at += 700_000)
      if (!upload.write(body.subarray(at, at + 700_000))) asked++;
    const small = Promise.all(
      Array.from({ length: 500 }, (_, i) => write(vault, "put", `s${i}`, Buffer.from(`${i}`))),
    );
    const error = await new Promise((resolve) => upload.commit((result) => resolve(result.error)));
    assert.equal(error, null);
    await small;
    assert.ok(asked > 0, "the caller was asked to pause");
    assert.ok(read(vault, "big")?.equals(body));
    assert.equal(read(vault, "s499")?.toString(), "499");
  });
});

test("vault: uploads side by side, some given up half-way, keep their own bytes in the buffers that they leave to each other", async (t) => {
  const random = new Random(randomSeed(t));
  await withVault(2, async (vault) => {
    const expected = new Map<string, Buffer | null>();
    const send = async (name: string): Promise<void> => {
      const pattern = random.bytes(1 + random.below(5000));
      const body = Buffer.alloc(random.below(4 * CHUNK_BYTES), pattern);
      const upload = vault.upload(head("put", name));
      assert.ok(upload !== null);
      const end = random.below(4) === 0 ? random.below(body.length + 1) : -1;
      for (let at = 0; at < body.length && (end < 0 || at < end); ) {
        const piece = body.subarray(at, at + 1 + random.below(600_000));
        at += piece.length;
        const drained = new Promise<void>((resolve) => {
          upload.onDrain = resolve;
        });
        if (!upload.write(piece)) await drained;
        else await new Promise((resolve) => setImmediate(resolve));
      }
      if (end >= 0) upload.abort();
      else
        assert.equal(await new Promise((resolve) => upload.commit((result) => resolve(result.error))), null);
      expected.set(name, end >= 0 ? null : body);
    };
    await Promise.all(
      Array.from({ length: 5 }, async (_, lane) => {
        for (let i = 0; i < 12; i++) await send(`${lane}-${i}`);
      }),
    );
    for (const [name, body] of expected) {
      const found = read(vault, name);
      assert.ok(body === null ? found === null : found?.equals(body), name);
    }
  });
});

test("vault: close waits for every accepted write, and takes no more", async () => {
  const directory = temporaryDirectory();
  try {
    const options = {
      dataDirectory: directory.path,
      sync: "always" as const,
      threads: 1,
      warn: () => {},
      fatal: () => {},
    };
    const vault = await openVault(options);
    const writes = Array.from({ length: 300 }, (_, i) => write(vault, "put", `k${i}`, Buffer.from(`${i}`)));
    const closed = vault.close();
    assert.equal(
      vault.submit(head("put", "late"), Buffer.from("x"), () => {}),
      false,
    );
    for (const error of await Promise.all(writes)) assert.equal(error, null);
    await closed;
    const again = await openVault(options);
    for (let i = 0; i < 300; i++) assert.equal(read(again, `k${i}`)?.toString(), `${i}`);
    await again.close();
  } finally {
    directory.remove();
  }
});

test("vault: a write that is submitted from the answer of another is never left lying, however long that one took", async (t) => {
  const random = new Random(randomSeed(t));
  await withVault(1, async (vault) => {
    const large = Buffer.alloc(CHUNK_BYTES, "l");
    const small = Buffer.from("small");
    let left = 1500;
    await new Promise<void>((resolve, reject) => {
      // The slow ones end after the front has gone to sleep, or just before.
      const timer = setTimeout(() => reject(new Error(`${left} writes are left, and nobody works`)), 60_000);
      const next: WriteDone = (result) => {
        if (result.error !== null) reject(new Error(result.error));
        if (--left === 0) {
          clearTimeout(timer);
          resolve();
          return;
        }
        const body = random.below(4) === 0 ? large.subarray(0, random.below(CHUNK_BYTES)) : small;
        assert.ok(vault.submit(head("put", `chain-${left}`), body, next));
      };
      assert.ok(vault.submit(head("put", "first"), small, next));
    });
  });
});
