/** What a request says is understood, or refused, and never passed over: sources of copies, parameters, headers, dates, XML. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readDocument } from "../../src/s3/protocol/xml.ts";
import { codeOf, s3OfFile } from "./harness.ts";

const { q, bucket } = s3OfFile();

test("s3: the source of a copy is percent-encoded as a whole, its slashes, too", async () => {
  const at = await bucket("sources");
  // Each as a path has it, and with its slashes encoded.
  const keys = [
    ["a/b", "a%2Fb"],
    ["a%252Fb", "a%252Fb"],
    ["%2Fa", "%2Fa"],
    ["a%3FversionId=null", "a%3FversionId=null"],
  ];
  for (const [path] of keys)
    assert.equal((await q("PUT", `${at}/${path}`, { body: `of ${path}` })).status, 200);
  const begun = (await q("POST", `${at}/joined?uploads=`)).text;
  const id = /<UploadId>(\w+)</.exec(begun)?.[1] ?? "";
  for (const [path, whole] of keys)
    for (const source of [
      ...[`sources/${path}`, `/sources/${path}`, `sources%2F${whole}`, `%2Fsources%2F${whole}`],
      ...[`/sources%2F${whole}`, `sources%2f${whole}?versionId=null`],
    ]) {
      const headers = { "x-amz-copy-source": source };
      const copied = await q("PUT", `${at}/copy`, { headers });
      assert.equal(copied.status, 200, `${source}: ${copied.text}`);
      assert.equal((await q("GET", `${at}/copy`)).text, `of ${path}`, source);
      const part = await q("PUT", `${at}/joined?partNumber=1&uploadId=${id}`, { headers });
      const [etag] = /"?[0-9a-f]{32}/.exec(part.text) ?? [];
      assert.ok(copied.text.includes(etag ?? "none"), `${source}: ${part.text}`);
    }
  for (const [source, code] of [
    ["sources%2Fa%2Fb?versionId=1", "NotImplemented"],
    ["sources", "InvalidArgument"],
    ["sources%2F", "InvalidArgument"],
    ["%2F%2Fsources%2Fa", "InvalidBucketName"],
    ["sources%2Fnone", "NoSuchKey"],
    ["sources%2F%", "InvalidURI"],
  ])
    assert.equal(codeOf(await q("PUT", `${at}/copy`, { headers: { "x-amz-copy-source": source } })), code);
});

test("s3: Last-Modified is never later than Date, in lists the same, and names the version in conditions", async () => {
  const at = `${await bucket("dates")}/o`;
  for (let round = 0; round < 12; round++) {
    assert.equal((await q("PUT", at, { body: String(round) })).status, 200);
    for (const method of ["HEAD", "GET"]) {
      const { headers } = await q(method, at);
      const [date, modified] = [headers.date, headers["last-modified"]].map((text) => Date.parse(text ?? ""));
      assert.ok(modified <= date, `${headers["last-modified"]} is later than ${headers.date}`);
    }
    // Away from the whole second, at which uWS may have its date from.
    await new Promise((resolve) => setTimeout(resolve, 130));
  }
  const told = async (): Promise<string> => (await q("HEAD", at)).headers["last-modified"] ?? "";
  const early = await told();
  const listed = /<LastModified>([^<]*)/.exec((await q("GET", "/dates?list-type=2")).text)?.[1] ?? "";
  // It may settle at any moment, where this takes long.
  assert.ok([early, await told()].some((date) => Date.parse(date) === Date.parse(listed)));
  const under = async (name: string, date: string): Promise<number> =>
    (await q("GET", at, { headers: { [name]: date } })).status;
  assert.equal(await under("if-modified-since", await told()), 304);
  await new Promise((resolve) => setTimeout(resolve, 3200));
  assert.equal(await under("if-modified-since", await told()), 304);
  assert.equal(await under("if-unmodified-since", early), 200, "it is still what the early date was told of");
  const before = new Date(Date.parse(early) - 3000).toUTCString();
  assert.equal(await under("if-unmodified-since", before), 412);
});

test("s3: an encoding of keys that is empty is none, and another one is refused", async () => {
  const at = await bucket("encodings");
  assert.equal((await q("PUT", `${at}/a%20b`, { body: "x" })).status, 200);
  assert.equal((await q("POST", `${at}/a%20b?uploads=`)).status, 200);
  for (const list of ["list-type=2", "", "uploads="]) {
    for (const [encoding, key, named] of [
      ["", "a b", false],
      ["&encoding-type=", "a b", false],
      ["&encoding-type=url", "a%20b", true],
    ] as const) {
      const { text } = await q("GET", `${at}?${list}${encoding}`);
      assert.ok(text.includes(`<Key>${key}</Key>`), text);
      assert.equal(text.includes("<EncodingType>url<"), named, text);
    }
    assert.equal(codeOf(await q("GET", `${at}?${list}&encoding-type=xml`)), "InvalidArgument");
  }
});

test("s3: headers that ask for what is not there are refused, and store nothing", async () => {
  const at = await bucket("wishes");
  await q("PUT", `${at}/from`, { body: "x" });
  const of = "x-amz-copy-source-server-side-encryption-customer";
  const key = Buffer.alloc(32).toString("base64");
  const wishes: Record<string, string>[] = [
    ...["read", "write", "read-acp", "write-acp", "full-control"].map((what) => ({
      [`x-amz-grant-${what}`]: "id=1",
    })),
    { "x-amz-server-side-encryption": "AES256" },
    { "x-amz-server-side-encryption-customer-key": key },
    { "x-amz-server-side-encryption-customer-key-md5": key },
    { "x-amz-server-side-encryption-aws-kms-key-id": "1" },
    { "x-amz-server-side-encryption-context": "e30=" },
    { "x-amz-copy-source": "wishes/from", [`${of}-algorithm`]: "AES256" },
    { "x-amz-copy-source": "wishes/from", [`${of}-key`]: key },
    { "x-amz-object-lock-mode": "GOVERNANCE" },
    { "x-amz-object-lock-retain-until-date": "2100-01-01T00:00:00Z" },
  ];
  for (const headers of wishes) {
    const { status, text } = await q("PUT", `${at}/o`, { headers, body: "" });
    assert.equal(status, 501, `${Object.keys(headers)}: ${text}`);
  }
  assert.equal((await q("HEAD", `${at}/o`)).status, 404);
});

test("s3: what nobody has heard of is no part of a bucket: it is refused, and makes none", async () => {
  for (const query of ["abac", "abac=", "abac=1", "uploadId=1", "partNumber=1", "acl", "tagging="]) {
    assert.equal((await q("PUT", `/unheard?${query}`)).status, 501, query);
    assert.equal((await q("HEAD", "/unheard")).status, 404, query);
  }
  const at = await bucket("heard");
  for (const [method, query] of [
    ["GET", "abac"],
    ["HEAD", "abac"],
    ["GET", "list-type=2&abac="],
    ["DELETE", "abac"],
    ["DELETE", "abac=1"],
    ["POST", "delete&abac"],
  ])
    assert.equal((await q(method, `${at}?${query}`)).status, 501, `${method} ${query}`);
  // A wish that a list does not know, and a client's own word.
  for (const query of ["list-type=2&prefix=&allow-unordered=true", "x-id=ListObjects", "delimiter="])
    assert.equal((await q("GET", `${at}?${query}`)).status, 200, query);
  assert.equal((await q("DELETE", `${at}?x-id=DeleteBucket`)).status, 204);
});

test("s3: comments and CDATA of a document are what XML says they are", async () => {
  const at = await bucket("written");
  const keys = ["a&amp;b", "<!-- no comment -->", "x]]>y", "plain", "&#x78;", "a<b>c"];
  const inCdata = (text: string): string => `<![CDATA[${text.replaceAll("]]>", "]]]]><![CDATA[>")}]]>`;
  for (const key of keys) {
    assert.equal((await q("PUT", `${at}/${encodeURIComponent(key)}`, { body: "x" })).status, 200);
    const body = `<?xml version="1.0"?><!-- <Key>no</Key> --><Delete><!----><Object a="'--&gt;"><Key>${inCdata(key)}</Key></Object></Delete><!-- end -->`;
    const gone = await q("POST", `${at}?delete=`, { body });
    assert.ok(gone.status === 200 && gone.text.includes("<Deleted>"), gone.text);
    assert.equal((await q("HEAD", `${at}/${encodeURIComponent(key)}`)).status, 404, key);
  }
  await q("PUT", `${at}/abcd`, { body: "x" });
  const mixed =
    "<Delete><Object><!-- one --><Key>a<!-- <Key>b</Key> -->b<![CDATA[c]]>&#100;</Key></Object></Delete>";
  assert.equal((await q("POST", `${at}?delete=`, { body: mixed })).status, 200);
  assert.equal((await q("HEAD", `${at}/abcd`)).status, 404);
});

test("s3: documents that declare something, or are none, are refused, and large ones soon", () => {
  const object = "<Object><Key>k</Key></Object>";
  const whole = `<Delete>${object}</Delete>`;
  for (const text of [
    `<!DOCTYPE Delete>${whole}`,
    `<!DOCTYPE Delete [<!ENTITY k "k">]><Delete><Object><Key>&k;</Key></Object></Delete>`,
    `<Delete><!ENTITY k "k">${object}</Delete>`,
    `<Delete><!-- a -- b -->${object}</Delete>`,
    `<Delete><!--->${object}</Delete>`,
    `<Delete><!-- ${object}</Delete>`,
    `<Delete><![CDATA[${object}</Delete>`,
    `<Delete><![cdata[k]]>${object}</Delete>`,
    `<Delete a="<!--">${object}<Object a="-->"/></Delete>`,
    `<![CDATA[k]]>${whole}`,
    `<Delete><Object><Key<!-- -->>k</Key></Object></Delete>`,
  ])
    assert.throws(() => readDocument(Buffer.from(text), "Delete"), { code: "MalformedXML" }, text);
  const bytes = 8 * 2 ** 20;
  for (const piece of [
    ...[
      "<!---->",
      "<!--",
      "<![CDATA[",
      "<![CDATA[&]]>",
      "<a ",
      '"',
      "<a/>",
      "<?a?>",
      `<![CDATA[${"&".repeat(9000)}]]>`,
    ],
    `<Key><![CDATA[${"&".repeat(3200)}]]></Key>`,
  ]) {
    const text = `<Delete><!-- --><a ${piece.repeat(bytes / piece.length)}`;
    const startMs = performance.now();
    assert.throws(
      () => readDocument(Buffer.from(text), "Delete"),
      { code: "MalformedXML" },
      piece.slice(0, 20),
    );
    const closed = `<Delete><!-- -->${piece.repeat(bytes / piece.length)}</Delete>`;
    assert.throws(
      () => readDocument(Buffer.from(closed), "Delete"),
      { code: "MalformedXML" },
      piece.slice(0, 20),
    );
    // Such a document takes a fraction of a second; the limit is for a machine that has other work.
    assert.ok(performance.now() - startMs < 10_000, `${piece.slice(0, 20)} takes too long`);
  }
});
