/** Access by S3: tokens made by the program's own command, what they allow, the audit, the counters, public reads, pages. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import { call, closeConnections } from "../rest/client.ts";
import { removeFolder, runProgram, temporaryFolder, waitUntil } from "../rest/server.ts";
import { ask, type Credentials, codeOf, KEY, presign, type S3Server, send, startS3 } from "./harness.ts";

const folder = temporaryFolder();
after(() => {
  closeConnections();
  removeFolder(folder);
});

async function makeToken(file: string, ...words: string[]): Promise<Credentials & { token: string }> {
  const { status, output } = await runProgram(["token", ...words, "-s3", "-tokens", file, "-json"]);
  assert.equal(status, 0, output);
  return JSON.parse(output);
}

async function withS3(
  options: Parameters<typeof startS3>[0],
  body: (server: S3Server) => Promise<void>,
): Promise<void> {
  const server = await startS3(options);
  try {
    await body(server);
  } finally {
    await server.dispose();
  }
}

describe("tokens", () => {
  test("allow what their line says, with the keys that their prefixes cover", async () => {
    const file = path.join(folder, "tokens");
    const all = await makeToken(file, "all", "-prefix", "", "-allow", "read,list,write,delete");
    const own = await makeToken(file, "own", "-prefix", "own/,shared/mine/", "-allow", "read,list,write");
    const reader = await makeToken(file, "reader", "-prefix", "own/", "-allow", "read");
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    await withS3({ flags: ["-tokens", file] }, async ({ s3Port }) => {
      const status = async (credentials: Credentials, method: string, target: string, more: object = {}) =>
        (await ask(s3Port, { method, target, credentials, ...more })).status;
      assert.equal(await status(all, "PUT", "/shared"), 200);
      assert.equal(await status(own, "PUT", "/own"), 200);
      assert.equal(await status(own, "PUT", "/other"), 403);
      assert.equal(await status(all, "PUT", "/shared/a", { body: "1" }), 200);
      assert.equal(await status(own, "PUT", "/own/a", { body: "1" }), 200);
      assert.equal(await status(own, "PUT", "/shared/mine/a", { body: "1" }), 200);
      assert.equal(await status(own, "PUT", "/shared/a", { body: "2" }), 403);
      assert.equal(await status(own, "GET", "/shared/a"), 403);
      assert.equal(await status(own, "DELETE", "/own/a"), 403, "it may not delete");
      assert.equal(await status(reader, "GET", "/own/a"), 200);
      assert.equal(await status(reader, "GET", "/own?list-type=2"), 403);
      assert.equal(await status(reader, "PUT", "/own/a", { body: "2" }), 403);
      assert.equal(await status(reader, "POST", "/own/a?uploads="), 403);
      const copy = { headers: { "x-amz-copy-source": "/shared/a" } };
      assert.equal(await status(own, "PUT", "/own/copied", copy), 403, "it may not read the source");
      const listed = await ask(s3Port, { method: "GET", target: "/shared?list-type=2", credentials: own });
      assert.deepEqual(
        [...listed.text.matchAll(/<Key>([^<]*)</g)].map(([, key]) => key),
        ["mine/a"],
      );
      const buckets = await ask(s3Port, { method: "GET", target: "/", credentials: own });
      assert.deepEqual(
        [...buckets.text.matchAll(/<Name>([^<]*)</g)].map(([, name]) => name),
        ["own", "shared"],
      );
      const xml = "<Delete><Object><Key>a</Key></Object></Delete>";
      const deletes = await ask(s3Port, {
        method: "POST",
        target: "/own?delete=",
        body: xml,
        credentials: own,
      });
      assert.match(deletes.text, /<Error><Key>a<\/Key><Code>AccessDenied</);
      assert.equal(await status(all, "GET", "/own/a"), 200);
      // With tokens the key opens nothing.
      assert.equal(await status({ accessKey: "minivault", secretKey: KEY }, "GET", "/own/a"), 403);
    });
  });

  test("change while the node runs, have a rate, and end", async () => {
    const file = path.join(folder, "changing");
    const first = await makeToken(file, "first", "-prefix", "", "-allow", "read,write,list");
    await withS3({ flags: ["-tokens", file] }, async ({ s3Port }) => {
      const list = async (credentials: Credentials) =>
        ask(s3Port, { method: "GET", target: "/", credentials });
      assert.equal((await list(first)).status, 200);
      const slow = await makeToken(
        file,
        "slow",
        "-prefix",
        "",
        "-allow",
        "list",
        "-requests-per-second",
        "1",
      );
      await waitUntil("the new token is known", async () => (await list(slow)).status !== 403);
      await waitUntil("it is over its rate", async () => codeOf(await list(slow)) === "SlowDown");
      fs.writeFileSync(file, "", { mode: 0o600 });
      await waitUntil(
        "the first token is forgotten",
        async () => codeOf(await list(first)) === "InvalidAccessKeyId",
      );
    });
    const over = path.join(folder, "over");
    const ended = await makeToken(
      over,
      "ended",
      "-prefix",
      "",
      "-allow",
      "list",
      "-expires",
      "2020-01-01T00:00:00Z",
    );
    await withS3({ flags: ["-tokens", over] }, async ({ s3Port }) => {
      const answer = await ask(s3Port, { method: "GET", target: "/", credentials: ended });
      assert.deepEqual([answer.status, codeOf(answer)], [403, "InvalidAccessKeyId"]);
    });
  });

  test("with secrets in a file that others may read are refused", async () => {
    const file = path.join(folder, "open");
    await makeToken(file, "open", "-prefix", "", "-allow", "read");
    fs.chmodSync(file, 0o644);
    const { status, output } = await runProgram(["-tokens", file, "-s3-port", "0", "-port", "0"]);
    assert.deepEqual([status, /chmod 600/.test(output)], [2, true], output);
  });
});

describe("what else sees S3's requests", () => {
  test("the audit notes writes and refusals with the token's name, and counters count them", async () => {
    const file = path.join(folder, "audited");
    const audit = path.join(folder, "audit.log");
    const named = await makeToken(
      file,
      "named",
      "-prefix",
      "photos/",
      "-allow",
      "read,write,delete,list,metrics",
    );
    await withS3({ flags: ["-tokens", file, "-audit", audit] }, async ({ s3Port, port }) => {
      const sent = { credentials: named };
      await ask(s3Port, { ...sent, method: "PUT", target: "/photos" });
      await ask(s3Port, { ...sent, method: "PUT", target: "/photos/a", body: "1" });
      await ask(s3Port, { ...sent, method: "GET", target: "/photos/a" });
      await ask(s3Port, { ...sent, method: "PUT", target: "/other/a", body: "1" });
      await send(s3Port, { method: "GET", target: "/photos/a" });
      const xml = "<Delete><Object><Key>a</Key></Object></Delete>";
      await ask(s3Port, { ...sent, method: "POST", target: "/photos?delete=", body: xml });
      const lines = () =>
        fs
          .readFileSync(audit, "utf8")
          .split("\n")
          .filter((line) => line !== "")
          .map((line) => JSON.parse(line))
          .map(({ token, method, path: name, status }) => [token, method, name, status]);
      await waitUntil("all of it is noted", () => lines().length >= 5);
      assert.deepEqual(lines(), [
        ["named", "PUT", "/photos", 200],
        ["named", "PUT", "/photos/a", 200],
        ["named", "PUT", "/other/a", 403],
        [null, "GET", "/photos/a", 403],
        ["named", "DELETE", "/photos/a", 204],
      ]);
      const bearer = { headers: { Authorization: `Bearer ${named.token}` } };
      const { requests } = JSON.parse(String((await call(port, "GET", "/_stats", bearer)).body));
      assert.deepEqual([requests.put["2xx"], requests.put["4xx"], requests.post["2xx"]], [2, 1, 1]);
    });
  });

  test("with -auth-mode writes single objects are public, and nothing else", () =>
    withS3({ flags: ["-auth-mode", "writes"] }, async ({ s3Port }) => {
      await ask(s3Port, { method: "PUT", target: "/open" });
      await ask(s3Port, { method: "PUT", target: "/open/a", body: "public" });
      assert.equal((await send(s3Port, { method: "GET", target: "/open/a" })).text, "public");
      for (const [method, target] of [
        ["GET", "/open?list-type=2"],
        ["GET", "/"],
        ["HEAD", "/open"],
        ["PUT", "/open/a"],
        ["DELETE", "/open/a"],
        ["POST", "/open?delete="],
      ])
        assert.equal((await send(s3Port, { method, target })).status, 403, `${method} ${target}`);
      const override = await send(s3Port, {
        method: "GET",
        target: "/open/a?response-content-type=text%2Fhtml",
      });
      assert.equal(override.status, 400);
    }));

  test("pages of an origin that is allowed may use presigned URLs; others may not write", () =>
    withS3({ flags: ["-cors", "https://app.example"] }, async ({ s3Port }) => {
      await ask(s3Port, { method: "PUT", target: "/pages" });
      const origin = "https://app.example";
      const preflight = await send(s3Port, {
        method: "OPTIONS",
        target: "/pages/a",
        headers: {
          origin,
          "access-control-request-method": "PUT",
          "access-control-request-headers": "content-type",
        },
      });
      assert.equal(preflight.status, 204);
      assert.equal(preflight.headers["access-control-allow-origin"], origin);
      assert.match(String(preflight.headers["access-control-allow-headers"]), /\*/);
      const target = presign(s3Port, "PUT", "/pages/a");
      const stored = await send(s3Port, { method: "PUT", target, body: "1", headers: { origin } });
      assert.deepEqual([stored.status, stored.headers["access-control-expose-headers"]], [200, "*"]);
      const foreign = await send(s3Port, {
        method: "PUT",
        target: presign(s3Port, "PUT", "/pages/a"),
        body: "2",
        headers: { origin: "https://evil.example" },
      });
      assert.deepEqual([foreign.status, codeOf(foreign)], [403, "AccessDenied"]);
      assert.match(
        foreign.text,
        /<Message>the page&apos;s origin &quot;https:\/\/evil\.example&quot;|<Message>the page's origin/,
      );
      const large = await send(s3Port, {
        ...{ method: "PUT", target: presign(s3Port, "PUT", "/pages/large"), body: Buffer.alloc(300_000) },
        headers: { origin: "https://evil.example" },
      });
      assert.deepEqual([large.status, codeOf(large)], [403, "AccessDenied"]);
      const asked = await send(s3Port, {
        ...{ method: "OPTIONS", target: "/pages/a" },
        headers: { origin: "https://evil.example", "access-control-request-method": "PUT" },
      });
      assert.deepEqual([asked.status, codeOf(asked)], [403, "AccessDenied"]);
      assert.equal((await ask(s3Port, { method: "GET", target: "/pages/large" })).status, 404);
    }));
});
