/** Every file of a store removed, cut, swapped for each older copy of itself and exchanged with the other shard's, and copies made file by file: the long form. */
import { test } from "node:test";
import { exchangedFiles } from "../engine/exchanged-files.ts";
import { randomSeed } from "../random.ts";

test("exchanged files: every file of many stores; nothing wrong, absent or back", (t) =>
  exchangedFiles(t, {
    seed: randomSeed(t),
    stores: Number(process.env.STORES ?? 40),
    oneIn: 1,
    copies: 200,
  }));
