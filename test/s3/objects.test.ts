/** Objects and buckets of one node, as AWS' own client for JavaScript asks for them, and as raw requests do. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import net from "node:net";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import {
  type BucketLocationConstraint,
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetBucketLocationCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListObjectsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from "@aws-sdk/client-s3";
import { call, closeConnections } from "../rest/client.ts";
import { runProgram, waitUntil } from "../rest/server.ts";
import { ask, client, codeOf, KEY, presign, type S3Server, send, sign, startS3 } from "./harness.ts";

let server: S3Server;
let s3: S3Client;
before(async () => {
  server = await startS3();
  s3 = client(server.s3Port);
});
after(async () => {
  s3.destroy();
  closeConnections();
  await server.dispose();
});

const bearer = { headers: { Authorization: `Bearer ${KEY}` } };
const md5 = (bytes: Uint8Array | string) => createHash("md5").update(bytes).digest("hex");
const statusOf = (error: unknown): number =>
  (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode ?? 0;

/** A sent command must be refused so. */
async function refused(sent: Promise<unknown>, status: number, name?: string): Promise<void> {
  await assert.rejects(sent, (error: Error) => {
    assert.equal(statusOf(error), status, String(error));
    if (name !== undefined) assert.equal(error.name, name);
    return true;
  });
}

async function bytesOf(Bucket: string, Key: string, more: object = {}): Promise<Buffer> {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key, ...more }));
  return Buffer.from((await Body?.transformToByteArray()) ?? []);
}

const put = (Bucket: string, Key: string, Body: string | Uint8Array, more: object = {}) =>
  s3.send(new PutObjectCommand({ Bucket, Key, Body, ...more }));

async function makeBucket(Bucket: string): Promise<string> {
  await s3.send(new CreateBucketCommand({ Bucket }));
  return Bucket;
}

