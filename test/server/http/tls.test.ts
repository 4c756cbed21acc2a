/** https on the front, on the master and between nodes. */
import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import type { TLSSocket } from "node:tls";
import { Receiver } from "../../../src/auth/answer.ts";
import { KeyRing } from "../../../src/auth/keys.ts";
import { RequestSigner } from "../../../src/auth/signature.ts";
import { parseArguments } from "../../../src/cli/arguments.ts";
import { NodeHttp } from "../../../src/cluster/link/node-http.ts";
import { PeerTls } from "../../../src/cluster/link/peer-tls.ts";
import { startMaster } from "../../../src/master/master.ts";
import { createLog } from "../../../src/platform/log.ts";
import { createHttp } from "../../../src/server/uws/uws.ts";
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
    const client = createClient(node.url, { tls: new PeerTls(authority, null) });
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

  test("a node shows its certificate to others, and refuses who shows one of another authority", async (t) => {
    const elsewhere = fs.mkdtempSync(path.join(folder, "elsewhere-"));
    const foreign = makeCertificates(elsewhere);
    const node = await startNode({ tls: { ...tls, ca: authorityFile } });
    const own = new PeerTls(authority, tls);
    const stranger = new PeerTls(authority, { certificate: foreign.certificateFile, key: foreign.keyFile });
    const nobody = new PeerTls(authority, null);
    const clients = [own, stranger, nobody].map((peerTls) => createClient(node.url, { tls: peerTls }));
    t.after(async () => {
      await Promise.all(clients.map((client) => client.close()));
      await node.front.close(1000);
    });
    const echo = async (index: number) => (await clients[index].send(Buffer.from("x"))).toString();
    assert.equal(await echo(0), "echo x");
    assert.equal(await echo(2), "echo x", "without one, the key decides");
    await until(() => clients[1].state === "down", "the foreign certificate is refused");
    assert.match(clients[1].lastFailure, /it may not trust the certificate that this node shows/);
    assert.equal(stranger.problem, null);
    // A certificate that was exchanged is shown from then on.
    for (const name of ["server.pem", "server-key.pem"])
      fs.copyFileSync(path.join(folder, name), path.join(elsewhere, name));
    stranger.renew();
    await until(() => clients[1].state === "up", "the new certificate is shown");
  });

  test("what a node shows can be demanded: a server that takes no connection without it is reached", async (t) => {
    const seen: string[] = [];
    const server = https.createServer(
      {
        ...{ ca: authority, cert: fs.readFileSync(certificateFile), key: fs.readFileSync(keyFile) },
        ...{ requestCert: true, rejectUnauthorized: true },
      },
      (request, response) => {
        const { subject } = (request.socket as TLSSocket).getPeerCertificate();
        seen.push(String(subject.CN));
        response.end("{}");
      },
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const shows = new NodeHttp({ url, signer: null, tls: new PeerTls(authority, tls), connections: 1 });
    const hides = new NodeHttp({ url, signer: null, tls: new PeerTls(authority, null), connections: 1 });
    t.after(async () => {
      await Promise.all([shows.close(), hides.close()]);
      server.closeAllConnections();
      server.close();
    });
    assert.equal((await shows.request("GET", "/", null, 20_000)).status, 200);
    assert.deepEqual(seen, ["localhost"]);
    await assert.rejects(hides.request("GET", "/", null, 20_000));
    // Without -tls-ca nobody has said who the others are: nothing is shown.
    assert.equal(new PeerTls(null, tls).own, null);
  });

  test("a certificate for servers alone is not shown, since it would be refused, and that is said", async (t) => {
    const serverOnly = makeCertificates(fs.mkdtempSync(path.join(folder, "server-")), "1.3.6.1.5.5.7.3.1");
    const files = { certificate: serverOnly.certificateFile, key: serverOnly.keyFile };
    const peerTls = new PeerTls(serverOnly.authority, files);
    assert.equal(peerTls.own, null);
    assert.match(String(peerTls.problem), /clientAuth/);
    const node = await startNode({ tls: { ...files, ca: serverOnly.authorityFile } });
    const client = createClient(node.url, { tls: peerTls });
    t.after(async () => {
      await client.close();
      await node.front.close(1000);
    });
    assert.equal((await client.send(Buffer.from("x"))).toString(), "echo x");
    const both = makeCertificates(fs.mkdtempSync(path.join(folder, "client-")), "1.3.6.1.5.5.7.3.2");
    const shown = new PeerTls(both.authority, { certificate: both.certificateFile, key: both.keyFile });
    assert.notEqual(shown.own, null);
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
    const signer = new RequestSigner(new KeyRing([KEY]));
    const receiver = new Receiver(url);
    const node = new NodeHttp({
      url,
      signer,
      receiver,
      tls: new PeerTls(authority, null),
      connections: 1,
    });
    t.after(() => node.close());
    assert.equal((await node.request("GET", "/health", null, 20_000)).status, 200);
    const sign = () => signer.sign(receiver, "POST", "/heartbeat", report).header;
    const header = sign();
    assert.equal(await post(report, header), 200);
    assert.equal(await post(report, header), 401, "a replay");
    assert.equal(await post(Buffer.from('{"url":"http://10.0.0.2:3000"}'), sign()), 401, "another body");
    assert.equal(await post(report, null), 401, "no key");
    assert.equal(
      await post(
        report,
        new RequestSigner(new KeyRing(["x"])).sign(receiver, "POST", "/heartbeat", report).header,
      ),
      401,
    );
    assert.equal(await post(report, `Bearer ${KEY}`), 401, "a client's key");
    const nodes = await get(master.port, "/nodes", {
      ca: authority,
      headers: { authorization: signer.sign(receiver, "GET", "/nodes", Buffer.alloc(0)).header },
    });
    assert.match(nodes, /^200 .*10\.0\.0\.1/);
    assert.ok(!nodes.includes("10.0.0.2"));
    assert.match(await get(master.port, "/nodes", { ca: authority }), /^401 /);
    assert.match(await get(master.port, "/health", { ca: authority }), /^200 /);
  });
});
