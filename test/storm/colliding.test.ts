/** A million keys of each of two attacks on the index, beside a million of others; and more than it takes into a directory of version 1. */
import { after, test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { collidingKeys, collidingKeysOfOld } from "../rest/colliding.ts";

after(closeConnections);

test("a million keys made to collide, and a million in one partition: p99 of GET at most twice that of others", (t) =>
  collidingKeys(t, { keys: 1_000_000, ratioMax: 2 }));

test("version 1: 40,000 keys made to collide: what is stored stays, the rest is refused", (t) =>
  collidingKeysOfOld(t, 40_000));
