/** Whose invitation a worker follows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  createMemberRoutes,
  type MemberRoutesOptions,
  refuse,
} from "../../src/cluster/membership/member-routes.ts";
import type { Invitation } from "../../src/cluster/membership/messages.ts";

const URL = "http://w:1";
const INVITATION = { master: "http://m:1", url: URL, withKeys: false, cluster: null };

function optionsWith(more: Partial<MemberRoutesOptions>): MemberRoutesOptions {
  return {
    membership: () => null,
    alone: () => assert.fail("not asked"),
    publicUrl: null,
    invitable: true,
    isEmpty: () => true,
    hasOwnMasters: false,
    join: async () => {},
    ...more,
  };
}

function refusal(options: Partial<MemberRoutesOptions>, more: Partial<Invitation> = {}): string | null {
  return refuse({ ...INVITATION, ...more }, optionsWith(options));
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

test("invitations: URLs that no master, and no worker, can have are refused before anybody acts by them", () => {
  const joined: string[] = [];
  const routes = createMemberRoutes(
    optionsWith({
      alone: () => ({}) as never,
      join: async (master, url) => void joined.push(`${master} ${url}`),
    }),
  );
  const invite = (invitation: unknown): void =>
    routes.takeLayout(Buffer.from(JSON.stringify({ invitation })), () => {});
  const names = [
    "ftp://m:1",
    "m:1",
    "javascript:0",
    "http://m:1/path",
    "http://u:p@m:1",
    "http://",
    "",
    7,
    null,
    {},
  ];
  for (const name of names)
    for (const wrong of [{ master: name }, { url: name }])
      assert.throws(
        () => invite({ ...INVITATION, ...wrong }),
        { code: "bad_request" },
        JSON.stringify(wrong),
      );
  for (const wrong of [null, 7, "x", []]) assert.throws(() => invite(wrong), { code: "bad_request" });
  assert.deepEqual(joined, []);
  invite(INVITATION);
  assert.deepEqual(joined, ["http://m:1 http://w:1"]);
});
