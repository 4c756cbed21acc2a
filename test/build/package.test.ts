/** What `npm pack` gives: installed from the file in an empty folder, without a network, it is a program and three libraries. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import {
  builtProgram,
  cleanEnvironment,
  printedPort,
  REPOSITORY,
  removeFolder,
  temporaryFolder,
  waitUntil,
} from "../rest/server.ts";

const { version } = JSON.parse(fs.readFileSync(path.join(REPOSITORY, "package.json"), "utf8"));

/** Uses all three; its words are the url of a node. `IMPORTS` differs by the way of importing. */
const PROGRAM = `
async function main([url]) {
  const store = new MinivaultClient({ url });
  await store.put("greeting", { text: "hello" });
  await store.delete("n");
  console.log(JSON.stringify(await store.get("greeting")));
  const results = await store.batch([{ op: "increment", key: "n", by: 2 }, { op: "patch", key: "greeting", change: { to: "all" } }]);
  console.log(JSON.stringify(results.map(({ value }) => value)));
  const keyv = new KeyvMinivault({ url });
  await keyv.set("a", "one");
  console.log(await keyv.get("a"), keyv.client instanceof MinivaultClient);
  const storage = minivault({ url, base: "files" });
  await storage.setItem("x:y", "two");
  console.log(await storage.getItem("x:y"), (await storage.getKeys()).join());
  await store.create("greeting", 1).catch((error) => console.log(error.name, error instanceof ExistsError, error.status));
}
main(process.argv.slice(2));
`;
const PRINTED = `{"text":"hello"}
[2,{"text":"hello","to":"all"}]
one true
two x:y
ExistsError true 409
`;
const NAMES = "MinivaultClient, ExistsError";
const ESM = `import { ${NAMES} } from "minivault/client";
import { KeyvMinivault } from "minivault/keyv";
import minivault from "minivault/unstorage";
`;
const CJS = `const { ${NAMES} } = require("minivault/client");
const { KeyvMinivault } = require("minivault/keyv");
const { minivault } = require("minivault/unstorage");
`;
/** What a compiler has to know of the types. */
const TYPED = `
export const store = new MinivaultClient({ url: ["http://a:1", "http://b:1"], token: "t" });
export const text: Promise<string | undefined> = store.get<string>("k");
export const keyv: Promise<boolean> = new KeyvMinivault("http://a:1").has("k");
export const keys: Promise<string[]> = minivault("http://a:1").getKeys("a");
export const results: Promise<{ status: number; value?: unknown }[]> = store.batch([
  { op: "get", key: "k", ifNoneMatch: "*" },
  { op: "put", key: "k", value: 1, ttl: "5m", once: "mine" },
  { op: "patch", key: "k", change: { a: null } },
  { op: "patch", key: "k", change: [{ op: "remove", path: "/a" }] },
  { op: "append", key: "k", value: new Uint8Array(1) },
  { op: "increment", key: "k", by: 2n, initial: null, min: 0, max: 9n, ttl: 5, once: false },
  { op: "touch", key: "k", ttl: "none", ifMatch: "*" },
], { once: true });
// @ts-expect-error: a change is an object
store.batch([{ op: "patch", key: "k", change: 1 }]);
// @ts-expect-error: a number is added
store.batch([{ op: "increment", key: "k", by: "1" }]);
// @ts-expect-error: an end goes with what can begin a value
store.batch([{ op: "patch", key: "k", change: { a: null }, ttl: 5 }]);
// @ts-expect-error: another end has to be said
store.batch([{ op: "touch", key: "k" }]);
// @ts-expect-error: a read has no key
store.batch([{ op: "get", key: "k", once: true }]);
// @ts-expect-error: there is no such option
store.put("k", 1, { tll: 5 });
`;

interface Packed {
  filename: string;
  files: { path: string; mode: number }[];
  bundled: string[];
}

