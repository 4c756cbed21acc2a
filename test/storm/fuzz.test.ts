import { after, test } from "node:test";
import { fuzz, MEMORY_BYTES_MAX } from "../fuzz/fuzz.ts";
import { closeConnections } from "../rest/client.ts";

after(closeConnections);

test("fuzz: 60,000 cases", (t) =>
  fuzz(t, {
    cases: 60_000,
    addedBytesMax: MEMORY_BYTES_MAX,
    otherAnswerMsMax: 5000,
  }));
