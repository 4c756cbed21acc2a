/**
 * Lists over replicas that are made up: each holds what it should, or an older version, or nothing of a key, as long as a majority has the newest. Whatever the
 * question, the pages together are the sorted keys that are there, and so are the prefixes.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Placement } from "../../src/cluster/layout/groups.ts";
import type { LayoutNode } from "../../src/cluster/layout/layout.ts";
import { firstLayout } from "../../src/cluster/layout/steps.ts";
import { shareOf } from "../../src/cluster/list/asking.ts";
import { ClusterList, type KeyRead } from "../../src/cluster/list/cluster-list.ts";
import { ReplicaList } from "../../src/cluster/list/replica-list.ts";
import { decodeListRequest, votesOf } from "../../src/cluster/wire/list-wire.ts";
import { MemoryRunBuilder } from "../../src/engine/catalog/runs/builder.ts";
import { type KeyRange, rangeOf, rollUpBytes, walk } from "../../src/engine/catalog/runs/listing.ts";
import { MergedKeys } from "../../src/engine/catalog/runs/merged-keys.ts";
import { type HeldKey, HeldWriter } from "../../src/shards/catalog/held.ts";
import type { CatalogAnswer, CatalogQuestion, HeldQuestion } from "../../src/shards/catalog/messages.ts";
import { hashKey, loadHash } from "../../src/util/hash.ts";
import { Random, randomSeed } from "../random.ts";

before(loadHash);

const REPLICAS = 3;

const nodeOf = (name: string): LayoutNode => ({
  id: `http://${name}`,
  url: `http://${name}`,
  region: "default",
  host: name,
  state: "active",
});

const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const sorted = (keys: Iterable<string>): string[] =>
  [...keys]
    .map((key) => Buffer.from(key))
    .sort(Buffer.compare)
    .map(String);

function held(key: string, version: number, tombstone: boolean): HeldKey {
  const ballot = { clockLow: version, clockHigh: 0, node: 1, incarnation: 1 };
  return {
    ...{ key: bytesOf(key), ballot, tombstone, ended: false, end: 0 },
    ...{ json: false, contentType: "text/plain", valueBytes: 3 },
  };
}

/** What one replica holds, asked as its catalog is. */
class Replica {
  readonly keys = new Map<string, HeldKey>();
  asked = 0;

  ask({ range, limit }: HeldQuestion): CatalogAnswer {
    const builder = new MemoryRunBuilder();
    for (const key of sorted(this.keys.keys())) {
      const bytes = bytesOf(key);
      builder.add(bytes, 0, bytes.length);
    }
    const run = builder.end();
    const writer = new HeldWriter();
    let seen = 0;
    const heldOf = (key: Uint8Array) => this.keys.get(Buffer.from(key).toString()) as HeldKey;
    const take = (one: HeldKey) => writer.put(one) > 0;
    this.asked++;
    const left =
      run === null
        ? null
        : walk(new MergedKeys([run]), range, {
            key: (key) => take(heldOf(key)),
            isThere: (key) => !heldOf(key).tombstone && take(heldOf(key)),
            prefix: () => {},
            isOver: () => seen++ >= limit,
            isFull: () => false,
          });
    return { kind: "held", entries: writer.whole(), left };
  }
}

class World {
  readonly replicas = new Map<string, Replica>();
  readonly live = new Set<string>();
  readonly down = new Set<string>();
  readonly lists: ClusterList;
  reads = 0;

  constructor(random: Random, nodes: number, keys: readonly string[]) {
    const names = Array.from({ length: nodes }, (_, i) => nodeOf(`n${i}`));
    const placement = new Placement(firstLayout(names, REPLICAS));
    for (const { url } of names) this.replicas.set(url, new Replica());
    for (const key of keys) {
      const bytes = bytesOf(key);
      const group = placement.groupOf(hashKey(bytes, bytes.length, 0));
      const isThere = random.below(3) > 0;
      if (isThere) this.live.add(key);
      // One of them may have missed the newest, or all that ever was.
      const behind = random.below(3) === 0 ? random.below(group.nodes.length) : -1;
      const had = random.below(3);
      for (const [index, url] of group.nodes.entries()) {
        const version = index === behind ? 1 : 2;
        const tombstone = index === behind ? had === 1 : !isThere;
        if (index !== behind || had > 0) this.replicas.get(url)?.keys.set(key, held(key, version, tombstone));
      }
    }
    const setup = (url: string) =>
      new ReplicaList({
        catalog: {
          ask: async (question: CatalogQuestion) =>
            (this.replicas.get(url) as Replica).ask(question as HeldQuestion),
        } as never,
        epoch: () => placement.layout.epoch,
        votes: () => votesOf(placement.layout.partitions, placement.partitionsOf(url)),
      });
    const ends = new Map(names.map(({ url }) => [url, setup(url)]));
    this.lists = new ClusterList({
      self: names[0].url,
      replica: ends.get(names[0].url) as ReplicaList,
      placement: () => placement,
      send: async (url, frame) => {
        if (this.down.has(url)) throw new Error("down");
        const request = decodeListRequest(frame);
        assert.ok(request !== null);
        return (ends.get(url) as ReplicaList).answer(request);
      },
      read: async (key) => this.read(Buffer.from(key).toString()),
      newerLayout: () => {},
      now: () => 0,
      clusterMillis: () => 1_700_000_000_000,
    });
  }