describe("buckets", () => {
  test("are made, told of, and removed when they are empty", async () => {
    await refused(s3.send(new HeadBucketCommand({ Bucket: "first" })), 404);
    await makeBucket("first");
    await makeBucket("first");
    await s3.send(new HeadBucketCommand({ Bucket: "first" }));
    const { LocationConstraint } = await s3.send(new GetBucketLocationCommand({ Bucket: "first" }));
    assert.equal(LocationConstraint ?? "", "");
    assert.equal((await s3.send(new HeadBucketCommand({ Bucket: "first" }))).BucketRegion, "us-east-1");
    const { Buckets = [] } = await s3.send(new ListBucketsCommand({}));
    assert.ok(
      Buckets.some(({ Name, CreationDate }) => Name === "first" && (CreationDate?.getTime() ?? 0) > 0),
    );
    await put("first", "a", "1");
    await refused(s3.send(new DeleteBucketCommand({ Bucket: "first" })), 409, "BucketNotEmpty");
    await s3.send(new DeleteObjectCommand({ Bucket: "first", Key: "a" }));
    await s3.send(new DeleteBucketCommand({ Bucket: "first" }));
    await refused(s3.send(new HeadBucketCommand({ Bucket: "first" })), 404);
    await refused(s3.send(new DeleteBucketCommand({ Bucket: "first" })), 404, "NoSuchBucket");
    await refused(put("first", "a", "1"), 404, "NoSuchBucket");
    await refused(s3.send(new GetObjectCommand({ Bucket: "first", Key: "a" })), 404, "NoSuchBucket");
    await refused(s3.send(new ListObjectsV2Command({ Bucket: "first" })), 404, "NoSuchBucket");
  });

  test("are where their makers say, and stay there", async () => {
    const Bucket = "located";
    const wanted = (name: string) => ({
      ...{ Bucket, CreateBucketConfiguration: { LocationConstraint: name as BucketLocationConstraint } },
    });
    await refused(s3.send(new CreateBucketCommand(wanted("a b"))), 400, "InvalidLocationConstraint");
    await refused(s3.send(new HeadBucketCommand({ Bucket })), 404);
    await s3.send(new CreateBucketCommand(wanted("eu-central-1")));
    await s3.send(new CreateBucketCommand(wanted("ap-south-1")));
    const { LocationConstraint } = await s3.send(new GetBucketLocationCommand({ Bucket }));
    assert.equal(LocationConstraint, "eu-central-1");
    assert.equal((await s3.send(new HeadBucketCommand({ Bucket }))).BucketRegion, "eu-central-1");
    assert.equal((await s3.send(new ListObjectsV2Command({ Bucket }))).KeyCount, 0);
    // What another client stores in that place is no location.
    for (const body of ["<x>&", "elsewhere", Buffer.alloc(1_500_000, "a")]) {
      assert.ok((await call(server.port, "PUT", `/${Bucket}/`, { ...bearer, body })).status < 300);
      const { LocationConstraint } = await s3.send(new GetBucketLocationCommand({ Bucket }));
      assert.equal(LocationConstraint ?? "", "");
    }
  });

  test("are first segments of keys: what other clients store is there, and the other way round", async () => {
    assert.equal(
      (await call(server.port, "PUT", "/shared/of%20kv", { ...bearer, body: "plain" })).status,
      201,
    );
    await s3.send(new HeadBucketCommand({ Bucket: "shared" }));
    assert.equal(String(await bytesOf("shared", "of kv")), "plain");
    const { ETag } = await s3.send(new HeadObjectCommand({ Bucket: "shared", Key: "of kv" }));
    assert.match(ETag ?? "", /^"[0-9a-f]{32}-1"$/, "nobody may take a version for an MD5");
    await put("shared", "of s3", "bytes", { ContentType: "text/plain", Metadata: { colour: "blue" } });
    const { status, headers, body } = await call(server.port, "GET", "/shared/of%20s3", bearer);
    assert.deepEqual([status, String(body)], [200, "bytes"]);
    assert.deepEqual([headers["content-type"], headers["x-meta-colour"]], ["text/plain", "blue"]);
    const patched = await call(server.port, "PATCH", "/shared/of%20s3?append", {
      headers: { ...bearer.headers, "Content-Type": "application/octet-stream" },
      body: " and more",
    });
    assert.equal(patched.status, 200, patched.text);
    const changed = await s3.send(new HeadObjectCommand({ Bucket: "shared", Key: "of s3" }));
    assert.match(changed.ETag ?? "", /^"[0-9a-f]{32}-1"$/, "sums of what it was are gone");
    assert.equal(String(await bytesOf("shared", "of s3")), "bytes and more");
    const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket: "shared" }));
    assert.deepEqual(
      Contents.map(({ Key }) => Key),
      ["of kv", "of s3"],
    );
  });

  test("have names as S3 has them", async () => {
    for (const name of ["ab", "Upper", "under_score", "a..b", "10.0.0.1", "-a-b"]) {
      const answer = await ask(server.s3Port, { method: "PUT", target: `/${name}` });
      assert.equal(codeOf(answer), "InvalidBucketName", `${name}: ${answer.text}`);
    }
    assert.equal(codeOf(await ask(server.s3Port, { method: "GET", target: "/_s3/x" })), "InvalidBucketName");
  });

  test("stand in front of a node's name, too", async () => {
    await makeBucket("by-host");
    await put("by-host", "k", "v");
    for (const host of ["by-host.localhost", "by-host.s3.localhost:9000"]) {
      const answer = await ask(server.s3Port, { method: "GET", target: "/k", headers: { host } });
      assert.deepEqual([answer.status, answer.text], [200, "v"], host);
    }
  });
});

