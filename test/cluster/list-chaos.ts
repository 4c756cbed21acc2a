/**
 * Lists over a cluster of real processes under chaos: while nodes are killed, paused, cut off and moved to, and others write and delete, each list that is told
 * to its end has every key that is there all the time, once. A page that is refused is asked for again, with the same cursor.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "../random.ts";
import { call, inParallel } from "../rest/client.ts";
import { move } from "./chaos.ts";
import { type FaultName, Nemesis } from "./nemesis.ts";
import type { Cluster } from "./workers.ts";

const PERMANENT = 60;
const CHURNED = 200;
const REST_MS = 50;
const PATIENCE_MS = 120_000;

export interface ListChaosOptions {
  seed: number;
  /** How long the nemesis works. */
  ms: number;
  lanes?: number;
  /** What the nemesis draws from; without disks and clocks when left out. */
  faults?: readonly FaultName[];
  withoutMaster?: boolean;
  move?: "add" | "drain";
}

export interface ListChaosResult {
  lists: number;
  pages: number;
  refused: number;
  faults: number;
}

/** Null: refused, or nobody is there. */
async function tried(port: number, method: string, target: string, body?: string) {
  try {
    const reply = await call(port, method, target, { agent: false, ...(body === undefined ? {} : { body }) });
    return reply.status >= 500 ? null : reply;
  } catch {
    return null;
  }
}

export async function listChaos(cluster: Cluster, options: ListChaosOptions): Promise<ListChaosResult> {
  const { seed, ms } = options;
  const random = new Random(seed);
  const prefix = `p${seed}/`;
  const permanent = Array.from(
    { length: PERMANENT },
    (_, i) => `${prefix}${i % 7}/${i % 3 === 0 ? "x/" : ""}${i}`,
  ).sort();
  const isPermanent = new Set(permanent);
  const result: ListChaosResult = { lists: 0, pages: 0, refused: 0, faults: 0 };
  const ports = (): number[] => cluster.workers.map(({ port }) => port);
  await inParallel(permanent.length, 4, async (i) => {
    const until = performance.now() + PATIENCE_MS;
    while ((await tried(ports()[i % ports().length], "PUT", `/${permanent[i]}`, "p")) === null) {
      assert.ok(performance.now() < until, `${permanent[i]} cannot be written`);
      await sleep(REST_MS);
    }
  });
  const untilMs = performance.now() + ms;
  let isOver = false;
  const churn = async (own: Random, node: number): Promise<void> => {
    while (performance.now() < untilMs) {
      const key = `${prefix}${own.below(7)}/churn-${own.below(CHURNED)}`;
      const { port } = cluster.workers[node];
      const done = await (own.below(2) === 0
        ? tried(port, "PUT", `/${key}`, "c".repeat(own.below(500)))
        : tried(port, "DELETE", `/${key}`));
      await sleep(done === null ? REST_MS : own.below(10));
    }
  };
  /** One list to its end, by any node. Null: it could not be ended. */
  const list = async (own: Random, node: () => number): Promise<void> => {
    const reverse = own.below(2) === 0;
    const delimiter = own.below(3) === 0 ? "/" : null;
    const query = `list&limit=${1 + own.below(60)}${reverse ? "&reverse" : ""}${delimiter === null ? "" : "&delimiter=%2F"}`;
    const told: string[] = [];
    const giveUpMs = untilMs + PATIENCE_MS;
    for (let cursor: string | null = ""; cursor !== null; ) {
      const target: string = `/_kv/${prefix}?${query}${cursor === "" ? "" : `&cursor=${cursor}`}`;
      const reply = await tried(node(), "GET", target);
      if (reply === null) {
        result.refused++;
        assert.ok(performance.now() < giveUpMs, "lists are refused for ever");
        await sleep(REST_MS);
        continue;
      }
      assert.equal(reply.status, 200, reply.text);
      const page = reply.json();
      result.pages++;
      told.push(...page.keys.map(({ key }: { key: string }) => key), ...page.prefixes);
      ({ cursor } = page);
    }
    result.lists++;
    assert.equal(new Set(told).size, told.length, `something came twice (seed ${seed}, ${query})`);
    const wanted =
      delimiter === null
        ? isPermanent
        : new Set(permanent.map((key) => `${prefix}${key.slice(prefix.length).split("/")[0]}/`));
    const found = told.filter((key) => wanted.has(key));
    assert.equal(
      found.length,
      wanted.size,
      `a key that was there is not in the list (seed ${seed}, ${query})`,
    );
    const inOrder = [...found].sort();
    assert.deepEqual(found, reverse ? inOrder.reverse() : inOrder, `seed ${seed}, ${query}`);
  };
  const lister = async (own: Random, node: number): Promise<void> => {
    while (!isOver) {
      // Pages of one list may come from several nodes: a cursor is good at all of them.
      const isLoyal = own.below(2) === 0;
      await list(own, () => {
        const all = ports();
        return isLoyal && node < all.length ? all[node] : all[own.below(all.length)];
      });
    }
  };
  const nemesis = new Nemesis(cluster, new Random(seed ^ 0x5bd1e995), options.faults);
  if (options.withoutMaster === true) await cluster.killMaster();
  try {
    const workers = cluster.workers.map((_, node) => node);
    const listers = workers.map((node) => lister(new Random(random.word()), node));
    const moves = options.move === undefined ? [] : [move(cluster, options.move)];
    const lanes = Array.from({ length: options.lanes ?? 2 }, () => nemesis.run(untilMs));
    // A lister that fails ends the run at once.
    const failed = Promise.all(listers);
    const work = Promise.all([
      Promise.all(moves),
      ...workers.map((node) => churn(new Random(random.word()), node)),
      ...lanes,
    ]);
    const [finish] = (await Promise.race([work, failed.then(() => work)])) as [(() => Promise<void>)[]];
    await nemesis.heal();
    isOver = true;
    await failed;
    for (const wait of finish) await wait();
    for (let i = 0; i < cluster.workers.length; i++) await list(random, () => ports()[i]);
  } finally {
    isOver = true;
    await nemesis.heal();
    if (options.withoutMaster === true) await cluster.startMaster();
  }
  result.faults = [...nemesis.count.values()].reduce((sum, count) => sum + count, 0);
  return result;
}
