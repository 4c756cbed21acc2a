/**
 * What clients of real nodes see of ends of life: whether something that was told gone is read again, and whether a lock by POST with a ttl
 * has one holder at a time. test/storm/ends.test.ts runs the same for long.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../random.ts";
import { type CallOptions, call, type Reply } from "../rest/client.ts";
import type { Cluster } from "./workers.ts";

const RAW = { "Content-Type": "text/plain" };
/** Clocks are set within this, either way. */
const SKEW_MS = 700;
const STEP_MS = 400;
const LIFE_MS_MAX = 900;
/** Keys at once. */
const KEYS_AT_ONCE = 8;

export interface GoneResult {
  /** Values that were stored. */
  keys: number;
  reads: number;
  /** Keys that every node has told as gone. */
  gone: number;
  /** Found by a read that began after an answer that it is gone. */
  back: string[];
}

/** A request to a node that may be down; null: nobody knows what became of it. */
async function ask(port: number, method: string, path: string, options?: CallOptions): Promise<Reply | null> {
  try {
    return await call(port, method, path, options);
  } catch {
    await sleep(20);
    return null;
  }
}

/** Sets the clocks of all nodes again and again, within so much either way, while some work is done. */
async function besideClocks(
  { workers }: Cluster,
  random: Random,
  skewMs: number,
  work: Promise<unknown>,
): Promise<void> {
  let working = true;
  const setClocks = async (): Promise<void> => {
    while (working) {
      for (const worker of workers) worker.setClock(random.below(2 * skewMs + 1) - skewMs);
      await sleep(STEP_MS);
    }
  };
  const clocks = setClocks();
  try {
    await work;
  } finally {
    working = false;
    await clocks;
    for (const worker of workers) worker.setClock(0);
  }
}

/** Values with short lives, read at every node all the time while their clocks are set again and again. */
export async function goneStaysGone(cluster: Cluster, random: Random, keys: number): Promise<GoneResult> {
  const result: GoneResult = { keys: 0, reads: 0, gone: 0, back: [] };
  const { workers } = cluster;
  const one = async (key: string): Promise<void> => {
    const at = workers[random.below(workers.length)];
    const life = 1 + random.below(LIFE_MS_MAX);
    const written = await ask(at.port, "PUT", `/${key}?ttl=${life}ms`, { headers: RAW, body: key });
    // Whether it was stored, or still will be, nobody can tell: then "gone" may be too early to say.
    if (written?.status !== 201) return;
    result.keys++;
    let goneAt = Number.POSITIVE_INFINITY;
    await Promise.all(
      workers.map(async ({ port }) => {
        for (;;) {
          const calledAt = performance.now();
          const status = (await ask(port, "GET", `/${key}`))?.status;
          result.reads++;
          if (status === 200 && calledAt > goneAt) result.back.push(key);
          if (status !== 404) continue;
          goneAt = Math.min(goneAt, performance.now());
          return;
        }
      }),
    );
    // And once more, when all have said so.
    for (const { port } of workers)
      if ((await ask(port, "GET", `/${key}`))?.status === 200) result.back.push(key);
    result.gone++;
  };
  const name = random.below(2 ** 30).toString(36);
  let next = 0;
  const line = async (): Promise<void> => {
    while (next < keys) await one(`gone-${name}-${next++}`);
  };
  await besideClocks(cluster, random, SKEW_MS, Promise.all(Array.from({ length: KEYS_AT_ONCE }, line)));
  return result;
}

/** The lock of a holder that does not give it back. */
const LOCK_MS = 1600;
/** Clocks are assumed to agree within this, so a holder that does not give its lock back stops so much earlier. */
const MARGIN_MS = 1000;
/** Two of them are apart by twice as much at most; the rest of the margin is for reading them. */
const LOCK_SKEW_MS = 350;
const CONTENDERS = 6;

interface Holding {
  token: string;
  fromMs: number;
  toMs: number;
}

export interface LockResult {
  takeovers: number;
  /** Holders that did not give the lock back. */
  abandoned: number;
  /** Of clients that were told too late that they had it. */
  late: number;
  /** Tokens of holders at the same time. */
  together: string[];
  /** Tokens that were not above the one before. */
  falling: string[];
}

/** Clients of all nodes that want one lock while clocks are set again and again: it is a key that is created with a ttl, and its ETag is the token. */
export async function lockHolders(cluster: Cluster, random: Random, takeovers: number): Promise<LockResult> {
  const { workers } = cluster;
  const path = `/lock-${random.below(2 ** 30).toString(36)}`;
  const holdings: Holding[] = [];
  let [abandoned, late] = [0, 0];
  const contend = async (number: number): Promise<void> => {
    const { port } = workers[number % workers.length];
    while (holdings.length < takeovers) {
      const startMs = performance.now();
      const reply = await ask(port, "POST", `${path}?ttl=${LOCK_MS}ms`, { headers: RAW, body: "held" });
      if (reply?.status !== 201) {
        await sleep(1 + random.below(10));
        continue;
      }
      const holding = {
        token: String(reply.headers.etag),
        fromMs: performance.now(),
        toMs: startMs + LOCK_MS - MARGIN_MS,
      };
      // Who hears of it when it may be over is no holder; by then another one may have been told of a later token.
      if (holding.fromMs >= holding.toMs) {
        late++;
        continue;
      }
      holdings.push(holding);
      await sleep(random.below(20));
      if (random.below(8) === 0) {
        abandoned++;
        continue;
      }
      holding.toMs = Math.min(holding.toMs, performance.now());
      await ask(port, "DELETE", path, { headers: { "If-Match": holding.token } });
    }
  };
  const contention = Promise.all(Array.from({ length: CONTENDERS }, (_, number) => contend(number)));
  await besideClocks(cluster, random, LOCK_SKEW_MS, contention);
  holdings.sort((a, b) => a.fromMs - b.fromMs);
  const result: LockResult = { takeovers: holdings.length, abandoned, late, together: [], falling: [] };
  const told = ({ token, fromMs, toMs }: Holding) => `${token} ${fromMs.toFixed(1)} to ${toMs.toFixed(1)}`;
  let before: Holding | null = null;
  for (const holding of holdings) {
    if (before !== null && holding.fromMs < before.toMs)
      result.together.push(`${told(before)}, ${told(holding)}`);
    if (before !== null && holding.token <= before.token)
      result.falling.push(`${told(before)}, ${told(holding)}`);
    if (before === null || holding.toMs > before.toMs) before = holding;
  }
  return result;
}
