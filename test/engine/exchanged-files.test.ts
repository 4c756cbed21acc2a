/** Files that are missing, cut, old or another shard's: the short form. */
import { test } from "node:test";
import { randomSeed } from "../random.ts";
import { exchangedFiles } from "./exchanged-files.ts";

test("exchanged files: what is missing, cut, old or another shard's is noticed: nothing wrong, absent or back", (t) =>
  exchangedFiles(t, { seed: randomSeed(t), stores: 1, oneIn: 4, copies: 8 }));
