/** A store whose keys are overwritten again and again: what it takes on the disk, and what compaction costs those who use it meanwhile. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { FIGURE } from "../../src/engine/slabs/figures.ts";
import { Filler } from "../engine/fill.ts";
import { type Diagnostic, Random, randomSeed } from "../random.ts";
import { call } from "./client.ts";
import { median } from "./cold.ts";
import { type KeyLoad, type KeyLoadResult, keyLoad } from "./key-load.ts";
import { removeFolder, type Server, startServer, temporaryFolder, waitUntil } from "./server.ts";

const MIB = 1024 * 1024;

export interface OverwriteLimits {
  keys: number;
  valueBytes: number;
  times: number;
  slabBytes: number;
  /** Disk in use may be this many times the live bytes, plus `slackSlabs`. */
  spaceFactor: number;
  slackSlabs: number;
}

/** Bytes that the files of a folder take on the disk. */
function diskBytes(folder: string): number {
  return fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + fs.statSync(path.join(entry.parentPath, entry.name)).blocks * 512, 0);
}

/** Fills a store in this process and overwrites its keys at random. The space bound is checked all the time, and at the end on the disk itself. */
export async function overwrite(t: Diagnostic, directory: string, limits: OverwriteLimits): Promise<void> {
  const { keys, valueBytes, times, slabBytes, spaceFactor, slackSlabs } = limits;
  const random = new Random(randomSeed(t));
  const filler = await Filler.open(directory, { valueBytes, slabBytes });
  const { shard } = filler;
  filler.idleBytes = 32 * 1024;
  const figures = new Float64Array(filler.memory.figures);
  const boundBytes = () => spaceFactor * figures[FIGURE.liveBytes] + slackSlabs * slabBytes;
  let worst = 0;
  const put = async (number: number) => {
    const turn = filler.put(number);
    if (turn !== null) await turn;
    if (number % 16 !== 0) return;
    worst = Math.max(worst, (figures[FIGURE.slabs] * slabBytes) / boundBytes());
  };
  const begun = performance.now();
  for (let number = 0; number < keys; number++) await put(number);
  const filled = performance.now();
  for (let i = 0; i < keys * times; i++) await put(random.below(keys));
  const overwritten = performance.now();
  filler.commit();
  for (let steps = 0; shard.idle(1024 * 1024); steps++) {
    assert.ok(steps < 100_000, "compaction does not end");
    await new Promise((resolve) => setImmediate(resolve));
  }
  const boundAtEnd = boundBytes();
  await filler.close(false);
  const disk = diskBytes(directory);
  t.diagnostic(
    `${keys} keys of ${valueBytes} bytes written in ${Math.round(filled - begun)} ms, overwritten ${times} times at random in ${Math.round(overwritten - filled)} ms; live ${Math.round(figures[FIGURE.liveBytes] / MIB)} MiB, on the disk ${Math.round(disk / MIB)} MiB (${Math.round((100 * disk) / boundAtEnd)} % of the bound), meanwhile at most ${Math.round(worst * 100)} % of it`,
  );
  assert.ok(figures[FIGURE.compactedBytes] > 0);
  assert.equal(figures[FIGURE.keys], keys);
  assert.ok(worst <= 1, `${worst} times the bound`);
  assert.ok(disk <= boundAtEnd, `${disk} bytes`);
}

export interface UsersLimits extends OverwriteLimits {
  rounds: number;
  seconds: number;
  /** PUTs a second with garbage, as a share of those without. */
  putShareMin: number;
  /** p99 of GETs with garbage, as a multiple of that without. */
  getSlowdownMax: number;
}

const PUT_CLIENTS = 64;
/** Few: they must not take what the PUTs need to make garbage. */
const GET_CLIENTS = 2;

interface Measured {
  puts: number;
  get: KeyLoadResult;
}

