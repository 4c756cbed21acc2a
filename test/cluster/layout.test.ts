import assert from "node:assert/strict";
import { before, test } from "node:test";
import { checked } from "../../src/cluster/layout/check.ts";
import { FEATURE_PARTITIONS } from "../../src/cluster/layout/features.ts";
import {
  bitOf,
  countOf,
  hasMajority,
  hasMajorityOf,
  Placement,
  type ReplicaGroup,
} from "../../src/cluster/layout/groups.ts";
import { type Layout, type LayoutNode, serialiseLayout } from "../../src/cluster/layout/layout.ts";
import { NODES_MAX } from "../../src/cluster/layout/placement.ts";
import { EPOCH_LEAP, holdersOf, lossesWithout, startRecovery } from "../../src/cluster/layout/recovery.ts";
import { canFinishMove, finishMove, firstLayout, startMove } from "../../src/cluster/layout/steps.ts";
import { INDEX_PARTITIONS, loadHash } from "../../src/util/hash.ts";
import { prefixOf, startsWith } from "../../src/util/hash-prefix.ts";

/** A layout as it comes from outside. */
const parsed = (text: string): Layout => checked(JSON.parse(text));

before(loadHash);

const node = (name: string, state: LayoutNode["state"] = "active"): LayoutNode => ({
  id: `http://${name}:3000`,
  url: `http://${name}:3000`,
  region: "default",
  host: name,
  state,
});
const three = ["a", "b", "c"].map((name) => node(name));

function group(current: string, previous: string): ReplicaGroup {
  const nodes = [...new Set(current + previous)];
  const set = (members: string): number =>
    [...members].reduce((sum, member) => sum | (1 << nodes.indexOf(member)), 0);
  return {
    epoch: 2,
    partition: 0,
    prefix: prefixOf(0, 1024),
    nodes,
    current: set(current),
    previous: set(previous),
  };
}

test("layout: a majority during a move is one of the old and one of the new set", () => {
  const moving = group("bcd", "abc");
  const says = (members: string): boolean => hasMajorityOf(moving, new Set(members));
  assert.deepEqual(["bc", "ab", "cd", "abd", "bcd", "acd", "a", "ad", ""].map(says), [
    true,
    false,
    false,
    true,
    true,
    true,
    false,
    false,
    false,
  ]);
  const replaced = group("def", "abc");
  assert.equal(hasMajorityOf(replaced, new Set("abde")), true);
  assert.equal(hasMajorityOf(replaced, new Set("abcd")), false);
  const stable = group("abc", "abc");
  assert.equal(hasMajority(stable, 0b011), true);
  assert.equal(hasMajority(stable, 0b100), false);
  assert.equal(hasMajority(group("ab", "ab"), 0b01), false, "one of two is no majority");
  assert.equal(hasMajority(group("a", "a"), 0b1), true);
  assert.equal(countOf(0b1011), 3);
});

test("layout: one move at a time, in epochs, with the old layout beside the new one", () => {
  const first = firstLayout(three, 3);
  assert.equal(first.epoch, 1);
  const moving = startMove(first, [...three, node("d")]);
  assert.equal(moving.epoch, 2);
  assert.deepEqual(moving.previous, first);
  assert.throws(() => startMove(moving, three), /one at a time/);
  const placement = new Placement(moving);
  assert.deepEqual(placement.awaited(), ["http://d:3000"], "only the newcomer gains partitions");
  assert.equal(canFinishMove(placement, new Set()), false);
  assert.equal(canFinishMove(placement, new Set(["http://d:3000"])), true);
  const last = finishMove(moving);
  assert.equal(last.epoch, 3);
  assert.equal(last.previous, null);
  assert.throws(() => finishMove(last), /no move/);
  assert.equal(canFinishMove(new Placement(last), new Set()), false);
  const gained = placement.mustSynchronise("http://d:3000");
  assert.ok(gained.length > INDEX_PARTITIONS / 2 && gained.length < INDEX_PARTITIONS);
  for (const partition of gained) {
    const { nodes, current, previous } = placement.groups[partition];
    assert.equal(nodes.length, 4);
    assert.equal(countOf(current), 3);
    assert.equal(countOf(previous), 3);
  }
  for (const id of first.nodes.map((member) => member.id))
    assert.equal(placement.holdsNo(id).length, 0, "old owners keep everything until the move is over");
  assert.ok(new Placement(last).holdsNo("http://a:3000").length > 0);
});