  private read(key: string): KeyRead {
    this.reads++;
    if (!this.live.has(key)) return { state: "absent", ballot: null };
    const { ballot } = held(key, 2, false);
    const value = { json: false, contentType: "text/plain", end: 0, valueBytes: 3, bytes: bytesOf("v v") };
    return { state: "found", ballot, value } as unknown as KeyRead;
  }

  async all(range: KeyRange, limit: number): Promise<{ told: string[]; pages: number }> {
    const told: string[] = [];
    let left: KeyRange | null = range;
    let pages = 0;
    for (; left !== null; pages++) {
      assert.ok(pages < 3000, "pages without end");
      const question: CatalogQuestion = { kind: "list", range: left, limit, values: false, lines: true };
      const page: CatalogAnswer = await this.lists.ask(question, "quorum");
      assert.ok(page.kind === "list", JSON.stringify(page));
      const lines = Buffer.from(page.keys).toString().split("\n").slice(0, -1);
      assert.equal(lines.length, page.count);
      assert.ok(page.count <= limit);
      told.push(
        ...lines.map((line) => {
          const { key, prefix } = JSON.parse(line);
          return key ?? `${prefix}*`;
        }),
      );
      left = page.left;
    }
    return { told, pages };
  }

  /** What the pages should tell. */
  wanted(prefix: string, delimiter: string | null, reverse: boolean): string[] {
    const range = rangeOf(bytesOf(prefix), false, delimiter === null ? null : bytesOf(delimiter));
    const told: string[] = [];
    for (const key of sorted(this.live)) {
      if (!key.startsWith(prefix)) continue;
      const rolled = rollUpBytes(bytesOf(key), range);
      const one = rolled < 0 ? key : `${Buffer.from(key).subarray(0, rolled).toString()}*`;
      if (told.at(-1) !== one) told.push(one);
    }
    return reverse ? told.reverse() : told;
  }
}

const PARTS = ["a", "b", "/", "//", "a/", "\u00fc/", "\u{10ffff}", "c"];

function someKeys(random: Random): string[] {
  const keys = new Set<string>();
  for (let i = random.below(300); i >= 0; i--) {
    let key = "k/";
    for (let parts = random.below(5); parts >= 0; parts--) key += PARTS[random.below(PARTS.length)];
    keys.add(key);
  }
  return [...keys];
}

test("list pages: what replicas hold differs, and the pages are what is there", async (t) => {
  const random = new Random(randomSeed(t));
  for (let history = 0; history < 40; history++) {
    const nodes = 3 + random.below(4);
    const world = new World(random, nodes, someKeys(random));
    if (random.below(3) === 0) world.down.add(`http://n${1 + random.below(nodes - 1)}`);
    for (let question = 0; question < 6; question++) {
      const prefix = ["", "k/", "k/a", "k/a/", "k/\u00fc"][random.below(5)];
      const delimiter = [null, "/", "a", "//"][random.below(4)];
      const reverse = random.below(2) === 0;
      const range = rangeOf(bytesOf(prefix), reverse, delimiter === null ? null : bytesOf(delimiter));
      const { told } = await world.all(range, 1 + random.below(40));
      assert.deepEqual(
        told,
        world.wanted(prefix, delimiter, reverse),
        JSON.stringify({ prefix, delimiter, reverse }),
      );
    }
  }
});

test("list pages: with a delimiter, prefixes with many keys cost a question each node, not one a key", async (t) => {
  const random = new Random(randomSeed(t));
  const keys = Array.from({ length: 3000 }, (_, i) => `k/${Math.floor(i / 100)}/${i}`);
  const world = new World(random, 3, keys);
  const range = rangeOf(bytesOf("k/"), false, bytesOf("/"));
  const { told, pages } = await world.all(range, 1000);
  assert.deepEqual(told, world.wanted("k/", "/", false));
  assert.equal(pages, 1);
  assert.ok((world.replicas.get("http://n0") as Replica).asked <= 8);
});

test("list pages: without a majority there is none", async (t) => {
  const world = new World(new Random(randomSeed(t)), 3, ["a"]);
  world.down.add("http://n1").add("http://n2");
  const range = rangeOf(new Uint8Array(0));
  const question: CatalogQuestion = { kind: "list", range, limit: 10, values: false, lines: true };
  const answer = await world.lists.ask(question, "quorum");
  assert.ok(answer.kind === "refused" && answer.code === "no_quorum", JSON.stringify(answer));
  assert.equal((await world.lists.ask(question, "one")).kind, "list");
});

test("list pages: of many nodes each is asked for its share and some more", () => {
  assert.equal(shareOf(1000, 3, 3), 1000);
  assert.equal(shareOf(1000, 2, 3), 1000);
  assert.equal(shareOf(1000, 6, 3), 500 + Math.ceil(Math.sqrt(1000 * Math.log(2))));
  assert.ok(shareOf(1000, 300, 3) < 30);
});
