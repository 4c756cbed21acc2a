/** What a replica answers to a look, also where the record cannot be read when its turn has come. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DAMAGED, lookAnswer } from "../../src/cluster/register/look-answer.ts";
import { TOMBSTONE, UNAVAILABLE } from "../../src/cluster/register/ports.ts";
import { emptyHead } from "../../src/format/record.ts";
import type { FoundRegister } from "../../src/shards/vault/register.ts";
import { VaultError } from "../../src/util/errors.ts";

const held = (state: FoundRegister["state"]): FoundRegister => ({
  ...{ state, head: emptyHead(), ended: false, end: 0, recent: null },
  found: {} as FoundRegister["found"],
});
const fails = (error: Error) => () => {
  throw error;
};

test("look: what cannot be read now is refused without an effect, what is damaged is told, and neither is thrown", () => {
  const none = () => null;
  assert.equal(lookAnswer(held("unreadable"), none), UNAVAILABLE);
  assert.equal(lookAnswer(held("damaged"), none), DAMAGED);
  assert.equal(lookAnswer(held("found"), fails(new VaultError("overloaded"))), UNAVAILABLE);
  assert.equal(lookAnswer(held("found"), fails(new VaultError("corrupt"))), DAMAGED);
  assert.throws(() => lookAnswer(held("found"), fails(new TypeError("a bug"))), TypeError);
  const found = lookAnswer(held("found"), () => TOMBSTONE);
  assert.deepEqual([found.kind, found.kind === "yes" && found.payload], ["yes", TOMBSTONE]);
  const absent = lookAnswer(held("absent"), fails(new Error("it is not asked")));
  assert.deepEqual([absent.kind, absent.kind === "yes" && absent.ballot], ["yes", null]);
});
