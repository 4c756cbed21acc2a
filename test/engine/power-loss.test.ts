/** Power loss, the short form. */
import { test } from "node:test";
import { randomSeed } from "../random.ts";
import { powerLosses } from "./power-loss.ts";

for (const sync of ["always", "os"] as const) {
  test(`power loss, -sync ${sync}: images at each sync and in between open with what they must hold`, (t) =>
    powerLosses(t, { seed: randomSeed(t), sync, images: 250, oneIn: 12 }));
}
