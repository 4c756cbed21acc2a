/** A million keys, overwritten ten times at random; and what compaction costs those who use the store meanwhile. */
import path from "node:path";
import { after, test } from "node:test";
import { SLAB_BYTES } from "../../src/util/limits.ts";
import { closeConnections } from "../rest/client.ts";
import { overwrite, usersBesideCompaction } from "../rest/overwrite.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

after(closeConnections);

const LIMITS = { keys: 1_000_000, valueBytes: 100, spaceFactor: 2, slackSlabs: 4 };

test("compaction: a million keys overwritten ten times take twice the live bytes and 4 slabs at most", async (t) => {
  const folder = temporaryFolder();
  try {
    await overwrite(t, path.join(folder, "data"), { ...LIMITS, times: 10, slabBytes: SLAB_BYTES });
  } finally {
    removeFolder(folder);
  }
});

// With small slabs there is always one being compacted, however slow the machine is.
test("compaction: beside it, PUT/s are 0.6 of those without garbage or more, and the p99 of GETs at most twice", (t) =>
  usersBesideCompaction(t, {
    ...LIMITS,
    times: 1,
    slabBytes: SLAB_BYTES / 16,
    rounds: 5,
    seconds: 8,
    putShareMin: 0.6,
    getSlowdownMax: 2,
  }));
