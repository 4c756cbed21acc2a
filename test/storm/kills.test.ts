/** kill -9, the long form. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { randomSeed } from "../random.ts";
import { closeConnections } from "../rest/client.ts";
import { killStorm, MOMENTS } from "../rest/kills.ts";

const PRELOAD_KEYS = 20_000;
/** Each moment is aimed at more than 50 times, and not always met. */
const HITS_MIN = 20;

after(closeConnections);

test("kill -9: 500 kills, at random, sealing, compacting, growing the index, uploading and recovering, lose nothing", async (t) => {
  const hits = await killStorm(t, { seed: randomSeed(t), kills: 500, preload: PRELOAD_KEYS });
  for (const moment of MOMENTS) assert.ok(hits[moment] >= HITS_MIN, `${moment}: ${hits[moment]} kills`);
});
