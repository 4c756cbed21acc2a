/** Clients that keep a copy by the feed of a cluster whose nodes are killed and cut off: RUNS, MOVE_RUNS, LOSS_RUNS and SEED change how often, and with what. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { followCluster } from "../cluster/feed-follow.ts";
import { Random, randomSeed } from "../random.ts";

const RUNS = Number(process.env.RUNS ?? 20);
const MOVE_RUNS = Number(process.env.MOVE_RUNS ?? 4);
const LOSS_RUNS = Number(process.env.LOSS_RUNS ?? 2);
const ROUNDS = Number(process.env.ROUNDS ?? 8);

test(`feed over a cluster: ${RUNS} runs of clients that keep a copy by it, beside kills and cut links`, async (t) => {
  const seed = randomSeed(t);
  const total = { told: 0, resets: 0, kills: 0 };
  for (let run = 0; run < RUNS; run++) {
    const { told, resets, kills } = await followCluster(new Random(seed + run), ROUNDS).catch(
      (error: Error) => assert.fail(`run ${run} (SEED=${seed + run} RUNS=1): ${error.stack}`),
    );
    console.log(`# run ${run + 1}, SEED=${seed + run}: ${told} told, ${resets} resets, ${kills} kills`);
    total.told += told;
    total.resets += resets;
    total.kills += kills;
  }
  t.diagnostic(JSON.stringify(total));
});

test(`feed over a cluster: ${MOVE_RUNS} runs of clients that keep a copy by it, beside joins, drains, kills and cut links`, async (t) => {
  const seed = randomSeed(t);
  const total = { told: 0, resets: 0, kills: 0, moves: 0 };
  for (let run = 0; run < MOVE_RUNS; run++) {
    const result = await followCluster(new Random(seed + run), ROUNDS, { moves: true }).catch(
      (error: Error) => assert.fail(`run ${run} (SEED=${seed + run} MOVE_RUNS=1): ${error.stack}`),
    );
    const { told, resets, kills, moves } = result;
    console.log(
      `# run ${run + 1}, SEED=${seed + run}: ${told} told, ${resets} resets, ${kills} kills, ${moves} moves`,
    );
    total.told += told;
    total.resets += resets;
    total.kills += kills;
    total.moves += moves;
  }
  t.diagnostic(JSON.stringify(total));
});

test(`feed over a cluster: ${LOSS_RUNS} runs of clients that keep a copy by it, beside a disk that is lost, kills and cut links`, async (t) => {
  const seed = randomSeed(t);
  for (let run = 0; run < LOSS_RUNS; run++) {
    const { told, resets, kills } = await followCluster(new Random(seed + run), ROUNDS, { loss: true }).catch(
      (error: Error) => assert.fail(`run ${run} (SEED=${seed + run} LOSS_RUNS=1): ${error.stack}`),
    );
    console.log(
      `# run ${run + 1}, SEED=${seed + run}: ${told} told, ${resets} resets, ${kills} kills, 1 disk lost`,
    );
  }
});
