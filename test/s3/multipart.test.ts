/** Objects that come in parts, as AWS' clients send them; what is left of uploads that nobody completes. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
  UploadPartCopyCommand,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { call, closeConnections } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { ask, client, codeOf, KEY, type S3Server, startS3 } from "./harness.ts";
import { uploadStorm } from "./upload-storm.ts";

const Bucket = "parts";
const MIB = 2 ** 20;
const WEEK_SECONDS = 7 * 24 * 3600;
let server: S3Server;
let s3: S3Client;
before(async () => {
  server = await startS3();
  s3 = client(server.s3Port);
  await s3.send(new CreateBucketCommand({ Bucket }));
});
after(async () => {
  s3.destroy();
  closeConnections();
  await server.dispose();
});

const md5 = (bytes: Uint8Array) => createHash("md5").update(bytes).digest();
const md5OfParts = (...parts: Uint8Array[]) =>
  `"${md5(Buffer.concat(parts.map((part) => md5(part)))).toString("hex")}-${parts.length}"`;

async function refused(sent: Promise<unknown>, status: number, name: string): Promise<void> {
  await assert.rejects(sent, (error: Error & { $metadata?: { httpStatusCode?: number } }) => {
    assert.deepEqual([error.$metadata?.httpStatusCode, error.name], [status, name], String(error));
    return true;
  });
}

async function read(Key: string): Promise<Buffer> {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key }));
  return Buffer.from((await Body?.transformToByteArray()) ?? []);
}

async function begin(Key: string, more: object = {}): Promise<string> {
  return (await s3.send(new CreateMultipartUploadCommand({ Bucket, Key, ...more }))).UploadId as string;
}

async function part(Key: string, UploadId: string, PartNumber: number, Body: Uint8Array): Promise<string> {
  const { ETag } = await s3.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body }));
  assert.equal(ETag, `"${md5(Body).toString("hex")}"`);
  return ETag as string;
}

const complete = (Key: string, UploadId: string, parts: [number, string][], more: object = {}) =>
  s3.send(
    new CompleteMultipartUploadCommand({
      ...{ Bucket, Key, UploadId, ...more },
      MultipartUpload: { Parts: parts.map(([PartNumber, ETag]) => ({ PartNumber, ETag })) },
    }),
  );

/** Keys of the store that uploads have. */
async function left(): Promise<{ key: string; ttl?: number }[]> {
  const bearer = { headers: { Authorization: `Bearer ${KEY}` } };
  const { status, body } = await call(server.port, "GET", "/_kv/_s3/?list", bearer);
  assert.equal(status, 200, String(body));
  return JSON.parse(String(body)).keys;
}

