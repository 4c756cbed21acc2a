import { test } from "node:test";
import { canSlowDisk, overload } from "../rest/overload.ts";
import { hasProc } from "../rest/process-memory.ts";

test(
  "overload: 2 and 4 times the peak, 5 rounds",
  hasProc && canSlowDisk ? {} : { skip: "needs /proc, and strace with the right to trace" },
  (t) =>
    overload(t, {
      rounds: 5,
      secondsEach: 5,
      multiples: [2, 4],
      connections: 4000,
      throughputMin: 0.9,
      p99MsMax: 1500,
    }),
);
