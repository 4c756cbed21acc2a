/** Kills and power loss at the steps of flushes and merges, the short form. */
import { test } from "node:test";
import { randomSeed } from "../random.ts";
import { catalogLosses } from "./catalog-losses.ts";

test("catalog: whatever a kill or a loss of power leaves, lists are whole", (t) =>
  catalogLosses(t, { seed: randomSeed(t), images: 150, oneIn: 12 }));
