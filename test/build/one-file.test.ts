/**
 * dist/minivault.js as a build product: what it writes beside the data, and which Node.js it serves. The folders it may use and
 * may not are in test/rest/single-file.test.ts.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";
import {
  ADDONS,
  builtProgram,
  removeFolder,
  runProgram,
  startServer,
  temporaryFolder,
} from "../rest/server.ts";

interface Place {
  folder: string;
  program: string;
  data: string;
  env: Record<string, string | undefined>;
}

/** An empty folder with the program in it, and a home that is empty too. */
async function emptyPlace(t: TestContext): Promise<Place> {
  const built = await builtProgram();
  const folder = temporaryFolder();
  t.after(() => removeFolder(folder));
  const program = path.join(folder, "minivault.js");
  fs.copyFileSync(built, program);
  for (const name of ["home", "tmp"]) fs.mkdirSync(path.join(folder, name), { mode: 0o700 });
  const env = {
    HOME: path.join(folder, "home"),
    XDG_CACHE_HOME: undefined,
    TMPDIR: path.join(folder, "tmp"),
  };
  return { folder, program, data: path.join(folder, "data"), env };
}

/** Starts it there, writes and reads one key through every part (front, shard thread, map), and stops it. */
async function serve({ folder, program, data, env }: Place, key: string): Promise<string> {
  const server = await startServer({ program, data, env, cwd: folder, flags: ["-threads", "2"] });
  try {
    const body = `value of ${key}`;
    const put = await fetch(`${server.url}/${key}`, { method: "PUT", body });
    assert.equal(put.status, 201);
    const get = await fetch(`${server.url}/${key}`);
    assert.equal(await get.text(), body);
    assert.deepEqual(await server.stop(), { status: 0, signal: null });
    return server.log();
  } finally {
    await server.dispose();
  }
}

function addonsIn(folder: string): string[] {
  return fs.existsSync(folder) ? fs.readdirSync(folder).sort() : [];
}

/** Asserts that all addons lie in `folder`, private and whole. */
function assertExtracted(folder: string): void {
  const files = addonsIn(folder);
  assert.deepEqual(
    files.map((file) => file.replace(/-.*/, "")),
    ADDONS,
  );
  assert.equal(fs.statSync(folder).mode & 0o777, 0o700);
  for (const file of files) {
    const hash = createHash("sha256")
      .update(fs.readFileSync(path.join(folder, file)))
      .digest("hex");
    assert.match(file, new RegExp(`-${hash}\\.node$`));
  }
}

test("one file: addons are private and named by their hash, and what a killed start left goes away", async (t) => {
  const place = await emptyPlace(t);
  const addons = path.join(place.data, ".addons");
  fs.mkdirSync(addons, { recursive: true, mode: 0o700 });
  const [old, current] = ["old.new", "current.new"].map((name) => path.join(addons, name));
  for (const file of [old, current]) fs.writeFileSync(file, "half");
  const hourAgo = new Date(Date.now() - 3600_000);
  fs.utimesSync(old, hourAgo, hourAgo);
  await serve(place, "first");
  assert.equal(fs.existsSync(old), false);
  assert.equal(fs.existsSync(current), true);
  fs.rmSync(current);
  assertExtracted(addons);
});

test("one file: works for a user id that has no name and no home", async (t) => {
  if (process.getuid?.() !== 0) return t.skip("only root can become another user");
  const place = await emptyPlace(t);
  for (const entry of ["", "tmp"]) fs.chownSync(path.join(place.folder, entry), 43210, 43210);
  const server = await startServer({
    program: place.program,
    data: place.data,
    cwd: place.folder,
    uid: 43210,
    env: { ...place.env, HOME: undefined },
  });
  await server.dispose();
  assertExtracted(path.join(place.data, ".addons"));
});

test("one file: on another Node.js major version it says so in one line and exits with 2", async (t) => {
  const place = await emptyPlace(t);
  const preload = path.join(place.folder, "pretend.cjs");
  fs.writeFileSync(
    preload,
    `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "18.19.1", modules: "108" } });`,
  );
  const run = await runProgram(["-data", place.data], {
    program: place.program,
    env: { ...place.env, NODE_OPTIONS: `--require ${preload}` },
  });
  assert.equal(run.status, 2);
  assert.match(
    run.output,
    /^minivault: this file was built for Node \d+ on \S+( with glibc \S+ or newer)?, but this is Node 18\.19\.1 on .*\n$/,
  );
  assert.equal(fs.existsSync(place.data), false);
});

for (const [library, version] of [
  ["an older C library", "2.5"],
  ["another C library", undefined],
])
  test(`one file: on ${library} it says so in one line and exits with 2`, async (t) => {
    if (process.platform !== "linux") return t.skip("only Linux has several C libraries");
    const place = await emptyPlace(t);
    const preload = path.join(place.folder, "pretend.cjs");
    const header = JSON.stringify({ glibcVersionRuntime: version });
    fs.writeFileSync(preload, `process.report.getReport = () => ({ header: ${header} });`);
    const run = await runProgram(["-data", place.data], {
      program: place.program,
      env: { ...place.env, NODE_OPTIONS: `--require ${preload}` },
    });
    assert.equal(run.status, 2);
    const found = version === undefined ? "another C library" : "glibc 2\\.5";
    assert.match(run.output, new RegExp(`^minivault: this file was built for .* with ${found}; use .*\\n$`));
    assert.match(run.output, /with glibc 2\.\d+ or newer, but/);
    assert.equal(fs.existsSync(place.data), false);
  });

test("one file: -version names version, commit, Node.js, platform and uWebSockets.js", async (t) => {
  const { program, env } = await emptyPlace(t);
  const { version } = JSON.parse(fs.readFileSync(path.join(__dirname, "../../package.json"), "utf8"));
  const run = await runProgram(["-version"], { program, env });
  assert.equal(run.status, 0);
  assert.ok(run.output.startsWith(`minivault ${version} (commit `), run.output);
  assert.ok(
    run.output.includes(`Node ${process.versions.node}, ${process.platform}-${process.arch}`),
    run.output,
  );
  assert.match(run.output, /, uWebSockets\.js (of uws-pack )?\d+\.\d+\.\d+\)\n$/);
});
