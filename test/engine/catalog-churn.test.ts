/** Lists beside churn, the short form. */
import { test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { churnRun } from "./catalog-churn.ts";
import { inDirectory } from "./harness.ts";

test("catalog: keys that stay come exactly once in every list, whatever else is written, merged and moved", async (t) => {
  const random = new Random(randomSeed(t));
  for (let run = 0; run < 8; run++) await inDirectory((directory) => churnRun(directory, random));
});
