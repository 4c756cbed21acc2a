/**
 * Directories that this program must not touch: of another format version, byte order, unit or slab size, or with another store's slab.
 */
import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";

import { verifyDirectory } from "../../src/engine/check/verify.ts";
import { HEADER } from "../../src/format/offsets.ts";
import { hash32, loadHash } from "../../src/util/hash.ts";
import { checksumLine } from "../../src/util/sealed-file.ts";
import { runProgram } from "../rest/server.ts";
import { Harness, temporaryDirectory } from "./harness.ts";

const GOLDEN = path.join(__dirname, "../golden/v1");
const CHECKED_BYTES = 60;

/** Changes members of STORE, with a checksum that holds. */
function changeStore(directory: string, members: object): void {
  const file = path.join(directory, "STORE");
  const line = JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8").split("\n")[0]), ...members });
  writeFileSync(file, `${line}\n${checksumLine(line)}\n`);
}

/** Changes the first slab's header, with a checksum that holds. */
function changeHeader(directory: string, change: (view: DataView) => void): void {
  const file = path.join(directory, "shard-000/0000000001.slab");
  const bytes = readFileSync(file);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  change(view);
  view.setInt32(HEADER.checksum, hash32(bytes.subarray(0, CHECKED_BYTES), 0), true);
  writeFileSync(file, bytes);
}

/** The header as a big-endian machine writes it. */
function swapHeader(directory: string): void {
  changeHeader(directory, (view) => {
    for (let at = HEADER.version; at < HEADER.storeId; at += 4) view.setUint32(at, view.getUint32(at, true));
  });
  const file = path.join(directory, "shard-000/0000000001.slab");
  const bytes = readFileSync(file);
  bytes.subarray(HEADER.checksum, HEADER.checksum + 4).reverse();
  writeFileSync(file, bytes);
}

const CASES: { what: string; change: (directory: string) => void; says: RegExp }[] = [
  {
    what: "a later format version in STORE",
    change: (directory) => changeStore(directory, { version: 5 }),
    says: /has format version 5; this program reads 1 to 4\. Use the release that wrote it/,
  },
  {
    what: "STORE of a big-endian machine",
    change: (directory) => changeStore(directory, { endian: "big" }),
    says: /another byte order \(big endian\); this program reads little endian\. Open it on such a machine/,
  },
  {
    what: "STORE of another program",
    change: (directory) => changeStore(directory, { format: "other" }),
    says: /is not a minivault store/,
  },
  {
    what: "STORE with another hash",
    change: (directory) => changeStore(directory, { hash: "xxh64" }),
    says: /uses the hash xxh64; this program knows xxh32 for format version 1\. Use the release/,
  },
  {
    what: "STORE of version 2 with the hash of version 1",
    change: (directory) => changeStore(directory, { version: 2 }),
    says: /uses the hash xxh32; this program knows siphash-1-3 for format version 2\. Use the release/,
  },
  {
    what: "STORE with a secret that is too short",
    change: (directory) =>
      changeStore(directory, { version: 2, hash: "siphash-1-3", hashSecret: "0123456789abcdef" }),
    says: /lacks a setting in its STORE file/,
  },
  {
    what: "STORE of version 3 that does not say whose its slabs are",
    change: (directory) => changeStore(directory, { version: 3, hash: "xxh32" }),
    says: /lacks a setting in its STORE file/,
  },
  {
    what: "STORE of version 3 with another store's slabs",
    change: (directory) => changeStore(directory, { version: 3, hash: "xxh32", slabId: "f".repeat(32) }),
    says: /0000000001\.slab: it belongs to another store; move it away or restore/,
  },
  {
    what: "STORE with slabs that an index position cannot reach",
    change: (directory) => changeStore(directory, { slabBytes: 2 ** 27 }),
    says: /has slabs of 134217728 bytes; .* Use the release or build that wrote it/,
  },
  {
    what: "STORE with slabs that are not whole pages",
    change: (directory) => changeStore(directory, { slabBytes: 10_000 }),
    says: /has slabs of 10000 bytes/,
  },
  {
    what: "STORE with chunks that are too large",
    change: (directory) => changeStore(directory, { chunkBytes: 2 ** 22 }),
    says: /has chunks of 4194304 bytes/,
  },
  {
    what: "STORE with chunks of more than half a slab",
    change: (directory) => changeStore(directory, { chunkBytes: 16_000 }),
    says: /has chunks of 16000 bytes/,
  },
  {
    what: "STORE with too many shards",
    change: (directory) => changeStore(directory, { shards: 100_000 }),
    says: /has 100000 shards; this program knows 1 to 256/,
  },
  {
    what: "STORE with no shards",
    change: (directory) => changeStore(directory, { shards: 0 }),
    says: /has 0 shards/,
  },
  {
    what: "STORE with no seed",
    change: (directory) => changeStore(directory, { hashSeed: undefined }),
    says: /lacks a setting in its STORE file/,
  },
  {
    what: "a slab of a later format version",
    change: (directory) => changeHeader(directory, (view) => view.setUint32(HEADER.version, 3, true)),
    says: /0000000001\.slab: format version 3, this program reads 1 to 2; move it away or restore/,
  },
  {
    what: "a slab of a big-endian machine",
    change: swapHeader,
    says: /0000000001\.slab: another byte order: it was written on a big-endian machine; move it away/,
  },
  {
    what: "another unit size",
    change: (directory) => changeHeader(directory, (view) => view.setUint32(HEADER.unitBytes, 32, true)),
    says: /0000000001\.slab: another unit size; move it away or restore/,
  },
  {
    what: "another slab size",
    change: (directory) => changeHeader(directory, (view) => view.setUint32(HEADER.slabBytes, 32_768, true)),
    says: /0000000001\.slab: another slab size; move it away or restore/,
  },
  {
    what: "another store's slab",
    change: (directory) => changeHeader(directory, (view) => view.setUint8(HEADER.storeId, 0xff)),
    says: /0000000001\.slab: it belongs to another store; move it away or restore/,
  },
];

