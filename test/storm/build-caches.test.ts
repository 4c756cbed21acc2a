/**
 * Turborepo, Nx, Bazel, Gradle and the library of sccache with a node as their remote cache, as docs/build-caches.md has it: with no local cache the second build
 * comes from the node. The tools from npm are installed for it, into a folder of its own; BUILD_TOOLS names one that has them.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { blockOf, type CacheNode, has, runBlock, startCacheNode } from "../rest/build-caches.ts";
import { call, closeConnections } from "../rest/client.ts";
import { REPOSITORY, removeFolder, runProgram, temporaryFolder } from "../rest/server.ts";
import { startS3 } from "../s3/harness.ts";

const TOOLS = ["turbo@2.11.11", "nx@24.0.6", "@bazel/bazel-linux_x64@2.1.0", "opendal@0.47.7"];
const BAZEL = "@bazel/bazel-linux_x64/bazel-2.1.0-linux-x86_64";
/** Each build makes another one: the same again is not built. */
const BUILD = "mkdir -p dist && date +%s%N > dist/out.txt";

let node: CacheNode;
let modules = "";
const folder = temporaryFolder();
before(async () => {
  const tools = process.env.BUILD_TOOLS ?? path.join(folder, "tools");
  modules = path.join(tools, "node_modules");
  if (process.env.BUILD_TOOLS === undefined) {
    fs.mkdirSync(tools);
    fs.writeFileSync(path.join(tools, "package.json"), '{"private":true}');
    const { status } = spawnSync(
      "npm",
      ["install", "--no-audit", "--no-fund", "--ignore-scripts", ...TOOLS],
      { cwd: tools },
    );
    assert.equal(status, 0, `${TOOLS.join(", ")} can be installed`);
  }
  node = await startCacheNode(folder);
});
after(async () => {
  closeConnections();
  await node?.server.dispose();
  removeFolder(folder);
});

/** Builds twice, and forgets in between all that is not on the node. Answers what the second build has made, and the first. */
async function buildTwice(
  name: string,
  files: Record<string, object>,
  env: Record<string, string>,
): Promise<[string, string]> {
  const cwd = path.join(folder, name);
  const project = path.join(cwd, "packages/a");
  fs.mkdirSync(project, { recursive: true });
  const all = {
    ...{
      "package.json": { name: "ws", private: true, packageManager: "npm@10.8.2", workspaces: ["packages/*"] },
    },
    ...{ "packages/a/package.json": { name: "a", version: "1.0.0", scripts: { build: BUILD } } },
    ...files,
  };
  for (const [file, content] of Object.entries(all))
    fs.writeFileSync(path.join(cwd, file), JSON.stringify(content));
  fs.symlinkSync(modules, path.join(cwd, "node_modules"));
  const made = async (): Promise<string> => {
    const path_ = `${path.join(modules, ".bin")}:${process.env.PATH}`;
    await runBlock(blockOf(name), node, cwd, { ...env, PATH: path_, HOME: cwd, CI: "true" });
    return fs.readFileSync(path.join(project, "dist/out.txt"), "utf8");
  };
  const first = await made();
  for (const left of [".turbo", ".nx", "packages/a/dist", "packages/a/.turbo"])
    fs.rmSync(path.join(cwd, left), { recursive: true, force: true });
  return [await made(), first];
}

test("Turborepo: the second build comes from the node", async () => {
  const lock = {
    name: "ws",
    lockfileVersion: 3,
    packages: { "": { name: "ws", workspaces: ["packages/*"] } },
  };
  const files = { "turbo.json": { tasks: { build: { outputs: ["dist/**"] } } }, "package-lock.json": lock };
  const [second, first] = await buildTwice("turbo", files, { TURBO_TELEMETRY_DISABLED: "1" });
  assert.equal(second, first);
});

test("Nx: the second build comes from the node", async () => {
  const defaults = { build: { cache: true, outputs: ["{projectRoot}/dist"] } };
  const files = { "nx.json": { targetDefaults: defaults, analytics: false } };
  const [second, first] = await buildTwice("nx", files, {
    NX_DAEMON: "false",
    NX_TUI: "false",
    NX_NO_CLOUD: "true",
  });
  assert.equal(second, first);
});

