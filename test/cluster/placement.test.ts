import assert from "node:assert/strict";
import { before, test } from "node:test";
import { type PlacedNode, placePartitions } from "../../src/cluster/layout/placement.ts";
import { loadHash } from "../../src/util/hash.ts";
import { PARTITIONS_MAX, PARTITIONS_MIN } from "../../src/util/hash-prefix.ts";
import { Random, randomSeed } from "../random.ts";

before(loadHash);

/** Nodes with ids as they look in real life; `regions` and `hosts` are shared out in turn. */
function nodes(count: number, regions = 1, hosts = count, salt = ""): PlacedNode[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `http://volume${salt}${index}.example:3000`,
    region: `region-${index % regions}`,
    host: `host-${index % hosts}`,
  }));
}

function names(list: readonly PlacedNode[], replicas: number, partitions = PARTITIONS_MIN): string[][] {
  return placePartitions(list, partitions, replicas).map((set) => set.map((index) => list[index].id));
}

function copies(sets: string[][]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const set of sets) for (const id of set) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

test("placement: literal results stay where they are", () => {
  const list: PlacedNode[] = [
    { id: "http://a:3000", region: "eu", host: "a" },
    { id: "http://b:3000", region: "eu", host: "b" },
    { id: "http://c:3000", region: "us", host: "c" },
    { id: "http://d:3000", region: "asia", host: "d" },
    { id: "http://a:3001", region: "eu", host: "a" },
  ];
  const sets = placePartitions(list, PARTITIONS_MIN, 3);
  assert.deepEqual(
    [0, 1, 2, 511, 1022, 1023].map((partition) => sets[partition].join("")),
    PINNED,
  );
  const long = nodes(7, 2, 4, "-with-a-name-that-is-longer-than-forty-eight-bytes-");
  const longSets = placePartitions(long, PARTITIONS_MIN, 5);
  assert.deepEqual(
    [0, 1, 2, 511, 1022, 1023].map((partition) => longSets[partition].join("")),
    PINNED_LONG,
  );
});

test("placement: literal results of larger layouts stay where they are", () => {
  const list = nodes(7, 2, 4, "-with-a-name-that-is-longer-than-forty-eight-bytes-");
  for (const [count, pinned] of PINNED_LARGER) {
    const sets = placePartitions(list, count, 5);
    assert.equal(sets.length, count);
    assert.deepEqual(
      [0, 1, 2, count / 2, count - 1].map((partition) => sets[partition].join("")),
      pinned,
    );
  }
});
const PINNED_LARGER: [number, string[]][] = [
  [2048, ["63450", "56032", "03124", "34120", "30214"]],
  [65_536, ["63450", "56032", "03124", "30254", "65432"]],
];

test("placement: with 65,536 partitions no node of a hundred has far more than its share", (t) => {
  const seed = randomSeed(t);
  const list = nodes(100, 25, 100, `-${seed}-`);
  const counts = copies(names(list, 3, PARTITIONS_MAX));
  const mean = (PARTITIONS_MAX * 3) / list.length;
  // Eight deviations of a draw, and what regions of four nodes add to it.
  const most = mean + 8 * Math.sqrt(mean);
  assert.equal(counts.size, list.length);
  for (const [id, held] of counts)
    assert.ok(held < most, `${id} holds ${held} copies; ${mean} would be even`);
});

const PINNED = ["432", "032", "213", "320", "203", "132"];
const PINNED_LONG = ["34521", "05234", "01235", "25034", "03124", "54631"];

test("placement: the order of the list does not matter", (t) => {
  const random = new Random(randomSeed(t));
  const list = nodes(9, 4, 6);
  const shuffled = [...list];
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
  }
  assert.deepEqual(names(shuffled, 3), names(list, 3));
});

test("placement: the copies are spread evenly over nodes of one region", (t) => {
  const seed = randomSeed(t);
  for (const count of [4, 5, 8, 16, 50]) {
    const counts = copies(names(nodes(count, 1, count, `-${seed}-`), 3));
    const mean = (PARTITIONS_MIN * 3) / count;
    const deviation = Math.sqrt(mean);
    assert.equal(counts.size, count);
    for (const [id, held] of counts)
      assert.ok(
        Math.abs(held - mean) < 5 * deviation,
        `${id} of ${count} nodes holds ${held} copies; ${mean.toFixed(0)} would be even`,
      );
  }
});

test("placement: each region gets a copy before any gets two, then each host", (t) => {
  const random = new Random(randomSeed(t));
  for (let round = 0; round < 20; round++) {
    const count = 1 + random.below(12);
    const list = nodes(count, 1 + random.below(5), 1 + random.below(count), `-${round}-`);
    const replicas = 1 + random.below(7);
    for (const set of placePartitions(list, PARTITIONS_MIN, replicas)) {
      assert.equal(set.length, Math.min(replicas, count));
      assert.equal(new Set(set).size, set.length);
      const wanted = set.length;
      const regions = new Set(list.map((node) => node.region)).size;
      assert.equal(new Set(set.map((i) => list[i].region)).size, Math.min(wanted, regions));
      // A host appears twice only when every host that can be had is in the set.
      const used = new Set(set.map((i) => list[i].host));
      const afterRegions = set.slice(regions).map((i) => list[i].host);
      if (afterRegions.some((host, at) => set.slice(0, regions + at).some((i) => list[i].host === host)))
        assert.equal(used.size, new Set(list.map((node) => node.host)).size);
    }
  }
});

test("placement: a node that comes or goes moves little more than its own share", (t) => {
  const seed = randomSeed(t);
  for (const [count, regions] of [
    [3, 1],
    [5, 1],
    [9, 3],
    [12, 4],
  ]) {
    const list = nodes(count + 1, regions, count + 1, `-${seed}-`);
    const small = names(list.slice(0, count), 3);
    const large = names(list, 3);
    let moved = 0;
    small.forEach((set, partition) => {
      for (const id of large[partition]) if (!set.includes(id)) moved++;
    });
    const joined = copies(large).get(list[count].id) ?? 0;
    // Within one region exactly the newcomer's copies move. Over regions one more copy can move for each of them, as the choice of the first
    // node decides which region is used next.
    if (regions === 1) assert.equal(moved, joined);
    assert.ok(moved >= joined && moved <= 2 * joined, `${moved} copies moved, ${joined} to the new node`);
    assert.ok(joined < 2 * ((PARTITIONS_MIN * 3) / (count + 1)), `the new node got ${joined}`);
  }
});
