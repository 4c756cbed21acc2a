/** What programs seldom send, as raw requests: keys of any characters, lists from anywhere, requests that are cut or repeated. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { type Answer, codeOf, s3OfFile } from "./harness.ts";

const { q, bucket } = s3OfFile();

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
const encoded = (key: string): string =>
  encodeURIComponent(key).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
const elements = (text: string, name: string): string[] =>
  [...text.matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, "g"))].map(([, value]) =>
    decodeURIComponent(value),
  );
const md5 = (bytes: string): string => createHash("md5").update(bytes).digest("hex");

/** Each is beside one that a careless reader would take it for. */
const ODD_KEYS = [
  ...[
    "x",
    "\u0001x",
    "x\u0000",
    "\tx",
    " x",
    "x ",
    "a\nb",
    "a\rb",
    "a\r\nb",
    "\u007f",
    "&",
    "&amp;",
    "&#x78;",
  ],
  ...[".", "..", "../x", "a/../b", "a//b", "/x", "/", "//", "x/", "a b", "a+b", "a%b", "%41", "A", "%2F"],
  ...[
    "<>\"'`{}|\\^~[]",
    "a;b,c:d@e!f$g*(h)?i=j#k",
    "\u00e9",
    "e\u0301",
    "\u00a0",
    "\ufeff",
    "\ufffd",
    "\ufffe",
  ],
  ...["\u2028", "\u{1f600}", "__proto__", "constructor", "]]>"],
];

test("s3: keys of any characters are each its own, in paths, in copies, in lists and in XML", async () => {
  const at = await bucket("odd");
  const target = (key: string): string => `${at}/${encoded(key)}`;
  for (const key of ODD_KEYS) {
    const put = await q("PUT", target(key), { body: `of ${key}` });
    assert.equal(put.status, 200, `${JSON.stringify(key)}: ${put.text}`);
  }
  for (const key of ODD_KEYS) {
    assert.equal((await q("GET", target(key))).text, `of ${key}`, JSON.stringify(key));
    const head = await q("HEAD", target(key));
    assert.equal(head.headers.etag, `"${md5(`of ${key}`)}"`);
    const headers = { "x-amz-copy-source": target(key) };
    const copied = await q("PUT", "/odd/the%20copy", { headers });
    assert.ok(copied.text.includes(md5(`of ${key}`)), JSON.stringify(key));
  }
  await q("DELETE", "/odd/the%20copy");
  const listed = async (): Promise<string[]> =>
    elements((await q("GET", `${at}?list-type=2&encoding-type=url`)).text, "Key");
  const left = [...ODD_KEYS].sort(byBytes);
  assert.deepEqual(await listed(), left);
  // In XML any character may be a reference, in decimal or not; a control character has to be one.
  const ways = [
    (key: string) => key.replace(/[&<>\p{Cc}]/gu, (one) => `&#x${one.charCodeAt(0).toString(16)};`),
    (key: string) => key.replace(/[^a-z]/gu, (one) => `&#${one.codePointAt(0)};`),
  ];
  for (const [index, key] of ODD_KEYS.entries()) {
    const body = `<Delete><Object><Key>${ways[index % 2](key)}</Key></Object></Delete>`;
    assert.equal((await q("POST", `${at}?delete=`, { body })).status, 200);
    left.splice(left.indexOf(key), 1);
    assert.deepEqual(await listed(), left, `without ${JSON.stringify(key)}`);
  }
  for (const reference of ["&", "&nbsp;", "&#xD800;", "&#x110000;", "&#;", "&#xg;", "&amp", "&toString;"]) {
    const body = `<Delete><Object><Key>x${reference}</Key></Object></Delete>`;
    assert.equal(codeOf(await q("POST", `${at}?delete=`, { body })), "MalformedXML", reference);
  }
});

test("s3: a thousand long keys, all of whose characters XML has to write out, go at once", async () => {
  const at = await bucket("longest");
  const keys = Array.from({ length: 1000 }, (_, number) => "&".repeat(500) + String(number).padStart(4, "0"));
  await q("PUT", `${at}/${encoded(keys[999])}`, { body: "x" });
  const objects = keys.map((key) => `<Object><Key>${key.replaceAll("&", "&amp;")}</Key></Object>`).join("");
  const gone = await q("POST", `${at}?delete=`, { body: `<Delete><Quiet>true</Quiet>${objects}</Delete>` });
  assert.deepEqual([gone.status, /<Error>|<Deleted>/.test(gone.text)], [200, false], gone.text.slice(0, 300));
  assert.equal((await q("HEAD", `${at}/${encoded(keys[999])}`)).status, 404);
});