describe("objects", () => {
  test("come back as they went, with type, metadata and MD5", async () => {
    const Bucket = await makeBucket("objects");
    for (const Key of [
      "plain",
      "with spaces and +plus",
      "ünï/cödé/漢字",
      "a//b",
      "%41",
      "trailing/",
      "../up",
      "quote'\"<&>",
    ]) {
      const more = {
        ContentType: "text/x-test; charset=utf-8",
        Metadata: { one: "1", "two-2": "b c" },
        CacheControl: "max-age=60",
      };
      const { ETag } = await put(Bucket, Key, `value of ${Key}`, more);
      assert.equal(ETag, `"${md5(`value of ${Key}`)}"`);
      const { Body, ...head } = await s3.send(new GetObjectCommand({ Bucket, Key }));
      assert.equal(await Body?.transformToString(), `value of ${Key}`);
      assert.deepEqual(
        [head.ContentType, head.Metadata, head.CacheControl, head.ETag],
        [more.ContentType, more.Metadata, more.CacheControl, ETag],
      );
      assert.ok(Math.abs((head.LastModified?.getTime() ?? 0) - Date.now()) < 3_600_000);
    }
    await put(Bucket, "empty", "");
    assert.equal((await bytesOf(Bucket, "empty")).length, 0);
    await put(Bucket, "json", '{"a":1}', { ContentType: "application/json" });
    assert.equal(String(await bytesOf(Bucket, "json")), '{"a":1}');
    await refused(s3.send(new GetObjectCommand({ Bucket, Key: "gone" })), 404, "NoSuchKey");
    const longest = "é".repeat(512);
    await put(Bucket, longest, "of the longest key");
    assert.equal(String(await bytesOf(Bucket, longest)), "of the longest key");
    const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: longest }));
    assert.deepEqual(
      Contents.map(({ Key }) => Key),
      [longest],
    );
    await s3.send(new DeleteObjectCommand({ Bucket, Key: longest }));
    await refused(put(Bucket, "k".repeat(1025), "1"), 400, "KeyTooLongError");
  });

  test("are of any size, sent whole or as a stream, and read in parts", async () => {
    const Bucket = await makeBucket("sizes");
    for (const bytes of [1, 65_537, 1_048_576, 1_048_577, 5_300_001]) {
      const value = Buffer.alloc(bytes, `${bytes} `);
      await put(Bucket, "whole", value);
      assert.deepEqual(await bytesOf(Bucket, "whole"), value);
      const stream = Readable.from([value.subarray(0, bytes >> 1), value.subarray(bytes >> 1)]);
      const { ETag } = await s3.send(
        new PutObjectCommand({ Bucket, Key: "stream", Body: stream, ContentLength: bytes }),
      );
      assert.equal(ETag, `"${md5(value)}"`);
      assert.deepEqual(await bytesOf(Bucket, "stream"), value);
      const from = Math.floor(bytes / 3);
      assert.deepEqual(await bytesOf(Bucket, "whole", { Range: `bytes=${from}-` }), value.subarray(from));
      assert.deepEqual(await bytesOf(Bucket, "whole", { Range: "bytes=-1" }), value.subarray(bytes - 1));
    }
    await refused(
      s3.send(new GetObjectCommand({ Bucket, Key: "whole", Range: "bytes=6000000-" })),
      416,
      "InvalidRange",
    );
  });

  test("checksums are checked, kept and told again", async () => {
    const Bucket = await makeBucket("sums");
    for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"] as const) {
      const sent = await put(Bucket, ChecksumAlgorithm, "hello", { ChecksumAlgorithm });
      const read = await s3.send(
        new GetObjectCommand({ Bucket, Key: ChecksumAlgorithm, ChecksumMode: "ENABLED" }),
      );
      assert.equal(await read.Body?.transformToString(), "hello");
      assert.ok(sent[`Checksum${ChecksumAlgorithm}`], ChecksumAlgorithm);
      assert.equal(read[`Checksum${ChecksumAlgorithm}`], sent[`Checksum${ChecksumAlgorithm}`]);
    }
    const wrong: Record<string, string>[] = [
      { "x-amz-checksum-crc32": "AAAAAA==" },
      { "x-amz-checksum-sha256": Buffer.alloc(32).toString("base64") },
      { "content-md5": Buffer.alloc(16).toString("base64") },
    ];
    for (const headers of wrong) {
      const answer = await ask(server.s3Port, {
        method: "PUT",
        target: `/${Bucket}/wrong`,
        body: "hello",
        headers,
      });
      assert.equal(codeOf(answer), "BadDigest", answer.text);
    }
    const other = await ask(server.s3Port, {
      method: "PUT",
      target: `/${Bucket}/wrong`,
      body: "hello",
      payload: "0".repeat(64),
    });
    assert.equal(codeOf(other), "XAmzContentSHA256Mismatch");
    await refused(s3.send(new HeadObjectCommand({ Bucket, Key: "wrong" })), 404);
  });

  test("conditions of reads and writes name ETags", async () => {
    const Bucket = await makeBucket("conditions");
    const first = `"${md5("1")}"`;
    await put(Bucket, "k", "1", { IfNoneMatch: "*" });
    await refused(put(Bucket, "k", "2", { IfNoneMatch: "*" }), 412, "PreconditionFailed");
    await refused(put(Bucket, "k", "2", { IfMatch: `"${md5("other")}"` }), 412, "PreconditionFailed");
    await refused(put(Bucket, "absent", "2", { IfMatch: first }), 404, "NoSuchKey");
    await put(Bucket, "k", "2", { IfMatch: first });
    await refused(put(Bucket, "k", "3", { IfMatch: first }), 412, "PreconditionFailed");
    const large = Buffer.alloc(1_500_000, 7);
    await refused(put(Bucket, "k", large, { IfMatch: first }), 412, "PreconditionFailed");
    await put(Bucket, "k", large, { IfMatch: `"${md5("2")}"` });
    await refused(put(Bucket, "k", large, { IfNoneMatch: "*" }), 412, "PreconditionFailed");
    const etag = `"${md5(large)}"`;
    await s3.send(new HeadObjectCommand({ Bucket, Key: "k", IfMatch: etag }));
    await refused(s3.send(new HeadObjectCommand({ Bucket, Key: "k", IfMatch: first })), 412);
    await refused(s3.send(new GetObjectCommand({ Bucket, Key: "k", IfNoneMatch: etag })), 304);
    const past = new Date(Date.now() - 86_400_000);
    await s3.send(new HeadObjectCommand({ Bucket, Key: "k", IfModifiedSince: past }));
    await refused(s3.send(new HeadObjectCommand({ Bucket, Key: "k", IfUnmodifiedSince: past })), 412);
    await refused(s3.send(new DeleteObjectCommand({ Bucket, Key: "k", IfMatch: first })), 412);
    await s3.send(new DeleteObjectCommand({ Bucket, Key: "k", IfMatch: etag }));
    await refused(s3.send(new HeadObjectCommand({ Bucket, Key: "k" })), 404);
    // Nothing is there that another ETag could have: S3 calls that deleted.
    for (const IfMatch of [etag, first, "*"])
      await s3.send(new DeleteObjectCommand({ Bucket, Key: "k", IfMatch }));
    const Delete = { Objects: [{ Key: "k", ETag: first }] };
    const { Deleted = [], Errors = [] } = await s3.send(new DeleteObjectsCommand({ Bucket, Delete }));
    assert.deepEqual([Deleted.map(({ Key }) => Key), Errors], [["k"], []]);
    // A condition that is not judged is not passed over.
    await put(Bucket, "k", "kept");
    for (const [method, target, name] of [
      ["DELETE", "/k", "if-none-match"],
      ["DELETE", "/k", "if-unmodified-since"],
      ["PUT", "/k", "if-unmodified-since"],
      ["POST", "?delete=", "if-match"],
      ["DELETE", "", "if-match"],
      ["PUT", "-other", "if-none-match"],
    ]) {
      const headers = { [name]: name.endsWith("since") ? past.toUTCString() : "*" };
      const sent = { method, target: `/${Bucket}${target}`, headers, body: "" };
      assert.equal(codeOf(await ask(server.s3Port, sent)), "NotImplemented", `${method} ${target} ${name}`);
    }
    assert.equal(String(await bytesOf(Bucket, "k")), "kept");
    await refused(s3.send(new HeadBucketCommand({ Bucket: `${Bucket}-other` })), 404);
    const nowhere = { Bucket: "nowhere", Key: "k", IfMatch: first };
    await refused(s3.send(new DeleteObjectCommand(nowhere)), 404, "NoSuchBucket");
  });

  test("of many writers that must find nothing, or one ETag, one wins", async () => {
    const Bucket = await makeBucket("races");
    const all = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) => put(Bucket, "new", String(i), { IfNoneMatch: "*" })),
    );
    assert.equal(all.filter(({ status }) => status === "fulfilled").length, 1);
    const [winner] = all.flatMap((one, i) => (one.status === "fulfilled" ? [String(i)] : []));
    assert.equal(String(await bytesOf(Bucket, "new")), winner);
    const IfMatch = `"${md5(winner)}"`;
    const next = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) => put(Bucket, "new", `next ${i}`, { IfMatch })),
    );
    assert.equal(next.filter(({ status }) => status === "fulfilled").length, 1);
  });

  test("are copied, with their metadata or other", async () => {
    const Bucket = await makeBucket("copies");
    const value = Buffer.alloc(2_500_000, "copy");
    await put(Bucket, "a b/source", value, { ContentType: "image/png", Metadata: { a: "1" } });
    const CopySource = `${Bucket}/a%20b/source`;
    const { CopyObjectResult } = await s3.send(new CopyObjectCommand({ Bucket, Key: "copy", CopySource }));
    assert.equal(CopyObjectResult?.ETag, `"${md5(value)}"`);
    assert.deepEqual(await bytesOf(Bucket, "copy"), value);
    const copied = await s3.send(new HeadObjectCommand({ Bucket, Key: "copy" }));
    assert.deepEqual([copied.ContentType, copied.Metadata], ["image/png", { a: "1" }]);
    const other = { MetadataDirective: "REPLACE", ContentType: "text/plain", Metadata: { b: "2" } } as const;
    await s3.send(new CopyObjectCommand({ Bucket, Key: "a b/source", CopySource, ...other }));
    const changed = await s3.send(new HeadObjectCommand({ Bucket, Key: "a b/source" }));
    assert.deepEqual([changed.ContentType, changed.Metadata], ["text/plain", { b: "2" }]);
    await refused(s3.send(new CopyObjectCommand({ Bucket, Key: "copy", CopySource: `${Bucket}/copy` })), 400);
    await refused(
      s3.send(new CopyObjectCommand({ Bucket, Key: "x", CopySource: `${Bucket}/gone` })),
      404,
      "NoSuchKey",
    );
    await refused(
      s3.send(new CopyObjectCommand({ Bucket, Key: "x", CopySource, CopySourceIfMatch: '"0"' })),
      412,
    );
  });

  test("are deleted many at once, each with an outcome of its own", async () => {
    const Bucket = await makeBucket("deletes");
    const keys = ["a", "b & c", " d ", "e/f"];
    for (const key of keys) await put(Bucket, key, "1");
    const Delete = { Objects: [...keys, "never there"].map((Key) => ({ Key })) };
    const { Deleted = [], Errors = [] } = await s3.send(new DeleteObjectsCommand({ Bucket, Delete }));
    assert.deepEqual([Deleted.map(({ Key }) => Key).sort(), Errors], [[...keys, "never there"].sort(), []]);
    assert.equal((await s3.send(new ListObjectsV2Command({ Bucket }))).KeyCount, 0);
    for (const body of [
      "<Delete><Object>",
      '<!DOCTYPE a [<!ENTITY b "bbbb">]><Delete><Object><Key>&b;</Key></Object></Delete>',
      // Well-formed, but more than a key or a thousand of them take, and seconds of reading.
      `<Delete><Object><Key>${"&amp;".repeat(1_500_000)}</Key></Object></Delete>`,
      `<Delete><Object><Key>a</Key></Object>${"<a/>".repeat(1_900_000)}</Delete>`,
    ]) {
      const malformed = await ask(server.s3Port, { method: "POST", target: `/${Bucket}?delete=`, body });
      assert.equal(codeOf(malformed), "MalformedXML", body.slice(0, 80));
    }
  });
});

