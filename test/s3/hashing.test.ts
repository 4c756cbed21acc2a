/** Sums of bodies in threads of their own: the pool by itself, and behind the interface. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { CHECKSUMS, type ChecksumName } from "../../src/format/fields/sums.ts";
import { createChecksum } from "../../src/s3/checksum/checksum.ts";
import { HASHED_BYTES_MIN, HashPool, hashThreads } from "../../src/s3/hashing/hash-pool.ts";
import { CHUNK_BYTES } from "../../src/util/limits.ts";
import { Random, randomSeed } from "../random.ts";
import { call, closeConnections } from "../rest/client.ts";
import { ask, codeOf, KEY, type S3Server, startS3 } from "./harness.ts";
import { cut } from "./upload-storm.ts";

const log = { info: () => {}, error: () => {} };
const MD5 = { md5: true, sha256: false, checksum: null };

let server: S3Server;
before(async () => {
  server = await startS3();
  await ask(server.s3Port, { method: "PUT", target: "/sums" });
});
after(async () => {
  closeConnections();
  await server.dispose();
});

function sumOf(name: ChecksumName | "md5", bytes: Uint8Array): string {
  const sum = name === "md5" ? createHash("md5") : createChecksum(name);
  sum.update(bytes);
  return sum.digest().toString("hex");
}

/** Bytes that are others in each body. */
function someBytes(random: Random, count: number): Buffer {
  return Buffer.alloc(count, random.bytes(1021));
}

const hex = (sum: Uint8Array | null): string | null =>
  sum === null ? null : Buffer.from(sum).toString("hex");

test("hash pool: bodies in random pieces, some given up half way, have the sums that they should have", async (t) => {
  const random = new Random(randomSeed(t));
  const pool = new HashPool(log, 1, 2);
  try {
    await pool.ready();
    const one = async (): Promise<void> => {
      const bytes = someBytes(random, HASHED_BYTES_MIN + random.below(100_000));
      const checksum = random.below(2) === 0 ? null : CHECKSUMS[random.below(CHECKSUMS.length)].name;
      const wanted = { md5: random.below(4) > 0, sha256: random.below(2) > 0, checksum };
      const body = pool.open(wanted, bytes.length);
      if (body === null) return;
      const isGivenUp = random.below(4) === 0;
      for (let at = 0; at < bytes.length; ) {
        const end = Math.min(bytes.length, at + 1 + random.below(40_000));
        body.append(bytes.subarray(at, end));
        at = end;
        if (random.below(3) === 0) await new Promise(setImmediate);
        if (isGivenUp && random.below(2) === 0) break;
      }
      if (isGivenUp) {
        // The sums of one whose owner has gone come all the same, and are nobody's.
        if (random.below(2) === 0) void body.end();
        body.close();
        body.close();
        return;
      }
      const sums = await body.end();
      assert.equal(hex(sums.md5), wanted.md5 ? sumOf("md5", bytes) : null);
      assert.equal(hex(sums.sha256), wanted.sha256 ? sumOf("sha256", bytes) : null);
      assert.equal(hex(sums.checksum), checksum === null ? null : sumOf(checksum, bytes));
      assert.ok(bytes.equals(body.whole()));
      body.close();
    };
    for (let wave = 0; wave < 4; wave++) await Promise.all(Array.from({ length: 36 }, one));
    // Everything that was given back can be had again.
    const all: unknown[] = [];
    while (all.length < 32) {
      const body = pool.open(MD5, CHUNK_BYTES);
      if (body === null) await new Promise(setImmediate);
      else all.push(body);
    }
    assert.equal(pool.open(MD5, CHUNK_BYTES), null, "there are no more than there are");
    assert.equal(pool.open(MD5, HASHED_BYTES_MIN - 1), null, "too small");
    assert.equal(pool.open(MD5, CHUNK_BYTES + 1), null, "too large");
    assert.equal(pool.open(MD5, Number.POSITIVE_INFINITY), null);
  } finally {
    await pool.close();
  }
});

