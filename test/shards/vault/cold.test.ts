/** Values that are not in memory, in the real vault: they are announced as cold, read beside the event loop, and then right. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_LIFE } from "../../../src/rules/expiry.ts";
import type { LocalVault } from "../../../src/shards/vault/local-vault.ts";
import { openVault } from "../../../src/shards/vault/open.ts";
import { CHUNK_BYTES } from "../../../src/util/limits.ts";
import { dropCache, missingPages } from "../../cold-files.ts";
import { temporaryDirectory } from "../../engine/harness.ts";

const KEYS = 4000;
const ATTEMPTS = 5;
/** Small, so that there are sealed ones: a start reads the open slab. */
const SLAB_BYTES = 8 * CHUNK_BYTES;
const LARGE_BYTES = 20 * CHUNK_BYTES + 12_345;

const keyOf = (text: string) => {
  const bytes = Buffer.from(text);
  return { bytes, length: bytes.length };
};
const textOf = (number: number) => `${number} `.padEnd(100 + ((number * 37) % 3000), "x");
const large = Buffer.from(Uint8Array.from({ length: LARGE_BYTES }, (_, index) => index % 251));

const open = (directory: string) =>
  openVault({
    dataDirectory: directory,
    sync: "os",
    threads: 1,
    slabBytes: SLAB_BYTES,
    warn: () => {},
    fatal: (error) => assert.fail(error),
  });

const headOf = (name: string) => ({
  verb: "put" as const,
  key: keyOf(name),
  json: false,
  contentType: "text/plain",
  trailer: new Uint8Array(0),
  life: NO_LIFE,
  ifMatch: "",
  ifNoneMatch: "",
});

async function fill(vault: LocalVault): Promise<void> {
  const writes: Promise<void>[] = [];
  const written = (name: string, submit: (done: () => void) => void) =>
    writes.push(new Promise((resolve) => submit(resolve))) && name;
  for (let number = 0; number < KEYS; number++)
    written(`k${number}`, (done) => {
      // Refused while more is queued than the shard thread gets done here in half a second.
      const attempt = () => {
        if (!vault.submit(headOf(`k${number}`), Buffer.from(textOf(number)), done)) setTimeout(attempt, 1);
      };
      attempt();
    });
  const upload = vault.upload(headOf("large"));
  assert.ok(upload !== null);
  upload.write(large);
  written("large", (done) => upload.commit(done));
  await Promise.all(writes);
}

/** Looks a key up like a front that does not wait for the disk; answers how often it was cold. */
async function lookUp(vault: LocalVault, name: string): Promise<{ cold: number; value: Buffer }> {
  for (let cold = 0; ; cold++) {
    const found = vault.findResident(keyOf(name));
    if (found.state === "cold") {
      await new Promise<void>((resolve) => vault.warm(resolve));
      continue;
    }
    assert.equal(found.state, "found", name);
    const reader = found.open();
    const pieces: Buffer[] = [];
    for (let at = 0; at < reader.valueBytes; ) {
      await new Promise<void>((resolve) => {
        if (reader.ready?.(at, resolve) !== false) resolve();
        else cold++;
      });
      const piece = reader.read(at);
      pieces.push(Buffer.from(piece));
      at += piece.length;
    }
    reader.close();
    return { cold, value: Buffer.concat(pieces) };
  }
}

/** Reads the large value and every third small one; how many of these reads were cold. */
async function readAll(vault: LocalVault): Promise<number> {
  let cold = 0;
  for (let number = 0; number < KEYS; number += 3) {
    const { cold: times, value } = await lookUp(vault, `k${number}`);
    assert.equal(value.toString(), textOf(number));
    cold += times;
  }
  const { cold: times, value } = await lookUp(vault, "large");
  assert.ok(value.equals(large));
  assert.equal(vault.findResident(keyOf("never")).state, "absent");
  return cold + times;
}

test("cold: what is not in memory is read beside the event loop, and right", async (t) => {
  const directory = temporaryDirectory();
  try {
    const first = await open(directory.path);
    await fill(first);
    assert.equal((await lookUp(first, "k1")).value.toString(), textOf(1));
    assert.equal(first.figures.coldReads[0], 0, "what was just written is in memory");
    await first.close();
    // The system reads ahead as it likes: while this process had to wait, all that is read below.
    for (let attempt = 1, isCold = false; !isCold; attempt++) {
      if (!dropCache(directory.path)) return t.skip("this file system keeps its files in memory");
      const vault = await open(directory.path);
      const missing = missingPages(directory.path);
      const cold = await readAll(vault);
      isCold = cold > 0 || missingPages(directory.path) === missing;
      t.diagnostic(`${cold} cold reads`);
      assert.ok(isCold || attempt < ATTEMPTS);
      assert.equal(vault.figures.coldReads[0], cold);
      for (let number = 0; number < KEYS; number += 3) await lookUp(vault, `k${number}`);
      assert.equal(vault.figures.coldReads[0], cold, "what was read stays in memory");
      await vault.close();
    }
  } finally {
    directory.remove();
  }
});
