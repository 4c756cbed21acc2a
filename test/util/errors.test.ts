import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { ERRORS } from "../../src/util/errors.ts";

const page = (name: string): string => readFileSync(path.join(__dirname, "../../docs", name), "utf8");

test("errors: docs/api.md has the very table of the source", () => {
  const documented = [...page("api.md").matchAll(/^\| `(\w+)` \| (\d{3}) \| (yes|no) \|$/gm)].map(
    ([, code, status, later]) => [code, Number(status), later],
  );
  const actual = Object.entries(ERRORS).map(([code, { status, retryable }]) => [
    code,
    status,
    retryable ? "yes" : "no",
  ]);
  assert.deepEqual(documented, actual);
});

test("docs/architecture.md: every runtime dependency has its line", () => {
  const { bundled } = JSON.parse(readFileSync(path.join(__dirname, "../../package.json"), "utf8"));
  assert.ok(bundled.length > 0);
  for (const name of bundled)
    assert.ok(page("architecture.md").includes(`| \`${name}\``), `${name} is not explained`);
});
