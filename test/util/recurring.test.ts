import assert from "node:assert/strict";
import { test } from "node:test";
import { Recurring } from "../../src/util/recurring.ts";

test("recurring: a failure is told once, again when its reason changes, and when it is over", () => {
  const said: string[] = [];
  const recurring = new Recurring(
    (reason) => said.push(reason),
    () => said.push("over"),
  );
  recurring.passed();
  for (const reason of ["a", "a", "b", "b", "a"]) recurring.failed(reason);
  assert.equal(recurring.reason, "a");
  recurring.passed();
  recurring.passed();
  assert.equal(recurring.reason, null);
  recurring.failed("a");
  assert.deepEqual(said, ["a", "b", "a", "over", "a"]);
});
