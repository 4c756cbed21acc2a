/** Archives as they are read: what tar-stream and GNU tar have written, in whatever pieces it comes. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { extract, pack } from "tar-stream";
import type { MemberHeader } from "../../src/archive/tar-header.ts";
import { ArchiveReader } from "../../src/archive/tar-reader.ts";
import { Random, randomSeed } from "../random.ts";
import { content } from "../rest/client.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

interface Read extends MemberHeader {
  /** Null: it was not looked at. */
  bytes: Buffer | null;
}

/** Reads an archive that comes in pieces; of some members the bytes. */
async function read(
  archive: Buffer,
  random: Random,
  looks: () => "whole" | "pieces" | "not",
): Promise<Read[]> {
  const reader = new ArchiveReader();
  let drained = (): void => {};
  reader.onDrain = () => drained();
  const writing = (async () => {
    for (let at = 0; at < archive.length; ) {
      const end = Math.min(archive.length, at + 1 + random.below(random.below(3) === 0 ? 700 : 200_000));
      const hasDrained = new Promise<void>((resolve) => {
        drained = resolve;
      });
      if (!reader.write(archive.subarray(at, end))) await hasDrained;
      at = end;
    }
    reader.end();
  })();
  const found: Read[] = [];
  let ends = 0;
  for await (const { head, end, whole, pieces } of reader.members()) {
    assert.ok(end > ends && end % 512 === 0);
    ends = end;
    const look = looks();
    let bytes: Buffer | null = null;
    if (look === "whole") bytes = Buffer.from(await whole());
    else if (look === "pieces") {
      const parts: Uint8Array[] = [];
      for await (const piece of pieces()) parts.push(piece);
      bytes = Buffer.concat(parts);
    }
    found.push({ ...head, bytes });
  }
  await writing;
  return found;
}

async function packed(members: readonly [head: object, bytes: Buffer][]): Promise<Buffer> {
  const reference = pack();
  for (const [head, bytes] of members) reference.entry(head as { name: string }, bytes);
  reference.finalize();
  const all: Uint8Array[] = [];
  for await (const piece of reference) all.push(piece as Uint8Array);
  return Buffer.concat(all);
}

function someMembers(random: Random): [object, Buffer][] {
  return Array.from({ length: 100 }, (_, index) => {
    const type = ["file", "file", "file", "directory", "symlink"][random.below(5)];
    const sizes = [0, 1, 511, 512, 513, 5000, 300_000];
    const bytes = type === "file" ? content(index, sizes[random.below(sizes.length)]) : Buffer.alloc(0);
    const name = `${"äx/"[random.below(3)].repeat(random.below(90))}k${index}`;
    const pax = random.below(2) === 0 ? { "a.b": "=ü\n ".repeat(random.below(200)), c: "" } : null;
    return [{ name, type, linkname: type === "symlink" ? "to" : null, pax, size: bytes.length }, bytes];
  });
}

test("archive: members are read as tar-stream reads them, whatever the pieces", async (t) => {
  const random = new Random(randomSeed(t));
  const archive = await packed(someMembers(random));
  // Archives behind each other, with more zeros between them than there have to be.
  const twice = Buffer.concat([archive, Buffer.alloc(512 * random.below(5)), archive]);
  const expected: Read[] = [];
  const reference = extract();
  reference.end(twice);
  for await (const entry of reference) {
    const parts: Uint8Array[] = [];
    for await (const piece of entry) parts.push(piece as Uint8Array);
    const { name, type, size, pax } = entry.header;
    const own = { name, size, type, pax: pax === null ? null : { ...pax } } as MemberHeader;
    expected.push({ ...own, bytes: Buffer.concat(parts) });
  }
  assert.equal(expected.length, 200);
  const got = await read(twice, random, () => (["whole", "pieces", "not"] as const)[random.below(3)]);
  for (const [index, { bytes, ...head }] of got.entries()) {
    const { bytes: all, ...headExpected } = expected[index];
    assert.deepEqual(head, headExpected);
    if (bytes !== null) assert.ok(bytes.equals(all as Buffer), head.name);
  }
  assert.equal(got.length, expected.length);
});