test("hash pool: who waits for a thread that has ended is told, and no new body goes there", async () => {
  const pool = new HashPool(log, 1, 1);
  await pool.ready();
  const [waiting, filling] = [pool.open(MD5, CHUNK_BYTES), pool.open(MD5, CHUNK_BYTES)];
  assert.ok(waiting !== null && filling !== null);
  const ended = pool.close();
  const told = assert.rejects(async () => {
    // Its end is asked for until the thread does not answer any more.
    await waiting.end();
    await ended;
    await filling.end();
  }, /has ended/);
  await ended;
  await told;
  assert.equal(pool.open(MD5, CHUNK_BYTES), null);
  waiting.close();
  filling.close();
});

test("hash pool: there is none where one processor does everything", () => {
  assert.equal(hashThreads(1, 1), 0);
  assert.equal(hashThreads(1, 2), 1);
  assert.equal(hashThreads(1, 64), 4);
  assert.equal(hashThreads(2, 64), 2);
  assert.equal(hashThreads(8, 64), 1);
  assert.equal(new HashPool(log, 1, 0).open(MD5, CHUNK_BYTES), null);
});

test("s3: more bodies at once than there are slots: each has its ETag and its bytes", async (t) => {
  const random = new Random(randomSeed(t));
  const port = server.s3Port;
  const sizes = [HASHED_BYTES_MIN - 1, HASHED_BYTES_MIN, CHUNK_BYTES, CHUNK_BYTES + 1];
  const bodies = Array.from({ length: 40 }, (_, index) => someBytes(random, sizes[index % sizes.length]));
  await Promise.all(
    bodies.map(async (body, index) => {
      const target = `/sums/many-${index}`;
      const payload = index % 3 === 0 ? { payload: "UNSIGNED-PAYLOAD" } : {};
      const put = await ask(port, { method: "PUT", target, body, ...payload });
      assert.equal(put.status, 200, put.text);
      assert.equal(put.headers.etag, `"${sumOf("md5", body)}"`);
      const got = await ask(port, { method: "GET", target });
      assert.ok(got.body.equals(body));
      assert.equal(got.headers.etag, put.headers.etag);
    }),
  );
});

test("s3: a large body that is not what its sums say is refused, and nothing of it is stored", async () => {
  const port = server.s3Port;
  const body = Buffer.alloc(CHUNK_BYTES, 1);
  const other = Buffer.alloc(CHUNK_BYTES, 2);
  const cases: [string, Record<string, string>, string | undefined, string][] = [
    ["sha256", {}, createHash("sha256").update(other).digest("hex"), "XAmzContentSHA256Mismatch"],
    ["md5", { "content-md5": createHash("md5").update(other).digest("base64") }, undefined, "BadDigest"],
    [
      "crc32",
      { "x-amz-checksum-crc32": Buffer.from(sumOf("crc32", other), "hex").toString("base64") },
      undefined,
      "BadDigest",
    ],
  ];
  for (const [name, headers, payload, code] of cases) {
    const target = `/sums/wrong-${name}`;
    const put = await ask(port, {
      ...{ method: "PUT", target, body, headers },
      ...(payload === undefined ? {} : { payload }),
    });
    assert.equal(codeOf(put), code, name);
    assert.equal((await ask(port, { method: "GET", target })).status, 404, name);
  }
  const nowhere = await ask(port, { method: "PUT", target: "/no-such-bucket/x", body });
  assert.equal(codeOf(nowhere), "NoSuchBucket");
});

test("s3: large bodies that are cut leave nothing, and their places go to others", async () => {
  const port = server.s3Port;
  const body = Buffer.alloc(CHUNK_BYTES, 3);
  for (let round = 0; round < 2; round++)
    await Promise.all(
      Array.from({ length: 40 }, (_, index) => cut(port, `/sums/cut-${round}-${index}`, body)),
    );
  const put = await ask(port, { method: "PUT", target: "/sums/after", body });
  assert.equal(put.headers.etag, `"${sumOf("md5", body)}"`);
  const list = await call(server.port, "GET", "/sums/cut-?list", {
    headers: { Authorization: `Bearer ${KEY}` },
  });
  assert.deepEqual(list.json().keys, []);
});
