/** Values that were streamed to a replica and whose accept is refused for its ballot: they stay, and are taken at a higher one. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { NO_TRAILER } from "../../../src/format/fields/trailer.ts";
import type { Ballot } from "../../../src/format/record.ts";
import type { KeyBytes, WriteResult } from "../../../src/shards/arena/write.ts";
import type { LocalUpload } from "../../../src/shards/upload/upload.ts";
import type { LocalVault } from "../../../src/shards/vault/local-vault.ts";
import { openVault } from "../../../src/shards/vault/open.ts";
import { temporaryDirectory } from "../../engine/harness.ts";

/** In one record, in a chunk and a bit, in some chunks, and in chunks that are all full. */
const LENGTHS = [0, 10, 1_000_000, 1_500_000, 3 * 1024 * 1024 + 1, 2 * 1024 * 1024];
const NOW = Date.now();

function ballot(number: number): Ballot {
  const millis = NOW - 100_000 + number;
  return {
    ...{ clockLow: ((millis % 0x10000) * 0x10000) >>> 0, clockHigh: Math.floor(millis / 0x10000) },
    ...{ node: 9, incarnation: 1 },
  };
}

async function open(t: TestContext): Promise<LocalVault> {
  const { path: dataDirectory, remove } = temporaryDirectory();
  const config = {
    dataDirectory,
    sync: "os",
    threads: 1,
    replicated: true,
    slabBytes: 4 * 1024 * 1024,
  } as const;
  const vault = await openVault({ ...config, warn: () => {}, fatal: (error) => assert.fail(error) });
  t.after(async () => {
    await vault.close();
    remove();
  });
  return vault;
}

function keyOf(text: string): KeyBytes {
  const bytes = Buffer.from(text);
  return { bytes, length: bytes.length };
}

/** Streams a value to the vault, which has promised the fifth ballot for its key. */
async function stage(vault: LocalVault, key: KeyBytes, value: Buffer): Promise<LocalUpload> {
  await new Promise<void>((resolve) => {
    assert.ok(vault.prepare(key, ballot(5), () => resolve()));
  });
  const upload = vault.stage({
    ...{ key, ballot: ballot(0), operationLow: 1, operationHigh: 2, json: false },
    ...{ contentType: "text/plain", trailer: NO_TRAILER },
  });
  assert.ok(upload);
  const drained = new Promise<void>((resolve) => {
    upload.onDrain = resolve;
  });
  if (!upload.write(value)) await drained;
  return upload;
}

test("upload of a replica: what is refused for its ballot is taken at a higher one, whole", async (t) => {
  const vault = await open(t);
  const verdictOf = (upload: LocalUpload, number: number) =>
    new Promise<string | undefined>((resolve, reject) => {
      const done = ({ error, register }: WriteResult): void =>
        error === null ? resolve(register?.verdict) : reject(new Error(error));
      upload.accept(ballot(number), NO_TRAILER, done, true);
    });
  for (const length of LENGTHS) {
    const key = keyOf(`key of ${length}`);
    const value = Buffer.alloc(length, "0123456789abcdef-");
    const upload = await stage(vault, key, value);
    await new Promise<void>((resolve) => upload.whenWritten(resolve));
    assert.equal(await verdictOf(upload, 3), "no");
    assert.equal(await verdictOf(upload, 4), "no");
    assert.equal(vault.findRegister(key).state, "absent");
    assert.equal(await verdictOf(upload, 6), "yes");
    const { state, found } = vault.findRegister(key);
    assert.equal(state, "found");
    const reader = found.open();
    const pieces: Buffer[] = [];
    for (let at = 0; at < found.valueBytes; at += (pieces.at(-1) as Buffer).length)
      pieces.push(Buffer.from(reader.read(at)));
    reader.close();
    assert.ok(Buffer.concat(pieces).equals(value), `${length} bytes`);
  }
});

test("upload of a replica: one that is refused and given up leaves no value", async (t) => {
  const vault = await open(t);
  const key = keyOf("key");
  const upload = await stage(vault, key, Buffer.alloc(1_500_000, "x"));
  await new Promise<void>((resolve) => {
    upload.accept(ballot(3), NO_TRAILER, () => resolve(), true);
  });
  upload.abort();
  const { error } = await new Promise<WriteResult>((resolve) => {
    upload.accept(ballot(6), NO_TRAILER, resolve, true);
  });
  assert.equal(error, "too_slow");
  assert.equal(vault.findRegister(key).state, "absent");
});
