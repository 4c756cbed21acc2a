/** Export and import of 1,000,000 keys and of one value of 5 GiB: `test/rest/transfer-scale.ts`, in full. */
import { test } from "node:test";
import { transferScale } from "../rest/transfer-scale.ts";

test("transfer: a million keys", async (t) => {
  for (const line of await transferScale({ keys: 1_000_000, valueBytes: 100, largeBytes: 0 }))
    t.diagnostic(line);
});

test("transfer: a value of 5 GiB", async (t) => {
  for (const line of await transferScale({ keys: 1000, valueBytes: 100, largeBytes: 5 * 2 ** 30 }))
    t.diagnostic(line);
});
