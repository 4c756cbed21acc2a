/** Whose invitation a worker follows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type MemberRoutesOptions, refuse } from "../../src/cluster/membership/member-routes.ts";

const URL = "http://w:1";
const INVITATION = { master: "http://m:1", url: URL, withKeys: false };

function refusal(options: Partial<MemberRoutesOptions>): string | null {
  return refuse(INVITATION, {
    membership: () => null,
    alone: () => assert.fail("not asked"),
    publicUrl: null,
    invitable: true,
    isEmpty: () => true,
    join: async () => {},
    ...options,
  });
}

test("invitations: of a stranger only where that is allowed; never under another name, or with keys unasked", () => {
  assert.equal(refusal({}), null);
  assert.match(String(refusal({ invitable: false })), /-allow-invite/);
  assert.match(String(refusal({ publicUrl: "http://x:1" })), /-public-url/);
  assert.equal(refusal({ publicUrl: URL }), null);
  assert.match(String(refusal({ isEmpty: () => false })), /holds keys/);
});
