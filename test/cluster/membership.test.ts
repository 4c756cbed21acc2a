/** What a worker makes of layouts, without a network: `start` is never called. */
import assert from "node:assert/strict";
import { mkdtempSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { type Known, NOTHING_KNOWN } from "../../src/cluster/identity/lives.ts";
import { openRunFile } from "../../src/cluster/identity/run-file.ts";
import { abandon } from "../../src/cluster/layout/changes.ts";
import { readClusterFile } from "../../src/cluster/layout/cluster-file.ts";
import type { Layout, LayoutNode } from "../../src/cluster/layout/layout.ts";
import { startRecovery } from "../../src/cluster/layout/recovery.ts";
import { finishMove, firstLayout, startMove } from "../../src/cluster/layout/steps.ts";
import { PeerTls } from "../../src/cluster/link/peer-tls.ts";
import { Membership, type MembershipOptions } from "../../src/cluster/membership/membership.ts";
import { loadHash } from "../../src/util/hash.ts";
import { readSealed, writeSealed } from "../../src/util/sealed-file.ts";
import { removeFolder, temporaryFolder, waitUntil } from "../rest/server.ts";

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
    run: openRunFile(directory, true),
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

const four = [...nodes, { ...nodes[0], id: "http://d:1", url: "http://d:1", host: "d" }];
const d = four[3].id;

test("membership: a layout that counts on data which this directory is not known to have takes its vote", () => {
  const layout = firstLayout(nodes, 3);
  const moving = startMove(layout, four);
  const moved = finishMove(moving);
  const newcomer = (done: number) => {
    const { membership, votes, said } = open(d);
    membership.takeLayout(layout);
    const { store } = membership.document();
    membership.takeFromMaker(moving, store, {});
    assert.equal(votes(), true, "the move gives it everything");
    membership.reportProgress(moving.epoch, done, 2);
    membership.takeLayout(moved);
    return { votes: votes(), said: said.filter((text) => /counts on data/.test(text)).length };
  };
  assert.deepEqual(newcomer(2), { votes: true, said: 0 });
  assert.deepEqual(newcomer(1), { votes: false, said: 1 }, "it was finished by a later disk of it");
  for (const heard of [[], [layout]]) {
    const late = open(d);
    for (const earlier of heard) late.membership.takeLayout(earlier);
    late.membership.takeFromMaker(moved, late.membership.document().store, {});
    assert.equal(late.votes(), false, "it came in by a move that this disk knows nothing of");
    assert.match(late.said.join(), /counts on data/);
  }
  // Who was there keeps its vote: by a move that it gains nothing in, unheard, and by one that it has finished.
  for (const take of ["takeLayout", "takeFromMaker"] as const) {
    const old = open(a);
    old.membership.takeFromMaker(layout, old.membership.document().store, {});
    for (const next of [moved, startMove(moved, nodes), finishMove(startMove(moved, nodes))]) {
      old.membership.reportProgress(next.epoch - 1, 1, 1);
      old.membership[take](next, null, {});
      assert.equal(old.votes(), true, String(next.epoch));
    }
  }
});

test("membership: a smaller set counts on what each of it has synchronised, unless the move is given up", () => {
  const layout = firstLayout(nodes, 3);
  const shrinking = startMove(layout, nodes, 1);
  const given = abandon({ layout: shrinking, queue: [] }).layout as Layout;
  const after = (next: Layout, isFinished: boolean) => {
    const { membership, votes } = open(a);
    membership.takeFromMaker(layout, membership.document().store, {});
    membership.takeLayout(shrinking);
    if (isFinished) membership.reportProgress(shrinking.epoch, 1, 1);
    membership.takeLayout(next);
    return votes();
  };
  assert.equal(after(given, false), true);
  assert.equal(after(given, true), true);
  assert.equal(after(finishMove(shrinking), true), true);
  assert.equal(after(finishMove(shrinking), false), false);
  assert.equal(after(startMove(finishMove(shrinking), nodes), false), false);
  assert.equal(after(startMove(given, four), false), true, "it was given up unheard");
  // One that was to leave, and does not.
  const all = firstLayout(four, 3);
  const leaving = startMove(all, [{ ...four[0], state: "draining" }, ...four.slice(1)]);
  const { membership, votes } = open(a);
  membership.takeFromMaker(all, membership.document().store, {});
  for (const next of [leaving, abandon({ layout: leaving, queue: [] }).layout]) membership.takeLayout(next);
  assert.equal(votes(), true);
});

test("membership: a move that is given up takes nobody's vote, whoever has finished it, and heard of what", () => {
  const named = (name: string, more: Partial<LayoutNode> = {}): LayoutNode => ({
    ...{ ...nodes[0], id: `http://${name}:1`, url: `http://${name}:1`, host: name, region: name },
    ...more,
  });
  const others = [..."abcd"].map((name) => named(name));
  const layout = firstLayout([...others, named("x")], 3);
  // Each gains some and loses some: another worker for one of them, another region, fewer copies.
  for (const moving of [
    startMove(layout, [...others, named("x", { state: "draining" }), named("y")]),
    startMove(layout, [...others.slice(0, 3), named("d", { region: "c" }), named("x")]),
    startMove(layout, layout.nodes, 2),
  ]) {
    const given = abandon({ layout: moving, queue: [] }).layout as Layout;
    for (const next of [[given], [startMove(given, others)], [given, startMove(given, others)]])
      for (const isFinished of [false, true])
        for (const { url } of layout.nodes) {
          const { membership, votes } = open(url);
          membership.takeFromMaker(layout, membership.document().store, {});
          membership.takeLayout(moving);
          if (isFinished) membership.reportProgress(moving.epoch, 1, 1);
          for (const one of next) membership.takeLayout(one);
          assert.equal(votes(), true, `${url}, finished: ${isFinished}`);
        }
  }
  // A later layout that counts on who was to leave, and in another set than then, has a history that this directory does not know.
  const leaving = startMove(layout, [...others, named("x", { state: "draining" })]);
  const returned = finishMove(startMove(finishMove(leaving), [...others.slice(1), named("x")]));
  for (const isFinished of [false, true]) {
    const old = open(named("x").url);
    old.membership.takeFromMaker(layout, old.membership.document().store, {});
    old.membership.takeLayout(leaving);
    if (isFinished) old.membership.reportProgress(leaving.epoch, 1, 1);
    old.membership.takeLayout(returned);
    assert.equal(old.votes(), false);
  }
});

test("membership: a move is finished on the disk before a master hears of it, also for a directory of the release before", () => {
  const moving = startMove(firstLayout(nodes, 3), four);
  const one = open(d);
  one.membership.takeFromMaker(moving, one.membership.document().store, {});
  assert.equal(one.votes(), true);
  const away = `${one.directory}.away`;
  renameSync(one.directory, away);
  assert.throws(() => one.membership.reportProgress(moving.epoch, 1, 1));
  renameSync(away, one.directory);
  one.membership.takeLayout(finishMove(moving));
  assert.equal(one.votes(), false, "nothing says that it had finished");

  const older = open(d);
  older.membership.takeFromMaker(moving, older.membership.document().store, {});
  const file = path.join(older.directory, "CLUSTER");
  const { finished, ...before } = readSealed(file, "minivault-cluster", 1) ?? {};
  assert.equal(finished, 0);
  writeSealed(file, { format: "minivault-cluster", version: 1, ...before });
  const updated = open(d, { directory: older.directory });
  updated.membership.takeLayout(finishMove(moving));
  assert.equal(updated.votes(), true, "a vote in a move was one that counted when there was no such note");
});

test("membership: at the birth of a cluster a worker votes once the others know nothing of an earlier one", async () => {
  const layout = firstLayout(nodes, 3);
  const born = async (known: Known) => {
    const { membership, votes } = open(a, { hello: async () => known });
    membership.start();
    membership.takeFromMaker(layout, membership.document().store, {});
    assert.deepEqual([votes(), membership.voting], [true, false]);
    await waitUntil("it is proven", () => membership.isProven);
    return membership.voting;
  };
  assert.equal(await born(NOTHING_KNOWN), true);
  // A directory that was put back to what it was before the birth.
  assert.equal(await born({ ...NOTHING_KNOWN, incarnation: 1, marks: "a" }), false);
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
