/** Build caches as docs/build-caches.md has them: with the program where it is there, else by the requests that it documents. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { blockOf, type CacheNode, has, runBlock, startCacheNode } from "./build-caches.ts";
import { call, closeConnections } from "./client.ts";
import { removeFolder, temporaryFolder, waitUntil } from "./server.ts";

let node: CacheNode;
const folder = temporaryFolder();
before(async () => {
  node = await startCacheNode(folder);
});
after(async () => {
  closeConnections();
  await node?.server.dispose();
  removeFolder(folder);
});

const needs = (...programs: string[]) => {
  const missing = programs.filter((program) => !has(program));
  return missing.length === 0 ? {} : { skip: `${missing.join(", ")} is not installed` };
};
const basic = (): Record<string, string> => ({
  Authorization: `Basic ${Buffer.from(`any:${node.token}`).toString("base64")}`,
});
const bearer = (): Record<string, string> => ({ Authorization: `Bearer ${node.token}` });
const ask = (method: string, target: string, headers: Record<string, string>, body?: Buffer) =>
  call(node.server.port, method, target, { headers, ...(body === undefined ? {} : { body }) });

for (const scheme of ["Bearer", "Basic"])
  test(
    `ccache by ${scheme}: with an empty local cache, what was compiled before comes from the node`,
    needs("ccache", "cc"),
    async () => {
      const cwd = path.join(folder, scheme);
      fs.mkdirSync(cwd);
      fs.writeFileSync(
        path.join(cwd, "hello.c"),
        `int hello(void) { return ${randomBytes(4).readUInt32BE(0)} % 7; }\n`,
      );
      const env = { CCACHE_DIR: path.join(cwd, "cache"), CCACHE_CONFIGPATH: path.join(cwd, "none") };
      // It gives a node a tenth of a second, which a busy machine may need for more.
      const patient = "|connect-timeout=60000|operation-timeout=60000";
      const page = blockOf("ccache").replace(/"$/m, `${patient}"`);
      const url = `"http://any:$TOKEN@localhost:3000/ccache${patient}"`;
      const recipe = scheme === "Bearer" ? page : page.replace(/"http:.*"/, () => url);
      await runBlock(recipe, node, cwd, env);
      const first = fs.readFileSync(path.join(cwd, "hello.o"));
      fs.rmSync(path.join(cwd, "hello.o"));
      await runBlock("ccache -C && ccache -z", node, cwd, env);
      await runBlock(recipe, node, cwd, env);
      assert.ok(fs.readFileSync(path.join(cwd, "hello.o")).equals(first));
      const figures = await runBlock("ccache --print-stats", node, cwd, env);
      assert.match(figures, /^remote_storage_hit\t1$/m, figures);
      assert.match(figures, /^remote_storage_error\t0$/m);
    },
  );

test("Bazel's requests: PUT and GET of results and contents by their hashes", async () => {
  const content = randomBytes(100_000);
  const target = `/bazel/cas/${createHash("sha256").update(content).digest("hex")}`;
  assert.equal((await ask("GET", target, bearer())).status, 404);
  assert.equal((await ask("PUT", target, bearer(), content)).status, 201);
  // Others have built the same.
  assert.equal((await ask("PUT", target, bearer(), content)).status, 200);
  assert.equal((await ask("HEAD", target, bearer())).headers["content-length"], "100000");
  assert.ok((await ask("GET", target, bearer())).body.equals(content));
  assert.equal((await ask("PUT", `/bazel/ac/${"0".repeat(64)}`, bearer(), Buffer.alloc(0))).status, 201);
  assert.equal((await ask("GET", `/bazel/ac/${"0".repeat(64)}`, bearer())).body.length, 0);
  assert.equal((await ask("GET", target, {})).status, 401);
});

test("Gradle's requests: PUT and GET by Basic, its own type", async () => {
  const type = { "Content-Type": "application/vnd.gradle.build-cache-artifact.v2" };
  const accept = { Accept: "application/vnd.gradle.build-cache-artifact.v2, */*" };
  const target = `/gradle/${randomBytes(16).toString("hex")}`;
  assert.equal((await ask("GET", target, { ...basic(), ...accept })).status, 404);
  const content = randomBytes(50_000);
  assert.equal((await ask("PUT", target, { ...basic(), ...type }, content)).status, 201);
  const found = await ask("GET", target, { ...basic(), ...accept });
  assert.ok(found.body.equals(content));
  assert.equal(found.headers["content-type"], type["Content-Type"]);
  // Out of its prefix.
  assert.equal((await ask("PUT", "/elsewhere", { ...basic(), ...type }, content)).status, 403);
});

test("caches that end: nginx gives what is PUT a time", needs("nginx"), async () => {
  const cwd = path.join(folder, "nginx");
  fs.mkdirSync(cwd);
  const port = await freePort();
  const server = blockOf("ttl").replace("127.0.0.1:3080", `127.0.0.1:${port}`);
  const own = server.replace("localhost:3000", `127.0.0.1:${node.server.port}`);
  const user = process.getuid?.() === 0 ? "user root;" : "";
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${cwd}/${name};`)
    .join(" ");
  const text = `${user} daemon off; pid ${cwd}/pid; error_log stderr; events {} http { access_log off; ${temporary} ${own} }`;
  fs.writeFileSync(path.join(cwd, "nginx.conf"), text);
  const child = spawn("nginx", ["-p", cwd, "-c", path.join(cwd, "nginx.conf")], { stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("close", resolve));
  try {
    const reached = () =>
      call(port, "GET", "/health", { agent: false }).then(
        ({ status }) => status === 200,
        () => false,
      );
    await waitUntil("nginx serves", reached);
    const put = await call(port, "PUT", "/ccache/aa/bb", { headers: bearer(), body: "result", agent: false });
    assert.equal(put.status, 201, put.text);
    const found = await call(port, "GET", "/ccache/aa/bb", { headers: bearer(), agent: false });
    assert.equal(found.text, "result");
    const left = Number(found.headers["x-ttl"]);
    assert.ok(left > 29 * 86_400 && left <= 30 * 86_400, `${left} s are left`);
  } finally {
    child.kill();
    await ended;
  }
});
