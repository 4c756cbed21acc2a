/** Whose invitation a worker follows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type MemberRoutesOptions, refuse } from "../../src/cluster/membership/member-routes.ts";
import type { Invitation } from "../../src/cluster/membership/messages.ts";

const URL = "http://w:1";
const INVITATION = { master: "http://m:1", url: URL, withKeys: false, cluster: null };

function refusal(options: Partial<MemberRoutesOptions>, more: Partial<Invitation> = {}): string | null {
  return refuse(
    { ...INVITATION, ...more },
    {
      membership: () => null,
      alone: () => assert.fail("not asked"),
      publicUrl: null,
      invitable: true,
      isEmpty: () => true,
      hasOwnMasters: false,
      join: async () => {},
      ...options,
    },
  );
}

test("invitations: of a stranger only where that is allowed; never under another name, or with keys unasked", () => {
  assert.equal(refusal({}), null);
  assert.match(String(refusal({ invitable: false })), /-allow-invite/);
  assert.match(String(refusal({ publicUrl: "http://x:1" })), /-public-url/);
  assert.equal(refusal({ publicUrl: URL }), null);
  assert.match(String(refusal({ isEmpty: () => false })), /holds keys/);
});

test("invitations: a second master that is not known yet is no stranger, one of another cluster is, and one beside -master", () => {
  const CLUSTER = "c".repeat(32);
  const known = (layout: object | null) => ({ url: URL, masterUrls: ["http://first:1"], layout }) as never;
  assert.equal(refusal({ membership: () => known(null) }), null);
  assert.equal(refusal({ membership: () => known(null) }, { cluster: CLUSTER }), null, "it knows more");
  assert.equal(refusal({ membership: () => known({ cluster: CLUSTER }) }), null, "it knows less");
  assert.equal(refusal({ membership: () => known({ cluster: CLUSTER }) }, { cluster: CLUSTER }), null);
  const foreign = refusal({ membership: () => known({ cluster: CLUSTER }) }, { cluster: "d".repeat(32) });
  assert.match(String(foreign), /another cluster/);
  const named = { membership: () => known(null), hasOwnMasters: true };
  assert.match(String(refusal(named)), /another master: http:\/\/first:1/);
  assert.equal(refusal(named, { master: "http://first:1" }), null);
  assert.match(String(refusal({ membership: () => known(null), invitable: false })), /another master/);
});
