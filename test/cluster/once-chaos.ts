/**
 * Counters that clients of all nodes add to, each write under an `Idempotency-Key` and sent again, to any node, until somebody says what became
 * of it, while a nemesis is at work. Others change ends of life without a key, so that what is remembered passes through their hands.
 *
 * Every counter must have been each number once: then nothing was done twice, nothing was forgotten, and each answer was that of its own write.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "../random.ts";
import { call, type Reply } from "../rest/client.ts";
import { type FaultName, Nemesis } from "./nemesis.ts";
import type { Cluster } from "./workers.ts";

const COUNTERS = 4;
const CLIENTS = 8;
/** A key of the store remembers about two hundred. */
const WRITES_OF_A_COUNTER_MAX = 150;
/** So long a client waits for an answer; what comes later nobody hears of. */
const PATIENCE_MS = 1500;
const REST_MS = 30;
const TOUCHES_ONE_IN = 6;

export interface OnceResult {
  seed: number;
  writes: number;
  /** Tries beyond the first. */
  again: number;
  replayed: number;
  faults: string;
  /** What is wrong, for people. */
  wrong: string[];
}

interface Counter {
  path: string;
  begun: number;
  /** What its writes were answered. */
  told: number[];
}

export interface OnceOptions {
  seed: number;
  /** How long the nemesis works. */
  ms: number;
  faults?: readonly FaultName[];
}

export async function onceRun(cluster: Cluster, { seed, ms, faults }: OnceOptions): Promise<OnceResult> {
  const random = new Random(seed);
  const nemesis = new Nemesis(cluster, new Random(seed ^ 0x5bd1e995), faults);
  const counters = Array.from(
    { length: COUNTERS },
    (_, index): Counter => ({ path: `/counter-${seed}-${index}`, begun: 0, told: [] }),
  );
  const result: OnceResult = { seed, writes: 0, again: 0, replayed: 0, faults: "", wrong: [] };
  const untilMs = performance.now() + ms;
  const clients = Array.from({ length: CLIENTS }, (_, number) =>
    client(cluster, counters, result, new Random(random.word()), `${seed}-${number}`, untilMs),
  );
  const lanes = [nemesis.run(untilMs), nemesis.run(untilMs)];
  await Promise.all(lanes);
  // From now on each write that is still sent again comes to its end.
  await nemesis.heal();
  await Promise.all(clients);
  await cluster.ready();
  for (const counter of counters) await judge(cluster, counter, result);
  result.faults = [...nemesis.count].map(([name, count]) => `${name} ${count}`).join(", ");
  return result;
}

async function client(
  cluster: Cluster,
  counters: readonly Counter[],
  result: OnceResult,
  random: Random,
  name: string,
  untilMs: number,
): Promise<void> {
  for (let number = 0; performance.now() < untilMs; number++) {
    const counter = counters[random.below(counters.length)];
    if (random.below(TOUCHES_ONE_IN) === 0) await ask(cluster, random, `${counter.path}?ttl=1h`, {});
    else if (counter.begun < WRITES_OF_A_COUNTER_MAX) {
      counter.begun++;
      await increment(cluster, counter, result, random, `${name}-${number}`);
    } else await sleep(REST_MS);
  }
}

async function increment(
  cluster: Cluster,
  counter: Counter,
  result: OnceResult,
  random: Random,
  once: string,
): Promise<void> {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": once };
  const body = '{"increment":1,"initial":0}';
  for (let tries = 0; ; tries++) {
    const reply = await ask(cluster, random, counter.path, { headers, body });
    if (reply !== null && reply.status < 300) {
      result.writes++;
      result.again += tries;
      if (reply.headers["idempotency-replayed"] === "true") result.replayed++;
      counter.told.push(reply.json().value);
      return;
    }
    const isPassing = reply !== null && (reply.status === 408 || reply.status === 429);
    if (reply !== null && reply.status < 500 && !isPassing) {
      result.wrong.push(`${counter.path} as ${once}: ${reply.status} ${reply.text}`);
      return;
    }
    await sleep(random.below(REST_MS));
  }
}

/** Asks some node; null: it did not answer, or not in time. */
async function ask(
  cluster: Cluster,
  random: Random,
  path: string,
  options: { headers?: Record<string, string>; body?: string },
): Promise<Reply | null> {
  const { port } = cluster.workers[random.below(cluster.workers.length)];
  const asked = call(port, "PATCH", path, { ...options, agent: false }).catch(() => null);
  return Promise.race([asked, sleep(PATIENCE_MS, null, { ref: false })]);
}

async function judge(cluster: Cluster, { path, told }: Counter, { wrong }: OnceResult): Promise<void> {
  const sorted = [...told].sort((a, b) => a - b);
  sorted.forEach((value, index) => {
    if (value !== index + 1) wrong.push(`${path}: ${value} in place of ${index + 1}`);
  });
  for (const { port, number } of cluster.workers) {
    let reply: Reply | null = null;
    while (reply === null || reply.status === 503)
      reply = await call(port, "GET", path, { agent: false }).catch(() => null);
    const counted = reply.status === 404 ? 0 : reply.json().value;
    if (counted !== told.length) wrong.push(`${path} at ${number}: ${counted} of ${told.length}`);
  }
}