test("layout: it is born with a number of partitions, and keeps it", () => {
  for (const count of [1024, 4096, 65_536]) {
    const first = firstLayout(three, 3, FEATURE_PARTITIONS, count);
    assert.equal(parsed(serialiseLayout(first)).partitions, count);
    const moving = startMove(first, [...three, node("d")]);
    const placement = new Placement(moving);
    assert.equal(placement.groups.length, count);
    assert.deepEqual(placement.awaited(), ["http://d:3000"]);
    for (const hashA of [0, -1, 0x12345678, -0x12345678]) {
      const { partition, prefix } = placement.groupOf(hashA);
      assert.ok(startsWith(hashA, prefix));
      assert.equal(prefix, prefixOf(partition, count));
    }
    const other = { ...moving, partitions: count === 1024 ? 2048 : count / 2 };
    assert.throws(() => parsed(JSON.stringify(other)), /their number never changes/);
    assert.equal(finishMove(moving).partitions, count);
    assert.equal(startRecovery(first, new Set([node("c").id])).partitions, count);
  }
  assert.equal(firstLayout(three, 3).partitions, 1024);
  assert.throws(() => firstLayout(three, 3, FEATURE_PARTITIONS - 1, 2048), /feature level/);
});

test("layout: a draining node gives all its partitions to the others", () => {
  const four = [...three, node("d")];
  const first = firstLayout(four, 3);
  const moving = startMove(first, [...three, node("d", "draining")]);
  const placement = new Placement(moving);
  for (const replicas of placement.groups)
    assert.equal(replicas.current & bitOf(replicas, "http://d:3000"), 0);
  assert.deepEqual(placement.awaited().sort(), three.map((member) => member.id).sort());
  assert.equal(new Placement(finishMove(moving)).partitionsOf("http://d:3000").length, 0);
});

test("layout: when sets of replicas get smaller, also those who keep a partition synchronise", () => {
  const five = ["a", "b", "c", "d", "e"].map((name) => node(name));
  const placement = new Placement(startMove(firstLayout(five, 5), five, 3));
  for (const member of five)
    assert.deepEqual(
      placement.mustSynchronise(member.id),
      placement.groups
        .filter((replicas) => (replicas.current & bitOf(replicas, member.id)) !== 0)
        .map((replicas) => replicas.partition),
    );
  const grown = new Placement(startMove(firstLayout(five, 3), five, 5));
  for (const replicas of grown.groups)
    for (const member of five)
      assert.equal(
        grown.mustSynchronise(member.id).includes(replicas.partition),
        (replicas.previous & bitOf(replicas, member.id)) === 0,
      );
});

test("layout: text and back, and what is not a layout is refused", () => {
  const moving = startMove(firstLayout(three, 3), [node("a"), node("b"), node("d")]);
  assert.deepEqual(parsed(serialiseLayout(moving)), moving);
  const broken = (change: (layout: Layout & Record<string, unknown>) => void): string => {
    const copy = JSON.parse(serialiseLayout(moving));
    change(copy);
    return JSON.stringify(copy);
  };
  for (const [text, reason] of [
    ["[]", /JSON object/],
    [broken((l) => Object.assign(l, { epoch: 0 })), /epoch/],
    [broken((l) => Object.assign(l, { epoch: 1 })), /lower epoch/],
    [broken((l) => Object.assign(l, { epoch: 2 ** 32 })), /epoch/],
    [broken((l) => Object.assign(l, { epoch: Number.MAX_SAFE_INTEGER })), /epoch/],
    ...[
      ...[
        "not a url",
        "ftp://a:1",
        "http://a:3000/",
        "http://A:3000",
        "http://a:80",
        "http://u:p@a:1",
        "https://",
      ],
      ...["http://a:1/x", "http://a:1?x", "http://a:99999", `http://${"a".repeat(600)}:1`],
    ].map((url) => [broken((l) => Object.assign(l.nodes[0], { id: url, url })), /URL|characters/] as const),
    [broken((l) => Object.assign(l.nodes[0], { id: "http://other:1" })), /id is its URL/],
    [broken((l) => Object.assign(l.nodes[0], { region: "r".repeat(600) })), /characters/],
    [
      broken((l) =>
        Object.assign(l, { nodes: Array.from({ length: NODES_MAX + 1 }, (_, index) => node(`n${index}`)) }),
      ),
      /at most/,
    ],
    ...[7, 512, 1025, 131_072, "1024", null].map((partitions): [string, RegExp] => [
      broken((l) => Object.assign(l, { partitions })),
      /partitions are a power of two from 1024 to 65536/,
    ]),
    [
      broken((l) => Object.assign(l, { partitions: 4096, previous: null })),
      /more than 1024 partitions has feature level 5/,
    ],
    [broken((l) => Object.assign(l, { replicas: 8 })), /replicas/],
    [broken((l) => Object.assign(l, { nodes: {} })), /list/],
    [broken((l) => l.nodes.push(l.nodes[0])), /twice/],
    [broken((l) => Object.assign(l.nodes[0], { state: "down" })), /state/],
    [broken((l) => Object.assign(l.nodes[0], { region: "" })), /region/],
    [broken((l) => Object.assign(l, { nodes: [node("x", "draining")] })), /active/],
    [broken((l) => Object.assign(l.previous as Layout, { previous: { ...l.previous } })), /no previous/],
  ] as [string, RegExp][])
    assert.throws(() => parsed(text), reason);
});

