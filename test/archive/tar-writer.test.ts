/** Archives as they are written: to the byte what tar-stream makes of the same members, in whatever pieces. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { pack } from "tar-stream";
import type { MemberHead } from "../../src/archive/member.ts";
import { ArchiveReader } from "../../src/archive/tar-reader.ts";
import { ArchiveWriter } from "../../src/archive/tar-writer.ts";
import { Random, randomSeed } from "../random.ts";
import { content } from "../rest/client.ts";

async function all(archive: ArchiveWriter): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  // It is good until the next one is asked for.
  for await (const piece of archive.pieces()) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

async function* cut(bytes: Buffer, random: Random): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + 1 + random.below(random.below(2) === 0 ? 100_000 : 300_000));
    // Turns in between, so that what is there of a piece is handed on.
    if (random.below(2) === 0) await new Promise((resolve) => setImmediate(resolve));
    const piece = Buffer.from(bytes.subarray(at, end));
    yield piece;
    piece.fill(0xee);
    at = end;
  }
}

test("archive: members of all sizes, to the byte as tar-stream has them", async (t) => {
  const random = new Random(randomSeed(t));
  const members = Array.from({ length: 120 }, (_, index): [MemberHead, Buffer] => {
    const bytes = content(index, [0, 1, 511, 512, 513, 1000, 130_000, 300_000][random.below(8)]);
    // Lengths around those at which a record's own length gets a digit more.
    const pax = { "SCHILY.xattr.user.a": "x".repeat(random.below(120)), b: "ü".repeat(random.below(600)) };
    const mtime = new Date(random.below(2 ** 31) * 1000);
    return [
      { name: `k/${"ä".repeat(random.below(80))}${index}`, size: bytes.length, mtime, mode: 0o600, pax },
      bytes,
    ];
  });
  const reference = pack();
  for (const [head, bytes] of members) reference.entry({ ...head, type: "file" }, bytes);
  reference.finalize();
  const expected: Uint8Array[] = [];
  for await (const piece of reference) expected.push(piece as Uint8Array);

  const archive = new ArchiveWriter();
  const got = all(archive);
  for (const [head, bytes] of members)
    if (random.below(3) === 0) await archive.putStream(head, cut(bytes, random));
    else await archive.put(head, bytes);
  archive.end();
  assert.ok((await got).equals(Buffer.concat(expected)));
});

test("archive: a size of more than 11 octal digits; a value of other bytes than its head says; giving up", async () => {
  const head: MemberHead = { name: "large", size: 2 ** 33 + 5, mtime: new Date(0), mode: 0o600, pax: {} };
  const archive = new ArchiveWriter();
  let release = (): void => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  async function* cutShort(): AsyncGenerator<Uint8Array> {
    yield content(1, 1000);
    await released;
  }
  const put = assert.rejects(archive.putStream(head, cutShort()), /a value of 8589934597 bytes came as 1000/);
  const reader = new ArchiveReader();
  const reading = (async () => {
    for await (const piece of archive.pieces()) reader.write(piece);
  })();
  const { value: member } = await reader.members().next();
  assert.deepEqual([member?.head.name, member?.head.size], [head.name, head.size]);
  release();
  await put;
  await assert.rejects(reading, /came as 1000/);
  reader.destroy();

  // Whoever gives pieces is told that nobody takes them any more.
  let isClosed = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield content(1, 300_000);
    } finally {
      isClosed = true;
    }
  }
  const broken = new ArchiveWriter();
  const given = assert.rejects(broken.putStream(head, endless()), /given up/);
  for await (const piece of broken.pieces()) if (piece.length > 100_000) break;
  broken.destroy();
  await given;
  assert.ok(isClosed);

  const left = new ArchiveWriter();
  left.destroy();
  assert.equal((await all(left)).length, 0);
  await assert.rejects(left.put(head, content(1, 1)), /given up/);
});
