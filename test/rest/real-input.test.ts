/** The small form of test/real-input.ts. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { randomSeed } from "../random.ts";
import { realInput } from "../real-input.ts";

const options = spawnSync("curl", ["--version"]).status === 0 ? {} : { skip: "curl is not installed" };

test("real input: files by curl -T and JSON documents read back equal after kill -9", options, async (t) => {
  const { wrong } = await realInput(true, randomSeed(t), (line) => t.diagnostic(line));
  assert.deepEqual(wrong, []);
});
