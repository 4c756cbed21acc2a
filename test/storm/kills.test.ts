import { after, test } from "node:test";
import { randomSeed } from "../random.ts";
import { closeConnections } from "../rest/client.ts";
import { killStorm } from "../rest/kills.ts";

after(closeConnections);

test("kill -9: 500 kills under load, some during the start, lose nothing", (t) =>
  killStorm(t, { seed: randomSeed(t), kills: 500 }));
