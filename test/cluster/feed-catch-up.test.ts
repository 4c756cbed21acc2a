/** Catching up with a cluster's changes: which deletions that replicas tell of are decided. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { CatchUp, type CatchUpSetup } from "../../src/cluster/feed/catch-up.ts";
import type { Absence, Change } from "../../src/cluster/feed/decisions.ts";
import type { ReplicaChange, ReplicaChanges } from "../../src/cluster/feed/feed-wire.ts";
import { Placement } from "../../src/cluster/layout/groups.ts";
import type { LayoutNode } from "../../src/cluster/layout/layout.ts";
import { firstLayout } from "../../src/cluster/layout/steps.ts";
import { etagText } from "../../src/format/version.ts";
import type { FeedQuestion } from "../../src/shards/feed/messages.ts";
import { loadHash } from "../../src/util/hash.ts";

const NOW_MS = 1_700_000_000_000;
const KEY = "key";

before(loadHash);

const node = (name: string): LayoutNode => ({
  ...{ id: `http://${name}:1`, url: `http://${name}:1`, host: name, region: "here", state: "active" },
});

/** A version that was drawn so long ago. */
function versionOf(ageMs: number): string {
  const millis = NOW_MS - ageMs;
  const ballot = { clockHigh: Math.floor(millis / 0x10000), clockLow: (millis % 0x10000) * 0x10000 };
  return etagText({ ...ballot, node: 1, incarnation: 1 }).slice(1, -1);
}

/** What is told of a key that some replicas say is deleted, by what reads find one after the other. */
async function told(etag: string, by: string, reads: (Change | Absence)[]): Promise<string> {
  const placement = new Placement(firstLayout(["a", "b", "c"].map(node), 3));
  const deleted: ReplicaChange = { event: "delete", key: KEY, etag };
  const answer = (changes: ReplicaChange[]): ReplicaChanges => ({
    ...{ votes: new Uint8Array(128).fill(255), place: "place", cursor: 0, more: false, changes },
  });
  const setup = {
    replicas: {
      askAll: async () =>
        new Map([..."abc"].map((name) => [node(name).url, answer(by.includes(name) ? [deleted] : [])])),
    },
    hub: { placement, groupOf: () => placement.groups[0], head: 0, learn: () => {} },
    read: async () => reads.shift() as Change,
    question: {
      ...{ prefixes: [""], exact: false, values: false, form: "objects", since: "place", cursor: -1 },
      ...{ catchesUp: true, waitMs: 0, bytesMax: 65_536, countMax: 1000 },
    } satisfies FeedQuestion,
    wanted: () => true,
    clusterMillis: () => NOW_MS,
  };
  // Its own timers keep no process alive.
  const alive = setInterval(() => {}, 1000);
  const found = await new CatchUp(setup as unknown as CatchUpSetup).run({});
  clearInterval(alive);
  assert.equal(reads.length, 0);
  return Buffer.from(found?.text ?? []).toString();
}

const NOTHING: Absence = { event: "absent", etag: null };
const text = (event: string, etag: string) => JSON.stringify({ event, key: KEY, etag });

test("feed over a cluster: what one replica alone calls deleted is told when a read finds that, or something else", async () => {
  const young = versionOf(100);
  const newer = versionOf(0);
  const put: Change = {
    event: "put",
    key: KEY,
    etag: newer,
    text: JSON.stringify({ key: KEY, etag: newer }),
  };
  assert.equal(await told(young, "b", [NOTHING, NOTHING, put]), text("put", newer));
  assert.equal(await told(young, "b", [NOTHING, { event: "absent", etag: young }]), text("delete", young));
});

test("feed over a cluster: a deletion of which a read finds nothing is told where most tell of it, or it is old", async () => {
  const young = versionOf(100);
  assert.equal(await told(young, "ac", [NOTHING]), text("delete", young));
  const old = versionOf(60_000);
  assert.equal(await told(old, "b", [NOTHING]), text("delete", old));
});

test("feed over a cluster: a page has no more keys than were asked for, and what is left out is asked for again", async () => {
  const placement = new Placement(firstLayout(["a", "b", "c"].map(node), 3));
  const logs = new Map([..."abc"].map((name) => [node(name).url, [1, 2, 3].map((at) => `${name}${at}`)]));
  const put = (key: string): Change => ({ event: "put", key, etag: "1", text: JSON.stringify({ key }) });
  for (const limit of [1, 2, 3, 5, 9]) {
    const asked: number[] = [];
    const setup = {
      replicas: {
        askAll: async (_: Placement, requestFor: (url: string) => { since: string; countMax: number }) =>
          new Map(
            [...logs].map(([url, log]) => {
              const { since, countMax } = requestFor(url);
              asked.push(countMax);
              const from = Number(since ?? 0);
              const changes = log.slice(from, from + countMax).map(put);
              const place = String(from + changes.length);
              const more = from + changes.length < log.length;
              return [url, { votes: new Uint8Array(128).fill(255), place, cursor: 0, more, changes }];
            }),
          ),
      },
      hub: { placement, groupOf: () => placement.groups[0], head: 0, learn: () => {} },
      read: async (key: string) => put(key),
      question: {
        ...{ prefixes: [""], exact: false, values: false, form: "objects", since: "place", cursor: -1 },
        ...{ catchesUp: true, waitMs: 0, bytesMax: 65_536, countMax: limit },
      } satisfies FeedQuestion,
      wanted: () => true,
      clusterMillis: () => NOW_MS,
    };
    const keys: string[] = [];
    let places = {};
    for (let more = true; more; ) {
      const page = await new CatchUp(setup as unknown as CatchUpSetup).run(places);
      assert.ok(page !== null && page.count <= limit, `${page?.count} of at most ${limit}`);
      keys.push(
        ...(Buffer.from(page.text)
          .toString()
          .match(/[abc]\d/g) ?? []),
      );
      ({ places, more } = page);
    }
    assert.deepEqual(keys.sort(), [...logs.values()].flat().sort());
    assert.ok(Math.max(...asked) <= Math.max(1, limit / 3));
  }
});
