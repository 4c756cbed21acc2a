/** https on the front, on the master and between nodes. */
import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import os from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { RequestSigner } from "../../../src/auth/signature.ts";
import { parseArguments } from "../../../src/cli/arguments.ts";
import { startMaster } from "../../../src/master/master.ts";
import { createLog } from "../../../src/platform/log.ts";
import { createHttp } from "../../../src/server/http/uws.ts";
import { makeCertificates } from "../../certificate.ts";
import { createClient, KEY, startNode } from "../../cluster/peer-harness.ts";
import { until } from "../harness.ts";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "minivault-test-"));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
const { authority, authorityFile, certificateFile, keyFile } = makeCertificates(folder);
const tls = { certificate: certificateFile, key: keyFile };

function get(port: number, pathname: string, options: https.RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    https
      .get({ host: "localhost", port, path: pathname, agent: false, ...options }, (response) => {
        let text = "";
        response.on("data", (piece) => {
          text += piece;
        });
        response.on("end", () => resolve(`${response.statusCode} ${text}`));
      })
      .on("error", reject);
  });
}

describe("tls", () => {
  test("the front serves https, with the certificate given, and no plain HTTP", async (t) => {
    const node = await startNode({ tls, auth: null });
    t.after(() => node.front.close(1000));
    assert.match(await get(node.front.port, "/health", { ca: authority }), /^200 /);
    await assert.rejects(get(node.front.port, "/health", {}), /unable to verify|self-signed/);
    await assert.rejects(
      new Promise((_, reject) =>
        http.get({ port: node.front.port, path: "/health", agent: false }, reject).on("error", reject),
      ),
      /socket hang up|ECONNRESET/,
    );
    // A value that needs many records of TLS, up and down.
    const body = Buffer.alloc(3_000_000, "tls!");
    const put = await new Promise<number>((resolve, reject) => {
      https
        .request(
          {
            host: "127.0.0.1",
            port: node.front.port,
            method: "PUT",
            path: "/v",
            ca: authority,
            agent: false,
          },
          (response) => resolve(response.statusCode ?? 0),
        )
        .on("error", reject)
        .end(body);
    });
    assert.equal(put, 201);
    assert.equal(await get(node.front.port, "/v", { ca: authority }), `200 ${body}`);
  });

  test("nodes reach each other by https when they trust the authority, and only then", async (t) => {
    const node = await startNode({ tls });
    const client = createClient(node.url, { tls: { ca: authority } });
    const doubtful = createClient(node.url);
    t.after(async () => {
      await Promise.all([client.close(), doubtful.close()]);
      await node.front.close(1000);
    });
    assert.match(node.url, /^https:/);
    assert.equal((await client.send(Buffer.from("x"))).toString(), "echo x");
    const value = Buffer.alloc(1_000_000, "v");
    const source = async function* () {
      yield value;
    };
    assert.equal((await client.putStream(Buffer.from("v"), source())).toString(), "stored v");
    const { body } = await client.getStream(Buffer.from("v"));
    const pieces: Buffer[] = [];
    for await (const piece of body) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(value));
    await until(() => doubtful.state === "down", "the certificate is refused");
    assert.match(doubtful.lastFailure, /certificate/);
  });

  test("files that do not fit are one clear sentence", () => {
    const wrong = { certificate: authorityFile, key: keyFile };
    const none = () => {};
    const handlers = { get: none, head: none, put: none, post: none, delete: none, other: none };
    assert.throws(
      () => createHttp(handlers, none, { tls: wrong }),
      /cannot use the certificate .*authority\.pem/,
    );
    assert.throws(() => createHttp(handlers, none, { tls: { ...tls, key: "/absent" } }), /ENOENT/);
  });

  test("a master by https; workers sign, operators send the key", async (t) => {
    const parsed = parseArguments(
      ["-mode=master", "-host=127.0.0.1", "-port=0", `-tls-cert=${certificateFile}`, `-tls-key=${keyFile}`],
      { MINIVAULT_AUTH: KEY },
    );
    if (parsed.kind !== "run") throw new Error(parsed.text);
    const master = await startMaster(parsed.config, createLog("silent", false));
    t.after(() => master.stop());
    const url = `https://localhost:${master.port}`;
    const report = Buffer.from(JSON.stringify({ url: "http://10.0.0.1:3000" }));
    const post = (body: Uint8Array, authorization: string | null) =>
      new Promise<number>((resolve, reject) => {
        const headers: http.OutgoingHttpHeaders = { "content-length": body.length };
        if (authorization !== null) headers.authorization = authorization;
        https
          .request(`${url}/heartbeat`, { method: "POST", ca: authority, headers, agent: false }, (response) =>
            resolve(response.resume().statusCode ?? 0),
          )
          .on("error", reject)
          .end(body);
      });
    const signer = new RequestSigner(KEY);
    const sign = () => signer.sign(url, "POST", "/heartbeat", report).header;
    const header = sign();
    assert.equal(await post(report, header), 200);
    assert.equal(await post(report, header), 401, "a replay");
    assert.equal(await post(Buffer.from('{"url":"http://10.0.0.2:3000"}'), sign()), 401, "another body");
    assert.equal(await post(report, null), 401, "no key");
    assert.equal(
      await post(report, new RequestSigner("x").sign(url, "POST", "/heartbeat", report).header),
      401,
    );
    assert.equal(await post(report, `Bearer ${KEY}`), 200);
    const nodes = await get(master.port, "/nodes", {
      ca: authority,
      headers: { authorization: signer.sign(url, "GET", "/nodes", Buffer.alloc(0)).header },
    });
    assert.match(nodes, /^200 .*10\.0\.0\.1/);
    assert.ok(!nodes.includes("10.0.0.2"));
    assert.match(await get(master.port, "/nodes", { ca: authority }), /^401 /);
    assert.match(await get(master.port, "/health", { ca: authority }), /^200 /);
  });
});