describe("an upload in parts", () => {
  test("is one object when it is completed, and nothing before", async () => {
    const Key = "a/b ü";
    const parts = [Buffer.alloc(5 * MIB, 1), Buffer.alloc(5 * MIB + 3, 2), Buffer.alloc(10, 3)];
    const id = await begin(Key, { ContentType: "text/x", Metadata: { k: "v" } });
    const etags: [number, string][] = [];
    // In any order, and one of them twice.
    for (const number of [3, 1, 2, 1]) {
      const etag = await part(Key, id, number, parts[number - 1]);
      if (!etags.some(([known]) => known === number)) etags.push([number, etag]);
    }
    etags.sort(([a], [b]) => a - b);
    await refused(s3.send(new GetObjectCommand({ Bucket, Key })), 404, "NoSuchKey");
    assert.equal((await s3.send(new ListObjectsV2Command({ Bucket, Prefix: "a/" }))).KeyCount, 0);
    const { Parts = [] } = await s3.send(new ListPartsCommand({ Bucket, Key, UploadId: id }));
    assert.deepEqual(
      Parts.map(({ PartNumber, Size, ETag }) => [PartNumber, Size, ETag]),
      etags.map(([number, etag]) => [number, parts[number - 1].length, etag]),
    );
    const paged = await s3.send(new ListPartsCommand({ Bucket, Key, UploadId: id, MaxParts: 2 }));
    assert.deepEqual([paged.IsTruncated, paged.NextPartNumberMarker], [true, "2"]);
    for (const { key, ttl = 0 } of await left())
      assert.ok(ttl > WEEK_SECONDS / 2 && ttl <= WEEK_SECONDS, `${key} ends in ${ttl} s`);
    const { ETag } = await complete(Key, id, etags);
    assert.equal(ETag, md5OfParts(...parts));
    assert.deepEqual(await read(Key), Buffer.concat(parts));
    const head = await s3.send(new HeadObjectCommand({ Bucket, Key }));
    assert.deepEqual([head.ETag, head.ContentType, head.Metadata], [ETag, "text/x", { k: "v" }]);
    // Who has not heard that it was completed is told so again; of the parts nothing is left.
    assert.equal((await complete(Key, id, etags)).ETag, ETag);
    assert.ok((await left()).every(({ key }) => !key.startsWith("_s3/parts/")));
    await refused(s3.send(new ListPartsCommand({ Bucket, Key, UploadId: id })), 404, "NoSuchUpload");
  });

  test("keeps the condition that it was begun with until it is completed", async () => {
    const target = `/${Bucket}/begun`;
    const start = async (name: string, value: string) => {
      const sent = { method: "POST", target: `${target}?uploads=`, headers: { [name]: value } };
      return ask(server.s3Port, sent);
    };
    assert.equal(codeOf(await start("if-match", '"0"')), "NoSuchKey");
    const begun = await start("if-none-match", "*");
    const id = /<UploadId>(\w+)</.exec(begun.text)?.[1] ?? "";
    const etag = await part("begun", id, 1, Buffer.from("late"));
    await s3.send(new PutObjectCommand({ Bucket, Key: "begun", Body: "first" }));
    await refused(complete("begun", id, [[1, etag]]), 412, "PreconditionFailed");
    assert.equal(String(await read("begun")), "first");
    await refused(complete("begun", id, [[1, etag]], { IfMatch: etag }), 412, "PreconditionFailed");
    const first = `"${md5(Buffer.from("first")).toString("hex")}"`;
    await complete("begun", id, [[1, etag]], { IfMatch: first });
    assert.equal(String(await read("begun")), "late");
    assert.equal(codeOf(await start("if-match", first)), "PreconditionFailed");
  });

  test("whose parts are named twice takes the last word, if that is what is there", async () => {
    const Key = "named twice";
    const id = await begin(Key);
    const early = await part(Key, id, 1, Buffer.alloc(5 * MIB, "a"));
    const late = await part(Key, id, 1, Buffer.alloc(5 * MIB, "b"));
    const last = await part(Key, id, 2, Buffer.from("c"));
    const named = (first: string, second: string, ...more: [number, string][]) =>
      complete(Key, id, [[1, first], [1, second], [2, last], ...more]);
    await refused(named(late, early), 400, "InvalidPart");
    await refused(named(early, late, [1, late]), 400, "InvalidPartOrder");
    const { ETag } = await named(early, late, [2, last]);
    assert.equal(ETag, md5OfParts(Buffer.alloc(5 * MIB, "b"), Buffer.from("c")));
    assert.deepEqual(await read(Key), Buffer.concat([Buffer.alloc(5 * MIB, "b"), Buffer.from("c")]));
  });

  test("may be one part of any size, under a condition", async () => {
    const Key = "one";
    for (const bytes of [0, 1, 2 * MIB]) {
      const body = Buffer.alloc(bytes, 9);
      const id = await begin(Key);
      const etag = await part(Key, id, 7, body);
      await complete(Key, id, [[7, etag]]);
      assert.deepEqual(await read(Key), body);
    }
    for (const bytes of [1, 2 * MIB]) {
      const id = await begin(Key);
      const etag = await part(Key, id, 1, Buffer.alloc(bytes));
      await refused(complete(Key, id, [[1, etag]], { IfNoneMatch: "*" }), 412, "PreconditionFailed");
      await s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId: id }));
    }
  });

  test("is refused with parts that are wrong, missing, too small, or out of order", async () => {
    const Key = "refused";
    const id = await begin(Key);
    const small = await part(Key, id, 1, Buffer.from("small"));
    const last = await part(Key, id, 2, Buffer.from("last"));
    await refused(
      complete(Key, id, [
        [1, small],
        [2, last],
      ]),
      400,
      "EntityTooSmall",
    );
    await refused(
      complete(Key, id, [
        [2, last],
        [1, small],
      ]),
      400,
      "InvalidPartOrder",
    );
    await refused(complete(Key, id, [[1, last]]), 400, "InvalidPart");
    await refused(complete(Key, id, [[3, last]]), 400, "InvalidPart");
    await refused(complete(Key, "0".repeat(32), [[1, small]]), 404, "NoSuchUpload");
    await refused(complete("another", id, [[1, small]]), 404, "NoSuchUpload");
    await refused(part(Key, id, 10_001, Buffer.from("x")), 400, "InvalidArgument");
    await refused(part("another", id, 1, Buffer.from("x")), 404, "NoSuchUpload");
    await refused(s3.send(new HeadObjectCommand({ Bucket, Key })), 404, "NotFound");
    await s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId: id }));
    await refused(
      s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId: id })),
      404,
      "NoSuchUpload",
    );
    await refused(part(Key, id, 1, Buffer.from("x")), 404, "NoSuchUpload");
    assert.ok(
      (await left()).every(({ key }) => !key.includes(id)),
      "nothing is left of what was aborted",
    );
  });

  test("is listed until it is completed or aborted", async () => {
    const ids = [await begin("l/b"), await begin("l/a"), await begin("l/sub/c")];
    const { Uploads = [] } = await s3.send(new ListMultipartUploadsCommand({ Bucket, Prefix: "l/" }));
    assert.deepEqual(
      Uploads.map(({ Key, UploadId }) => [Key, UploadId]),
      [
        ["l/a", ids[1]],
        ["l/b", ids[0]],
        ["l/sub/c", ids[2]],
      ],
    );
    const rolled = await s3.send(new ListMultipartUploadsCommand({ Bucket, Prefix: "l/", Delimiter: "/" }));
    assert.deepEqual(rolled.CommonPrefixes, [{ Prefix: "l/sub/" }]);
    const first = await s3.send(new ListMultipartUploadsCommand({ Bucket, Prefix: "l/", MaxUploads: 1 }));
    assert.deepEqual([first.IsTruncated, first.NextKeyMarker], [true, "l/a"]);
    const { NextKeyMarker: KeyMarker, NextUploadIdMarker: UploadIdMarker } = first;
    const next = await s3.send(
      new ListMultipartUploadsCommand({ Bucket, Prefix: "l/", KeyMarker, UploadIdMarker }),
    );
    assert.deepEqual(
      next.Uploads?.map(({ Key }) => Key),
      ["l/b", "l/sub/c"],
    );
    for (const [index, Key] of ["l/b", "l/a", "l/sub/c"].entries())
      await s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId: ids[index] }));
  });

  test("goes with its bucket, and is not in one that is made again", async () => {
    const q = (method: string, target: string, body = "", headers = {}) =>
      ask(server.s3Port, { method, target: `/gone${target}`, body, headers });
    assert.equal((await q("PUT", "")).status, 200);
    const id = await begin("k", { Bucket: "gone" });
    const at = `/k?uploadId=${id}`;
    const { etag } = (await q("PUT", `${at}&partNumber=1`, "a part")).headers;
    const source = { "x-amz-copy-source": `${Bucket}/from` };
    await s3.send(new PutObjectCommand({ Bucket, Key: "from", Body: "x" }));
    const named = `<Part><PartNumber>1</PartNumber><ETag>${etag}</ETag></Part>`;
    const requests = (): ReturnType<typeof q>[] => [
      q("GET", at),
      q("PUT", `${at}&partNumber=2`, "another"),
      q("PUT", `${at}&partNumber=3`, "", source),
      q("POST", at, `<CompleteMultipartUpload>${named}</CompleteMultipartUpload>`),
      q("DELETE", at),
    ];
    const codes = async () => (await Promise.all(requests())).map((answer) => codeOf(answer));
    assert.equal((await q("DELETE", "")).status, 204);
    assert.deepEqual(await codes(), new Array(5).fill("NoSuchBucket"));
    assert.equal((await q("HEAD", "")).status, 404);
    assert.ok(
      (await left()).every(({ key }) => !key.includes(id)),
      "nothing is left of it",
    );
    assert.equal((await q("PUT", "")).status, 200);
    assert.deepEqual(await codes(), new Array(5).fill("NoSuchUpload"));
    assert.ok(!(await q("GET", "?uploads=")).text.includes("<Upload>"));
    assert.equal((await q("DELETE", "")).status, 204);
  });

  test("goes with a bucket that is there by its keys, and comes with them", async () => {
    const at = "/_kv/by-keys/first";
    const bearer = { headers: { Authorization: `Bearer ${KEY}` } };
    const store = () => call(server.port, "PUT", at, { ...bearer, body: Buffer.from("x") });
    await store();
    const id = await begin("k", { Bucket: "by-keys" });
    const list = () => ask(server.s3Port, { method: "GET", target: `/by-keys/k?uploadId=${id}` });
    assert.equal((await list()).status, 200);
    await call(server.port, "DELETE", at, bearer);
    // For a moment it is believed that the bucket is there.
    await waitUntil("the bucket has gone", async () => codeOf(await list()) === "NoSuchBucket");
    await store();
    assert.equal((await list()).status, 200);
  });

  test("that begins while its bucket goes is there with it, or not at all", async () => {
    const q = (method: string, target = "") => ask(server.s3Port, { method, target: `/going${target}` });
    for (let round = 0; round < 20; round++) {
      await q("PUT");
      const begins = () => Array.from({ length: 4 }, () => q("POST", "/k?uploads="));
      const early = begins();
      const gone = q("DELETE");
      const late = begins();
      assert.equal((await gone).status, 204);
      for (const answer of await Promise.all([...early, ...late]))
        assert.ok(answer.status === 200 || codeOf(answer) === "NoSuchBucket", answer.text);
      assert.deepEqual(
        (await left()).filter(({ key }) => key.includes("/going/")),
        [],
      );
    }
  });

  test("takes parts of other objects", async () => {
    const source = Buffer.alloc(6 * MIB, "source");
    await s3.send(new PutObjectCommand({ Bucket, Key: "source", Body: source }));
    const id = await begin("joined");
    const copy = async (PartNumber: number, CopySourceRange?: string): Promise<[number, string]> => {
      const { CopyPartResult } = await s3.send(
        new UploadPartCopyCommand({
          ...{
            Bucket,
            Key: "joined",
            UploadId: id,
            PartNumber,
            CopySource: `${Bucket}/source`,
            CopySourceRange,
          },
        }),
      );
      return [PartNumber, CopyPartResult?.ETag as string];
    };
    const parts = [await copy(1), await copy(2, `bytes=1-${5 * MIB}`), await copy(3, "bytes=10-19")];
    await complete("joined", id, parts);
    const expected = [source, source.subarray(1, 5 * MIB + 1), source.subarray(10, 20)];
    assert.deepEqual(await read("joined"), Buffer.concat(expected));
  });
});

describe("lib-storage", () => {
  for (const ChecksumAlgorithm of ["CRC32", "SHA256", "CRC64NVME"] as const)
    test(`uploads a stream of unknown length, with ${ChecksumAlgorithm}`, async () => {
      const Key = `stream ${ChecksumAlgorithm}`;
      const pieces = Array.from({ length: 12 }, (_, i) => Buffer.alloc(MIB + i, i));
      const params = { Bucket, Key, Body: Readable.from(pieces), ChecksumAlgorithm };
      const told = await new Upload({ client: s3, params }).done();
      assert.deepEqual(await read(Key), Buffer.concat(pieces));
      const head = await s3.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: "ENABLED" }));
      assert.match(head.ETag ?? "", /^"[0-9a-f]{32}-3"$/);
      assert.ok(head[`Checksum${ChecksumAlgorithm}`], "the checksum is kept");
      assert.equal(told[`Checksum${ChecksumAlgorithm}`], head[`Checksum${ChecksumAlgorithm}`]);
    });
});

test("s3: uploads that are given up at every stage leave nothing without an end", (t) => uploadStorm(t, 60));
