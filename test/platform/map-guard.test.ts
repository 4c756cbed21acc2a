/** The addon that answers SIGBUS: only for maps that are watched, in every thread, and everything else is as if it were not there. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { loadAddon } from "../../src/platform/addon.ts";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "minivault-test-"));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
const PAGE = loadAddon("mmap").PAGESIZE;

/** What the programs below share: a file of four pages of sevens, mapped. */
const PRELUDE = `
const fs = require("node:fs");
const { loadAddon } = require(${JSON.stringify(path.join(__dirname, "../../src/platform/addon.ts"))});
const mmap = loadAddon("mmap");
const guard = loadAddon("guard");
const PAGE = mmap.PAGESIZE;
function mapped(file, pages = 4) {
  fs.writeFileSync(file, Buffer.alloc(pages * PAGE, 7));
  const fd = fs.openSync(file, "r");
  const map = mmap.map(pages * PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0);
  fs.closeSync(fd);
  return map;
}
const file = ${JSON.stringify(path.join(folder, "map"))} + process.pid;
`;

function run(program: string): { status: number | null; signal: NodeJS.Signals | null; output: string } {
  const script = path.join(folder, "program.cjs");
  fs.writeFileSync(script, PRELUDE + program);
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ["--import", "tsx", "--expose-gc", script],
    {
      cwd: path.join(__dirname, "../.."),
      encoding: "utf8",
    },
  );
  return { status, signal, output: stdout + stderr };
}

describe("map guard", () => {
  test("a page that is missing reads as zeros, is counted once, and the others stay", () => {
    const file = path.join(folder, "here");
    fs.writeFileSync(file, Buffer.alloc(4 * PAGE, 7));
    const mmap = loadAddon("mmap");
    const fd = fs.openSync(file, "r");
    const map = mmap.map(4 * PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0);
    fs.closeSync(fd);
    const counts = new Int32Array(new SharedArrayBuffer(12));
    loadAddon("guard").watch(map.buffer, counts, 2);
    assert.equal(map[2 * PAGE], 7);
    fs.truncateSync(file, PAGE);
    assert.equal(map[2 * PAGE], 0);
    assert.equal(map[3 * PAGE - 1], 0);
    assert.deepEqual([...counts], [1, 0, 1]);
    assert.ok(Buffer.from(map.subarray(PAGE)).equals(Buffer.alloc(3 * PAGE)), "memcpy meets them too");
    assert.deepEqual([...counts], [3, 0, 3]);
    assert.equal(map[PAGE - 1], 7);
    assert.throws(() => fs.writeSync(fs.openSync(path.join(folder, "out"), "w"), mapAgain(file)), /EFAULT/);
  });

  test("wrong arguments are errors", () => {
    const { watch } = loadAddon("guard");
    const map = new ArrayBuffer(64);
    assert.throws(() => watch(map, new Int32Array(2), 2), /index in it/);
    assert.throws(() => watch(map, new Int32Array(2), 0), /index in it/);
    assert.throws(() => watch(map, new Float64Array(2) as unknown as Int32Array, 1), /Int32Array/);
    assert.throws(() => watch({} as ArrayBuffer, new Int32Array(2), 1), /watch takes/);
    assert.throws(() => (watch as () => void)(), /watch takes/);
  });

  test("a map that nobody watches still ends the process", () => {
    const { signal, output } = run(`
      guard.watch(mapped(file + "w").buffer, new Int32Array(2), 1);
      const map = mapped(file);
      fs.truncateSync(file, 0);
      console.log("touching");
      console.log(map[0]);
    `);
    assert.equal(output, "touching\n");
    assert.equal(signal, "SIGBUS");
  });

  test("SIGBUS that somebody sends still ends the process", () => {
    const { signal } = run(`
      guard.watch(mapped(file).buffer, new Int32Array(2), 1);
      process.kill(process.pid, "SIGBUS");
      setInterval(() => {}, 1000);
    `);
    assert.equal(signal, "SIGBUS");
  });

  test("threads share it, it outlives them, and their counters are everybody's", () => {
    const { status, output } = run(`
      const { Worker, isMainThread, workerData } = require("node:worker_threads");
      const counts = new Int32Array(isMainThread ? new SharedArrayBuffer(16) : workerData);
      function meet(index) {
        const map = mapped(file + index);
        guard.watch(map.buffer, counts, index);
        fs.truncateSync(file + index, PAGE);
        let sum = 0;
        for (let page = 0; page < 4; page++) sum += map[page * PAGE];
        if (sum !== 7) throw new Error("sum " + sum);
      }
      if (isMainThread) {
        const worker = () => new Promise((resolve, reject) => {
          new Worker(__filename, { workerData: counts.buffer, execArgv: ["--import", "tsx"] }).on("exit", resolve).on("error", reject);
        });
        Promise.all([worker(), worker()]).then(() => {
          meet(2);
          console.log([...counts].join());
        });
      } else meet(1);
    `);
    assert.equal(status, 0, output);
    assert.equal(output, "9,6,3,0\n");
  });

  test("maps that nobody refers to any more are forgotten", () => {
    const { status, output } = run(`
      const counts = new Int32Array(2);
      fs.writeFileSync(file, Buffer.alloc(PAGE, 7));
      (async () => {
        for (let round = 0; round < 30; round++) {
          for (let i = 0; i < 200; i++) {
            const fd = fs.openSync(file, "r");
            guard.watch(mmap.map(PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0).buffer, counts, 1);
            fs.closeSync(fd);
          }
          gc();
          await new Promise(setImmediate);
          await new Promise(setImmediate);
        }
        const maps = fs.readFileSync("/proc/self/maps", "utf8").split("\\n").filter((line) => line.includes(file)).length;
        console.log(maps < 1000 ? "few" : maps);
      })();
    `);
    assert.equal(status, 0, output);
    if (process.platform === "linux") assert.equal(output, "few\n");
  });
});

/** A new map of a file that was cut, watched. */
function mapAgain(file: string): Buffer {
  const mmap = loadAddon("mmap");
  const fd = fs.openSync(file, "r");
  const map = mmap.map(4 * PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0);
  fs.closeSync(fd);
  loadAddon("guard").watch(map.buffer, new Int32Array(2), 1);
  return map.subarray(PAGE);
}

test("file size: as it is now, also beyond 4 GiB, and an error for what is no open file", () => {
  const { fileBytes } = loadAddon("guard");
  const file = path.join(folder, "sized");
  const fd = fs.openSync(file, "w+");
  for (const bytes of [0, 1, PAGE, 2 ** 32 + 1, 3]) {
    fs.ftruncateSync(fd, bytes);
    assert.equal(fileBytes(fd), bytes);
  }
  fs.writeSync(fd, Buffer.from("abc"), 0, 3, 0);
  assert.equal(fs.readFileSync(file, "latin1"), "abc", "writes at a position go there all the same");
  fs.closeSync(fd);
  assert.throws(() => fileBytes(fd), { code: "EBADF" });
  assert.throws(() => fileBytes("1" as unknown as number), /takes a file descriptor/);
});
