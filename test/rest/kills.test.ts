/** kill -9, the short form. */
import { after, test } from "node:test";
import { randomSeed } from "../random.ts";
import { closeConnections } from "./client.ts";
import { killStorm } from "./kills.ts";

after(closeConnections);

test("kill -9: some kills under load, at random and at chosen moments, lose nothing", async (t) => {
  await killStorm(t, { seed: randomSeed(t), kills: 8, preload: 0 });
});
