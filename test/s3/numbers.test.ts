/** Numbers of requests are decimal digits and nothing else: what a language takes for one is refused, over S3 and over HTTP. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { recordsIn } from "../../src/archive/tar-header.ts";
import { cappedCaching } from "../../src/rules/caching.ts";
import { call, closeConnections } from "../rest/client.ts";
import { RawConnection } from "../rest/raw.ts";
import { ask, codeOf, KEY, type S3Server, startS3 } from "./harness.ts";

/** What `Number` takes for 1 or 16, and digits of other scripts. */
const FORMS = ["1e0", "0x10", "0b1", "0o1", " 1", "1 ", "+1", "-1", "1.0", "1_0", "1n", "\u0661", "\uff11"];

let server: S3Server;
before(async () => {
  server = await startS3();
  assert.equal((await ask(server.s3Port, { method: "PUT", target: "/box" })).status, 200);
});
after(async () => {
  closeConnections();
  await server.dispose();
});

test("numbers: S3 takes digits alone in queries, headers and documents", async () => {
  const { s3Port } = server;
  const begun = await ask(s3Port, { method: "POST", target: "/box/k?uploads=" });
  const id = /<UploadId>(.*?)<\/UploadId>/.exec(begun.text)?.[1];
  assert.ok(id, begun.text);
  const own = `uploadId=${id}`;
  const put = await ask(s3Port, { method: "PUT", target: `/box/k?partNumber=1&${own}`, body: "part" });
  assert.equal(put.status, 200, put.text);
  const etag = createHash("md5").update("part").digest("hex");
  for (const form of FORMS) {
    const text = encodeURIComponent(form);
    for (const [method, path, query] of [
      ["GET", "/box", `max-keys=${text}`],
      ["GET", "/box", `list-type=2&max-keys=${text}`],
      ["GET", "/box", `uploads=&max-uploads=${text}`],
      ["GET", "/", `max-buckets=${text}`],
      ["GET", "/box/k", `max-parts=${text}&${own}`],
      ["GET", "/box/k", `part-number-marker=${text}&${own}`],
      ["PUT", "/box/k", `partNumber=${text}&${own}`],
    ]) {
      const refused = await ask(s3Port, { method, target: `${path}?${query}` });
      assert.equal(refused.status, 400, `${method} ${path}?${query}: ${refused.text}`);
      assert.equal(codeOf(refused), "InvalidArgument", query);
    }
    const body = `<CompleteMultipartUpload><Part><PartNumber>${form}</PartNumber><ETag>${etag}</ETag></Part></CompleteMultipartUpload>`;
    const completed = await ask(s3Port, { method: "POST", target: `/box/k?${own}`, body });
    assert.deepEqual([completed.status, codeOf(completed)], [400, "InvalidPart"], form);
  }
});

test("numbers: the HTTP API takes digits alone", async () => {
  const Authorization = `Bearer ${KEY}`;
  const headers = { Authorization };
  assert.equal((await call(server.port, "PUT", "/n", { headers, body: "0123456789" })).status, 201);
  for (const form of FORMS) {
    const text = encodeURIComponent(form);
    for (const [method, target] of [
      ["GET", `/?list&limit=${text}`],
      ["GET", `/?changes&limit=${text}`],
      ["GET", `/n?wait=${text}`],
      ["PUT", `/n?expires=${text}`],
      ["PATCH", `/n?ttl=${form === "1.0" ? "1.0x" : text}`],
    ]) {
      const refused = await call(server.port, method, target, { headers, body: "" });
      assert.equal(refused.status, 400, `${method} ${target}: ${refused.text}`);
    }
    if (!/^[\x21-\x7e]+$/.test(form)) continue;
    // A range that cannot be read is none (RFC 9110), so all of it is sent.
    for (const Range of [`bytes=${form}-2`, `bytes=0-${form}`]) {
      const reply = await call(server.port, "GET", "/n", { headers: { ...headers, Range } });
      if (form !== "-1") assert.deepEqual([reply.status, reply.text], [200, "0123456789"], Range);
    }
    const connection = await RawConnection.open(server.port);
    connection.send(
      `PUT /bad HTTP/1.1\r\nHost: x\r\nAuthorization: ${Authorization}\r\nContent-Length: ${form}\r\n\r\n0123456789abcdef`,
    );
    const [answer] = await connection.answers(1);
    assert.equal(answer.status, 400, form);
    connection.socket.destroy();
  }
  assert.equal((await call(server.port, "GET", "/bad", { headers })).status, 404);
});

test("numbers: records of archives, and ages of Cache-Control, are digits alone", () => {
  assert.deepEqual(recordsIn(Buffer.from("11 size=12\n")), { size: "12" });
  for (const length of ["1e1", "0xb", "+11", " 11"])
    assert.throws(
      () => recordsIn(Buffer.from(`${length} size=12\n`)),
      /records of a member are damaged/,
      length,
    );
  assert.equal(cappedCaching("max-age=60", 30_000), "max-age=30");
  for (const age of ["6e1", "0x1", "+6", "6.5"])
    assert.equal(cappedCaching(`max-age=${age}`, 30_000), "max-age=0", age);
});
