/** The short form of test/storm/once.test.ts. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { randomSeed } from "../random.ts";
import { onceRun } from "./once-chaos.ts";
import { type Cluster, startCluster } from "./workers.ts";

const RUNS = 2;
const RUN_MS = 3000;

let cluster: Cluster | null = null;
after(() => cluster?.dispose());

test("idempotency keys: with nodes killed and paused, links cut, late and stalled, each write that is sent again to any node is done once", async (t) => {
  const first = randomSeed(t);
  cluster = await startCluster({ workers: 3 });
  for (let run = 0; run < RUNS; run++) {
    const { writes, again, replayed, faults, wrong } = await onceRun(cluster, {
      seed: first + run,
      ms: RUN_MS,
    });
    t.diagnostic(`${writes} writes, ${again} sent again, ${replayed} were known; ${faults}`);
    assert.deepEqual(wrong, []);
    assert.ok(writes > 0);
  }
});
