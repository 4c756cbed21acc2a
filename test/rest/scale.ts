/** The two tests of size, for a short form (test/rest) and a long one (test/storm). */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { fillStore, keyName, valueText } from "../engine/fill.ts";
import type { Diagnostic } from "../random.ts";
import { call, contentHash, contentStream, curl, digest } from "./client.ts";
import { putMany } from "./load.ts";
import { hasProc, memoryLine, processMemory, processorMs, watchMemory } from "./process-memory.ts";
import { removeFolder, temporaryFolder, withServer } from "./server.ts";

const MIB = 1024 * 1024;

export interface TransferLimits {
  bytes: number;
  /** What the process may add to RssAnon + RssShmem. */
  addedBytesMax: number;
}

/** One upload and one download of the same size at once: the process' own memory does not grow with them. */
export async function transferInBoundedMemory(
  t: Diagnostic,
  { bytes, addedBytesMax }: TransferLimits,
): Promise<void> {
  await withServer({}, async (server) => {
    const { port, pid } = server;
    const stored = await call(port, "PUT", "/first", { body: contentStream(1, bytes) });
    assert.equal(stored.status, 201, stored.text);
    // Measured from a fresh start: what the first upload left in the heap must not hide what the next ones take.
    await server.stop();
    await server.restart();
    const { port: newPort } = server;
    const watched = watchMemory(server.pid);
    assert.notEqual(server.pid, pid);
    const begun = performance.now();
    const [download, upload] = await Promise.all([
      digest(newPort, "GET", "/first"),
      call(newPort, "PUT", "/second", { body: contentStream(2, bytes) }),
    ]);
    const seconds = (performance.now() - begun) / 1000;
    const peak = watched.stop();
    t.diagnostic(
      `${bytes / MIB} MiB up and down at once in ${seconds.toFixed(1)} s; MiB: ${memoryLine(watched.start, peak)}`,
    );
    assert.equal(download.status, 200);
    assert.equal(download.bytes, bytes);
    assert.equal(download.sha256, contentHash(1, bytes));
    assert.equal(upload.status, 201, upload.text);
    assert.equal((await digest(newPort, "GET", "/second")).sha256, contentHash(2, bytes));
    const added = peak.own - watched.start.own;
    assert.ok(added < addedBytesMax, `${Math.round(added / MIB)} MiB added`);
  });
}

/** Uploads at once by curl of a file that costs nothing to read, so that they come as fast as anything can. */
export async function fastUploads(
  t: Diagnostic,
  uploads: number,
  { bytes, addedBytesMax }: TransferLimits,
): Promise<void> {
  const folder = temporaryFolder();
  try {
    const file = path.join(folder, "sparse");
    fs.writeFileSync(file, "");
    fs.truncateSync(file, bytes);
    await withServer({}, async (server) => {
      const watched = watchMemory(server.pid);
      const begun = performance.now();
      const replies = await Promise.all(
        Array.from({ length: uploads }, (_, number) => curl(["-T", file, `${server.url}/upload-${number}`])),
      );
      const seconds = (performance.now() - begun) / 1000;
      const peak = watched.stop();
      t.diagnostic(
        `${uploads} uploads of ${bytes / MIB} MiB at once in ${seconds.toFixed(1)} s; MiB: ${memoryLine(watched.start, peak)}`,
      );
      for (const { status } of replies) assert.equal(status, 201);
      const added = peak.own - watched.start.own;
      assert.ok(added < addedBytesMax, `${Math.round(added / MIB)} MiB added`);
    });
  } finally {
    removeFolder(folder);
  }
}

export interface ManyKeysLimits {
  keys: number;
  indexBytesPerKeyMax: number;
  restartMsMax: number;
}

/** Many keys of 100 bytes: what the index takes, and how long a restart after kill -9 takes. */
export async function manyKeys(
  t: Diagnostic,
  { keys, indexBytesPerKeyMax, restartMsMax }: ManyKeysLimits,
): Promise<void> {
  const key = (index: number) => `key-${String(index).padStart(9, "0")}`;
  const value = (index: number) => `${index} `.padEnd(100, "x");
  await withServer({ sync: "os" }, async (server) => {
    const begun = performance.now();
    await putMany(server.port, keys, key, value);
    const seconds = (performance.now() - begun) / 1000;
    const stats = (await call(server.port, "GET", "/_stats")).json();
    assert.equal(stats.keys, keys);
    t.diagnostic(
      `${keys} keys of 100 bytes in ${seconds.toFixed(1)} s (${Math.round(keys / seconds)}/s); index ${stats.indexBytesPerKey} bytes a key`,
    );
    assert.equal(stats.indexBytesPerKey, Math.round((stats.indexBytes / keys) * 100) / 100);
    assert.ok(stats.indexBytesPerKey <= indexBytesPerKeyMax, `${stats.indexBytesPerKey} bytes a key`);

    const restarts: number[] = [];
    for (let round = 0; round < 3; round++) {
      await server.kill("SIGKILL");
      await server.restart();
      // Where other work has the processors, the clock says little; what the start itself takes of them is what
      // it would need without.
      const cpuMs = hasProc ? processorMs(server.pid) : Number.POSITIVE_INFINITY;
      restarts.push(Math.round(Math.min(server.startMs, cpuMs)));
    }
    t.diagnostic(`restart after kill -9 until /health answers 200: ${restarts.join(", ")} ms`);
    await server.stop();
    await server.restart();
    t.diagnostic(`restart after a clean stop: ${Math.round(server.startMs)} ms`);
    const after = (await call(server.port, "GET", "/_stats")).json();
    assert.equal(after.keys, keys);
    assert.ok(
      after.indexBytesPerKey <= indexBytesPerKeyMax,
      `${after.indexBytesPerKey} bytes a key after the restart`,
    );
    for (let index = 0; index < keys; index += Math.ceil(keys / 2000)) {
      assert.equal((await call(server.port, "GET", `/${key(index)}`)).text, value(index));
    }
    // The best: other tests share the machine.
    assert.ok(Math.min(...restarts) < restartMsMax, `${restarts.join(", ")} ms`);
  });
}

