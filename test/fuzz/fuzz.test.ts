import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { fuzz, MEMORY_BYTES_MAX } from "./fuzz.ts";

after(closeConnections);

test("fuzz: 1,500 cases of uploads cut off, requests changed in bytes and order, and JSON", (t) =>
  fuzz(t, { cases: 1500, addedBytesMax: MEMORY_BYTES_MAX, otherAnswerMsMax: 20_000 }));
