/** Questions whose values are read for so long that the events of the cluster that are kept in memory go on without them. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { ClusterFeed } from "../../src/cluster/feed/cluster-feed.ts";
import type { Change } from "../../src/cluster/feed/decisions.ts";
import type { ReplicaChange, ReplicaChanges } from "../../src/cluster/feed/feed-wire.ts";
import { Placement } from "../../src/cluster/layout/groups.ts";
import { firstLayout } from "../../src/cluster/layout/steps.ts";
import type { FeedAnswer, FeedQuestion, FeedRefusal } from "../../src/shards/feed/messages.ts";
import { loadHash } from "../../src/util/hash.ts";

before(loadHash);

const URL_A = "http://a:1";
const PLACEMENT = () =>
  new Placement(firstLayout([{ id: URL_A, url: URL_A, host: "a", region: "here", state: "active" }], 1));
/** More than memory keeps. */
const EVENTS = 6000;
const KEY_CHARACTERS = 1000;
const QUESTION: FeedQuestion = {
  ...{ prefixes: ["watched"], exact: false, values: true, form: "objects" },
  ...{ since: null, cursor: -1, catchesUp: false, waitMs: 60_000, bytesMax: 65_536, countMax: 1000 },
};

/** A cluster of one node, whose changes come when the test says so. */
class Bench {
  private changes: ReplicaChange[] = [];
  private placed = 0;
  private tell: (answer: ReplicaChanges) => void = () => {};
  /** Reads of values that wait. */
  readonly reads: (() => void)[] = [];
  readonly feed: ClusterFeed;

  constructor() {
    const placement = PLACEMENT();
    const answer = (changes: ReplicaChange[]): ReplicaChanges => ({
      ...{ votes: new Uint8Array(128).fill(255), place: `place ${this.placed++}`, cursor: 0, more: false },
      changes,
    });
    const replicas = {
      askAll: async () => new Map([[URL_A, answer(this.changes)]]),
      ask: () =>
        new Promise<ReplicaChanges>((resolve) => {
          this.tell = resolve;
        }),
    };
    this.feed = new ClusterFeed({
      replicas: replicas as unknown as ConstructorParameters<typeof ClusterFeed>[0]["replicas"],
      placement: () => placement,
      clusterMillis: Date.now,
      warn: (message) => assert.fail(message),
      read: (key) =>
        new Promise((resolve) => {
          const change: Change = { event: "put", key, etag: "f".repeat(32), text: `{"key":"${key}"}` };
          this.reads.push(() => resolve(change));
        }),
    });
  }

  ask(more: Partial<FeedQuestion> = {}): Promise<FeedAnswer | FeedRefusal> {
    return new Promise((resolve) => this.feed.ask({ ...QUESTION, ...more }, resolve));
  }

  /** So many keys have changed, as the replica tells it. */
  async change(names: readonly string[]): Promise<void> {
    this.changes = names.map((key, number) => ({
      ...{ event: "put", key, etag: (number + 1).toString(16).padStart(32, "0") },
    }));
    const { tell } = this;
    tell({
      votes: new Uint8Array(128).fill(255),
      place: "told",
      cursor: 0,
      more: false,
      changes: this.changes,
    });
    await pass();
  }
}

async function pass(): Promise<void> {
  for (let left = 20; left > 0; left--) await turn();
}

const OTHERS = Array.from({ length: EVENTS }, (_, number) => `${number}-`.padEnd(KEY_CHARACTERS, "x"));

test("feed over a cluster: who waits for values while memory goes on is told to begin anew, and the node goes on", async () => {
  const bench = new Bench();
  const asked = bench.ask();
  await pass();
  await bench.change(["watched"]);
  assert.equal(bench.reads.length, 1);
  await bench.change(OTHERS);
  bench.reads[0]();
  const answer = await asked;
  assert.deepEqual(answer.kind === "refused" && answer.code, "place_too_old");
  bench.feed.close();
});

test("feed over a cluster: who came with a place catches up from there", async () => {
  const bench = new Bench();
  const first = await bench.ask({ waitMs: 0 });
  assert.ok(first.kind === "changes" && first.count === 0);
  const asked = bench.ask({ since: first.place, cursor: first.cursor });
  await pass();
  await bench.change(["watched"]);
  assert.equal(bench.reads.length, 1);
  await bench.change(OTHERS);
  await bench.change(["watched"]);
  bench.reads[0]();
  await pass();
  for (const read of bench.reads.slice(1)) read();
  const answer = await asked;
  assert.ok(answer.kind === "changes", JSON.stringify(answer));
  assert.equal(Buffer.from(answer.text).toString(), '{"event":"put","key":"watched"}');
  bench.feed.close();
});