export interface RestartLimits {
  keys: number;
  indexBytesPerKeyMax: number;
  afterKillMsMax: number;
  afterStopMsMax: number;
}

const VALUE_BYTES = 100;
const RESTARTS = 3;

/** A store of many keys, filled beforehand: how long a start takes after kill -9 and after a clean stop, and what memory the process takes. */
export async function restarts(
  t: Diagnostic,
  { keys, indexBytesPerKeyMax, afterKillMsMax, afterStopMsMax }: RestartLimits,
): Promise<void> {
  const folder = temporaryFolder();
  try {
    const data = path.join(folder, "data");
    const begun = performance.now();
    await fillStore(data, { keys, valueBytes: VALUE_BYTES }, false);
    t.diagnostic(
      `${keys} keys of ${VALUE_BYTES} bytes made in ${Math.round((performance.now() - begun) / 1000)} s`,
    );
    await withServer({ data }, async (server) => {
      // Where other work has the processors, the clock says little; what the start itself takes of them is what it would need without.
      const lastStart = () => {
        const cpuMs = hasProc ? processorMs(server.pid) : Number.POSITIVE_INFINITY;
        return { wallMs: server.startMs, cpuMs };
      };
      const afterKill = [lastStart()];
      const check = async (what: string) => {
        const stats = (await call(server.port, "GET", "/_stats")).json();
        assert.equal(stats.keys, keys, what);
        assert.ok(
          stats.indexBytesPerKey <= indexBytesPerKeyMax,
          `${what}: ${stats.indexBytesPerKey} bytes a key`,
        );
        for (let number = 0; number < keys; number += Math.ceil(keys / 500)) {
          const { text } = await call(server.port, "GET", `/${keyName(number)}`);
          assert.equal(text, valueText(number, VALUE_BYTES), what);
        }
        const mib = (bytes: number) => Math.round(bytes / MIB);
        const memory = hasProc ? processMemory(server.pid) : null;
        if (memory !== null)
          t.diagnostic(
            `${what}: start ${Math.round(server.startMs)} ms, index ${stats.indexBytesPerKey} bytes a key, memory of the process ${mib(memory.own)} MiB + ${mib(memory.file)} MiB of mapped files`,
          );
      };
      await check("after a crash");
      while (afterKill.length < RESTARTS) {
        await server.kill("SIGKILL");
        await server.restart();
        afterKill.push(lastStart());
        await check("after kill -9");
      }
      const afterStop: { wallMs: number; cpuMs: number }[] = [];
      while (afterStop.length < RESTARTS) {
        await server.stop();
        await server.restart();
        afterStop.push(lastStart());
        await check("after a clean stop");
      }
      assert.equal((await call(server.port, "PUT", `/${keyName(0)}`, { body: "changed" })).status, 200);
      await server.kill("SIGKILL");
      await server.restart();
      assert.equal((await call(server.port, "GET", `/${keyName(0)}`)).text, "changed");
      assert.doesNotMatch(server.log(), /snapshot is not used|no index snapshot/);
      // Progress is told each second of reading, which is a part of a start.
      const starts = [...server.log().matchAll(/"startMs":(\d+)/g)].map(([, ms]) => Number(ms));
      if (Math.min(...starts) > 4000) assert.match(server.log(), /reading the slabs back/);
      const line = (starts: typeof afterKill) =>
        starts.map(({ wallMs, cpuMs }) => `${Math.round(wallMs)} (${cpuMs})`).join(", ");
      const best = (starts: typeof afterKill) =>
        Math.min(...starts.map(({ wallMs, cpuMs }) => Math.min(wallMs, cpuMs)));
      t.diagnostic(
        `start until /health answers 200, and the processor time it took: after kill -9 ${line(afterKill)} ms, after a clean stop ${line(afterStop)} ms`,
      );
      assert.ok(best(afterKill) < afterKillMsMax, `after kill -9: ${line(afterKill)} ms`);
      assert.ok(best(afterStop) < afterStopMsMax, `after a clean stop: ${line(afterStop)} ms`);
    });
  } finally {
    removeFolder(folder);
  }
}