describe("lists", () => {
  test("in pages of both versions, with prefix and delimiter, have every object once", async () => {
    const Bucket = await makeBucket("lists");
    const keys = ["a", "b/1", "b/2", "b/c/3", "c", "d/4", "d!", "ü"].sort((a, b) =>
      Buffer.compare(Buffer.from(a), Buffer.from(b)),
    );
    for (const key of keys) await put(Bucket, key, key);
    for (const MaxKeys of [1, 2, 3, 7, 8, 9, 1000]) {
      const found: (string | undefined)[] = [];
      for (let ContinuationToken: string | undefined, more = true; more; ) {
        const page = await s3.send(new ListObjectsV2Command({ Bucket, MaxKeys, ContinuationToken }));
        const { Contents = [] } = page;
        assert.ok(Contents.length === MaxKeys || !page.IsTruncated);
        found.push(...Contents.map(({ Key }) => Key));
        more = page.IsTruncated === true;
        ContinuationToken = page.NextContinuationToken;
      }
      assert.deepEqual(found, keys, `V2, ${MaxKeys}`);
      const rolled: (string | undefined)[] = [];
      for (let Marker: string | undefined, more = true; more; ) {
        const page = await s3.send(new ListObjectsCommand({ Bucket, MaxKeys, Marker, Delimiter: "/" }));
        rolled.push(
          ...(page.Contents ?? []).map(({ Key }) => Key),
          ...(page.CommonPrefixes ?? []).map(({ Prefix }) => Prefix),
        );
        more = page.IsTruncated === true;
        Marker = page.NextMarker;
      }
      assert.deepEqual(rolled.sort(), ["a", "b/", "c", "d!", "d/", "ü"].sort(), `V1, ${MaxKeys}`);
    }
    const { Contents = [], CommonPrefixes = [] } = await s3.send(
      new ListObjectsV2Command({ Bucket, Prefix: "b/", Delimiter: "/" }),
    );
    assert.deepEqual(
      [Contents.map(({ Key }) => Key), CommonPrefixes],
      [["b/1", "b/2"], [{ Prefix: "b/c/" }]],
    );
    assert.deepEqual(
      Contents.map(({ ETag, Size }) => [ETag, Size]),
      [
        [`"${md5("b/1")}"`, 3],
        [`"${md5("b/2")}"`, 3],
      ],
    );
    const after = await s3.send(new ListObjectsV2Command({ Bucket, StartAfter: "c" }));
    assert.deepEqual(
      after.Contents?.map(({ Key }) => Key),
      ["d!", "d/4", "ü"],
    );
    const encoded = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: "ü", EncodingType: "url" }));
    assert.equal(encoded.Contents?.[0].Key, "%C3%BC");
    assert.equal((await s3.send(new ListObjectsV2Command({ Bucket, MaxKeys: 0 }))).KeyCount, 0);
    await refused(s3.send(new ListObjectsV2Command({ Bucket, ContinuationToken: "?" })), 400);
  });
});

