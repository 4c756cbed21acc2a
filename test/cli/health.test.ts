/** `minivault health`: the check that container engines run, over http and https, and when nobody serves. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { makeCertificates } from "../certificate.ts";
import { runCommand } from "./terminal.ts";

const health = (words: string[], env: NodeJS.ProcessEnv = {}) => runCommand(["health", ...words], { env });

async function listen(
  t: TestContext,
  server: http.Server | https.Server,
  host = "127.0.0.1",
): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  t.after(() => server.close());
  return String((server.address() as AddressInfo).port);
}

function answering(status: number): http.RequestListener {
  return (request, response) => {
    response.writeHead(request.url === "/health" ? status : 404, { connection: "close" });
    response.end(`{"status":${status}}\n`);
  };
}

test("health: 200 is exit status 0, anything else 1, and what was answered is printed", async (t) => {
  for (const [status, exit] of [
    [200, 0],
    [503, 1],
  ]) {
    const port = await listen(t, http.createServer(answering(status)));
    assert.deepEqual(await health(["-port", port]), { status: exit, out: `{"status":${status}}\n`, err: "" });
    const env = { MINIVAULT_PORT: port, MINIVAULT_HOST: "0.0.0.0" };
    assert.equal((await health([], env)).status, exit);
  }
});

test("health: a port that speaks https is found to do so, whatever its certificate is for", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "minivault-test-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const { certificateFile, keyFile } = makeCertificates(folder);
  const options = { cert: readFileSync(certificateFile), key: readFileSync(keyFile) };
  for (const [status, exit] of [
    [200, 0],
    [503, 1],
  ]) {
    const port = await listen(t, https.createServer(options, answering(status)));
    assert.deepEqual(await health([`-port=${port}`]), {
      status: exit,
      out: `{"status":${status}}\n`,
      err: "",
    });
  }
});

test("health: nobody there, or nobody who answers, is exit status 1 and one line", async (t) => {
  const refused = await health(["-port", String(await freePort())]);
  assert.equal(refused.status, 1);
  assert.match(refused.err, /^minivault health: connect ECONNREFUSED [^\n]*\n$/);

  const silent = http.createServer(() => {});
  t.after(() => silent.closeAllConnections());
  const waited = await health(["-port", await listen(t, silent)]);
  assert.equal(waited.status, 1);
  assert.match(waited.err, /^minivault health: [^\n]+\n$/);
});

test("health: a wrong flag is exit status 2", async () => {
  assert.equal((await health(["-port", "x"])).status, 2);
  assert.equal((await health(["-prot", "1"])).status, 2);
});

test("health: an address of all of a machine's is asked on the loopback one, also of IPv6", async (t) => {
  if (!Object.values(os.networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1")))
    return t.skip("this machine has no IPv6");
  const port = await listen(t, http.createServer(answering(200)), "::1");
  for (const host of ["::", "[::]", "[::1]"])
    assert.equal((await health(["-port", port, "-host", host])).status, 0);
});
