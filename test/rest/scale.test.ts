/** The short forms of what test/storm does in full. */
import { after, test } from "node:test";
import { closeConnections } from "./client.ts";
import { hasProc } from "./process-memory.ts";
import { manyKeys, restarts, transferInBoundedMemory } from "./scale.ts";

const MIB = 1024 * 1024;

after(closeConnections);

test(
  "memory: 200 MiB up and down at once add less than 128 MiB",
  hasProc ? {} : { skip: "needs /proc" },
  (t) => transferInBoundedMemory(t, { bytes: 200 * MIB, addedBytesMax: 128 * MIB }),
);

// The index grows by doubling of its parts, has blocks at hand for the writes to come, and a small store has not filled its first ones: the bound of 16 is
// the million's.
test("many keys: 100,000 of 100 bytes, and a restart after kill -9", (t) =>
  manyKeys(t, { keys: 100_000, indexBytesPerKeyMax: 48, restartMsMax: 4000 }));

test("restart: 60,000 keys after kill -9 and, from the index snapshot, after a clean stop", (t) =>
  restarts(t, { keys: 60_000, indexBytesPerKeyMax: 60, afterKillMsMax: 3000, afterStopMsMax: 3000 }));