test("archive: what GNU tar makes in each of its formats", {
  skip: spawnSync("tar", ["--version"]).status !== 0 && "there is no tar",
}, async (t) => {
  const random = new Random(randomSeed(t));
  const folder = temporaryFolder();
  try {
    const short = new Map([
      ["empty", Buffer.alloc(0)],
      ["a/b", content(1, 1000)],
      ["a/large", content(2, 2_000_000)],
    ]);
    const long = new Map([
      ...short,
      ["ä", content(3, 600)],
      [`${"d/".repeat(90)}${"n".repeat(130)}`, content(4, 5)],
    ]);
    for (const [name, bytes] of long) {
      fs.mkdirSync(path.join(folder, "in", path.dirname(name)), { recursive: true });
      fs.writeFileSync(path.join(folder, "in", name), bytes);
    }
    for (const format of ["gnu", "oldgnu", "pax", "ustar", "v7"]) {
      const files = format === "ustar" || format === "v7" ? short : long;
      const file = path.join(folder, "all.tar");
      const words = ["-C", path.join(folder, "in"), `--format=${format}`, "-cf", file, ...files.keys(), "a"];
      const made = spawnSync("tar", words);
      assert.equal(made.status, 0, String(made.stderr));
      const got = await read(fs.readFileSync(file), random, () => "whole");
      assert.equal(got.find(({ name }) => name === "a/")?.type, "directory", format);
      for (const [name, bytes] of files) {
        const member = got.find((one) => one.name === name);
        assert.deepEqual([member?.type, member?.bytes?.equals(bytes)], ["file", true], `${format}: ${name}`);
      }
    }
  } finally {
    removeFolder(folder);
  }
});

test("archive: one that is cut or damaged is an error, wherever", async (t) => {
  const random = new Random(randomSeed(t));
  const pax = { "user.mime_type": "x".repeat(600) };
  const archive = await packed([[{ name: "ä", type: "file", pax, size: 700 }, content(1, 700)]]);
  const ends = archive.length - 1024;
  for (let at = 1; at < ends; at += 1 + random.below(60))
    await assert.rejects(
      read(archive.subarray(0, at), random, () => "not"),
      /ends in the middle of a member/,
      `${at}`,
    );
  // The records' header, the records, and the member's own header.
  for (const [from, end] of [
    [0, 512],
    [ends - 1536, ends - 1024],
  ])
    for (let at = from; at < end; at += 1 + random.below(20)) {
      const damaged = Buffer.from(archive);
      damaged[at] ^= 1 << random.below(7);
      // A bit of the sum's own padding is no damage.
      if (damaged[at] === 0 || archive[at] === 0x20 || at - from >= 154) continue;
      await assert.rejects(
        read(damaged, random, () => "not"),
        /damaged|too long/,
        `${at}`,
      );
    }
  const records = Buffer.from(archive);
  records[512] ^= 1;
  await assert.rejects(
    read(records, random, () => "not"),
    /damaged/,
  );
  await assert.rejects(
    read(content(3, 2048), random, () => "not"),
    /no tar/,
  );
});

test("archive: given up, members end, and a value that is not whole is an error", async () => {
  const archive = await packed([[{ name: "k", type: "file", size: 5000 }, content(1, 5000)]]);
  for (const how of ["whole", "pieces", "not"] as const) {
    const reader = new ArchiveReader();
    const members = reader.members();
    reader.write(archive.subarray(0, 2000));
    const { value: member } = await members.next();
    const using = (async () => {
      if (how === "whole") await member?.whole();
      else if (how === "pieces") for await (const _ of member?.pieces() ?? []);
    })();
    const next = how === "not" ? members.next() : null;
    setImmediate(() => reader.destroy());
    if (next === null) await assert.rejects(using, /middle of a member/);
    else assert.equal((await next).done, true);
  }
});