test("layout: where a cluster recovers, all that are left of a set count together, and every owner takes over from them", () => {
  const stable = firstLayout([...three, node("d"), node("e")], 3);
  const lost = ["d", "e"].map((name) => node(name).id);
  const missing = new Set(lost);
  const recovering = startRecovery(stable, missing);
  assert.deepEqual(
    [recovering.epoch, recovering.nodes, recovering.lost, recovering.previous?.epoch],
    [1 + EPOCH_LEAP, three, lost, 1],
  );
  assert.deepEqual(parsed(serialiseLayout(recovering)), recovering);
  assert.equal(recovering.cluster, stable.cluster);
  const before = new Placement(stable);
  const placement = new Placement(recovering);
  for (const [partition, group] of placement.groups.entries()) {
    const left = before.groups[partition].nodes.filter((id) => !missing.has(id));
    const previous = group.nodes.filter((id) => (group.previous & bitOf(group, id)) !== 0);
    assert.deepEqual([...previous].sort(), (left.length === 0 ? [...group.nodes] : left).sort());
    assert.equal(hasMajority(group, group.previous | group.current), true);
    if (countOf(group.previous) > 1) {
      const oneLess = group.previous & (group.previous - 1);
      assert.equal(
        hasMajority(group, group.current & ~(group.previous & ~oneLess)),
        false,
        "one of them is missing",
      );
    }
  }
  for (const { id } of three) assert.equal(placement.mustSynchronise(id).length, INDEX_PARTITIONS);
  const finished = finishMove(recovering);
  assert.deepEqual([finished.epoch, finished.previous, "lost" in finished], [2 + EPOCH_LEAP, null, false]);
});

test("layout: what is lost is told by partitions; a second recovery forgets nobody that the first gave up", () => {
  const stable = firstLayout(three, 3);
  const ids = three.map(({ id }) => id);
  assert.deepEqual(lossesWithout(stable, new Set([ids[0]])), { gone: 0, doubtful: 0 });
  assert.deepEqual(lossesWithout(stable, new Set(ids.slice(1))), { gone: 0, doubtful: INDEX_PARTITIONS });
  assert.deepEqual(lossesWithout(stable, new Set(ids)), { gone: INDEX_PARTITIONS, doubtful: 0 });
  assert.throws(() => startRecovery(stable, new Set(ids)), /nothing would be left/);
  const five = firstLayout([...three, node("d"), node("e")], 3);
  const first = startRecovery(five, new Set([node("e").id, node("d").id]));
  const second = startRecovery(first, new Set([ids[0]]));
  assert.deepEqual(
    [second.lost, second.nodes.map(({ id }) => id)],
    [[ids[0], node("d").id, node("e").id], ids.slice(1)],
  );
  const joining = startMove(stable, [...three, node("d")]);
  assert.deepEqual(
    startRecovery(joining, new Set([ids[0], ids[1]])).nodes,
    [three[2]],
    "who only joins has nothing yet",
  );
  assert.deepEqual(holdersOf(joining), ids);
});

test("layout: lost nodes of a layout from outside are nodes that it has given up", () => {
  const recovering = startRecovery(firstLayout(three, 3), new Set([node("c").id]));
  for (const lost of [["http://x:1"], [node("a").id], [node("c").id, node("c").id], "c", [7]])
    assert.throws(() => parsed(JSON.stringify({ ...recovering, lost })), /lost nodes/);
  assert.throws(
    () => parsed(JSON.stringify({ ...firstLayout(three, 3), lost: [node("c").id] })),
    /lost nodes/,
  );
});
