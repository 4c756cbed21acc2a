/** Power loss, the long form: more than 10,000 images in each sync mode. */
import { test } from "node:test";
import { powerLosses } from "../engine/power-loss.ts";
import { randomSeed } from "../random.ts";

for (const sync of ["always", "os"] as const) {
  test(`power loss, -sync ${sync}: 10,000 images of many runs open with what they must hold`, (t) =>
    powerLosses(t, { seed: randomSeed(t), sync, images: 10_000, oneIn: 4 }));
}
