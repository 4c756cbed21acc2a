/** A value of any size streams: 1 GiB in and 1 GiB out at once. */
import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { hasProc } from "../rest/process-memory.ts";
import { fastUploads, transferInBoundedMemory } from "../rest/scale.ts";

const MIB = 1024 * 1024;

after(closeConnections);

test("memory: 1 GiB up and down at once add less than 256 MiB", hasProc ? {} : { skip: "needs /proc" }, (t) =>
  transferInBoundedMemory(t, { bytes: 1024 * MIB, addedBytesMax: 256 * MIB }),
);

test(
  "memory: four uploads of 1 GiB at once by curl add less than 256 MiB",
  hasProc ? {} : { skip: "needs /proc" },
  (t) => fastUploads(t, 4, { bytes: 1024 * MIB, addedBytesMax: 256 * MIB }),
);
