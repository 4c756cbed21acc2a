/** Kills and power loss at each step of flushes and merges, the long form. IMAGES says how many. */
import { test } from "node:test";
import { catalogLosses } from "../engine/catalog-losses.ts";
import { randomSeed } from "../random.ts";

test("catalog: whatever kills and losses of power leave, lists are whole: 10,000 images", (t) =>
  catalogLosses(t, { seed: randomSeed(t), images: Number(process.env.IMAGES ?? 10_000), oneIn: 2 }));
