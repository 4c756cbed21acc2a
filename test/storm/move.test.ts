/**
 * A fourth worker joins three that hold a million keys, while clients read and write: what moves, how long it takes, what the clients notice, and that
 * nothing is lost. KEYS says how many.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { build, type Histogram } from "hdr-histogram-js";
import { startCluster } from "../cluster/workers.ts";
import { Random, randomSeed } from "../random.ts";
import { call, closeConnections } from "../rest/client.ts";
import { getMany, putMany } from "../rest/load.ts";

const KEYS = Number(process.env.KEYS ?? 1_000_000);
const VALUE_BYTES = 100;
/** Requests of clients a second, every other one a PUT; they begin at this rate, whatever the servers do. */
const RATE = 500;
const BEFORE_MS = 20_000;
const MOVE_MS_MAX = 1_200_000;
const LOOK_MS = 500;
/** A fourth worker of four holds about three quarters of all keys; how many partitions exactly, chance decides. */
const SHARE = 0.75;
const SHARE_ERROR_MAX = 0.15;
const P99_RATIO_MAX = 3;

const keyName = (index: number) => `move-${String(index).padStart(9, "0")}`;
const valueText = (index: number, version: number) => `${index} ${version} `.padEnd(VALUE_BYTES, "x");

/** Clients at a fixed rate, and what they know about each key they wrote. */
class Traffic {
  readonly done: Promise<void>;
  /** Microseconds from when a request was due, by what was asked. */
  latency = { GET: newHistogram(), PUT: newHistogram() };
  readonly unexpected: string[] = [];
  requests = 0;
  private readonly ports: readonly number[];
  private readonly random: Random;
  /** Versions that a key may have: one, or more after a PUT of unknown outcome. */
  private readonly versions = new Map<number, number[]>();
  private readonly busy = new Set<number>();
  private running = true;

  constructor(ports: readonly number[], random: Random) {
    this.ports = ports;
    this.random = random;
    this.done = this.run();
  }

  isRight(index: number, value: string): boolean {
    return (this.versions.get(index) ?? [0]).some((version) => value === valueText(index, version));
  }

  async stop(): Promise<void> {
    this.running = false;
    await this.done;
  }

  private async run(): Promise<void> {
    const begunMs = performance.now();
    const open = new Set<Promise<void>>();
    for (let number = 0; this.running; ) {
      for (; begunMs + (number * 1000) / RATE <= performance.now(); number++) {
        const request = this.request(number, begunMs + (number * 1000) / RATE);
        open.add(request);
        void request.finally(() => open.delete(request));
      }
      await sleep(1);
    }
    await Promise.all(open);
  }

  private async request(number: number, dueMs: number): Promise<void> {
    const { ports, busy, latency } = this;
    const port = ports[number % ports.length];
    const kind = (number >>> 1) % 2 === 0 ? "PUT" : "GET";
    let index = this.random.below(KEYS);
    while (busy.has(index)) index = this.random.below(KEYS);
    busy.add(index);
    const histogram = latency[kind];
    const answered = () => histogram.recordValue(Math.round((performance.now() - dueMs) * 1000));
    if (kind === "GET") {
      const { status, text } = await call(port, "GET", `/${keyName(index)}`);
      answered();
      if (status !== 200 || !this.isRight(index, text))
        this.unexpected.push(`${keyName(index)}: ${status} ${text}`);
    } else {
      const version = number + 1;
      const { status, text } = await call(port, "PUT", `/${keyName(index)}`, {
        body: valueText(index, version),
      });
      answered();
      if (status === 200) this.versions.set(index, [version]);
      else {
        this.versions.set(index, [...(this.versions.get(index) ?? [0]), version]);
        this.unexpected.push(`${keyName(index)}: ${status} ${text}`);
      }
    }
    this.requests++;
    busy.delete(index);
  }
}

function newHistogram(): Histogram {
  return build({ highestTrackableValue: 60_000_000, numberOfSignificantValueDigits: 3 });
}

const percentiles = (histogram: Histogram) =>
  [50, 99, 100].map((at) => (histogram.getValueAtPercentile(at) / 1000).toFixed(1)).join(" / ");

test(`a fourth worker joins ${KEYS} keys under load`, async (t) => {
  const random = new Random(randomSeed(t));
  const cluster = await startCluster({ workers: 3, direct: true });
  try {
    let begunMs = performance.now();
    const ports = cluster.workers.map(({ port }) => port);
    await putMany(ports[0], KEYS, keyName, (index) => valueText(index, 0));
    const fillSeconds = (performance.now() - begunMs) / 1000;
    t.diagnostic(`${KEYS} keys of ${VALUE_BYTES} bytes in ${fillSeconds.toFixed(0)} s`);

    const traffic = new Traffic(ports, random);
    await sleep(BEFORE_MS / 4);
    traffic.latency = { GET: newHistogram(), PUT: newHistogram() };
    await sleep(BEFORE_MS);
    const before = traffic.latency;
    traffic.latency = { GET: newHistogram(), PUT: newHistogram() };

    begunMs = performance.now();
    const joined = await cluster.add();
    const statsOf = async (port: number) => (await call(port, "GET", "/_stats")).json();
    const seen: string[] = [];
    for (;;) {
      const { cluster: state } = await statsOf(joined.port);
      const { done, total } = state.synchronisation;
      const progress = `${done}/${total}`;
      if (total > 0 && progress !== seen.at(-1)) seen.push(progress);
      if (state.epoch > 1 && !state.moving) break;
      assert.ok(performance.now() - begunMs < MOVE_MS_MAX, `not finished: ${progress}`);
      await sleep(LOOK_MS);
    }
    const moveSeconds = (performance.now() - begunMs) / 1000;
    const during = traffic.latency;
    await traffic.stop();
    const { cluster: state } = await statsOf(joined.port);
    const moved: number = state.synchronisation.keys;
    t.diagnostic(
      `moved ${moved} records (${((moved / (3 * KEYS)) * 100).toFixed(1)} % of the copies) in ${moveSeconds.toFixed(0)} s beside ${RATE} requests/s; ${seen.length} steps of progress: ${seen.slice(0, 3)} … ${seen.slice(-2)}`,
    );
    for (const kind of ["GET", "PUT"] as const)
      t.diagnostic(
        `${kind} p50 / p99 / max: before ${percentiles(before[kind])} ms, during ${percentiles(during[kind])} ms`,
      );
    t.diagnostic(`${traffic.requests} requests, unexpected answers: ${traffic.unexpected.length}`);

    begunMs = performance.now();
    await getMany(joined.port, KEYS, keyName, (index, value) => traffic.isRight(index, value));
    t.diagnostic(
      `all ${KEYS} keys read at the new worker and right; ${((performance.now() - begunMs) / 1000).toFixed(0)} s`,
    );
    assert.deepEqual(traffic.unexpected.slice(0, 5), []);
    assert.ok(Math.abs(moved / KEYS / SHARE - 1) < SHARE_ERROR_MAX, `${moved} records`);
    assert.ok(seen.length > 3, `progress: ${seen}`);
    for (const kind of ["GET", "PUT"] as const) {
      const [was, is] = [before, during].map((latency) => latency[kind].getValueAtPercentile(99));
      assert.ok(is <= was * P99_RATIO_MAX, `${kind}: p99 ${is} µs during the move, ${was} µs before`);
    }
  } finally {
    await cluster.dispose();
    closeConnections();
  }
});
