/**
 * Two releases in one cluster: each step of an upgrade, and back, serves reads and writes of both, and nothing is done that the older one
 * does not know until the cluster is told to; and at each step under chaos. RUNS says how many runs of it a step has.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FEATURE_DECIDED, FEATURE_VERSIONS, FEATURES } from "../../src/cluster/layout/features.ts";
import { chaosRun, emptyTotal, summaryOf } from "../cluster/chaos.ts";
import { bodyOf, isWhole, layoutOf, META, SIZES, until } from "../cluster/kept-values.ts";
import { CLOCK_FAULTS, FAULTS } from "../cluster/nemesis.ts";
import { startCluster } from "../cluster/workers.ts";
import {
  BEFORE_DECIDED,
  BEFORE_FIELDS,
  BEFORE_VERSIONS,
  olderProgram,
  withoutHistory,
} from "../older-program.ts";
import { randomSeed } from "../random.ts";
import { call } from "../rest/client.ts";
import { runProgram } from "../rest/server.ts";

test("two releases: each step of an upgrade serves reads and writes of both, and nothing new before the last one", {
  skip: withoutHistory(BEFORE_FIELDS) ?? false,
}, async () => {
  const older = olderProgram(BEFORE_FIELDS);
  const cluster = await startCluster({ workers: 3, program: older });
  try {
    let round = 0;
    const served = async (): Promise<void> => {
      round++;
      for (const worker of cluster.workers)
        for (const [size, bytes] of Object.entries(SIZES)) {
          const key = `/${size}/${worker.number}`;
          const body = bodyOf(`${round}${key}`, bytes);
          await until(
            `round ${round}: PUT of ${key}`,
            async () => (await call(worker.port, "PUT", key, { body })).status < 300,
          );
          for (const reader of cluster.workers) {
            const read = await call(reader.port, "GET", key);
            assert.equal(
              read.status,
              200,
              `round ${round}: GET of ${key} by ${reader.number}: ${read.text.slice(0, 200)}`,
            );
            assert.ok(read.body.equals(body));
          }
        }
    };
    const command = (...words: string[]) =>
      runProgram([...words, "-master", `http://127.0.0.1:${cluster.masterPort}`]);
    await served();
    for (const worker of cluster.workers) {
      await worker.kill("SIGTERM");
      await worker.start(null);
      await cluster.ready();
      await served();
      const early = await call(worker.port, "PUT", "/early", { headers: META, body: "x" });
      assert.deepEqual([early.status, early.json().code], [501, "upgrade_first"]);
      const ending = await call(worker.port, "PUT", "/early?ttl=5m", { body: "x" });
      assert.deepEqual([ending.status, ending.json().code], [501, "upgrade_first"]);
    }
    // And back: a worker of the release before takes its place again.
    const [first] = cluster.workers;
    await first.kill("SIGTERM");
    await first.start(older);
    await cluster.ready();
    await served();
    await cluster.killMaster();
    await cluster.startMaster(null);
    await until("the new master knows the layout", async () => (await layoutOf(cluster))?.nodes.length === 3);
    await until("the workers report", async () => {
      const refused = await command("upgrade-cluster");
      return refused.status === 1 && refused.output.includes(`can do level 1 of ${FEATURES}`);
    });
    for (const worker of cluster.workers) {
      await worker.kill("SIGTERM");
      const upgraded = await runProgram(["upgrade", worker.data]);
      assert.equal(upgraded.status, 0, upgraded.output);
      await worker.start(null);
      await cluster.ready();
      await served();
    }
    const { epoch } = await layoutOf(cluster);
    await until("the level is raised", async () => (await command("upgrade-cluster")).status === 0);
    assert.deepEqual(await layoutOf(cluster).then(({ features, epoch: now }) => [features, now]), [
      FEATURES,
      epoch + 1,
    ]);
    await served();
    for (const worker of cluster.workers)
      await until(`worker ${worker.number} has heard of the level`, async () => {
        const { status } = await call(worker.port, "PUT", "/late", {
          headers: META,
          body: bodyOf("late", 50),
        });
        return status < 300;
      });
    for (const worker of cluster.workers)
      assert.ok(isWhole(await call(worker.port, "GET", "/late"), "late", 50));
    for (const worker of cluster.workers)
      await until("values may end", async () => {
        const ending = await call(worker.port, "PUT", `/ending/${worker.number}?ttl=1h`, { body: "x" });
        return ending.status < 300;
      });
    for (const worker of cluster.workers)
      assert.ok(Number((await call(worker.port, "GET", "/ending/0")).headers["x-ttl"]) > 0);
    // Twice is once, and an older release takes no part any more.
    assert.equal((await command("upgrade-cluster")).status, 0);
    assert.equal((await layoutOf(cluster)).epoch, epoch + 1);
    const stranger = await cluster.add({ program: older });
    await until("an older worker is refused", async () => {
      const { nodes } = (await call(cluster.masterPort, "GET", "/nodes")).json();
      const row = nodes.find((node: { url: string }) => node.url === stranger.url);
      return row?.refused?.includes(`feature level ${FEATURES}`) === true;
    });
    assert.equal((await layoutOf(cluster)).nodes.length, 3);
  } finally {
    await cluster.dispose();
  }
});

const RUNS = Number(process.env.RUNS ?? 20);

/** Earlier releases, and the level of their clusters. */
const OLDER = [
  { commit: BEFORE_VERSIONS, features: FEATURE_VERSIONS - 1 },
  { commit: BEFORE_DECIDED, features: FEATURE_DECIDED - 1 },
];

for (const { commit, features } of OLDER)
  test(`two releases under chaos: ${RUNS} runs at each step of an upgrade from feature level ${features}`, {
    skip: withoutHistory(commit) ?? false,
  }, async (t) => {
    let seed = randomSeed(t);
    const older = olderProgram(commit);
    const cluster = await startCluster({ workers: 3, program: older, clocks: true });
    const total = emptyTotal();
    const chaos = async (step: string): Promise<void> => {
      for (let run = 0; run < RUNS; run++) {
        const faults = [...FAULTS, ...CLOCK_FAULTS];
        const result = await chaosRun(cluster, { seed: seed++, ms: 3000, lanes: 1 + (run % 3), faults });
        total.add(result);
        assert.deepEqual([...result.unexpected, ...result.violations], [], `${step}, SEED=${result.seed}`);
      }
      console.log(`# ${step}: ${summaryOf(total)}`);
    };
    try {
      for (const worker of cluster.workers) {
        await worker.kill("SIGTERM");
        await worker.start(null);
        await cluster.ready();
        await chaos(`${worker.number + 1} of 3 workers new`);
      }
      await cluster.killMaster();
      await cluster.startMaster(null);
      const master = ["-master", `http://127.0.0.1:${cluster.masterPort}`];
      await until(
        "the new master knows the layout",
        async () => (await layoutOf(cluster))?.nodes.length === 3,
      );
      assert.equal((await layoutOf(cluster))?.features, features);
      await until(
        "the level is raised",
        async () => (await runProgram(["upgrade-cluster", ...master])).status === 0,
      );
      await chaos("all new, the level raised");
    } finally {
      await cluster.dispose();
    }
  });
