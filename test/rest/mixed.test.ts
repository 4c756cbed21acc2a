import { after, test } from "node:test";
import { closeConnections, hasCurl, WITHOUT_CURL } from "./client.ts";
import { largeBesideSmall } from "./mixed.ts";
import { hasProc } from "./process-memory.ts";

const MIB = 1024 * 1024;

after(closeConnections);

test(
  "large and small: four uploads of 64 MiB beside small requests: memory bounded, small GETs quick",
  hasProc && hasCurl ? {} : { skip: hasProc ? WITHOUT_CURL : "needs /proc" },
  (t) => largeBesideSmall(t, { uploads: 4, bytes: 64 * MIB, addedBytesMax: 256 * MIB, getP99MsMax: 1000 }),
);
