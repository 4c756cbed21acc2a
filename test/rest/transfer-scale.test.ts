/** The short form of test/storm/transfer.test.ts. */
import { test } from "node:test";
import { transferScale } from "./transfer-scale.ts";

test("transfer: many keys and a large value, with flat memory", async (t) => {
  const scale = { keys: 20_000, valueBytes: 100, largeBytes: 200_000_000 };
  for (const line of await transferScale(scale)) t.diagnostic(line);
});
