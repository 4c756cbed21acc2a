import { test } from "node:test";
import { canSlowDisk, overload } from "./overload.ts";
import { hasProc } from "./process-memory.ts";

test(
  "overload: twice what a slow disk takes gets 503 with Retry-After at a bounded queue, and the throughput stays",
  hasProc && canSlowDisk ? {} : { skip: "needs /proc, and strace with the right to trace" },
  (t) =>
    overload(t, {
      rounds: 1,
      secondsEach: 3,
      multiples: [2],
      connections: 2000,
      throughputMin: 0.6,
      p99MsMax: 3000,
    }),
);
