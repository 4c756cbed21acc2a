/** What docs/architecture.md says of the files that a request crosses is what a run shows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { filesOf, listedFiles, WAYS } from "../docs/ways.ts";

for (const way of WAYS)
  test(`ways: ${way.name} crosses the files that docs/architecture.md lists`, async () => {
    const files = await filesOf(way);
    const listed = listedFiles(way);
    // Background work falls into a run or not; what every request crosses is always there.
    const missing = files.filter((file) => !listed.includes(file));
    const gone = listed.filter((file) => !files.includes(file));
    assert.ok(
      missing.length + gone.length <= 3,
      `not listed: ${missing.join(", ")}; not crossed: ${gone.join(", ")}`,
    );
  });
