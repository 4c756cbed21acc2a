/** Ten million keys on one node: starts after a crash and after a clean stop. */
import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { restarts } from "../rest/scale.ts";

after(closeConnections);

test("ten million keys of 100 bytes: 16 bytes of index each, up in 5 s after kill -9 and in 1 s after a clean stop", (t) =>
  restarts(t, { keys: 10_000_000, indexBytesPerKeyMax: 16, afterKillMsMax: 5000, afterStopMsMax: 1000 }));