/** What a list of all these keys is to S3. */
function model(keys: readonly string[], prefix: string, delimiter: string, after: string): string[] {
  const found = new Set<string>();
  for (const key of keys) {
    if (!key.startsWith(prefix)) continue;
    const at = delimiter === "" ? -1 : key.indexOf(delimiter, prefix.length);
    const name = at < 0 ? key : key.slice(0, at + delimiter.length);
    if (byBytes(key, after) <= 0 || (at >= 0 && name === after)) continue;
    found.add(name);
  }
  return [...found].sort(byBytes);
}

test("s3: lists are what the keys make of prefix, delimiter and beginning, on pages of any size", async (t) => {
  const random = new Random(randomSeed(t));
  const at = await bucket("pages");
  const some = (count: number): string =>
    Array.from(
      { length: random.below(count + 1) },
      () => ["a", "b", "/", "//", "é", "-"][random.below(6)],
    ).join("");
  const keys = [...new Set(Array.from({ length: 60 }, () => some(5)))]
    .filter((key) => key !== "")
    .sort(byBytes);
  await Promise.all(keys.map((key) => q("PUT", `${at}/${encoded(key)}`, { body: "x" })));
  for (let round = 0; round < 60; round++) {
    const [prefix, delimiter] = [some(2), ["", "/", "//", "a"][random.below(4)]];
    const after = random.below(2) === 0 ? "" : some(4);
    const isV2 = random.below(2) === 0;
    const about = JSON.stringify({ prefix, delimiter, after, isV2 });
    const fixed = `encoding-type=url&max-keys=${1 + random.below(5)}&prefix=${encoded(prefix)}&delimiter=${encoded(delimiter)}`;
    const found: string[] = [];
    let from = isV2 ? `list-type=2&start-after=${encoded(after)}` : `marker=${encoded(after)}`;
    for (let pages = 0; pages <= keys.length; pages++) {
      const { text } = await q("GET", `${at}?${fixed}&${from}`);
      const prefixes = [...text.matchAll(/<CommonPrefixes><Prefix>([^<]*)/g)].map(([, one]) =>
        decodeURIComponent(one),
      );
      found.push(...[...elements(text, "Key"), ...prefixes].sort(byBytes));
      if (!text.includes("<IsTruncated>true")) break;
      const [token] = elements(text, "NextContinuationToken");
      const [marker = found.at(-1) ?? ""] = elements(text, "NextMarker");
      from = isV2 ? `list-type=2&continuation-token=${token}` : `marker=${encoded(marker)}`;
    }
    assert.deepEqual(found, model(keys, prefix, delimiter, after), about);
  }
  await q("PUT", `${await bucket("inside")}/a/b/c`, { body: "x" });
  const behind = await q("GET", "/inside?list-type=2&delimiter=/&start-after=a/b/");
  assert.ok(behind.text.includes("<CommonPrefixes><Prefix>a/</Prefix>"), behind.text);
  // Tokens that nobody has given out show nothing that is not in the bucket.
  for (const from of ["_s3/", "a/x", "odd/x", "pages", "zzz/x", "\u{10ffff}"]) {
    const token = Buffer.from(from).toString("base64url");
    const list = await q("GET", `${at}?list-type=2&encoding-type=url&continuation-token=${token}`);
    assert.deepEqual(elements(list.text, "Key"), from > "pages/" ? [] : keys, from);
  }
});

test("s3: uploads are listed by prefix and delimiter, on pages of any size", async () => {
  const at = await bucket("under-way");
  const keys = ["a", "b/1", "b/2", "b/2", "c", "d/e/f", "d/g", "e"];
  for (const key of keys) await q("POST", `${at}/${encoded(key)}?uploads=`);
  for (const [prefix, wanted] of [
    ["", ["a", "b/", "c", "d/", "e"]],
    ["b/", ["b/1", "b/2", "b/2"]],
    ["d/", ["d/e/", "d/g"]],
  ] as const)
    for (const limit of [1, 2, 3, 1000]) {
      const found: string[] = [];
      let from = "";
      for (let pages = 0; pages <= keys.length; pages++) {
        const { text } = await q(
          "GET",
          `${at}?uploads=&max-uploads=${limit}&prefix=${prefix}&delimiter=/${from}`,
        );
        const prefixes = [...text.matchAll(/<CommonPrefixes><Prefix>([^<]*)/g)].map(([, one]) => one);
        found.push(...[...elements(text, "Key"), ...prefixes].sort(byBytes));
        if (!text.includes("<IsTruncated>true")) break;
        const [[key], [id = ""]] = [elements(text, "NextKeyMarker"), elements(text, "NextUploadIdMarker")];
        from = `&key-marker=${encoded(key)}&upload-id-marker=${id}`;
      }
      assert.deepEqual(found, wanted, `${prefix}, pages of ${limit}`);
    }
  const none = await q("GET", `${at}?uploads=&max-uploads=0`);
  assert.ok(none.text.includes("<IsTruncated>false"), none.text);
});

