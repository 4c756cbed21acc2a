/**
 * Who gets into a cluster of real processes with a shared key, and that whoever does not changes nothing. The cases of one request, byte by
 * byte, are in test/server/peer-routes.test.ts; here everything is as on a real network: requests of nodes are overheard on their link, and sent again.
 */
import assert from "node:assert/strict";
import http from "node:http";
import { after, describe, test } from "node:test";
import { Receiver } from "../../src/auth/answer.ts";
import { KeyRing } from "../../src/auth/keys.ts";
import { RequestSigner, SIGNATURE_AGE_MS } from "../../src/auth/signature.ts";
import { call, content, exchange, sha256 } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { meet } from "./peer-harness.ts";
import { type Cluster, startCluster, type Worker } from "./workers.ts";

const KEY = "an-elephant-on-a-bicycle";
const BEARER = { Authorization: `Bearer ${KEY}` };
const TEXT = { "Content-Type": "text/plain" };
const LARGE_BYTES = 3_000_000;

interface Overheard {
  head: string;
  bytes: Buffer;
}

/** Keeps whole requests that pass on a link, until told to stop. */
function overhear(to: Worker, from: Worker): { requests: () => Overheard[]; stop: () => void } {
  const streams = new Map<object, Buffer[]>();
  const link = to.linkFrom(from);
  link.listen((connection, data) => {
    const pieces = streams.get(connection) ?? [];
    streams.set(connection, pieces);
    pieces.push(Buffer.from(data));
  });
  // Connections that are open already would be heard from their middle on.
  link.reset();
  return {
    stop: () => link.listen(null),
    requests: () => [...streams.values()].flatMap((pieces) => split(Buffer.concat(pieces))),
  };
}

function split(stream: Buffer): Overheard[] {
  const requests: Overheard[] = [];
  for (let at = 0; ; ) {
    const end = stream.indexOf("\r\n\r\n", at);
    if (end < 0) return requests;
    const head = stream.toString("latin1", at, end);
    let next = end + 4;
    const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
    if (/\r\ntransfer-encoding: chunked/i.test(head)) next = stream.indexOf("\r\n0\r\n\r\n", end + 2) + 7;
    else next += Number(length ?? 0);
    if (next < end || next > stream.length) return requests;
    requests.push({ head, bytes: stream.subarray(at, next) });
    at = next;
  }
}

const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);

