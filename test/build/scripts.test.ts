/**
 * ./minivault, ./volume and ./mkv in a copy of the repository that shares the installed packages. Installing itself
 * takes long and is in test/storm/clone.test.ts; a stand-in for npm proves here that nothing is installed.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { type TestContext, test } from "node:test";
import {
  cleanEnvironment,
  healthStatus,
  printedPort,
  REPOSITORY,
  removeFolder,
  temporaryFolder,
  waitUntil,
} from "../rest/server.ts";

const COPIED = [
  "minivault",
  "mkv",
  "volume",
  "package.json",
  "esbuild.config.mjs",
  "tsconfig.json",
  "native",
  "src",
];
const BUILDING = "minivault: building";
const WAITING = "minivault: another start is building already";

interface Clone {
  folder: string;
  /** Comes first in PATH. */
  bin: string;
}

function standIn(file: string, script: string): void {
  fs.writeFileSync(file, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

function clone(t: TestContext): Clone {
  const parent = temporaryFolder();
  t.after(() => removeFolder(parent));
  const folder = path.join(parent, "a clone");
  const bin = path.join(parent, "bin");
  fs.mkdirSync(bin);
  standIn(path.join(bin, "npm"), "echo 'npm was called' >&2; exit 1");
  for (const name of COPIED)
    fs.cpSync(path.join(REPOSITORY, name), path.join(folder, name), { recursive: true });
  // Older than the packages, so that they count as installed.
  const lock = path.join(folder, "package-lock.json");
  fs.copyFileSync(path.join(REPOSITORY, "package-lock.json"), lock);
  fs.utimesSync(lock, 0, 0);
  fs.symlinkSync(path.join(REPOSITORY, "node_modules"), path.join(folder, "node_modules"));
  return { folder, bin };
}

interface Run {
  child: ChildProcess;
  output(): string;
  ended: Promise<number | null>;
}

function start(program: string, words: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv }): Run {
  const child = spawn(program, words, {
    cwd: options.cwd ?? "/",
    env: options.env ?? process.env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (piece) => (text += piece));
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { child, output: () => text, ended };
}

function environment({ bin }: Clone, more: Record<string, string> = {}): NodeJS.ProcessEnv {
  return cleanEnvironment({ PATH: `${bin}:${process.env.PATH}`, MINIVAULT_HOST: "127.0.0.1", ...more });
}

async function prepare(
  place: Clone,
  env = environment(place),
): Promise<{ status: number | null; output: string }> {
  const run = start(path.join(place.folder, "minivault"), ["--prepare"], { env });
  return { status: await run.ended, output: run.output() };
}

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}

test("scripts: several started at once build once, the others wait", async (t) => {
  const place = clone(t);
  const results = await Promise.all([prepare(place), prepare(place), prepare(place)]);
  const all = results.map((result) => result.output).join("");
  assert.deepEqual(
    results.map((result) => result.status),
    [0, 0, 0],
    all,
  );
  assert.equal(count(all, BUILDING), 1, all);
  assert.equal(count(all, WAITING), 2, all);
});

test("scripts: build again when a source changed, was removed, or the build is for another machine, and only then", async (t) => {
  const place = clone(t);
  const built = async () => count((await prepare(place)).output, BUILDING);
  const file = (name: string) => path.join(place.folder, name);
  assert.equal(await built(), 1);
  assert.equal(await built(), 0);
  const later = new Date(Date.now() + 1000);
  fs.utimesSync(file("src/util/limits.ts"), later, later);
  assert.equal(await built(), 1);
  fs.utimesSync(file("src/util/limits.ts"), 0, 0);
  assert.equal(await built(), 0);
  fs.writeFileSync(file("src/util/unused.ts"), "");
  assert.equal(await built(), 1);
  fs.rmSync(file("src/util/unused.ts"));
  assert.equal(await built(), 1);
  fs.writeFileSync(file("dist/.built"), "108 Linux other\n");
  assert.equal(await built(), 1);
  fs.rmSync(file("dist/minivault.js"));
  assert.equal(await built(), 1);
  assert.equal(await built(), 0);
});

test("scripts: a build that was killed does not block the next start", async (t) => {
  const place = clone(t);
  // Lasts until the test ends it, as a build that hangs.
  const real = process.execPath;
  standIn(
    path.join(place.bin, "node"),
    `case $1 in esbuild.config.mjs) echo $$ >"${place.folder}/pid"; exec sleep 60 ;; *) exec "${real}" "$@" ;; esac`,
  );
  const first = start(path.join(place.folder, "minivault"), ["--prepare"], { env: environment(place) });
  const pidFile = path.join(place.folder, "pid");
  await waitUntil("the first start builds", () => fs.existsSync(pidFile) && fs.statSync(pidFile).size > 0);
  const second = start(path.join(place.folder, "minivault"), ["--prepare"], { env: environment(place) });
  await waitUntil("the second start waits", () => second.output().includes(WAITING));
  fs.rmSync(path.join(place.bin, "node"));
  first.child.kill("SIGKILL");
  process.kill(Number(fs.readFileSync(pidFile, "utf8")), "SIGKILL");
  assert.equal(await second.ended, 0, second.output());
  assert.equal(count(second.output(), BUILDING), 1, second.output());
});

test("scripts: a build that fails says so and leaves the lock free", async (t) => {
  const place = clone(t);
  fs.writeFileSync(path.join(place.folder, "src/main.ts"), "this is not TypeScript");
  const failed = await prepare(place);
  assert.equal(failed.status, 1);
  assert.match(failed.output, /minivault: the build failed; what it printed is above\n$/);
  assert.equal(fs.existsSync(path.join(place.folder, "dist/minivault.js")), false);
  fs.copyFileSync(path.join(REPOSITORY, "src/main.ts"), path.join(place.folder, "src/main.ts"));
  assert.equal((await prepare(place)).status, 0);
});

test("scripts: missing or wrong Node.js, and missing npm, are one line that says what to install", async (t) => {
  const place = clone(t);
  const tools = path.join(place.folder, "../tools");
  fs.mkdirSync(tools);
  const link = (name: string) => {
    const found = (process.env.PATH ?? "")
      .split(":")
      .find((folder) => fs.existsSync(path.join(folder, name)));
    if (found !== undefined) fs.symlinkSync(path.join(found, name), path.join(tools, name));
  };
  for (const name of [
    "sh",
    "cat",
    "find",
    "head",
    "uname",
    "dirname",
    "readlink",
    "mkdir",
    "grep",
    "getconf",
    "flock",
    "perl",
  ])
    link(name);
  const env = { PATH: tools };

  assert.deepEqual(await prepare(place, env), {
    status: 1,
    output:
      "minivault: Node.js is missing: install Node 20, 22 or 24, for instance from https://nodejs.org/\n",
  });
  for (const version of ["v18.20.4", "v20.9.0", "v21.7.3", "v23.11.1", "v26.1.0"]) {
    standIn(path.join(tools, "node"), `echo ${version}`);
    const { status, output } = await prepare(place, env);
    assert.equal(status, 1);
    assert.match(
      output,
      /^minivault: this is Node .* needs Node 20 \(from 20\.19 on\), 22 or 24: install one of them\n$/,
    );
    assert.ok(output.includes(version.slice(1)));
  }
  fs.rmSync(path.join(tools, "node"));
  link("node");
  fs.rmSync(path.join(place.folder, "node_modules"));
  assert.deepEqual(await prepare(place, env), {
    status: 1,
    output: "minivault: npm is missing: install it, for instance with Node from https://nodejs.org/\n",
  });
});

test("scripts: an install that fails shows what npm printed, and names a compiler that is missing", async (t) => {
  const place = clone(t);
  fs.rmSync(path.join(place.folder, "node_modules"));
  const failed = await prepare(place);
  assert.equal(failed.status, 1);
  assert.match(
    failed.output,
    /npm was called\nminivault: npm ci failed; its output is above, and in full in .*install\.log\n$/,
  );

  fs.symlinkSync(path.join(REPOSITORY, "node_modules"), path.join(place.folder, "node_modules"));
  withoutAddons(place);
  const noCompiler = await prepare(
    place,
    environment(place, { CXX: "no-such-compiler", PATH: toolsWithoutCompiler(place) }),
  );
  assert.equal(noCompiler.status, 1);
  assert.match(
    noCompiler.output,
    /missing tools: python3 make g\+\+; install them \(Debian: apt-get install python3 make g\+\+\)/,
  );
});

test("scripts: a binary that is not the pinned one is never loaded", async (t) => {
  const place = clone(t);
  withoutAddons(place);
  const pins = path.join(place.folder, "native/uws.json");
  const text = fs.readFileSync(pins, "utf8");
  fs.writeFileSync(pins, text.replaceAll(/"[0-9a-f]{64}"/g, `"${"0".repeat(64)}"`));
  const { status, output } = await prepare(place);
  assert.equal(status, 1);
  assert.match(
    output,
    /is not the binary that native\/uws\.json names: its sha256 is [0-9a-f]{64}, not 0{64};/,
  );
  assert.equal(fs.existsSync(path.join(place.folder, "node_modules/.addons")), false);
});

test("scripts: each binary of uWebSockets.js that could be loaded is the pinned one", () => {
  const entries = JSON.parse(fs.readFileSync(path.join(REPOSITORY, "native/uws.json"), "utf8"));
  let binaries = 0;
  for (const { folder, sha256 } of entries)
    for (const [target, hash] of Object.entries(sha256)) {
      const file = path.join(REPOSITORY, "node_modules", folder, `uws_${target.replaceAll("-", "_")}.node`);
      assert.equal(createHash("sha256").update(fs.readFileSync(file)).digest("hex"), hash, file);
      binaries++;
    }
  assert.equal(binaries, 18);
});

/** Gives the clone a folder of packages of its own, in which those of the repository are and its addons are not. */
function withoutAddons({ folder }: Clone): void {
  const packages = path.join(folder, "node_modules");
  fs.rmSync(packages);
  fs.mkdirSync(packages);
  for (const name of fs.readdirSync(path.join(REPOSITORY, "node_modules")))
    if (name !== ".addons" && name !== "mmap-io")
      fs.symlinkSync(path.join(REPOSITORY, "node_modules", name), path.join(packages, name));
  // Whose build is thrown away.
  fs.mkdirSync(path.join(packages, "mmap-io"));
}

/** A PATH with what the script itself uses, the stand-in for npm, and no compiler. */
function toolsWithoutCompiler(place: Clone): string {
  const tools = path.join(place.folder, "../no-compiler");
  fs.mkdirSync(tools);
  const names = [
    "sh",
    "node",
    "cat",
    "find",
    "head",
    "tail",
    "uname",
    "dirname",
    "readlink",
    "mkdir",
    "rm",
    "grep",
    "getconf",
    "flock",
    "perl",
  ];
  for (const name of names) {
    const found = (process.env.PATH ?? "")
      .split(":")
      .find((folder) => fs.existsSync(path.join(folder, name)));
    if (found !== undefined) fs.symlinkSync(path.join(found, name), path.join(tools, name));
  }
  return `${tools}:${place.bin}`;
}

/** Runs a script until it serves, asks /health, ends it with SIGTERM, and answers what it printed. */
async function serve(program: string, words: string[], cwd: string, env: NodeJS.ProcessEnv): Promise<string> {
  const run = start(program, words, { cwd, env });
  try {
    await waitUntil("the script's program serves", async () => {
      assert.equal(run.child.exitCode, null, run.output());
      const port = printedPort(run.output());
      return port !== null && (await healthStatus(port)) === 200;
    });
    // The script has become the program, so its process takes the signal.
    run.child.kill("SIGTERM");
    assert.equal(await run.ended, 0, run.output());
  } finally {
    run.child.kill("SIGKILL");
  }
  return run.output();
}

test("scripts: work through a symbolic link, and a relative directory is the caller's", async (t) => {
  const place = clone(t);
  const caller = temporaryFolder();
  t.after(() => removeFolder(caller));
  const env = environment(place, { PORT: "0" });
  // A link to a link, one of them relative.
  fs.symlinkSync(path.join(place.folder, "volume"), path.join(caller, "volume"));
  fs.symlinkSync("volume", path.join(caller, "worker"));
  await serve(path.join(caller, "worker"), ["here"], caller, env);
  assert.ok(fs.existsSync(path.join(caller, "here/STORE")));
  await serve(path.join(caller, "volume"), [], caller, env);
  assert.ok(fs.existsSync(path.join(caller, "data/STORE")), "the default is ./data");
  await serve(path.join(caller, "volume"), ["there", "-region", "eu"], caller, env);
  assert.ok(fs.existsSync(path.join(caller, "there/STORE")));

  fs.symlinkSync(path.join(place.folder, "mkv"), path.join(caller, "mkv"));
  const output = await serve(path.join(caller, "mkv"), [], caller, {
    ...env,
    DATA: "index",
    VOLUMES: "localhost:3001",
  });
  assert.match(output, /127\.0\.0\.1:\d+/);
});

test("scripts: what PORT, MASTER, VOLUMES and DATA say reaches the program, what is not set does not", async (t) => {
  const place = clone(t);
  // The program itself is not under test here: this one prints its words.
  standIn(path.join(place.folder, "minivault"), `for word; do printf '[%s]' "$word"; done`);
  const words = async (script: string, given: string[], more: Record<string, string>) => {
    const run = start(path.join(place.folder, script), given, { env: environment(place, more) });
    assert.equal(await run.ended, 0);
    return run.output();
  };
  assert.equal(await words("volume", [], {}), "[-mode][worker][-allow-invite]");
  assert.equal(await words("volume", [], { MINIVAULT_ALLOW_INVITE: "false" }), "[-mode][worker]");
  assert.equal(
    await words("volume", ["/a b", "-region", "eu"], {}),
    "[-mode][worker][-allow-invite][-data][/a b][-region][eu]",
  );
  assert.equal(
    await words("volume", ["d"], { PORT: "3001", MASTER: "http://m:3000,http://n:3000" }),
    "[-mode][worker][-port][3001][-master][http://m:3000,http://n:3000][-data][d]",
  );
  assert.equal(await words("volume", ["-region", "eu"], {}), "[-mode][worker][-allow-invite][-region][eu]");
  assert.equal(await words("mkv", [], {}), "[-mode][master]");
  assert.equal(
    await words("mkv", ["-replicas", "2"], { PORT: "3000", VOLUMES: "a:1,b:2", DATA: "/x y" }),
    "[-mode][master][-port][3000][-volumes][a:1,b:2][-data][/x y][-replicas][2]",
  );
});

test("build: fails loudly when a piece of a dependency to be rewritten is no longer there", async (t) => {
  const place = clone(t);
  const modules = path.join(place.folder, "node_modules");
  fs.rmSync(modules);
  fs.mkdirSync(modules);
  for (const name of fs.readdirSync(path.join(REPOSITORY, "node_modules")))
    if (name !== "piscina")
      fs.symlinkSync(path.join(REPOSITORY, "node_modules", name), path.join(modules, name));
  const piscina = path.join(modules, "piscina");
  fs.cpSync(path.join(REPOSITORY, "node_modules/piscina"), piscina, { recursive: true });
  const build = async () => {
    const run = start(process.execPath, ["esbuild.config.mjs"], { cwd: place.folder });
    return { status: await run.ended, output: run.output() };
  };
  assert.equal((await build()).status, 0);

  const index = path.join(piscina, "dist/index.js");
  const text = fs.readFileSync(index, "utf8");
  fs.writeFileSync(index, text.replace("'worker.js'", '"worker.js"'));
  const changed = await build();
  assert.equal(changed.status, 1);
  assert.match(
    changed.output,
    /build: piscina\/dist\/index\.js no longer contains exactly one .*worker\.js.*; adapt REWRITES/,
  );
  fs.writeFileSync(index, text);

  // Without one of the addons there is no half-working bundle.
  for (const name of [".addons", "mmap-io"]) fs.rmSync(path.join(modules, name));
  const missing = await build();
  assert.equal(missing.status, 1);
  assert.match(missing.output, /build: the package mmap-io is missing; run npm ci/);
});
