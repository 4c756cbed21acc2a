/** What clients say of an upload, for it to be verified: sizes, checksums and their types, of its parts and of the whole. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import { type Answer, codeOf, s3OfFile } from "./harness.ts";

const BODY = "a part";
const OTHER = "another";
const { q } = s3OfFile("claims");

const sums = {
  crc32: (text: string): string => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(crc32(text));
    return bytes.toString("base64");
  },
  sha1: (text: string): string => createHash("sha1").update(text).digest("base64"),
  sha256: (text: string): string => createHash("sha256").update(text).digest("base64"),
};

function begin(algorithm: string, type = ""): Promise<Answer> {
  const headers = {
    ...(algorithm === "" ? {} : { "x-amz-checksum-algorithm": algorithm }),
    ...(type === "" ? {} : { "x-amz-checksum-type": type }),
  };
  return q("POST", "/claims/o?uploads=", { headers });
}

/** An upload with one part. */
async function upload(algorithm: string, headers: Record<string, string>, type = "") {
  const id = /<UploadId>(\w+)</.exec((await begin(algorithm, type)).text)?.[1] ?? "";
  const part = await q("PUT", `/claims/o?partNumber=1&uploadId=${id}`, { body: BODY, headers });
  assert.equal(part.status, 200, part.text);
  return (headers: Record<string, string>, ofPart = ""): Promise<Answer> =>
    q("POST", `/claims/o?uploadId=${id}`, {
      body: `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>${part.headers.etag}</ETag>${ofPart}</Part></CompleteMultipartUpload>`,
      headers,
    });
}

async function refusedOnly(code: string, answer: Answer): Promise<void> {
  assert.deepEqual([answer.status, codeOf(answer)], [400, code], answer.text);
  assert.equal((await q("HEAD", "/claims/o")).status, 404, "nothing is stored");
}

async function done(answer: Answer): Promise<void> {
  assert.ok(answer.status === 200 && answer.text.includes("<ETag>"), answer.text);
  assert.equal((await q("GET", "/claims/o")).text, BODY);
  await q("DELETE", "/claims/o");
}

test("s3: an upload is completed only with the size that its completion names", async () => {
  const complete = await upload("", {});
  for (const size of [String(BODY.length + 1), "0", "-1", "six"])
    await refusedOnly("InvalidRequest", await complete({ "x-amz-mp-object-size": size }));
  await done(await complete({ "x-amz-mp-object-size": String(BODY.length) }));
});

test("s3: an upload is completed only with the checksums of parts that its completion names", async () => {
  const told = { "x-amz-checksum-sha256": sums.sha256(BODY) };
  for (const algorithm of ["SHA256", ""]) {
    const complete = await upload(algorithm, told);
    for (const wrong of [
      `<ChecksumSHA256>${sums.sha256(OTHER)}</ChecksumSHA256>`,
      "<ChecksumSHA256>none</ChecksumSHA256>",
      `<ChecksumCRC32>${sums.crc32(BODY)}</ChecksumCRC32>`,
      `<ChecksumSHA256>${sums.sha256(BODY)}</ChecksumSHA256><ChecksumSHA512>AAAA</ChecksumSHA512>`,
    ])
      await refusedOnly("InvalidPart", await complete({}, wrong));
    await done(await complete({}, `<ChecksumSHA256>${sums.sha256(BODY)}</ChecksumSHA256><ChecksumCRC32/>`));
  }
  const without = await upload("", {});
  const sum = `<ChecksumSHA256>${sums.sha256(BODY)}</ChecksumSHA256>`;
  await refusedOnly("InvalidPart", await without({}, sum));
  await done(await without({}));
});

test("s3: a part has the checksum that its upload was begun with, or none", async () => {
  const id = /<UploadId>(\w+)</.exec((await begin("CRC32")).text)?.[1] ?? "";
  const part = (headers: Record<string, string>, body = BODY): Promise<Answer> =>
    q("PUT", `/claims/o?partNumber=1&uploadId=${id}`, { body, headers });
  for (const headers of [
    { "x-amz-checksum-sha256": sums.sha256(BODY) },
    { "x-amz-sdk-checksum-algorithm": "SHA1" },
  ])
    await refusedOnly("InvalidRequest", await part(headers));
  assert.equal(
    codeOf(await part({ "x-amz-checksum-sha1": sums.sha1("x".repeat(2_000_000)) }, "x".repeat(2_000_000))),
    "InvalidRequest",
  );
  assert.ok(!(await q("GET", `/claims/o?uploadId=${id}`)).text.includes("<Part>"), "no part is stored");
  assert.equal((await part({ "x-amz-checksum-crc32": sums.crc32(BODY) })).status, 200);
  assert.equal((await part({})).status, 200);
});

test("s3: an upload is completed only with the checksum, and its type, that it was begun with", async () => {
  const told = { "x-amz-checksum-crc32": sums.crc32(BODY) };
  const composite = await upload("CRC32", told);
  await refusedOnly("InvalidRequest", await composite({ "x-amz-checksum-type": "FULL_OBJECT" }));
  await refusedOnly("InvalidRequest", await composite({ "x-amz-checksum-type": "nonsense" }));
  await refusedOnly("InvalidRequest", await composite({ "x-amz-checksum-sha256": sums.sha256(BODY) }));
  await refusedOnly("BadDigest", await composite(told));
  await done(await composite({ "x-amz-checksum-type": "composite" }));
  const whole = await upload("CRC32", told, "FULL_OBJECT");
  await refusedOnly("InvalidRequest", await whole({ "x-amz-checksum-type": "COMPOSITE" }));
  await refusedOnly("BadDigest", await whole({ "x-amz-checksum-crc32": sums.crc32(OTHER) }));
  await done(await whole({ ...told, "x-amz-checksum-type": "FULL_OBJECT" }));
  // One that was begun without any is still the bytes that its completion names.
  const none = await upload("", {});
  await refusedOnly("InvalidRequest", await none({ "x-amz-checksum-type": "COMPOSITE" }));
  await refusedOnly("BadDigest", await none({ "x-amz-checksum-crc32": sums.crc32(OTHER) }));
  await done(await none({ ...told, "x-amz-checksum-type": "FULL_OBJECT" }));
});

test("s3: uploads begin with checksums that they can have", async () => {
  const allowed: Record<string, string[]> = {
    ...{ CRC32: ["", "COMPOSITE", "FULL_OBJECT"], CRC32C: ["", "COMPOSITE", "FULL_OBJECT"] },
    ...{ SHA1: ["", "COMPOSITE"], SHA256: ["", "COMPOSITE"], CRC64NVME: ["", "FULL_OBJECT"] },
    "": ["", "FULL_OBJECT"],
  };
  for (const [algorithm, types] of Object.entries(allowed))
    for (const type of ["", "COMPOSITE", "FULL_OBJECT"]) {
      const { status, headers, text } = await begin(algorithm, type);
      const about = `${algorithm} ${type}: ${text}`;
      assert.equal(status, types.includes(type) ? 200 : 400, about);
      if (status !== 200) assert.ok(text.includes("<Code>InvalidRequest<"), about);
      else if (algorithm !== "" && type !== "") assert.equal(headers["x-amz-checksum-type"], type, about);
    }
});
