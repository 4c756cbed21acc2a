import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { fuzzFraming } from "./framing.ts";

after(closeConnections);

test("framing: every cut of a chunked request, and 480 requests right and wrong, cut, cut off and pipelined", (t) =>
  fuzzFraming(t, { cases: 480, cuts: 1 }));
