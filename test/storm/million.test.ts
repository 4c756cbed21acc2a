/** A million keys on one node. */
import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { manyKeys } from "../rest/scale.ts";

after(closeConnections);

test("a million keys of 100 bytes: at most 16 bytes of index each, restart after kill -9 in under 3 s", (t) =>
  manyKeys(t, { keys: 1_000_000, indexBytesPerKeyMax: 16, restartMsMax: 3000 }));