for (const mode of ["all", "writes"] as const) {
  describe(`cluster with a key, -auth-mode ${mode}`, () => {
    let cluster: Cluster | null = null;
    after(() => cluster?.dispose());

    test(`security: clients and nodes need the key, and who has none changes nothing (${mode})`, async () => {
      cluster = await startCluster({ workers: 3, key: KEY, flags: ["-auth-mode", mode] });
      const { workers, masterPort } = cluster;
      const [a, b, c] = workers;
      const keyed = (port: number, method: string, path: string, body?: string | Buffer) =>
        call(port, method, path, {
          headers: { ...TEXT, ...BEARER },
          ...(body === undefined ? {} : { body }),
        });
      const stranger = (port: number, method: string, path: string, headers = {}, body?: string | Buffer) =>
        call(port, method, path, {
          headers: { ...TEXT, ...headers },
          ...(body === undefined ? {} : { body }),
        });
      const ears = overhear(b, a);

      // From one end to the other: nodes sign, clients show the key.
      const large = content(7, LARGE_BYTES);
      assert.equal((await keyed(a.port, "POST", "/kept", "mine")).status, 201);
      assert.equal((await keyed(a.port, "POST", "/gone", "deleted soon")).status, 201);
      assert.equal((await keyed(a.port, "PUT", "/large", large)).status, 201);
      for (const { port } of workers) {
        assert.equal((await keyed(port, "GET", "/kept")).text, "mine");
        assert.equal(sha256((await keyed(port, "GET", "/large")).body), sha256(large));
      }

      // Clients without the key, or with another.
      for (const headers of [
        {},
        { Authorization: "Bearer another" },
        { Authorization: `Bearer ${KEY}x` },
        { Authorization: KEY },
      ])
        for (const { port } of workers) {
          for (const [method, path] of [
            ["PUT", "/kept"],
            ["POST", "/new"],
            ["DELETE", "/kept"],
            ["PUT", "/_kv/kept"],
          ]) {
            const reply = await stranger(
              port,
              method,
              path,
              headers,
              method === "DELETE" ? undefined : "theirs",
            );
            assert.equal(reply.status, 401, `${method} ${path}`);
            assert.ok(reply.headers["www-authenticate"]);
          }
          const read = await stranger(port, "GET", "/kept", headers);
          assert.equal(read.status, mode === "all" ? 401 : 200);
        }

      // What was overheard, and is sent again: to where it went, later, and to another node.
      assert.equal((await keyed(c.port, "DELETE", "/gone")).status, 200);
      ears.stop();
      const requests = ears.requests();
      const batches = requests.filter(({ head }) => head.startsWith("POST /_peer/batch"));
      const values = requests.filter(({ head }) => head.startsWith("PUT /_peer/value"));
      const [accept] = batches.filter(({ bytes }) => bytes.includes("deleted soon"));
      assert.ok(accept !== undefined, "the write of /gone was not overheard");
      assert.ok(values.length > 0, "the large value was not overheard");
      assert.ok(!requests.some(({ head }) => head.includes(KEY)), "the key itself is never sent");
      for (const { head, bytes } of [accept, ...batches.slice(-3), values[0]])
        for (const { port } of [b, c]) assert.equal(statusOf(await exchange(port, bytes)), 401, head);

      // Changed on its way.
      const changed = Buffer.from(accept.bytes);
      changed[changed.indexOf("deleted soon")] ^= 1;
      assert.equal(statusOf(await exchange(b.port, changed)), 401);
      const path = "/_peer/batch";
      const body = accept.bytes.subarray(accept.bytes.indexOf("\r\n\r\n") + 4);
      const peer = (worker: Worker, authorization: string | null) =>
        postOnce(worker.port, path, authorization, body);
      const signer = new RequestSigner(new KeyRing([KEY]));
      const other = new RequestSigner(new KeyRing(["another key"]));
      for (const worker of workers) {
        for (const authorization of [null, BEARER.Authorization, "Bearer another"])
          assert.equal(await peer(worker, authorization), 401, String(authorization));
        const known = await meet(new Receiver(worker.url), KEY);
        const elsewhere = await meet(new Receiver(workers[(worker.number + 1) % 3].url), KEY);
        const early = new Receiver(worker.url);
        const session = known.session ?? "";
        early.learn({ session, clock: known.clock() + SIGNATURE_AGE_MS + 60_000, mac: "" });
        for (const receiver of [early, elsewhere, new Receiver(worker.url)])
          assert.equal(await peer(worker, signer.sign(receiver, "POST", path, body).header), 401);
        assert.equal(await peer(worker, other.sign(known, "POST", path, body).header), 401);
        for (const route of ["/_peer/layout", "/_peer/ping", "/_peer/hello"])
          assert.equal((await call(worker.port, "GET", route, { headers: BEARER })).status, 401, route);
      }

      // The master: workers sign, operators have the key, others nothing.
      for (const [method, path] of [
        ["GET", "/nodes"],
        ["GET", "/layout"],
        ["POST", "/layout"],
        ["POST", "/register"],
        ["POST", "/heartbeat"],
      ]) {
        const text = method === "GET" ? undefined : JSON.stringify({ drain: b.url, url: b.url });
        assert.equal((await stranger(masterPort, method, path, {}, text)).status, 401, `${method} ${path}`);
      }
      const nodes = (await call(masterPort, "GET", "/nodes", { headers: BEARER })).json();
      assert.equal(nodes.nodes.length, 3);

      // Nothing of all this has changed anything, and the nodes still speak with each other.
      for (const { port } of workers) {
        assert.equal((await keyed(port, "GET", "/kept")).text, "mine");
        assert.equal((await keyed(port, "GET", "/gone")).status, 404);
        assert.equal((await keyed(port, "GET", "/new")).status, 404);
      }
      await waitUntil(
        "all is as before",
        async () => (await keyed(a.port, "PUT", "/kept", "still mine")).status === 200,
      );
      assert.equal((await keyed(c.port, "GET", "/kept")).text, "still mine");
    });
  });
}

/** A POST on a connection of its own; its status. */
function postOnce(port: number, path: string, authorization: string | null, body: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers: http.OutgoingHttpHeaders = { "content-length": body.length };
    if (authorization !== null) headers.authorization = authorization;
    const request = http.request(
      { host: "127.0.0.1", port, method: "POST", path, headers, agent: false },
      (response) => {
        response.resume();
        response.on("end", () => resolve(response.statusCode ?? 0));
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}
