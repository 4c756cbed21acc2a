/** A million keys, overwritten ten times at random. */
import { after, test } from "node:test";
import { SLAB_BYTES } from "../../src/util/limits.ts";
import { closeConnections } from "../rest/client.ts";
import { usersBesideCompaction } from "../rest/overwrite.ts";

after(closeConnections);

test("compaction: disk at most twice the live bytes and 4 slabs, PUT/s 0.6 of those without garbage, GET p99 at most twice", (t) =>
  usersBesideCompaction(t, {
    keys: 1_000_000,
    valueBytes: 100,
    times: Number(process.env.TIMES ?? 10),
    slabBytes: SLAB_BYTES,
    spaceFactor: 2,
    slackSlabs: 4,
    rounds: 5,
    seconds: 6,
    putShareMin: 0.6,
    getSlowdownMax: 2,
  }));