describe("what is not there, and what is not allowed", () => {
  test("is said in S3's XML", async () => {
    const Bucket = await makeBucket("refusals");
    for (const [method, target] of [
      ...["acl", "versions", "policy", "lifecycle", "tagging", "cors"].map((name) => [
        "GET",
        `/${Bucket}?${name}=`,
      ]),
      ["PUT", `/${Bucket}/k?tagging=`],
      ["POST", `/${Bucket}`],
    ] as const) {
      const answer = await ask(server.s3Port, { method, target });
      assert.deepEqual([answer.status, codeOf(answer)], [501, "NotImplemented"], target);
      assert.equal(answer.headers["content-type"], "application/xml");
    }
    for (const headers of [
      { "x-amz-server-side-encryption": "AES256" },
      { "x-amz-acl": "public-read" },
    ] as Record<string, string>[]) {
      const answer = await ask(server.s3Port, { method: "PUT", target: `/${Bucket}/k`, body: "1", headers });
      assert.equal(codeOf(answer), "NotImplemented");
    }
    assert.equal(
      codeOf(await ask(server.s3Port, { method: "PATCH", target: `/${Bucket}/k` })),
      "MethodNotAllowed",
    );
  });

  test("a wrong, expired, unsigned, changed or cut request is 403, and nothing is stored", async () => {
    const Bucket = await makeBucket("denied");
    const { s3Port } = server;
    const target = `/${Bucket}/k`;
    const other = { accessKey: "minivault", secretKey: "another-key-of-sixteen-letters" };
    const sent = { method: "PUT", target, body: "stored?" };
    const answers = [
      [await ask(s3Port, { ...sent, credentials: other }), "SignatureDoesNotMatch"],
      [await ask(s3Port, { ...sent, credentials: { ...other, accessKey: "nobody" } }), "InvalidAccessKeyId"],
      [await ask(s3Port, { ...sent, timeMs: Date.now() - 3_600_000 }), "RequestTimeTooSkewed"],
      [await ask(s3Port, { ...sent, timeMs: Date.now() + 3_600_000 }), "RequestTimeTooSkewed"],
      [await send(s3Port, sent), "AccessDenied"],
      [
        await send(s3Port, { ...sent, target: presign(s3Port, "PUT", target, 1, Date.now() - 5000) }),
        "AccessDenied",
      ],
      [await send(s3Port, { ...sent, target: presign(s3Port, "GET", target) }), "SignatureDoesNotMatch"],
      [
        await ask(s3Port, {
          ...sent,
          payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
          body: `7;chunk-signature=${"0".repeat(64)}\r\nstored?\r\n0;chunk-signature=${"0".repeat(64)}\r\n\r\n`,
          headers: { "x-amz-decoded-content-length": "7", "content-encoding": "aws-chunked" },
        }),
        "SignatureDoesNotMatch",
      ],
    ] as const;
    for (const [answer, code] of answers) {
      assert.deepEqual([answer.status, codeOf(answer)], [403, code], answer.text);
      assert.match(answer.text, /<Error>.*<RequestId>[0-9A-F]{16}<\/RequestId>/s);
    }
    const large = await ask(s3Port, { ...sent, body: Buffer.alloc(3_000_000), credentials: other });
    assert.equal(codeOf(large), "SignatureDoesNotMatch");
    const { status } = await ask(s3Port, { method: "HEAD", target });
    assert.equal(status, 404);
  });

  test("a length that is empty, or two that differ: 400, closed, and nothing is stored", async () => {
    const Bucket = await makeBucket("lengths");
    for (const lengths of ["Content-Length: ", "Content-Length: 1\r\nContent-Length: 2", "content-length:"])
      for (const line of [`PUT /${Bucket}/k`, `PUT /${Bucket}-new`, `DELETE /${Bucket}`]) {
        const { s3Port } = server;
        const [method, target] = line.split(" ");
        const { headers } = sign(s3Port, { method, target, payload: "UNSIGNED-PAYLOAD" });
        const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
        const connection = net.connect(s3Port, "127.0.0.1");
        connection.write(`${line} HTTP/1.1\r\n${lines.join("")}${lengths}\r\n\r\nab`);
        const answer = await text(connection);
        assert.match(answer, /^HTTP\/1.1 400 .*<Code>InvalidRequest<.*differ, or one is empty/s, line);
        assert.equal(answer.match(/HTTP\/1.1/g)?.length, 1, "what follows is no request");
      }
    assert.equal((await s3.send(new ListObjectsV2Command({ Bucket }))).KeyCount, 0);
    await refused(s3.send(new HeadBucketCommand({ Bucket: `${Bucket}-new` })), 404);
  });

  test("a client that goes in the middle of its body leaves nothing", async () => {
    const Bucket = await makeBucket("cuts");
    const { s3Port, port } = server;
    const figures = async () => JSON.parse(String((await call(port, "GET", "/_stats", bearer)).body));
    const before = (await figures()).requests.put.aborted;
    const cuts = [
      [3_000_000, 1_600_000],
      [500_000, 100_000],
      [3_000_000, 0],
      [100, 99],
    ];
    for (const [bytes, sent] of cuts) {
      const { headers } = sign(s3Port, {
        method: "PUT",
        target: `/${Bucket}/k`,
        payload: "UNSIGNED-PAYLOAD",
      });
      const lines = Object.entries({ ...headers, "content-length": bytes }).map(
        ([name, text]) => `${name}: ${text}`,
      );
      const socket = net.connect(s3Port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(`PUT /${Bucket}/k HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
      await new Promise<void>((resolve) => socket.write(Buffer.alloc(sent), () => resolve()));
      socket.end();
    }
    await waitUntil(
      "all are noticed",
      async () => (await figures()).requests.put.aborted === before + cuts.length,
    );
    await refused(s3.send(new HeadObjectCommand({ Bucket, Key: "k" })), 404);
  });

  test("presigned URLs read and write until they expire", async () => {
    const Bucket = await makeBucket("urls");
    const { s3Port } = server;
    const target = `/${Bucket}/k`;
    const stored = await send(s3Port, {
      method: "PUT",
      target: presign(s3Port, "PUT", target),
      body: "by url",
    });
    assert.deepEqual([stored.status, stored.headers.etag], [200, `"${md5("by url")}"`]);
    const url = presign(s3Port, "GET", target);
    for (const _ of [1, 2]) assert.equal((await send(s3Port, { method: "GET", target: url })).text, "by url");
    const cut = await send(s3Port, { method: "GET", target: url.slice(0, -1) });
    assert.deepEqual([cut.status, codeOf(cut)], [403, "SignatureDoesNotMatch"]);
  });
});

test("a node without a key or tokens has no S3 interface", async () => {
  const open = await runProgram(["-s3-port", "0", "-port", "0", "-host", "127.0.0.1"]);
  assert.deepEqual([open.status, /-s3-port needs a secret/.test(open.output)], [2, true], open.output);
});
