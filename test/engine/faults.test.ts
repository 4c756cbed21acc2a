/**
 * The Nth file call fails, for N = 1, 2, … until a run passes without meeting the fault. Nothing acknowledged is lost, nothing wrong is read, nothing
 * hangs or throws out of the engine but a failed start. (After SQLite's and RocksDB's fault-injection file systems.)
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import { Harness, temporaryDirectory } from "./harness.ts";

type Call = "pwrite" | "sync" | "size" | "open" | "rename" | "unlink";
type Fault = "EIO" | "ENOSPC" | "short";

/** File calls of which one fails. */
class FaultyIo {
  count = 0;
  fired = false;
  private readonly at: number;
  private readonly call: Call;
  private readonly fault: Fault;
  readonly io: FileIo;

  constructor(call: Call, at: number, fault: Fault) {
    this.call = call;
    this.at = at;
    this.fault = fault;
    this.io = {
      open: (path, flags) => this.run("open", () => nodeIo.open(path, flags)),
      close: nodeIo.close,
      pwrite: (fd, bytes, offset, length, position) =>
        this.run(
          "pwrite",
          () => nodeIo.pwrite(fd, bytes, offset, length, position),
          () => fs.writeSync(fd, bytes, offset, length >> 1, position),
        ),
      fdatasync: (fd) => this.run("sync", () => nodeIo.fdatasync(fd)),
      fsync: (fd) => this.run("sync", () => nodeIo.fsync(fd)),
      ftruncate: (fd, bytes) => this.run("size", () => nodeIo.ftruncate(fd, bytes)),
      size: nodeIo.size,
      links: nodeIo.links,
      rename: (from, to) => this.run("rename", () => nodeIo.rename(from, to)),
      unlink: (path) => this.run("unlink", () => nodeIo.unlink(path)),
      syncDirectory: (path) => this.run("sync", () => nodeIo.syncDirectory(path)),
      fdatasyncAsync: async (fd) => {
        await this.run("sync", () => nodeIo.fdatasyncAsync(fd));
      },
      ftruncateAsync: async (fd, bytes) => {
        await this.run("size", () => nodeIo.ftruncateAsync(fd, bytes));
      },
    };
  }

  private run<Result>(call: Call, work: () => Result, partly: () => void = () => {}): Result {
    if (call === this.call && ++this.count === this.at) {
      this.fired = true;
      if (this.fault === "short") partly();
      const code = this.fault === "short" ? "ENOSPC" : this.fault;
      throw Object.assign(new Error(`${code}: injected`), { code });
    }
    return work();
  }
}

/** What a key may hold: the last acknowledged state, and what failed after it, whose outcome is unknown across a restart. */
class Expected {
  private readonly acknowledged = new Map<string, Buffer | null>();
  private readonly unknown = new Map<string, (Buffer | null)[]>();

  note(key: string, value: Buffer | null, error: string | null): void {
    if (error === null) {
      this.acknowledged.set(key, value);
      this.unknown.delete(key);
    } else this.unknown.set(key, [...(this.unknown.get(key) ?? []), value]);
  }

  check(vault: Harness, what: string, afterRestart: boolean): void {
    for (const key of new Set([...this.acknowledged.keys(), ...this.unknown.keys()])) {
      const read = vault.read(key);
      assert.notEqual(read.state, "damaged", `${what}: ${key}`);
      const allowed = [
        this.acknowledged.get(key) ?? null,
        ...(afterRestart ? (this.unknown.get(key) ?? []) : []),
      ];
      const value = read.state === "found" ? read.value : null;
      assert.ok(
        allowed.some((candidate) => (candidate === null ? value === null : value?.equals(candidate))),
        `${what}: ${key} is ${value === null ? "absent" : `${value.length} bytes, ${value.subarray(0, 12)}`}`,
      );
    }
  }
}

async function work(vault: Harness, expected: Expected, what: string): Promise<void> {
  for (let i = 0; i < 90; i++) {
    const key = `k${i % 11}`;
    const value = Buffer.alloc(i % 9 === 4 ? 14_000 : 700, `${i} `);
    if (i % 7 === 3) {
      const { error } = vault.remove(key);
      expected.note(key, null, error);
    } else {
      const { error } = value.length > 4096 ? vault.upload(key, value) : vault.put(key, value);
      expected.note(key, value, error);
      if (error !== null) assert.match(error, /disk_full|internal|write_stopped/, what);
    }
    vault.shard.idle(4096);
    if (i % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  // However slow the machine is, what compaction has emptied is removed in the end.
  await vault.settle();
  expected.check(vault, what, false);
}

const CASES: [Call, Fault][] = [
  ["pwrite", "EIO"],
  ["pwrite", "ENOSPC"],
  ["pwrite", "short"],
  ["sync", "EIO"],
  ["size", "EIO"],
  ["size", "ENOSPC"],
  ["open", "EIO"],
  ["rename", "EIO"],
  ["unlink", "EIO"],
];
/** Every call in the long form; a spread of them otherwise. */
const STEP = Number(process.env.STEP ?? 5);

for (const [call, fault] of CASES) {
  test(`faults: the Nth ${call} fails with ${fault}, for each N`, async (t) => {
    let failures = 0;
    for (let at = 1; ; at += at < 12 ? 1 : STEP) {
      const what = `${call} ${at} ${fault}`;
      const directory = temporaryDirectory();
      const faulty = new FaultyIo(call, at, fault);
      const expected = new Expected();
      try {
        let vault: Harness | null = null;
        try {
          // A clock that runs fast, so that a disk that was full once is asked again in the same run.
          let now = Date.now();
          vault = await Harness.open(directory.path, { io: faulty.io, now: () => (now += 300) });
        } catch (error) {
          assert.match((error as Error).message, /injected/, what);
        }
        if (vault !== null) {
          await work(vault, expected, what);
          if (call === "sync" && faulty.fired && vault.figure("writesStopped") === 1) {
            assert.equal(vault.put("later", "x").error, "write_stopped", what);
            expected.check(vault, what, false);
          }
          try {
            await vault.shard.close();
          } catch (error) {
            assert.match((error as Error).message, /injected/, what);
          }
        }
        const again = await Harness.open(directory.path);
        expected.check(again, `${what}, restarted`, true);
        assert.equal(again.put("after", "x").error, null, what);
        await again.shard.close();
      } finally {
        directory.remove();
      }
      if (!faulty.fired) break;
      failures++;
    }
    t.diagnostic(`${failures} failures injected`);
    assert.ok(failures > 0);
  });
}
