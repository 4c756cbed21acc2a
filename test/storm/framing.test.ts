import { after, test } from "node:test";
import { fuzzFraming } from "../fuzz/framing.ts";
import { closeConnections } from "../rest/client.ts";

after(closeConnections);

test("framing: every cut of two requests, and 12,000 requests right and wrong, cut, cut off and pipelined", (t) =>
  fuzzFraming(t, { cases: 12_000, cuts: 2 }));
