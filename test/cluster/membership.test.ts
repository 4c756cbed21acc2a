/** What a worker makes of layouts, without a network: `start` is never called. */
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { readClusterFile } from "../../src/cluster/layout/cluster-file.ts";
import type { LayoutNode } from "../../src/cluster/layout/layout.ts";
import { startRecovery } from "../../src/cluster/layout/recovery.ts";
import { firstLayout, startMove } from "../../src/cluster/layout/steps.ts";
import { PeerTls } from "../../src/cluster/link/peer-tls.ts";
import { Membership, type MembershipOptions } from "../../src/cluster/membership/membership.ts";
import { loadHash } from "../../src/util/hash.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

before(loadHash);
const folder = temporaryFolder();
const opened: Membership[] = [];
after(async () => {
  for (const membership of opened) await membership.close();
  removeFolder(folder);
});

const nodes = ["a", "b", "c"].map((name): LayoutNode => {
  const url = `http://${name}:1`;
  return { id: url, url, region: "eu", host: name, state: "active" };
});
const [a, b, c] = nodes.map(({ id }) => id);

/** A worker's membership on a directory of its own, or on one from before; `said`: what it warned of. */
function open(url: string, more: Partial<MembershipOptions> = {}) {
  const said: string[] = [];
  const directory = more.directory ?? mkdtempSync(path.join(folder, "member-"));
  const membership = new Membership({
    ...{ directory, url, region: "eu", host: "h", store: "5".repeat(32), storeNode: 1, starts: 1 },
    ...{ openedEnds: [0], answeredEnds: () => [0], hello: () => Promise.reject(new Error("nobody")) },
    ...{ masters: ["http://m:1"], volumes: [], replicas: 3, wantedReplicas: null, partitions: null },
    ...{
      load: () => ({ keys: 0, bytes: 0 }),
      isEmpty: () => true,
      signer: null,
      tls: new PeerTls(null, null),
    },
    log: { info() {}, warn: (_, text) => said.push(text), error: (_, text) => said.push(text) },
    ...more,
  } as MembershipOptions);
  opened.push(membership);
  const votes = () => readClusterFile(directory)?.voting;
  return { membership, directory, said, votes };
}

test("membership: a recovery gives back the vote of who is left, and of nobody else", () => {
  const layout = firstLayout(nodes, 3);
  const recovering = startRecovery(layout, new Set([c]));
  for (const take of ["takeLayout", "takeFromMaker"] as const) {
    const left = open(a);
    left.membership.takeFromMaker(layout, "7".repeat(32), {});
    assert.equal(left.votes(), false, "its data was lost");
    left.membership[take](recovering, null, {});
    assert.equal(left.votes(), true);
    const lost = open(c);
    lost.membership.takeFromMaker(layout, "7".repeat(32), {});
    lost.membership[take](recovering, null, {});
    assert.deepEqual([lost.votes(), lost.membership.isMember], [false, false]);
    assert.match(lost.membership.unready ?? "", /not part of the cluster's layout/);
  }
  const other = open(b);
  other.membership.takeFromMaker(layout, "7".repeat(32), {});
  other.membership.takeLayout(startMove(layout, nodes.slice(0, 2)));
  assert.equal(other.votes(), false, "a move is no recovery");
});

test("membership: what a worker was started with and is not in force is said, and what is in force is shown", () => {
  const layout = firstLayout(nodes, 3);
  const { membership, directory, said } = open(a, { region: "us", wantedReplicas: 5, partitions: 4096 });
  membership.takeFromMaker(layout, null, {});
  assert.ok(said.some((text) => /-region us is not in force yet: the layout has the region eu/.test(text)));
  assert.ok(said.some((text) => /-replicas 5 is not in force here: the layout has 3 copies/.test(text)));
  assert.ok(
    said.some((text) =>
      /-partitions 4096 is not in force: the cluster was born with 1024 partitions, for good/.test(text),
    ),
  );
  assert.deepEqual(membership.inForce, {
    region: "eu",
    replicas: 3,
    partitions: 1024,
    masters: [{ url: "http://m:1", answers: false }],
  });
  const moved = open(a, { directory, masters: ["http://n:1"] });
  assert.ok(
    moved.said.some((text) =>
      /-master has changed: from now on http:\/\/n:1, before http:\/\/m:1/.test(text),
    ),
  );
  const listed = open(a, { directory, masters: [], volumes: [b] });
  assert.ok(listed.said.some((text) => /-volumes is not used/.test(text)));
  assert.deepEqual(listed.membership.masterUrls, ["http://n:1"]);
  const alone = open(b, { masters: [], volumes: [a] });
  alone.membership.takeFromMaker(layout, null, {});
  assert.ok(
    alone.said.some((text) => /-volumes has changed, .*without a master that does not change/.test(text)),
  );
});

test("membership: a directory is bound to the URL under which it is a member, and to no other", () => {
  const layout = firstLayout(nodes.slice(0, 2), 3);
  const stranger = open(c);
  stranger.membership.takeLayout(layout);
  assert.equal(open("http://x:1", { directory: stranger.directory }).membership.url, "http://x:1");
  const member = open(a);
  member.membership.takeFromMaker(layout, null, {});
  assert.throws(() => open("http://x:1", { directory: member.directory }), /belongs to http:\/\/a:1/);
});

test("membership: a damaged CLUSTER file is said, and what to do with it", () => {
  const { directory } = open(a);
  writeFileSync(path.join(directory, "CLUSTER"), "no file of ours");
  assert.throws(
    () => open(a, { directory }),
    /CLUSTER is .*move it away: without it the worker.* synchronises anew/,
  );
});