describe("package", () => {
  const folder = temporaryFolder();
  const app = path.join(folder, "app");
  let packed: Packed;

  function run(program: string, words: string[], cwd = app): string {
    const env = cleanEnvironment({
      npm_config_cache: path.join(folder, "cache"),
      npm_config_ignore_scripts: undefined,
    });
    const { status, stdout, stderr, error } = spawnSync(program, words, { cwd, env, encoding: "utf8" });
    assert.equal(status, 0, `${program} ${words.join(" ")}: ${error?.message ?? ""}${stdout}${stderr}`);
    return stdout;
  }

  before(async () => {
    await builtProgram();
    fs.mkdirSync(app);
    // Or npm would look further up for the project.
    fs.writeFileSync(path.join(app, "package.json"), "{}\n");
    [packed] = JSON.parse(run("npm", ["pack", "--json", "--pack-destination", folder], REPOSITORY));
    // Without a network: there is nothing to get.
    run("npm", ["install", "--offline", "--no-audit", "--no-fund", path.join(folder, packed.filename)]);
  });
  after(() => removeFolder(folder));

  test("package: it has what it needs, and nothing else", () => {
    assert.equal(packed.filename, `minivault-${version}.tgz`);
    assert.deepEqual(packed.bundled, []);
    const names = packed.files.map((file) => file.path);
    for (const name of [
      "README.md",
      "LICENSE",
      "minivault",
      "dist/minivault.js",
      "dist/.built",
      "dist/client/index.mjs",
    ])
      assert.ok(names.includes(name), name);
    const known = /^(?:src|native|dist\/client)\/|^dist\/(?:minivault\.js|\.built)$|^[\w.-]+$/;
    assert.deepEqual(
      names.filter((name) => !known.test(name) || /(?:^|\/)\.npmrc|\.log$|data\//.test(name)),
      [],
    );
    assert.deepEqual(
      fs.readdirSync(path.join(app, "node_modules")).filter((name) => !name.startsWith(".")),
      ["minivault"],
    );
    const { dependencies } = JSON.parse(fs.readFileSync(path.join(REPOSITORY, "package.json"), "utf8"));
    assert.equal(dependencies, undefined, "what the program needs is in its one file: see `bundled`");
  });

  test("package: the libraries need nothing but what browsers have", () => {
    const library = path.join(app, "node_modules/minivault/dist/client");
    for (const name of fs.readdirSync(library).filter((file) => /\.[cm]js$/.test(file))) {
      const text = fs.readFileSync(path.join(library, name), "utf8");
      const imported = [...text.matchAll(/(?:\bfrom|\brequire\(|\bimport\()\s*"([^"]+)"/g)].map(
        ([, from]) => from,
      );
      assert.deepEqual(
        imported.filter((from) => !/^\.\/index\.[cm]js$/.test(from)),
        [],
        name,
      );
      assert.doesNotMatch(text, /\b(?:Buffer|process|__dirname)\b\s*[.[(]/, name);
    }
  });

  test("package: npx minivault serves, and programs of both kinds use it", async (t) => {
    assert.match(
      run("npx", ["--offline", "minivault", "-version"]),
      new RegExp(`^minivault ${version.replaceAll(".", "\\.")}`),
    );
    const words = ["-port", "0", "-host", "127.0.0.1", "-data", path.join(folder, "data")];
    const server = spawn(path.join(app, "node_modules/.bin/minivault"), words, {
      cwd: app,
      env: cleanEnvironment(),
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [server.stdout, server.stderr]) stream.on("data", (piece) => (output += piece));
    const ended = new Promise<number | null>((resolve) => server.once("close", resolve));
    t.after(() => server.kill("SIGKILL"));
    await waitUntil("it listens", () => {
      assert.equal(server.exitCode, null, output);
      return printedPort(output) !== null;
    });
    assert.doesNotMatch(output, /building|installing/);
    const url = `http://127.0.0.1:${printedPort(output)}`;
    for (const [name, imports] of [
      ["program.mjs", ESM],
      ["program.cjs", CJS],
    ]) {
      fs.writeFileSync(path.join(app, name), imports + PROGRAM);
      assert.equal(run(process.execPath, [name, url]), PRINTED, name);
    }
    server.kill("SIGTERM");
    assert.equal(await ended, 0, output);
  });

  test("package: compilers find the types, for both kinds of modules", () => {
    const types = `import { KeyvMinivault } from "minivault/keyv";\n`;
    const head = `import { MinivaultClient } from "minivault/client";\n${types}import { minivault } from "minivault/unstorage";\n`;
    for (const name of ["typed.mts", "typed.cts"]) fs.writeFileSync(path.join(app, name), head + TYPED);
    const options = ["--noEmit", "--strict", "--skipLibCheck", "false", "--types", "", "--target", "es2022"];
    const compiler = path.join(REPOSITORY, "node_modules/typescript/bin/tsc");
    for (const resolution of [
      ["--module", "node16"],
      ["--module", "preserve", "--moduleResolution", "bundler"],
    ])
      run(process.execPath, [
        compiler,
        ...options,
        "--lib",
        "es2023,dom,dom.iterable",
        ...resolution,
        "typed.mts",
        "typed.cts",
      ]);
  });
});
