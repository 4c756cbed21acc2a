/** The small form of test/storm/colliding.test.ts. */
import { after, test } from "node:test";
import { closeConnections } from "./client.ts";
import { collidingKeys, collidingKeysOfOld } from "./colliding.ts";

after(closeConnections);

// Beside other tests a p99 says little: here it only has to be no catastrophe.
test("colliding keys: two attacks of 3,000 keys each are served like other keys, over kill -9 and a stop", (t) =>
  collidingKeys(t, { keys: 3000, ratioMax: 20 }));

test("colliding keys: a directory of version 1 stores them, over kill -9 and a stop", (t) =>
  collidingKeysOfOld(t, 2000));
