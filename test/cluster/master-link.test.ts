/** A worker and what it was given as its master, which may be something else. */
import assert from "node:assert/strict";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { PeerTls } from "../../src/cluster/link/peer-tls.ts";
import { Masters } from "../../src/cluster/membership/masters.ts";
import type { Heartbeat } from "../../src/cluster/membership/messages.ts";
import { waitUntil } from "../rest/server.ts";

const HEARTBEAT = { url: "http://w:1" } as Heartbeat;

test("masters: what is a worker, or none of ours, is sent no registration, and is said; once it is a master it is", async () => {
  let role: string | null = "worker";
  const asked: string[] = [];
  const server = http.createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    const answer = { success: true, epoch: 0, store: null, suspect: [], down: [] };
    const body = request.url === "/health" ? { status: "healthy", role } : answer;
    response.writeHead(request.method === "POST" && role !== "master" ? 201 : 200).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const masters = new Masters([url], {
    ...{ signer: null, tls: new PeerTls(null, null), heartbeatMs: 20, hasLayout: () => false },
    log: { info() {}, warn() {}, error() {} },
    ...{ heartbeat: () => HEARTBEAT, heard() {} },
  });
  try {
    masters.start();
    await waitUntil(
      "the worker is said",
      () => masters.failures === `${url}: a worker answers there, and no master`,
    );
    role = null;
    await waitUntil("the stranger is said", () => masters.failures.includes("it is no master of minivault"));
    assert.deepEqual(
      asked.filter((line) => line !== "GET /health"),
      [],
    );
    role = "master";
    await waitUntil("it has registered", () => asked.includes("POST /register"));
    await waitUntil("and goes on", () => asked.includes("POST /heartbeat") && masters.failures === "");
  } finally {
    await masters.close();
    server.close();
  }
});
