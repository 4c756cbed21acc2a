/**
 * What the cluster's design comes to with far more nodes than there are here: the shipped placement over a list of made-up nodes, and arithmetic over
 * what nodes send each other. Nothing is started. docs/scale.md explains the figures.
 *
 *   node --expose-gc --import tsx native-bench/scale.ts [--tiny] [--nodes N] [--regions N]
 */
import { gzipSync } from "node:zlib";
import { FEATURES } from "../src/cluster/layout/features.ts";
import { Placement } from "../src/cluster/layout/groups.ts";
import { type Layout, type LayoutNode, serialiseLayout } from "../src/cluster/layout/layout.ts";
import { type PlacedNode, placePartitions } from "../src/cluster/layout/placement.ts";
import { firstLayout, startMove } from "../src/cluster/layout/steps.ts";
import { HEARTBEAT_MS, type Heartbeat } from "../src/cluster/membership/messages.ts";
import { digestWordsOf } from "../src/rules/digest.ts";
import { loadHash } from "../src/util/hash.ts";
import { PARTITIONS_MAX, PARTITIONS_MIN } from "../src/util/hash-prefix.ts";
import { byteSize, duration, percent, shortNumber } from "./statistics.ts";

const REPLICAS = 3;
/** What a heartbeat costs besides its body: request and answer heads, and the answer's body. */
const HEARTBEAT_AROUND_BYTES = 600;
/** A probe of a silent link and its answer, heads included, once a second at most (src/cluster/peers/peer-pulse.ts). */
const PROBE_BYTES = 400;
/** Rounds of anti-entropy that find nothing come so often (src/cluster/repair/repair.ts). */
const ROUND_MS = 10_000;
/** What a partition's digest is told with: flags and its floor. */
const DIGEST_HEAD_BYTES = 20;
/** Nodes that fail at once, drawn this often. */
const DRAWS = 200;

/** Nodes with the sizes of regions as they are in life: the first has most, each further one fewer. */
export function madeUpNodes(count: number, regions: number, even = true): LayoutNode[] {
  const shares = Array.from({ length: regions }, (_, region) => (even ? 1 : 1 / (region + 1)));
  const whole = shares.reduce((sum, share) => sum + share, 0);
  const nodes: LayoutNode[] = [];
  let bound = 0;
  shares.forEach((share, region) => {
    bound += (share / whole) * count;
    while (nodes.length < Math.round(bound)) {
      const id = `https://volume-${nodes.length}.region-${region}.example.com:3000`;
      nodes.push({ id, url: id, region: `region-${region}`, host: `host-${nodes.length}`, state: "active" });
    }
  });
  return nodes;
}

interface Balance {
  least: number;
  mean: number;
  most: number;
  /** Standard deviation over the mean. */
  deviation: number;
}

function balanceOf(sets: readonly number[][], nodes: number): Balance {
  const copies = new Array<number>(nodes).fill(0);
  for (const set of sets) for (const index of set) copies[index]++;
  const mean = copies.reduce((sum, held) => sum + held, 0) / nodes;
  const variance = copies.reduce((sum, held) => sum + (held - mean) ** 2, 0) / nodes;
  return {
    least: Math.min(...copies),
    mean,
    most: Math.max(...copies),
    deviation: Math.sqrt(variance) / mean,
  };
}

/** Share of all copies that are somewhere else afterwards. */
function movedShare(before: readonly string[][], after: readonly string[][]): number {
  let moved = 0;
  let copies = 0;
  before.forEach((set, partition) => {
    for (const id of after[partition]) {
      copies++;
      if (!set.includes(id)) moved++;
    }
  });
  return moved / copies;
}

function namesOf(nodes: readonly PlacedNode[], partitions: number): string[][] {
  return placePartitions(nodes, partitions, REPLICAS).map((set) => set.map((index) => nodes[index].id));
}

/** Share of the partitions that have no majority while the nodes of these indexes are down. */
function lostShare(sets: readonly number[][], down: ReadonlySet<number>): number {
  let lost = 0;
  for (const set of sets) {
    let left = 0;
    for (const index of set) if (!down.has(index)) left++;
    if (2 * left <= set.length) lost++;
  }
  return lost / sets.length;
}

