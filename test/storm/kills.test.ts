/** kill -9, the long form. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { BEFORE_FIELDS, olderProgram, withoutHistory } from "../older-program.ts";
import { randomSeed } from "../random.ts";
import { closeConnections } from "../rest/client.ts";
import { killStorm, MOMENTS, upgradeStorm } from "../rest/kills.ts";

const PRELOAD_KEYS = 20_000;
/** Each moment is aimed at more than 50 times, and not always met. */
const HITS_MIN = 20;
const DIRECTORIES = Number(process.env.DIRECTORIES ?? 10);

after(closeConnections);

test("kill -9: 500 kills, at random, sealing, compacting, growing the index, uploading and recovering, lose nothing", async (t) => {
  const hits = await killStorm(t, { seed: randomSeed(t), kills: 500, preload: PRELOAD_KEYS });
  for (const moment of MOMENTS) assert.ok(hits[moment] >= HITS_MIN, `${moment}: ${hits[moment]} kills`);
});

test("kill -9: ten directories of an older program, each upgrade killed five times, and the nodes on them, lose nothing", {
  skip: withoutHistory(BEFORE_FIELDS) ?? false,
}, async (t) => {
  const killed = await upgradeStorm(t, {
    ...{ seed: randomSeed(t), directories: DIRECTORIES, older: olderProgram(BEFORE_FIELDS) },
  });
  t.diagnostic(`${killed} runs of minivault upgrade were killed`);
  assert.ok(killed > DIRECTORIES);
});
