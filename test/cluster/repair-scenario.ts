/**
 * Repair with real workers: what was missed comes back by itself, a lost disk is filled again, and nodes join and leave without a loss. The short form is part of
 * the normal tests, the long one of test/storm.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { call as callOnce } from "../rest/client.ts";
import { runProgram, waitUntil } from "../rest/server.ts";
import { patiently } from "./patience.ts";
import { type Cluster, startCluster } from "./workers.ts";

const RAW = { "Content-Type": "text/plain" };
/** Keys that are written again and again meanwhile. */
const KEYS = 1000;
const LANES = 16;
/** The goal is 30 s; a slow machine gets more before the test fails, and prints what it took. */
const CONVERGED_MS_MAX = 240_000;

/** Asks again where a kept connection was closed just when it was used: nodes stop here, and close what is idle. All requests here may be repeated. */
const call: typeof callOnce = async (...request) => {
  for (let tries = 0; ; tries++)
    try {
      return await callOnce(...request);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ECONNRESET" || tries === 3) throw error;
    }
};

/** Runs `work` for 0 to `count`, several at once. */
async function many(count: number, work: (number: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

export interface RepairForm {
  /** Keys that a node misses. */
  missed: number;
  /** A lost disk as well, which waits REJOIN_WAIT_MS. */
  lost: boolean;
}

/** The tests, to be called inside of `describe`. */
export function repairTests({ missed, lost }: RepairForm): void {
  const onlyLong = {
    skip: lost ? false : "waits a minute and more, so only the long form in test/storm does it",
  };
  let cluster: Cluster;
  const port = (worker: number) => cluster.workers[worker].port;
  /** What was written, by key; null: deleted. */
  const written = new Map<string, string | null>();

  interface ClusterStats {
    epoch: number;
    moving: boolean;
    voting: boolean;
    synchronisation: { state: string; done: number; total: number; keys: number; problem: string | null };
    antiEntropy: { converged: boolean; lastRoundAt: number; differingPartitions: number; repaired: number };
    collectedTombstones: number;
    damagedKeys: { waiting: number; repaired: number };
    droppedPartitions: number;
    peers: { url: string; state: string; hints: { waiting: number; sent: number; dropped: number } }[];
  }

  const stats = async (worker: number): Promise<ClusterStats> =>
    (await call(port(worker), "GET", "/_stats")).json().cluster as ClusterStats;

  const write = async (worker: number, key: string, value: string | null): Promise<void> => {
    await waitUntil(`${key} is written`, async () => {
      const reply =
        value === null
          ? await call(port(worker), "DELETE", key)
          : await call(port(worker), "PUT", key, { headers: RAW, body: value });
      assert.ok(reply.status < 300 || reply.status === 503, `${key}: ${reply.status} ${reply.text}`);
      return reply.status < 300;
    });
    written.set(key, value);
  };

  /**
   * Waits until each node has said that nothing differs, in a round that began after now. Not all at once: on a busy machine there is always
   * one that just cannot reach another.
   */
  const converged = async (workers: readonly number[]): Promise<void> => {
    const since = Date.now() + 500;
    const waiting = new Set(workers);
    try {
      await waitUntil(
        "all say that they have converged",
        async () => {
          for (const worker of waiting) {
            const { antiEntropy } = await stats(worker);
            if (antiEntropy.converged && antiEntropy.lastRoundAt > since) waiting.delete(worker);
          }
          return waiting.size === 0;
        },
        CONVERGED_MS_MAX,
      );
    } catch (error) {
      for (const worker of workers) console.log(`# ${worker}: ${JSON.stringify(await stats(worker))}`);
      throw error;
    }
  };

  const check = async (worker: number, query: string): Promise<void> => {
    const entries = [...written];
    await many(entries.length, async (number) => {
      const [key, value] = entries[number];
      const reply = await call(port(worker), "GET", `${key}${query}`);
      assert.equal(reply.status === 404 ? null : reply.text, value, `${key} at ${worker}: ${reply.status}`);
    });
  };

  before(async () => {
    cluster = await startCluster({
      workers: 3,
      regions: ["eu", "us", "asia"],
      env: { MINIVAULT_TEST_TOMBSTONE_AGE_MS: "3000" },
    });
  });
  after(async () => {
    for (const worker of cluster.workers)
      if (!worker.isRunning)
        console.log(
          `# worker ${worker.number} has ended:\n${worker.log().split("\n").slice(-12).join("\n")}`,
        );
    await cluster.dispose();
  });

  test("repair: a node that was away gets what it missed by itself", async () => {
    const large = "x".repeat(1_500_000);
    await many(200, (number) => write(number % 3, `/old-${number}`, "old"));
    await cluster.workers[2].kill();
    await many(missed, (number) => write(number % 2, `/missed-${number}`, `value ${number}`));
    await many(100, (number) => write(number % 2, `/old-${number}`, number % 2 === 0 ? "new" : null));
    await write(0, "/missed-large", large);
    const hints = await Promise.all([0, 1].map(stats));
    const waiting = hints.map(({ peers }) => peers.reduce((sum, peer) => sum + peer.hints.waiting, 0));
    await cluster.workers[2].start();
    const begun = performance.now();
    await converged([0, 1, 2]);
    console.log(
      `# hints waiting ${waiting}; converged ${((performance.now() - begun) / 1000).toFixed(1)} s after the start; ${(await stats(2)).antiEntropy.repaired} by anti-entropy`,
    );
    assert.ok(waiting[0] + waiting[1] > 0, "there were hints");
    await check(2, "?consistency=one");
  });

  test("repair: tombstones are collected everywhere, and their keys stay deleted", async () => {
    await waitUntil(
      "no node has a tombstone",
      async () => {
        const all = await Promise.all([0, 1, 2].map((worker) => call(port(worker), "GET", "/_stats")));
        return all.every((reply) => reply.json().tombstones === 0);
      },
      CONVERGED_MS_MAX,
    );
    const collected = await Promise.all(
      [0, 1, 2].map(async (worker) => (await stats(worker)).collectedTombstones),
    );
    console.log(`# tombstones collected, by the node that saw to it: ${collected}`);
    assert.ok(collected.reduce((sum, count) => sum + count) >= 50);
    for (const worker of [0, 1, 2])
      for (let number = 1; number < 100; number += 20)
        assert.equal((await call(port(worker), "GET", `/old-${number}`)).status, 404);
    await write(1, "/old-1", "again");
    assert.equal((await call(port(2), "GET", "/old-1")).text, "again");
    // Who follows changes is told all that comes after it.
    for (const worker of [0, 1, 2]) {
      const now = await patiently(port(worker), "GET", "/?changes");
      assert.equal(now.status, 200, now.text);
      await write(worker, `/after-${worker}`, "x");
      const later = await patiently(port(worker), "GET", `/?changes&wait=30s&since=${now.json().place}`);
      assert.match(later.text, new RegExp(`after-${worker}`));
    }
  });

  test("repair: a record that is damaged on one disk is fetched from the others", async () => {
    const value = `damaged here, whole elsewhere ${"d".repeat(200)}`;
    await write(0, "/damaged", value);
    await converged([2]);
    const { data } = cluster.workers[2];
    await cluster.workers[2].kill("SIGTERM");
    const flipped = readdirSync(data, { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".slab"))
      .map((file) => path.join(data, file))
      .filter((file) => {
        const bytes = readFileSync(file);
        const place = bytes.indexOf(value);
        if (place < 0) return false;
        bytes[place + 40] ^= 1;
        writeFileSync(file, bytes);
        return true;
      });
    assert.equal(flipped.length, 1, "the value lies in one slab");
    await cluster.workers[2].start();
    await cluster.ready([cluster.workers[2]]);
    for (const query of ["", "?consistency=one"])
      assert.equal((await call(port(2), "GET", `/damaged${query}`)).text, value);
    await waitUntil(
      "the record is repaired",
      async () => (await stats(2)).damagedKeys.repaired > 0,
      CONVERGED_MS_MAX,
    );
    assert.equal((await call(port(2), "GET", "/damaged?consistency=one")).text, value);
    await converged([0, 1, 2]);
  });

  test("repair: a node whose disk is lost synchronises, and then votes again", onlyLong, async () => {
    await cluster.workers[1].kill();
    rmSync(cluster.workers[1].data, { recursive: true, force: true });
    await cluster.workers[1].start();
    const begun = performance.now();
    let writing = true;
    const light = (async () => {
      for (let number = 0; writing; number++) {
        await write(number % 2 === 0 ? 0 : 2, `/meanwhile-${number % KEYS}`, `${number}`);
        await sleep(10);
      }
    })();
    try {
      await waitUntil("it votes", async () => (await stats(1)).voting, CONVERGED_MS_MAX);
    } finally {
      writing = false;
      await light;
    }
    const { synchronisation } = await stats(1);
    console.log(
      `# votes ${((performance.now() - begun) / 1000).toFixed(1)} s after the start, ${synchronisation.keys} keys taken over`,
    );
    await converged([0, 1, 2]);
    await check(1, "?consistency=one");
  });

  test(
    "repair: a node that misses a slab does not vote until it has synchronised, and nothing is lost or back",
    onlyLong,
    async () => {
      await write(0, "/deleted-before", "once");
      await write(0, "/deleted-before", null);
      await converged([2]);
      const { data } = cluster.workers[2];
      await cluster.workers[2].kill();
      const slabs = readdirSync(data, { recursive: true, encoding: "utf8" }).filter((file) =>
        file.endsWith(".slab"),
      );
      for (const slab of slabs) rmSync(path.join(data, slab));
      await cluster.workers[2].start();
      await cluster.ready([cluster.workers[2]]);
      assert.equal((await stats(2)).voting, false);
      await write(2, "/while-it-does-not-vote", "written");
      await waitUntil("it votes", async () => (await stats(2)).voting, CONVERGED_MS_MAX);
      await converged([0, 1, 2]);
      await check(2, "?consistency=one");
      // What is absent is known to be, and stays so after a restart.
      for (const start of [1, 2]) {
        for (const key of ["/deleted-before", "/never-written"])
          assert.equal(
            (await call(port(2), "GET", `${key}?consistency=one`)).status,
            404,
            `${key}, ${start}`,
          );
        const health = (await call(port(2), "GET", "/health")).json();
        assert.deepEqual([health.status, health.missingSlabs, health.inDoubt], ["healthy", 0, false]);
        await cluster.workers[2].kill(start === 1 ? "SIGKILL" : "SIGTERM");
        await cluster.workers[2].start();
        await cluster.ready([cluster.workers[2]]);
        assert.equal((await stats(2)).voting, true);
      }
    },
  );

  test("repair: a fourth node joins under load, then one is drained: nothing is lost", async () => {
    let writing = true;
    const light = (async () => {
      for (let number = 0; writing; number++) {
        await write([0, 2][number % 2], `/load-${number % KEYS}`, `${number}`);
        await sleep(5);
      }
    })();
    const stable = (worker: number, after: number) =>
      waitUntil(
        `the move after epoch ${after} is finished`,
        async () => {
          const { epoch, moving } = await stats(worker);
          return epoch > after && !moving;
        },
        CONVERGED_MS_MAX,
      );
    try {
      const { epoch } = await stats(0);
      let begun = performance.now();
      await cluster.add({ region: "africa" });
      await Promise.all([0, 1, 2, 3].map((worker) => stable(worker, epoch)));
      console.log(`# joined in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
      begun = performance.now();
      const drained = await runProgram([
        ...["drain", cluster.workers[1].url, "-master", `http://127.0.0.1:${cluster.masterPort}`],
      ]);
      assert.equal(drained.status, 0, JSON.stringify(drained));
      await Promise.all([0, 2, 3].map((worker) => stable(worker, epoch + 2)));
      console.log(`# drained in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    } finally {
      writing = false;
      await light;
    }
    await cluster.workers[1].kill();
    await converged([0, 2, 3]);
    await check(3, "");
    await check(3, "?consistency=one");
    assert.ok((await stats(0)).epoch >= 5);
  });
}
