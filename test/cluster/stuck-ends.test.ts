/** Ends that the own shards cannot mark: who may mark at all, and what is settled by a round, when. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { ReadResult } from "../../src/cluster/register/requests.ts";
import { Ends, SETTLE_MS } from "../../src/cluster/repair/ends.ts";
import { loadHash } from "../../src/util/hash.ts";

const CLUSTER_MS = 1_700_000_000_000;
const TICK_MS = 500;

before(loadHash);

class Bench {
  nowMs = 0;
  endMillis = CLUSTER_MS;
  /** What the shards cannot mark. */
  overdue: string[] = [];
  /** What they were told. */
  endTime = -1;
  asked = 0;
  readonly settled: string[] = [];
  outcome: ReadResult["outcome"] = "absent";
  readonly ends = new Ends({
    vault: {
      replica: {
        setEndTime: (millis) => {
          this.endTime = millis;
        },
        overdue: (_, done) => {
          this.asked++;
          done(this.overdue.map((key) => Buffer.from(key)));
        },
      },
    },
    coordinator: {
      settle: (key, done) => {
        this.settled.push(Buffer.from(key.bytes).toString());
        done({ outcome: this.outcome, ballot: null, payload: null, replicas: 0 });
      },
    },
    endMillis: () => this.endMillis,
    now: () => this.nowMs,
  });

  pass(ms: number): void {
    for (let left = ms; left > 0; left -= TICK_MS) {
      this.nowMs += TICK_MS;
      this.ends.tick();
    }
  }
}

test("stuck ends: the shards mark up to cluster time, and not at all while that is not known or the replica does not vote", () => {
  const bench = new Bench();
  bench.pass(TICK_MS);
  assert.equal(bench.endTime, CLUSTER_MS);
  bench.endMillis = 0;
  const { asked } = bench;
  bench.pass(5000);
  assert.deepEqual([bench.endTime, bench.asked], [0, asked]);
  bench.endMillis = CLUSTER_MS + 1;
  bench.pass(TICK_MS);
  assert.equal(bench.endTime, CLUSTER_MS + 1);
  bench.ends.stop();
  assert.equal(bench.endTime, 0);
});

test("stuck ends: what cannot be marked for long is settled; what was written meanwhile is left alone", () => {
  const bench = new Bench();
  bench.overdue = ["a", "b"];
  bench.pass(SETTLE_MS - 4000);
  assert.deepEqual(bench.settled, []);
  bench.overdue = ["b"];
  bench.pass(2 * SETTLE_MS);
  assert.ok(bench.settled.length > 0 && bench.settled.every((key) => key === "b"));
  assert.equal(bench.ends.settled, bench.settled.length);
  bench.overdue = [];
  bench.pass(2 * SETTLE_MS);
  const { length } = bench.settled;
  bench.pass(2 * SETTLE_MS);
  assert.equal(bench.settled.length, length, "and then no more");
});

test("stuck ends: a key that nobody can settle now is tried again, and many are bounded", () => {
  const bench = new Bench();
  bench.outcome = "no_quorum";
  bench.overdue = ["a"];
  bench.pass(4 * SETTLE_MS);
  assert.ok(bench.settled.length >= 2);
  assert.equal(bench.ends.settled, 0);
  bench.overdue = Array.from({ length: 10_000 }, (_, number) => `k${number}`);
  bench.settled.length = 0;
  bench.pass(SETTLE_MS + 2000);
  assert.ok(bench.settled.length > 0 && bench.settled.length <= 10_000);
});