/** A fixed sequence, so that the script prints the same each time. */
function drawing(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

function line(name: string, ...figures: string[]): void {
  console.log(`${name.padEnd(46)}${figures.map((figure) => figure.padStart(14)).join("")}`);
}

function regionsOf(count: number): number {
  return Math.min(30, Math.max(1, Math.floor(count / 4)));
}

function printBalance(sizes: readonly number[], partitions: number): void {
  console.log(`\nCopies a node holds, ${countText(partitions)}, ${REPLICAS} copies of each`);
  line("nodes, regions", "least", "mean", "most", "most/mean", "deviation", "computed in");
  for (const count of sizes) {
    const regions = regionsOf(count);
    for (const even of count >= 100 ? [true, false] : [true]) {
      const nodes = madeUpNodes(count, regions, even);
      const start = performance.now();
      const sets = placePartitions(nodes, partitions, REPLICAS);
      const seconds = (performance.now() - start) / 1000;
      const { least, mean, most, deviation } = balanceOf(sets, count);
      line(
        `${count} nodes in ${regions} ${even ? "equal" : "unequal"} region${regions === 1 ? "" : "s"}`,
        String(least),
        shortNumber(mean),
        String(most),
        shortNumber(most / mean),
        percent(deviation),
        duration(seconds),
      );
    }
  }
}

function printMoves(count: number, regions: number, partitions: number): void {
  const nodes = madeUpNodes(count, regions);
  const before = namesOf(nodes, partitions);
  const newcomer = { ...nodes[0], id: "https://newcomer.example.com:3000", host: "newcomer" };
  const region = nodes.filter((node) => node.region === "region-1");
  console.log(
    `\nShare of all copies moved by one change, ${countText(partitions)} of ${count} nodes in ${regions} regions (a node's share is ${percentOf(1 / count)})`,
  );
  line("a node joins", percentOf(movedShare(before, namesOf([...nodes, newcomer], partitions))));
  line("a node leaves", percentOf(movedShare(before, namesOf(nodes.slice(1), partitions))));
  line(
    `a region of ${region.length} leaves`,
    percentOf(
      movedShare(
        before,
        namesOf(
          nodes.filter((node) => !region.includes(node)),
          partitions,
        ),
      ),
    ),
  );
}

function percentOf(share: number): string {
  return `${shortNumber(share * 100)} %`;
}

function printFailures(count: number, regions: number, partitions: number): void {
  const nodes = madeUpNodes(count, regions);
  const sets = placePartitions(nodes, partitions, REPLICAS);
  const draw = drawing(7);
  console.log(
    `\nShare of the partitions without a majority, ${countText(partitions)} of ${count} nodes in ${regions} regions`,
  );
  line("", "mean", "worst", "any lost in");
  for (const down of [1, 2, 5, 10, 50].filter((each) => each < count / 2)) {
    const shares = Array.from({ length: DRAWS }, () => {
      const set = new Set<number>();
      while (set.size < down) set.add(draw(count));
      return lostShare(sets, set);
    });
    printShares(`${down} random nodes down`, shares);
  }
  for (const down of [1, 2].filter((each) => each < regions)) {
    const shares = Array.from({ length: DRAWS }, () => {
      const chosen = new Set<string>();
      while (chosen.size < down) chosen.add(`region-${draw(regions)}`);
      return lostShare(sets, new Set([...nodes.keys()].filter((index) => chosen.has(nodes[index].region))));
    });
    printShares(`${down} whole region${down === 1 ? "" : "s"} down`, shares);
  }
}

function printShares(name: string, shares: readonly number[]): void {
  line(
    name,
    percentOf(shares.reduce((sum, share) => sum + share, 0) / shares.length),
    percentOf(Math.max(...shares)),
    percent(shares.filter((share) => share > 0).length / shares.length),
  );
}

function heartbeatBytes(node: LayoutNode): number {
  const beat: Heartbeat = {
    url: node.url,
    region: node.region,
    host: node.host,
    store: "0".repeat(32),
    epoch: 100,
    empty: false,
    voting: true,
    rank: 0,
    progress: null,
    load: { keys: 1_000_000_000, bytes: 1_000_000_000_000 },
  };
  return JSON.stringify(beat).length + HEARTBEAT_AROUND_BYTES;
}

/** How many other nodes a node shares a partition with. */
function neighboursOf(placement: Placement): number[] {
  const neighbours = new Map<string, Set<string>>();
  for (const { nodes } of placement.groups)
    for (const node of nodes) {
      const set = neighbours.get(node) ?? new Set();
      for (const other of nodes) if (other !== node) set.add(other);
      neighbours.set(node, set);
    }
  return [...neighbours.values()].map((set) => set.size);
}

/** What a layout while it moves costs a thread: the time until its sets are there, and the heap that they take. */
function printPlacing(count: number, regions: number, partitions: number): void {
  const nodes = madeUpNodes(count, regions);
  const moving = startMove(firstLayout(nodes, REPLICAS, FEATURES, partitions), nodes.slice(1));
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  const start = performance.now();
  const placement = new Placement(moving);
  const seconds = (performance.now() - start) / 1000;
  globalThis.gc?.();
  const bytes = process.memoryUsage().heapUsed - before;
  line(
    `${countText(placement.groups.length)} of ${count} nodes`,
    duration(seconds),
    globalThis.gc === undefined ? "" : byteSize(Math.max(0, bytes)),
  );
}

function printTraffic(count: number, regions: number, partitions: number): void {
  const nodes = madeUpNodes(count, regions);
  const layout: Layout = firstLayout(nodes, REPLICAS, FEATURES, partitions);
  const text = serialiseLayout(layout);
  const moving = serialiseLayout(startMove(layout, nodes.slice(1)));
  const placement = new Placement(layout);
  const neighbours = neighboursOf(placement);
  const most = Math.max(...neighbours);
  const mean = neighbours.reduce((sum, each) => sum + each, 0) / neighbours.length;
  const beats = (count * 1000) / HEARTBEAT_MS;
  const bytes = heartbeatBytes(nodes[0]);
  const held = (partitions * REPLICAS) / count;
  console.log(`\nWhat is sent and kept, ${countText(partitions)} of ${count} nodes in ${regions} regions`);
  line(
    "layout as JSON; gzip; while it moves",
    byteSize(text.length),
    byteSize(gzipSync(text).length),
    byteSize(moving.length),
  );
  line("every node fetches a new layout, in all", byteSize(text.length * count));
  line("heartbeats at the master", `${shortNumber(beats)}/s`, `${byteSize(Math.round(beats * bytes))}/s`);
  line("nodes that share a partition: mean; most", shortNumber(mean), String(most));
  line("probes of silent links among those, by a node", `${byteSize(Math.round(most * PROBE_BYTES))}/s`);
  line("links if every node takes requests for every key", String(count - 1));
  line(
    "anti-entropy without differences, by a node",
    `${byteSize(Math.round((held * (REPLICAS - 1) * digestBytes(partitions) * 1000) / ROUND_MS))}/s`,
  );
}

function countText(partitions: number): string {
  return `${partitions.toLocaleString("en-US")} partitions`;
}

function digestBytes(partitions: number): number {
  return DIGEST_HEAD_BYTES + digestWordsOf(partitions) * 4;
}

async function main(): Promise<void> {
  const words = process.argv.slice(2);
  const tiny = words.includes("--tiny");
  const option = (name: string, otherwise: number): number => {
    const at = words.indexOf(name);
    return at < 0 ? otherwise : Number(words[at + 1]);
  };
  const count = option("--nodes", tiny ? 40 : 1000);
  const regions = option("--regions", tiny ? 4 : 30);
  if (!Number.isInteger(count) || !Number.isInteger(regions) || regions < 1 || count < regions) {
    console.error("usage: scale.ts [--tiny] [--nodes N] [--regions N]");
    process.exitCode = 2;
    return;
  }
  await loadHash();
  const many = tiny ? 4 * PARTITIONS_MIN : PARTITIONS_MAX;
  const sizes = tiny ? [3, 40] : [3, 5, 10, 30, 100, 300, 1000];
  printBalance(sizes, PARTITIONS_MIN);
  printBalance(
    sizes.filter((size) => size >= 30),
    many,
  );
  console.log("\nWhat a layout that moves costs each thread: time; heap with --expose-gc");
  for (const partitions of [PARTITIONS_MIN, many])
    for (const size of tiny ? sizes : [3, 100, 1000]) printPlacing(size, regionsOf(size), partitions);
  printMoves(count, regions, many);
  printFailures(count, regions, many);
  printTraffic(count, regions, many);
}

void main();
