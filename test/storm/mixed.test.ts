import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { largeBesideSmall } from "../rest/mixed.ts";
import { hasProc } from "../rest/process-memory.ts";

const MIB = 1024 * 1024;

after(closeConnections);

test(
  "large and small: four uploads of 1 GiB beside small requests: at most 256 MiB more, GET p99 under 10 ms",
  hasProc ? {} : { skip: "needs /proc" },
  (t) => largeBesideSmall(t, { uploads: 4, bytes: 1024 * MIB, addedBytesMax: 256 * MIB, getP99MsMax: 10 }),
);
