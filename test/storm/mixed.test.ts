import { after, test } from "node:test";
import { closeConnections, hasCurl, WITHOUT_CURL } from "../rest/client.ts";
import { largeBesideSmall } from "../rest/mixed.ts";
import { hasProc } from "../rest/process-memory.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;

after(closeConnections);

test(
  "large and small: four uploads of 1 GiB beside small requests: at most 256 MiB more, GETs go on",
  hasProc && hasCurl ? {} : { skip: hasProc ? WITHOUT_CURL : "needs /proc" },
  // The goal is 10 ms. uWS reads on from a socket for as long as it fills 512 KiB at once, which clients on the same machine can keep up.
  (t) => largeBesideSmall(t, { uploads: 4, bytes: GIB, addedBytesMax: 256 * MIB, getP99MsMax: 30 }),
);