test("s3: a range that goes on with an object is answered with all of it where that is another one by now", async () => {
  const at = `${await bucket("ranges")}/o`;
  await q("PUT", at, { body: "0123456789" });
  const range = (ifRange: string): Promise<Answer> =>
    q("GET", at, { headers: { range: "bytes=5-", "if-range": ifRange } });
  const same = await range(`"${md5("0123456789")}"`);
  assert.deepEqual([same.status, same.text], [206, "56789"]);
  for (const other of [`"${md5("another")}"`, new Date(0).toUTCString(), "nonsense"]) {
    const { status, text } = await range(other);
    assert.deepEqual([status, text], [200, "0123456789"], other);
  }
});

test("s3: a part that has lost its upload does not become the object", async () => {
  const at = `${await bucket("lost")}/o`;
  await q("PUT", at, { body: "whole" });
  assert.equal(codeOf(await q("PUT", `${at}?partNumber=1`, { body: "a part" })), "InvalidArgument");
  assert.equal((await q("GET", at)).text, "whole");
});

test("s3: who completes an upload again, while or after it is completed, is told what it has become", async () => {
  const at = `${await bucket("twice")}/o`;
  for (let round = 0; round < 3; round++) {
    await q("DELETE", at);
    const [id] = elements((await q("POST", `${at}?uploads=`)).text, "UploadId");
    const body = Buffer.alloc(1_200_000, round);
    const { etag } = (await q("PUT", `${at}?partNumber=1&uploadId=${id}`, { body })).headers;
    const part = `<Part><PartNumber>1</PartNumber><ETag>${etag}</ETag></Part>`;
    const complete = (): Promise<Answer> =>
      q("POST", `${at}?uploadId=${id}`, {
        body: `<CompleteMultipartUpload>${part}</CompleteMultipartUpload>`,
      });
    const answers = await Promise.all(Array.from({ length: 4 }, complete));
    answers.push(await complete());
    for (const { status, text } of answers) assert.equal(status, 200, text);
    assert.equal(new Set(answers.map(({ text }) => elements(text, "ETag")[0])).size, 1);
    assert.ok((await q("GET", at)).body.equals(body));
  }
});

test("s3: a body in chunks that is cut at any byte, or whose trailer is wrong, leaves nothing", async () => {
  const at = `${await bucket("chunks")}/o`;
  const sum = createHash("sha256").update("hello world").digest("base64");
  const whole = (trailer: string): string => `6\r\nhello \r\n5\r\nworld\r\n0\r\n${trailer}\r\n\r\n`;
  const send = (body: string): Promise<Answer> =>
    q("PUT", at, {
      body,
      payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
      headers: {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "11",
        "x-amz-trailer": "x-amz-checksum-sha256",
      },
    });
  const right = whole(`x-amz-checksum-sha256:${sum}`);
  const wrong = [
    whole(`x-amz-checksum-sha256:${createHash("sha256").update("other").digest("base64")}`),
    whole(`x-amz-checksum-sha256:${sum.slice(4)}`),
    whole(`x-amz-checksum-sha1:${sum}`),
    whole(""),
    `${right}x`,
    right.replace("world", "worlds"),
    right.replace("5\r\n", "4\r\n"),
    right.replace("6\r\nhello ", "5\r\nhello"),
    ...Array.from({ length: right.length }, (_, bytes) => right.slice(0, bytes)),
  ];
  for (const body of wrong) {
    const { status, text } = await send(body);
    assert.equal(status, 400, `${JSON.stringify(body)}: ${text}`);
  }
  assert.equal((await q("GET", at)).status, 404, "nothing was stored");
  assert.equal((await send(right)).status, 200);
  const got = await q("GET", at);
  assert.deepEqual([got.text, got.headers["content-encoding"]], ["hello world", undefined]);
});
