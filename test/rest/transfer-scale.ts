/** Export and import of many small keys and one large value: memory, and speed beside tar of such files. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { Readable } from "node:stream";
import { fillStore, keyName, valueText } from "../engine/fill.ts";
import { call, contentHash, contentStream, digest } from "./client.ts";
import { hasProc, memoryLine, watchMemory } from "./process-memory.ts";
import { removeFolder, startServer, temporaryFolder, waitUntil } from "./server.ts";
import { watchStandstill } from "./standstill.ts";

export interface TransferScale {
  keys: number;
  valueBytes: number;
  /** Of one value more. */
  largeBytes: number;
}

const MORE_BYTES_MAX = 128 * 1024 * 1024;
/** A million PUTs of such keys by 64 clients: 125 MiB, most of it young objects and the order of keys being built. */
const TAKEN_KEY_BYTES = 128;
const SEED = 11;
/** Longest that no byte comes before it is noted what everybody does: nine seconds end an upload. */
const QUIET_MS_MAX = 5000;
/** Longest that a slow machine may take for the list that a node makes of what it finds. */
const BUILD_MS_MAX = 600_000;
/** Files that tar is timed with. */
const TAR_FILES_MAX = 20_000;

function answerOf(port: number, target: string): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    http.get({ host: "127.0.0.1", port, path: target, agent: false }, resolve).on("error", reject);
  });
}

/** Runs it and checks everything but the speed, which it answers as lines. */
export async function transferScale({ keys, valueBytes, largeBytes }: TransferScale): Promise<string[]> {
  const folder = temporaryFolder();
  const data = path.join(folder, "from");
  await fillStore(data, { keys, valueBytes });
  const flags = ["-max-value", "8GiB"];
  const from = await startServer({ data, flags });
  const to = await startServer({ flags });
  const lines: string[] = [];
  try {
    // What was filled without a node has no list yet.
    const isBuilt = async (): Promise<boolean> =>
      (await call(from.port, "GET", "/?list&limit=1")).status === 200;
    await waitUntil("the list of all keys is built", isBuilt, BUILD_MS_MAX);
    if (largeBytes > 0)
      assert.equal(
        (await call(from.port, "PUT", "/large", { body: contentStream(SEED, largeBytes) })).status,
        201,
      );
    const watches = hasProc ? [from, to].map(({ pid }) => watchMemory(pid)) : [];
    const startMs = performance.now();
    let bytes = 0;
    const standstill = watchStandstill(() => bytes, [from.pid, to.pid, process.pid], QUIET_MS_MAX);
    const archive = await answerOf(from.port, "/_export");
    assert.equal(archive.statusCode, 200);
    const counted = Readable.from(
      (async function* () {
        for await (const piece of archive) {
          bytes += piece.length;
          yield piece;
        }
      })(),
    );
    const reply = await call(to.port, "PUT", "/_import", { body: counted, agent: false }).catch(
      (error: Error) =>
        assert.fail(`${error.stack}\n${standstill.stop()}\n${bytes} bytes came\n${from.log()}\n${to.log()}`),
    );
    const stood = standstill.stop();
    const seconds = (performance.now() - startMs) / 1000;
    const last = JSON.parse(reply.text.trimEnd().split("\n").at(-1) as string);
    const all = keys + (largeBytes > 0 ? 1 : 0);
    const listed = (await call(from.port, "GET", "/?list&count")).text;
    const logs = `${bytes} bytes came of ${listed}\n${reply.text.slice(-500)}\n${from.log()}\n${to.log()}\n${stood}`;
    assert.deepEqual([last.success, last.stored, last.refused], [true, all, 0], logs);
    for (const [i, { start, stop }] of watches.entries()) {
      const peak = stop();
      lines.push(`${i === 0 ? "export" : "import"}: ${memoryLine(start, peak)}`);
      // What a node grows by when it takes so many keys one by one is no growth of the transfer.
      const taken = i === 0 ? 0 : keys * TAKEN_KEY_BYTES;
      assert.ok(peak.own - start.own <= MORE_BYTES_MAX + taken, lines.at(-1));
    }
    const megabytes = bytes / 1e6;
    lines.push(
      `through both: ${all} values, ${megabytes.toFixed(0)} MB in ${seconds.toFixed(1)} s: ${(all / seconds).toFixed(0)} values/s, ${(megabytes / seconds).toFixed(0)} MB/s`,
    );
    const outMs = performance.now();
    for await (const _ of await answerOf(from.port, "/_export"));
    const outSeconds = (performance.now() - outMs) / 1000;
    lines.push(`export alone: ${outSeconds.toFixed(1)} s: ${(all / outSeconds).toFixed(0)} values/s`);
    for (let number = 0; number < keys; number += Math.max(1, Math.floor(keys / 997)))
      assert.equal((await call(to.port, "GET", `/${keyName(number)}`)).text, valueText(number, valueBytes));
    if (largeBytes > 0)
      assert.equal((await digest(to.port, "GET", "/large")).sha256, contentHash(SEED, largeBytes));
    lines.push(tarLine(path.join(folder, "files"), Math.min(keys, TAR_FILES_MAX), valueBytes));
    return lines;
  } finally {
    await from.dispose();
    await to.dispose();
    removeFolder(folder);
  }
}

/** How fast tar takes such files, from the page cache. */
function tarLine(folder: string, files: number, valueBytes: number): string {
  fs.mkdirSync(folder);
  for (let number = 0; number < files; number++)
    fs.writeFileSync(path.join(folder, keyName(number)), valueText(number, valueBytes));
  const startMs = performance.now();
  execFileSync("sh", ["-c", `tar -C "${folder}" -c . | cat > /dev/null`]);
  const seconds = (performance.now() - startMs) / 1000;
  return `tar of ${files} such files: ${seconds.toFixed(2)} s: ${(files / seconds).toFixed(0)} files/s`;
}
