/**
 * dist/minivault.js alone in a folder: what it extracts, where, and what it refuses.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { builtProgram, removeFolder, runProgram, startServer, temporaryFolder } from "../rest/server.ts";

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

/** Asserts that both addons lie in `folder`, private and whole. */
function assertExtracted(folder: string): void {
  const files = addonsIn(folder);
  assert.deepEqual(
    files.map((file) => file.replace(/-.*/, "")),
    ["mmap", "uws"],
  );
  assert.equal(fs.statSync(folder).mode & 0o777, 0o700);
  for (const file of files) {
    const hash = createHash("sha256")
      .update(fs.readFileSync(path.join(folder, file)))
      .digest("hex");
    assert.match(file, new RegExp(`-${hash}\\.node$`));
  }
}

test("one file: serves from an otherwise empty folder and keeps to its data directory", async (t) => {
  const place = await emptyPlace(t);
  await serve(place, "first");
  assertExtracted(path.join(place.data, ".addons"));
  assert.deepEqual(fs.readdirSync(place.folder).sort(), ["data", "home", "minivault.js", "tmp"]);
  assert.deepEqual(fs.readdirSync(path.join(place.folder, "home")), []);
  assert.deepEqual(fs.readdirSync(path.join(place.folder, "tmp")), []);
});

test("one file: an extracted addon that was tampered with or cut short is replaced before it is loaded", async (t) => {
  const place = await emptyPlace(t);
  await serve(place, "first");
  const addons = path.join(place.data, ".addons");
  const [mmap, uws] = addonsIn(addons).map((file) => path.join(addons, file));
  const bytes = fs.readFileSync(uws);
  bytes[bytes.length >> 1] ^= 1;
  fs.writeFileSync(uws, bytes);
  fs.truncateSync(mmap, 1000);
  await serve(place, "second");
  assertExtracted(addons);
});

test("one file: what a killed start left half-written is removed later, what another start writes now is not", async (t) => {
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
});

test("one file: a folder that others can write to, or that is a link, is passed over for the cache", async (t) => {
  const place = await emptyPlace(t);
  const addons = path.join(place.data, ".addons");
  const cache = path.join(place.folder, "home/.cache/minivault");

  fs.mkdirSync(addons, { recursive: true });
  fs.chmodSync(addons, 0o770);
  await serve(place, "first");
  assert.deepEqual(addonsIn(addons), []);
  assertExtracted(cache);

  fs.rmSync(cache, { recursive: true });
  fs.rmdirSync(addons);
  const elsewhere = path.join(place.folder, "elsewhere");
  fs.mkdirSync(elsewhere, { mode: 0o700 });
  fs.symlinkSync(elsewhere, addons);
  await serve(place, "second");
  assert.deepEqual(addonsIn(elsewhere), []);
  assertExtracted(cache);
});

test("one file: with data directory and cache unusable it falls back to the temporary folder", async (t) => {
  const place = await emptyPlace(t);
  const addons = path.join(place.data, ".addons");
  fs.mkdirSync(place.data);
  fs.writeFileSync(addons, "in the way");
  fs.writeFileSync(path.join(place.folder, "home/.cache"), "in the way");
  await serve(place, "first");
  assertExtracted(path.join(place.folder, `tmp/minivault-${process.getuid?.()}`));
});

test("one file: with no place for its addons it names each place and why", async (t) => {
  const place = await emptyPlace(t);
  const addons = path.join(place.data, ".addons");
  fs.mkdirSync(place.data);
  fs.mkdirSync(addons);
  fs.chmodSync(addons, 0o707);
  fs.writeFileSync(path.join(place.folder, "file"), "");
  const env = {
    ...place.env,
    XDG_CACHE_HOME: path.join(place.folder, "file"),
    TMPDIR: path.join(place.folder, "none"),
  };
  const run = await runProgram(["-port", "0", "-host", "127.0.0.1", "-data", place.data], {
    program: place.program,
    env,
  });
  assert.equal(run.status, 1);
  const lines = run.output.trim().split("\n");
  assert.equal(lines.length, 1, run.output);
  assert.match(lines[0], /the native addon (mmap|uws) could not be loaded/);
  assert.ok(lines[0].includes(`${addons} (other users may write to it)`), lines[0]);
  assert.ok(lines[0].includes(`${env.XDG_CACHE_HOME}/minivault (ENOTDIR`), lines[0]);
  assert.ok(lines[0].includes(`${env.TMPDIR}/minivault-${process.getuid?.()} (ENOENT`), lines[0]);
});

test("one file: a data directory that cannot be written to is one clear line", async (t) => {
  const place = await emptyPlace(t);
  fs.mkdirSync(place.data, { mode: 0o500 });
  // Root may write anywhere, so it becomes somebody else for this.
  const root = process.getuid?.() === 0;
  if (root)
    for (const entry of ["", "home", "tmp", "data"])
      fs.chownSync(path.join(place.folder, entry), 65534, 65534);
  const run = await runProgram(["-port", "0", "-host", "127.0.0.1", "-data", place.data], {
    program: place.program,
    env: place.env,
    ...(root ? { uid: 65534 } : {}),
  });
  assert.equal(run.status, 1);
  assert.equal(run.output.trim().split("\n").length, 1, run.output);
  assert.match(run.output, /EACCES/);
  assert.ok(run.output.includes(place.data), run.output);
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
    /^minivault: this file was built for Node \d+ on \S+, but this is Node 18\.19\.1 on .*\n$/,
  );
  assert.equal(fs.existsSync(place.data), false);
});

test("one file: -version names version, commit, Node.js and platform", async (t) => {
  const { program, env } = await emptyPlace(t);
  const { version } = JSON.parse(fs.readFileSync(path.join(__dirname, "../../package.json"), "utf8"));
  const run = await runProgram(["-version"], { program, env });
  assert.equal(run.status, 0);
  assert.ok(run.output.startsWith(`minivault ${version} (commit `), run.output);
  assert.ok(
    run.output.includes(`Node ${process.versions.node}, ${process.platform}-${process.arch}`),
    run.output,
  );
});
