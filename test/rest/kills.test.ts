import { after, test } from "node:test";
import { randomSeed } from "../random.ts";
import { closeConnections } from "./client.ts";
import { killStorm } from "./kills.ts";

after(closeConnections);

test("kill -9: a dozen kills under load lose nothing", (t) =>
  killStorm(t, { seed: randomSeed(t), kills: 12 }));