/** PUTs and GETs over HTTP on a store full of garbage, by turns with the same on one that has none. */
export async function usersBesideCompaction(t: Diagnostic, limits: UsersLimits): Promise<void> {
  const { keys, valueBytes, slabBytes, rounds, seconds, putShareMin, getSlowdownMax } = limits;
  const folder = temporaryFolder();
  const servers: Server[] = [];
  try {
    const dirty = path.join(folder, "dirty");
    const clean = path.join(folder, "clean");
    await overwrite(t, dirty, limits);
    const filler = await Filler.open(clean, { valueBytes, slabBytes });
    for (let number = 0; number < keys; number++) await filler.put(number);
    await filler.close();
    for (const data of [clean, dirty]) servers.push(await startServer({ data }));
    const [cleanServer, dirtyServer] = servers;
    const stats = async ({ port }: Server) => (await call(port, "GET", "/_stats")).json();
    /** Until compaction rests, so that one store's work does not weigh on the other's figures. */
    const rested = async (server: Server) => {
      let before = -1;
      await waitUntil(
        "compaction rests",
        async () => {
          const { compactedBytes, slabs } = await stats(server);
          const same = compactedBytes + slabs === before;
          before = compactedBytes + slabs;
          if (!same) await new Promise((resolve) => setTimeout(resolve, 300));
          return same;
        },
        60_000,
      );
    };
    const measure = async (server: Server, writes: Pick<KeyLoad, "first" | "count" | "stride">) => {
      const common = { port: server.port, seconds, valueBytes };
      const [put, get] = await Promise.all([
        keyLoad({ ...common, verb: "PUT", connections: PUT_CLIENTS, ...writes }),
        keyLoad({ ...common, verb: "GET", connections: GET_CLIENTS, first: 0, count: keys, stride: 0 }),
      ]);
      assert.equal(put.wrong + get.wrong, 0);
      return { puts: Math.round(put.requests / seconds), get };
    };
    const line = (what: string, { puts, get }: Measured) =>
      t.diagnostic(
        `${what}: ${puts} PUT/s, ${Math.round(get.requests / seconds)} GET/s, GET p50 ${get.p50.toFixed(2)} ms, p99 ${get.p99.toFixed(2)} ms`,
      );
    const without: Measured[] = [];
    const beside: Measured[] = [];
    let fresh = keys;
    let moved = 0;
    for (let round = 0; round < rounds; round++) {
      without.push(await measure(cleanServer, { first: fresh, count: 1e9, stride: 1 }));
      fresh = (await stats(cleanServer)).keys;
      line(`round ${round}, fresh keys`, without[round]);
      const before = (await stats(dirtyServer)).compactedBytes;
      beside.push(await measure(dirtyServer, { first: 0, count: keys, stride: 0 }));
      const after = await stats(dirtyServer);
      moved += after.compactedBytes - before;
      line(`round ${round}, overwriting`, beside[round]);
      const bound = limits.spaceFactor * after.liveBytes + limits.slackSlabs * limits.slabBytes;
      const disk = diskBytes(dirty);
      assert.ok(disk <= bound, `${disk} bytes on the disk`);
      await rested(dirtyServer);
    }
    const share = median(beside.map(({ puts }) => puts)) / median(without.map(({ puts }) => puts));
    const slowdown = median(beside.map(({ get }) => get.p99)) / median(without.map(({ get }) => get.p99));
    t.diagnostic(
      `medians of ${rounds} rounds, overwriting beside fresh keys: PUT/s ${share.toFixed(2)} times, p99 of GET ${slowdown.toFixed(2)} times; ${Math.round(moved / MIB)} MiB moved by compaction while measured`,
    );
    assert.ok(moved > 0, "there was no compaction to measure");
    assert.ok(share >= putShareMin, `PUT/s ${share.toFixed(2)} times`);
    assert.ok(slowdown <= getSlowdownMax, `p99 of GET ${slowdown.toFixed(2)} times`);
  } finally {
    for (const server of servers) await server.dispose();
    removeFolder(folder);
  }
}
