/** The small form of test/real-input.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { randomSeed } from "../random.ts";
import { realInput } from "../real-input.ts";
import { hasCurl, WITHOUT_CURL } from "./client.ts";

const options = hasCurl ? {} : { skip: WITHOUT_CURL };

test("real input: files by curl -T and JSON documents read back equal after kill -9", options, async (t) => {
  const { wrong } = await realInput(true, randomSeed(t), (line) => t.diagnostic(line));
  assert.deepEqual(wrong, []);
});
