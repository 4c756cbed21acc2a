import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { createServer } from "node:net";
import { hostname, tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { buildSync } from "esbuild";
import { LOCK_TOUCH_MS, lockDirectory } from "../../src/engine/directory/lock.ts";
import { LOCK_STALE_MS } from "../../src/engine/directory/lock-file.ts";
import { waitUntil } from "../rest/server.ts";
import { stopwatch } from "../stopwatch.ts";

const onLinux = process.platform === "linux" ? {} : { skip: "needs abstract sockets" };

let scratch: string;
let holder: string;
const children = new Set<ChildProcess>();

before(() => {
  scratch = fs.mkdtempSync(path.join(tmpdir(), "minivault-lock-"));
  // Built once: twenty processes that each start a compiler would not be concurrent.
  holder = path.join(scratch, "holder.cjs");
  const lock = path.resolve(__dirname, "../../src/engine/directory/lock.ts");
  buildSync({
    stdin: {
      contents: `
        import { lockDirectory } from ${JSON.stringify(lock)};
        const say = (text) => process.stdout.write(text + "\\n");
        lockDirectory(process.argv[2]).then(
          (lock) => {
            say("locked");
            if (process.argv[3] === "leave") return;
            process.stdin.on("data", () => lock.release().then(() => say("released")));
          },
          (error) => say("refused " + error.message),
        );`,
      loader: "ts",
      resolveDir: __dirname,
    },
    bundle: true,
    platform: "node",
    outfile: holder,
    logLevel: "error",
  });
});

after(() => {
  for (const child of children) child.kill("SIGKILL");
  fs.rmSync(scratch, { recursive: true, force: true });
});

interface Holder {
  child: ChildProcess;
  /** The next line that it prints; null when it has ended. */
  line(): Promise<string | null>;
}

/** Starts a process that locks the directory and holds it until it gets a byte on its standard input. */
function start(directory: string, { command = [process.execPath], mode = "hold" } = {}): Holder {
  const [program, ...rest] = [...command, holder, directory, mode];
  const child = spawn(program, rest, { stdio: ["pipe", "pipe", "inherit"] });
  children.add(child);
  child.once("exit", () => children.delete(child));
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  return { child, line: async () => (await lines.next()).value ?? null };
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

function makeDirectory(): string {
  return fs.mkdtempSync(path.join(scratch, "data-"));
}

const lockFile = (directory: string): string => path.join(directory, "LOCK");

/** Writes a LOCK as a process in another container would have. */
function foreignLock(directory: string, ageMs: number, change: object = {}): void {
  const owner = {
    pid: 4711,
    host: "elsewhere",
    boot: "b",
    namespace: "net:[1]",
    started: "",
    token: "other",
    ...change,
  };
  fs.writeFileSync(lockFile(directory), JSON.stringify(owner));
  const time = new Date(Date.now() - ageMs);
  fs.utimesSync(lockFile(directory), time, time);
}

describe("directory lock: one namespace", onLinux, () => {
  test("held until release, then free at once", async () => {
    const directory = makeDirectory();
    const lock = await lockDirectory(directory);
    const owner = JSON.parse(fs.readFileSync(lockFile(directory), "utf8"));
    assert.equal(owner.pid, process.pid);
    assert.equal(owner.host, hostname());
    assert.equal(owner.namespace, fs.readlinkSync("/proc/self/ns/net"));
    assert.ok(Math.abs(Date.parse(owner.started) - Date.now()) < 60_000);
    assert.equal(fs.statSync(lockFile(directory)).mode & 0o777, 0o600);

    const expected = `${directory} is in use by process ${process.pid} on ${hostname()}: stop that one first, or choose another directory with -data`;
    await assert.rejects(lockDirectory(directory), { message: expected });
    const other = start(directory);
    assert.equal(await other.line(), `refused ${expected}`);

    await lock.release();
    await lock.release();
    assert.deepEqual(fs.readdirSync(directory), ["LOCK.free"]);
    const next = await lockDirectory(directory);
    await next.release();
  });

  test("a second name of the directory is the same lock; another directory is another", async () => {
    const directory = makeDirectory();
    const name = `${directory}-link`;
    fs.symlinkSync(directory, name);
    const lock = await lockDirectory(directory);
    await assert.rejects(lockDirectory(name), /in use by process/);
    const other = await lockDirectory(makeDirectory());
    await Promise.all([lock.release(), other.release()]);
  });

  test("after kill -9 a restart does not wait", async () => {
    const directory = makeDirectory();
    for (let round = 0; round < 5; round++) {
      const one = start(directory);
      assert.equal(await one.line(), "locked");
      await kill(one.child);
      assert.ok(fs.existsSync(lockFile(directory)), "the dead process left its file");
      const watch = stopwatch();
      const lock = await lockDirectory(directory);
      assert.ok(watch.stop() < 500);
      await lock.release();
    }
  });

  test("of 20 concurrent starters exactly one wins, also over what a killed process left", async () => {
    const directory = makeDirectory();
    for (let round = 0; round < 3; round++) {
      const holders = Array.from({ length: 20 }, () => start(directory));
      const lines = await Promise.all(holders.map((each) => each.line()));
      const winners = holders.filter((_, index) => lines[index] === "locked");
      assert.equal(winners.length, 1, lines.join("\n"));
      for (const line of lines)
        assert.match(
          line as string,
          /^(locked|refused .* is in use by (another process|process \d+ on .*): )/,
        );
      const { pid } = JSON.parse(fs.readFileSync(lockFile(directory), "utf8"));
      assert.equal(pid, winners[0].child.pid);
      const left = fs.readdirSync(directory).filter((name) => name !== "LOCK.free");
      assert.deepEqual(left, ["LOCK"], "no temporary files are left");
      await kill(winners[0].child);
    }
  });

  test("the lock does not keep the process alive", async () => {
    const one = start(makeDirectory(), { mode: "leave" });
    assert.equal(await one.line(), "locked");
    one.child.stdin?.end();
    const [status] = await once(one.child, "exit");
    assert.equal(status, 0);
  });

  test("a process releases on demand while it goes on", async () => {
    const directory = makeDirectory();
    const one = start(directory);
    assert.equal(await one.line(), "locked");
    one.child.stdin?.write("x");
    assert.equal(await one.line(), "released");
    const lock = await lockDirectory(directory);
    await lock.release();
    await kill(one.child);
  });

  test("the socket's holder is named as unknown when its LOCK cannot be read", async () => {
    const directory = makeDirectory();
    const lock = await lockDirectory(directory);
    fs.writeFileSync(lockFile(directory), '{"pid": 1');
    await assert.rejects(lockDirectory(directory), /is in use by another process: stop that one/);
    fs.rmSync(lockFile(directory));
    await assert.rejects(lockDirectory(directory), /is in use by another process: stop that one/);
    await lock.release();
  });

  test("a refused start leaves the owner's file and the socket's name alone", async () => {
    const directory = makeDirectory();
    const lock = await lockDirectory(directory);
    const text = fs.readFileSync(lockFile(directory), "utf8");
    await assert.rejects(lockDirectory(directory));
    assert.equal(fs.readFileSync(lockFile(directory), "utf8"), text);
    await assert.rejects(lockDirectory(directory), "the first refusal has not freed the socket");
    await lock.release();
  });
});

describe("directory lock: owners that no socket shows", { concurrency: true }, () => {
  test("a stale file is taken over at once", async () => {
    const directory = makeDirectory();
    foreignLock(directory, LOCK_STALE_MS + 100);
    const watch = stopwatch();
    const lock = await lockDirectory(directory);
    assert.ok(watch.stop() < 500);
    assert.equal(JSON.parse(fs.readFileSync(lockFile(directory), "utf8")).pid, process.pid);
    await lock.release();
    assert.deepEqual(fs.readdirSync(directory), ["LOCK.free"]);
  });

  test("a file that stands still is taken over when it is stale, not before", async () => {
    const directory = makeDirectory();
    foreignLock(directory, LOCK_STALE_MS - 1000);
    const watch = stopwatch();
    const lock = await lockDirectory(directory);
    const waited = watch.elapsed();
    assert.ok(waited > 700 && watch.stop() < 3000, `waited ${waited} ms`);
    await lock.release();
  });

  test("a time in the future is watched for the whole while", async () => {
    const directory = makeDirectory();
    foreignLock(directory, -3_600_000);
    const begunMs = performance.now();
    const lock = await lockDirectory(directory);
    const waited = performance.now() - begunMs;
    assert.ok(waited > LOCK_STALE_MS - 300, `waited ${waited} ms`);
    await lock.release();
  });

  test("a file that is refreshed is refused, and the socket is free again", async () => {
    const directory = makeDirectory();
    foreignLock(directory, 0);
    const refresh = setInterval(() => foreignLock(directory, 0), 500);
    const message = `${directory} is in use by process 4711 on elsewhere: stop that one first, or choose another directory with -data`;
    await assert.rejects(lockDirectory(directory), { message });
    clearInterval(refresh);
    foreignLock(directory, LOCK_STALE_MS + 1);
    const lock = await lockDirectory(directory);
    await lock.release();
  });

  test("a file that disappears while it is watched was an owner that stopped", async () => {
    const directory = makeDirectory();
    foreignLock(directory, 0);
    setTimeout(() => fs.rmSync(lockFile(directory)), 300);
    const watch = stopwatch();
    const lock = await lockDirectory(directory);
    assert.ok(watch.stop() < 2000);
    await lock.release();
  });

  test("a damaged file counts by its age", async () => {
    const directory = makeDirectory();
    for (const text of ["", "{", "[]", "null", '{"pid":"1"}', "sparse"]) {
      fs.writeFileSync(lockFile(directory), text);
      if (text === "sparse") fs.truncateSync(lockFile(directory), 2 ** 40);
      const old = new Date(Date.now() - LOCK_STALE_MS - 1);
      fs.utimesSync(lockFile(directory), old, old);
      const lock = await lockDirectory(directory);
      await lock.release();
    }
  });

  test("another kernel with the same namespace number is another namespace", onLinux, async () => {
    const directory = makeDirectory();
    foreignLock(directory, 0, { namespace: fs.readlinkSync("/proc/self/ns/net") });
    const refresh = setInterval(() => foreignLock(directory, 0), 500);
    await assert.rejects(lockDirectory(directory), /process 4711 on elsewhere/);
    clearInterval(refresh);
  });

  test("without sockets the file alone decides", async () => {
    const directory = makeDirectory();
    const lock = await lockDirectory(directory, { sockets: false });
    await assert.rejects(lockDirectory(directory, { sockets: false }), /in use by process/);
    await lock.release();
    for (let round = 0; round < 50; round++) {
      const starters = await Promise.allSettled(
        Array.from({ length: 10 }, () => lockDirectory(directory, { sockets: false })),
      );
      const winners = starters.filter((each) => each.status === "fulfilled");
      assert.equal(winners.length, 1, `round ${round}`);
      await winners[0].value.release();
    }
  });

  test("of several that find the same dead owner only one gets the directory", async () => {
    const directory = makeDirectory();
    const owner = { pid: 1, host: "gone", boot: "", namespace: "", started: "", token: "0123456789abcdef" };
    for (let round = 0; round < 50; round++) {
      fs.writeFileSync(path.join(directory, "LOCK"), JSON.stringify(owner));
      fs.utimesSync(path.join(directory, "LOCK"), new Date(0), new Date(0));
      const starters = await Promise.allSettled(
        Array.from({ length: 10 }, () => lockDirectory(directory, { sockets: false })),
      );
      const winners = starters.filter((each) => each.status === "fulfilled");
      assert.equal(winners.length, 1, `round ${round}`);
      await winners[0].value.release();
    }
  });

  test("a process in another network namespace, on the same directory", onLinux, async (t) => {
    const command = ["unshare", "--net", process.execPath];
    if (spawnSync(command[0], ["--net", "true"]).status !== 0) return t.skip("unshare is not allowed here");
    const directory = makeDirectory();
    const lock = await lockDirectory(directory);
    const stranger = start(directory, { command });
    assert.match(
      (await stranger.line()) as string,
      new RegExp(`^refused .*in use by process ${process.pid} on `),
    );
    await lock.release();

    const owner = start(directory, { command });
    assert.equal(await owner.line(), "locked");
    await assert.rejects(lockDirectory(directory), /in use by process \d+ on/);
    await kill(owner.child);
    const watch = stopwatch();
    const taken = await lockDirectory(directory);
    assert.ok(watch.stop() < LOCK_STALE_MS + 1000);
    await taken.release();
  });
});

describe("directory lock: while it is held", { concurrency: true }, () => {
  test("LOCK is refreshed, and put back when it was removed", async () => {
    const directory = makeDirectory();
    const lock = await lockDirectory(directory);
    const old = new Date(Date.now() - 60_000);
    fs.utimesSync(lockFile(directory), old, old);
    await waitUntil(
      "it is refreshed",
      () => Date.now() - fs.statSync(lockFile(directory)).mtimeMs < LOCK_TOUCH_MS + 1000,
    );
    fs.rmSync(lockFile(directory));
    await waitUntil("it is put back", () => fs.existsSync(lockFile(directory)));
    assert.equal(JSON.parse(fs.readFileSync(lockFile(directory), "utf8")).pid, process.pid);
    await lock.release();
  });

  test("an owner that was frozen learns that another one took over, and leaves that one's file alone", async () => {
    const directory = makeDirectory();
    const lost: Error[] = [];
    const lock = await lockDirectory(directory, { onLost: (error) => lost.push(error) });
    foreignLock(directory, 0);
    await waitUntil("it is told", () => lost.length > 0);
    assert.equal(lost.length, 1, "told once");
    assert.match(lost[0].message, /^lost the lock: .* is in use by process 4711 on elsewhere/);
    await lock.release();
    assert.equal(JSON.parse(fs.readFileSync(lockFile(directory), "utf8")).pid, 4711);
  });
});

describe("directory lock: what cannot be locked", () => {
  test("a directory that does not exist", async () => {
    await assert.rejects(lockDirectory(path.join(scratch, "nothing")), /ENOENT.*nothing/);
  });

  test("a LOCK that is no file is not removed", async () => {
    const directory = makeDirectory();
    fs.mkdirSync(lockFile(directory));
    await assert.rejects(lockDirectory(directory), /LOCK is not a file/);
    assert.ok(fs.statSync(lockFile(directory)).isDirectory());
    fs.rmdirSync(lockFile(directory));
    fs.symlinkSync("/etc/passwd", lockFile(directory));
    await assert.rejects(lockDirectory(directory), /LOCK is not a file/);
  });

  test("a directory that cannot be written frees the socket again", onLinux, async (t) => {
    if (process.getuid?.() === 0 && !fs.existsSync("/proc/sys")) return t.skip("root writes everywhere");
    // /proc/sys is read-only for everybody in the sense that no file can be made there.
    await assert.rejects(lockDirectory("/proc/sys"), /E(ACCES|NOENT|PERM|ROFS)/);
    await assert.rejects(lockDirectory("/proc/sys"), /E(ACCES|NOENT|PERM|ROFS)/, "not: in use");
  });

  test("a socket name that another program holds counts as in use", onLinux, async () => {
    const directory = makeDirectory();
    const { dev, ino } = fs.statSync(directory, { bigint: true });
    const squatter = createServer().listen(`\0minivault-${dev}-${ino}`);
    await once(squatter, "listening");
    await assert.rejects(lockDirectory(directory), /in use by another process/);
    squatter.close();
  });
});