test("Bazel: the second build comes from the node", {
  skip: has("java") ? false : "java is not installed",
}, async () => {
  const cwd = path.join(folder, "bazel");
  const program = path.join(folder, "bazel-program");
  fs.mkdirSync(cwd);
  // A package of npm need not keep it executable.
  fs.copyFileSync(path.join(modules, BAZEL), program);
  fs.chmodSync(program, 0o755);
  const settings = blockOf("bazel")
    .replaceAll("localhost:3000", `localhost:${node.server.port}`)
    .replaceAll("TOKEN", node.token);
  const rule = `genrule(name = "out", srcs = ["in.txt"], outs = ["out.txt"], cmd = "cat $< > $@; date +%s%N >> $@")\n`;
  for (const [file, text] of [
    ["WORKSPACE", ""],
    ["BUILD", rule],
    ["in.txt", String(Date.now())],
    [".bazelrc", settings],
  ])
    fs.writeFileSync(path.join(cwd, file), text);
  const build = async (name: string): Promise<string> => {
    const own = path.join(folder, name);
    // Without a server that stays; what it makes cannot be written by anybody, which only root could remove.
    const command = `"${program}" --batch --output_user_root="${own}" build //:out && cat bazel-bin/out.txt > "${own}.txt"; status=$?; chmod -R u+w "${own}"; exit $status`;
    const output = await runBlock(command, node, cwd, { HOME: folder });
    assert.equal(output.includes("1 remote cache hit"), name === "second", output);
    return fs.readFileSync(`${own}.txt`, "utf8");
  };
  const first = await build("first");
  assert.equal(await build("second"), first);
});

test("Gradle: the second build comes from the node", {
  skip: has("gradle") ? false : "gradle is not installed",
}, async () => {
  const cwd = path.join(folder, "gradle");
  fs.mkdirSync(path.join(cwd, "src/main/java"), { recursive: true });
  const settings = blockOf("gradle").replaceAll("localhost:3000", `localhost:${node.server.port}`);
  const source = `public class Hello { public static long number() { return ${Date.now()}L; } }\n`;
  for (const [file, text] of [
    ["settings.gradle", `${settings}\nbuildCache { local { enabled = false } }\n`],
    ["build.gradle", "apply plugin: 'java'\n"],
    ["gradle.properties", "org.gradle.caching=true\n"],
    ["src/main/java/Hello.java", source],
  ])
    fs.writeFileSync(path.join(cwd, file), text);
  const build = async (): Promise<[output: string, made: Buffer]> => {
    for (const left of ["build", ".gradle"])
      fs.rmSync(path.join(cwd, left), { recursive: true, force: true });
    const command = `gradle --no-daemon --console=plain -g "${folder}/gradle-home" compileJava`;
    const output = await runBlock(command, node, cwd, { HOME: folder, CI: "true" });
    return [output, fs.readFileSync(path.join(cwd, "build/classes/java/main/Hello.class"))];
  };
  const [output, first] = await build();
  assert.doesNotMatch(output, /FROM-CACHE/);
  const [again, second] = await build();
  assert.match(again, /^:compileJava FROM-CACHE$/m);
  assert.ok(second.equals(first));
});

/** As sccache does: it asks whether it may write, and has its results under their hashes. */
const SCCACHE = `
const [dir, word] = process.argv.slice(1);
const { Operator } = require(dir + "/opendal");
const { SCCACHE_BUCKET, SCCACHE_ENDPOINT, SCCACHE_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = process.env;
const store = new Operator("s3", {
  ...{ bucket: SCCACHE_BUCKET, endpoint: "http://" + SCCACHE_ENDPOINT, region: SCCACHE_REGION },
  ...{ access_key_id: AWS_ACCESS_KEY_ID, secret_access_key: AWS_SECRET_ACCESS_KEY, disable_config_load: "true" },
});
async function main() {
  await store.write(".sccache_check", Buffer.from("Hello, World!"));
  if (String(await store.read(".sccache_check")) !== "Hello, World!") throw new Error("the check");
  const found = await store.read("a/b/c/abc").then(String, (error) => String(error).match(/NotFound/)[0]);
  console.log(found.length > 100_000 ? "hit" : found);
  await store.write("a/b/c/abc", Buffer.from(word.repeat(100_000)));
}
main();
`;

test("sccache's library: what it has written by S3 is there for the next one", async () => {
  const file = path.join(folder, "s3-tokens");
  const words = ["token", "sccache", "-s3", "-prefix", "sccache/", "-allow", "read,write,list,delete"];
  const { output } = await runProgram([...words, "-tokens", file, "-json"]);
  const { token, accessKey, secretKey } = JSON.parse(output) as Record<string, string>;
  const server = await startS3({ flags: ["-tokens", file] });
  try {
    const block = blockOf("sccache").replaceAll("localhost:9000", `127.0.0.1:${server.s3Port}`);
    assert.ok(
      fs.readFileSync(path.join(REPOSITORY, "docs/build-caches.md"), "utf8").includes(words.join(" ")),
    );
    const build = () =>
      runBlock(
        `${block}\n"${process.execPath}" -e '${SCCACHE}' "${modules}" result`,
        { server, token },
        folder,
        {
          ...{ ACCESS_KEY: accessKey, SECRET_KEY: secretKey },
        },
      );
    assert.match(await build(), /NotFound$/m);
    assert.match(await build(), /hit$/m);
    // What it has written is a key like any other.
    const headers = { Authorization: `Bearer ${token}` };
    const kept = await call(server.port, "GET", "/sccache/a/b/c/abc", { headers, agent: false });
    assert.equal(kept.text, "result".repeat(100_000));
  } finally {
    await server.dispose();
  }
});