/** All files with what is in them, but LOCK. */
function contentOf(directory: string): Record<string, string> {
  const files = [
    "STORE",
    ...readdirSync(path.join(directory, "shard-000")).map((name) => `shard-000/${name}`),
  ];
  return Object.fromEntries(
    files.map((name) => [name, readFileSync(path.join(directory, name)).toString("base64")]),
  );
}

for (const { what, change, says } of CASES)
  test(`versions: refused with the reason and what to do: ${what}`, async () => {
    const directory = temporaryDirectory();
    try {
      await loadHash();
      cpSync(GOLDEN, directory.path, { recursive: true });
      change(directory.path);
      const before = contentOf(directory.path);
      const lines: string[] = [];
      const quiet = (): void => {};
      await verifyDirectory(directory.path, {
        damage: ({ text }) => lines.push(text),
        note: quiet,
        progress: quiet,
      });
      assert.ok(lines.length > 0, "verify calls it sound");
      await assert.rejects(Harness.open(directory.path), says);
      const after = contentOf(directory.path);
      for (const name of Object.keys(before))
        if (name !== "STORE") assert.equal(after[name], before[name], `${name} was changed`);
    } finally {
      directory.remove();
    }
  });

test("versions: the program refuses them with one line and exit status 1", async () => {
  await loadHash();
  for (const { what, change, says } of CASES.filter(({ what }) => /later|machine/.test(what))) {
    const directory = temporaryDirectory();
    try {
      cpSync(GOLDEN, directory.path, { recursive: true });
      change(directory.path);
      const exit = await runProgram(["-port", "0", "-data", directory.path]);
      assert.equal(exit.status, 1, what);
      const errors = exit.output.split("\n").filter((line) => says.test(line));
      assert.equal(errors.length, 1, `${what}: ${exit.output}`);
      assert.doesNotMatch(exit.output, /^ +at /m, "a stack trace");
    } finally {
      directory.remove();
    }
  }
});
