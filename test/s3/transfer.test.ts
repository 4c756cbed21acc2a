/** Archives keep what S3 has said of objects: their ETags and checksums. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { readSums, sumsText } from "../../src/format/fields/sums.ts";
import { CHUNK_BYTES } from "../../src/util/limits.ts";
import { Random, randomSeed } from "../random.ts";
import { call, closeConnections } from "../rest/client.ts";
import { type Answer, ask, KEY, type S3Server, startS3 } from "./harness.ts";

const bearer = { Authorization: `Bearer ${KEY}` };
const PART_BYTES = 5 * 1024 * 1024;

let server: S3Server;
before(async () => {
  server = await startS3();
  await ask(server.s3Port, { method: "PUT", target: "/kept" });
});
after(async () => {
  closeConnections();
  await server.dispose();
});

const read = (key: string): Promise<Answer> =>
  ask(server.s3Port, {
    ...{ method: "GET", target: `/kept/${key}`, headers: { "x-amz-checksum-mode": "ENABLED" } },
  });

async function putInParts(key: string, parts: readonly Buffer[]): Promise<void> {
  const port = server.s3Port;
  const begun = await ask(port, { method: "POST", target: `/kept/${key}?uploads=` });
  const id = /<UploadId>(\w+)</.exec(begun.text)?.[1];
  const tags: string[] = [];
  for (const [index, body] of parts.entries()) {
    const target = `/kept/${key}?partNumber=${index + 1}&uploadId=${id}`;
    const { headers } = await ask(port, { method: "PUT", target, body });
    tags.push(`<Part><PartNumber>${index + 1}</PartNumber><ETag>${headers.etag}</ETag></Part>`);
  }
  const body = `<CompleteMultipartUpload>${tags.join("")}</CompleteMultipartUpload>`;
  const done = await ask(port, { method: "POST", target: `/kept/${key}?uploadId=${id}`, body });
  assert.equal(done.status, 200, done.text);
}

test("an archive brings back ETags and checksums of objects, and refuses bytes that are not theirs", async (t) => {
  const random = new Random(randomSeed(t));
  const some = (count: number): Buffer => Buffer.alloc(count, random.bytes(1021));
  const bodies: Record<string, Buffer> = {
    empty: Buffer.alloc(0),
    json: Buffer.from('{"a":1}'),
    small: some(1000),
    large: some(CHUNK_BYTES + 1000),
  };
  for (const [key, body] of Object.entries(bodies)) {
    const sha1 = createHash("sha1").update(body).digest("base64");
    const type = key === "json" ? "application/json" : "text/plain";
    const headers = { "x-amz-checksum-sha1": sha1, "content-type": type, "x-amz-meta-from": "here" };
    assert.equal(
      (await ask(server.s3Port, { method: "PUT", target: `/kept/${key}`, body, headers })).status,
      200,
    );
  }
  const parts = [some(PART_BYTES), some(10)];
  await putInParts("parts", parts);
  bodies.parts = Buffer.concat(parts);
  const keys = Object.keys(bodies);
  const told = (answer: Answer) => {
    const { etag, "x-amz-checksum-sha1": sha1, "x-amz-checksum-type": type } = answer.headers;
    return {
      etag,
      sha1,
      type,
      from: answer.headers["x-amz-meta-from"],
      mime: answer.headers["content-type"],
    };
  };
  const before = await Promise.all(keys.map(async (key) => told(await read(key))));
  assert.match(before[keys.indexOf("parts")].etag ?? "", /^"[0-9a-f]{32}-2"$/);
  const archive = (await call(server.port, "GET", "/_export?prefix=kept/", { headers: bearer })).body;
  for (const key of keys) await ask(server.s3Port, { method: "DELETE", target: `/kept/${key}` });
  const imported = await call(server.port, "PUT", "/_import?mode=replace", {
    headers: bearer,
    body: archive,
  });
  assert.match(imported.body.toString(), /"refused":0/);
  for (const [index, key] of keys.entries()) {
    const answer = await read(key);
    assert.deepEqual(told(answer), before[index], key);
    assert.ok(answer.body.equals(bodies[key]), key);
  }
  // A byte of a value that is another one, in a record's worth and in a stream's.
  for (const key of ["small", "large"]) {
    const damaged = Buffer.from(archive);
    const at = damaged.indexOf(bodies[key].subarray(0, 900));
    damaged[at + 500] ^= 1;
    const refused = await call(server.port, "PUT", "/_import?mode=replace", {
      headers: bearer,
      body: damaged,
    });
    assert.match(refused.body.toString(), /its bytes are not those that its MD5 is of/, key);
    assert.match(refused.body.toString(), /"refused":1/, key);
    assert.ok((await read(key)).body.equals(bodies[key]), key);
  }
});

test("sums as text: nothing else is read", () => {
  const md5 = "0123456789abcdef0123456789abcdef";
  assert.equal(sumsText(new Uint8Array(0)), "");
  assert.deepEqual(readSums(""), { md5: null, checksum: null });
  assert.equal(readSums(`md5: ${md5}-3\ncrc32: 01020304 composite\n`)?.md5?.parts, 3);
  for (const text of [
    ...["md5", "md5: ", `md5: ${md5}0`, `md5: ${md5.toUpperCase()}`, `md5: ${md5}-0`, `md5: ${md5}-`],
    ...[`md5: ${md5}\nmd5: ${md5}`, "crc32: 0102030", "crc32: 0102030g", "crc31: 01020304", "\n", "crc32"],
    "crc32: 01020304\ncrc32c: 01020304",
  ])
    assert.equal(readSums(text), null, text);
});
