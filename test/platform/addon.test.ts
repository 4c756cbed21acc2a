/** Loading addons out of a folder: what was checked is what is loaded, whatever happens to the file's name meanwhile. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { brotliCompressSync } from "node:zlib";
import { loadFrom } from "../../src/platform/addon.ts";
import type { EmbeddedAddon } from "../../src/platform/embedded.ts";

const ADDONS = path.join(__dirname, "../../node_modules/.addons", process.versions.modules);
const content = fs.readFileSync(path.join(ADDONS, "guard.node"));
const embedded: EmbeddedAddon = {
  hash: createHash("sha256").update(content).digest("hex"),
  data: () => brotliCompressSync(content).toString("base64"),
};

let folder: string;
let file: string;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "minivault-test-"));
  file = path.join(folder, `guard-${embedded.hash}.node`);
});
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));

const isGuard = (addon: unknown): boolean => typeof (addon as { watch?: unknown }).watch === "function";

describe("addon", () => {
  test("is written where it is missing, used where it is there, and no descriptor stays open", () => {
    assert.ok(isGuard(loadFrom(folder, "guard", embedded)));
    assert.ok(fs.readFileSync(file).equals(content));
    assert.equal(fs.statSync(file).mode & 0o777, 0o600);
    const { ino } = fs.statSync(file);
    assert.ok(isGuard(loadFrom(folder, "guard", embedded)));
    assert.equal(fs.statSync(file).ino, ino);
    assert.deepEqual(fs.readdirSync(folder), [path.basename(file)]);
    if (process.platform === "linux")
      for (const fd of fs.readdirSync("/proc/self/fd"))
        assert.ok(!linkOf(fd).startsWith(folder), `descriptor ${fd} is open`);
  });

  test("what holds something else, a link, a pipe, or a cut file, is written anew", () => {
    const other = path.join(folder, "other");
    fs.writeFileSync(other, content);
    for (const spoil of [
      () => fs.writeFileSync(file, "something else"),
      () => fs.writeFileSync(file, content.subarray(0, 5000)),
      () => fs.symlinkSync(other, file),
      () => execFileSync("mkfifo", [file]),
    ]) {
      fs.rmSync(file, { force: true });
      spoil();
      assert.ok(isGuard(loadFrom(folder, "guard", embedded)));
      assert.ok(fs.lstatSync(file).isFile());
      assert.ok(fs.readFileSync(file).equals(content));
    }
  });

  test("a file that takes the name after the check is not loaded", {
    skip: process.platform !== "linux",
  }, (t) => {
    loadFrom(folder, "guard", embedded);
    const original = process.dlopen;
    let asked = "";
    t.mock.method(process, "dlopen", (module: object, name: string) => {
      asked = name;
      fs.rmSync(file);
      fs.writeFileSync(file, "not what was checked");
      original(module, name);
    });
    assert.ok(isGuard(loadFrom(folder, "guard", embedded)));
    assert.ok(asked.startsWith("/proc/self/fd/"), asked);
  });

  test("two addons under one descriptor number are two libraries", {
    skip: process.platform !== "linux",
  }, () => {
    const mmap = fs.readFileSync(path.join(ADDONS, "mmap.node"));
    const other: EmbeddedAddon = {
      hash: createHash("sha256").update(mmap).digest("hex"),
      data: () => brotliCompressSync(mmap).toString("base64"),
    };
    const first = loadFrom(folder, "guard", embedded);
    const second = loadFrom(folder, "mmap", other) as { map?: unknown };
    assert.ok(isGuard(first));
    assert.equal(typeof second.map, "function");
    assert.ok(!isGuard(second));
  });

  test("where the data is not what its hash says, nothing is loaded and nothing stays", () => {
    const wrong: EmbeddedAddon = {
      hash: embedded.hash,
      data: () => brotliCompressSync(Buffer.from("x")).toString("base64"),
    };
    assert.throws(() => loadFrom(folder, "guard", wrong), /does not hold what was written to it/);
    assert.deepEqual(fs.readdirSync(folder), []);
  });
});

function linkOf(fd: string): string {
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ""; // the one that listed them
  }
}
