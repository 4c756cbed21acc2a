import assert from "node:assert/strict";
import { before, test } from "node:test";
import { FEATURE_PARTITIONS } from "../../src/cluster/layout/features.ts";
import { Placement } from "../../src/cluster/layout/groups.ts";
import type { LayoutNode } from "../../src/cluster/layout/layout.ts";
import { firstLayout } from "../../src/cluster/layout/steps.ts";
import { Service, UNABLE_MS } from "../../src/cluster/service/service.ts";
import { loadHash } from "../../src/util/hash.ts";

before(loadHash);

const nodes = ["a", "b", "c"].map((name): LayoutNode => {
  const url = `http://${name}:1`;
  return { id: url, url, region: name, host: name, state: "active" };
});
const [a, b, c] = nodes.map(({ id }) => id);
const KEY = { bytes: Buffer.from("key"), hashA: 0 };

/** A node a whose clock and others are the test's. */
class Bench {
  nowMs = 0;
  votes = true;
  readonly away = new Map<string, string>();
  /** Operations that the service tries by itself: what they are, and how they end. */
  readonly tried: string[] = [];
  works = false;
  readonly service: Service;

  constructor(partitions = 1024) {
    const placement = new Placement(firstLayout(nodes, 3, FEATURE_PARTITIONS, partitions));
    const operation =
      (name: string) => (_: unknown, done: (result: { outcome: "absent" | "no_quorum" }) => void) => {
        this.tried.push(name);
        done({ outcome: this.works ? "absent" : "no_quorum" });
      };
    this.service = new Service({
      self: a,
      placement: () => placement,
      votes: () => this.votes,
      hindrance: (node) => this.away.get(node) ?? null,
      read: operation("read"),
      settle: operation("settle"),
      now: () => this.nowMs,
    });
    this.service.close();
  }

  pass(ms: number): string | null {
    for (const end = this.nowMs + ms; this.nowMs < end; this.nowMs += 500) this.service.look();
    return this.service.problem;
  }
}

test("service: without a majority that can be reached and votes a node says so after some seconds, and who is missing", () => {
  const bench = new Bench();
  bench.away.set(b, "ECONNREFUSED");
  assert.equal(bench.pass(10_000), null, "two of three are enough");
  bench.away.set(c, "certificate has expired");
  assert.equal(bench.pass(UNABLE_MS - 500), null, "a moment is nothing");
  const problem = bench.pass(1000) ?? "";
  assert.match(problem, /^1024 of 1,024 partitions/);
  assert.ok(
    problem.includes(`${b}: ECONNREFUSED`) && problem.includes(`${c}: certificate has expired`),
    problem,
  );
  bench.away.clear();
  assert.equal(bench.pass(500), null, "it heals by itself");
  bench.votes = false;
  assert.equal(bench.pass(10_000), null);
  bench.away.set(c, "it does not vote");
  assert.match(bench.pass(4000) ?? "", /this node does not vote; .*it does not vote/);
});

test("service: partitions are told of as many as the layout has", () => {
  const bench = new Bench(65_536);
  bench.away.set(b, "ECONNREFUSED").set(c, "ECONNREFUSED");
  assert.match(bench.pass(UNABLE_MS + 500) ?? "", /^65536 of 65,536 partitions/);
});

test("service: operations that fail for some seconds are said, and tried again until they work, without clients", () => {
  const bench = new Bench();
  bench.service.seen("write", KEY, "no_quorum", "full");
  assert.equal(bench.pass(UNABLE_MS - 500), null);
  assert.match(bench.pass(1000) ?? "", /^writes through this node fail, for 3 s now: the disks of too many/);
  assert.ok(bench.tried.length > 1 && bench.tried.every((name) => name === "settle"));
  assert.match(bench.pass(60_000) ?? "", /writes through this node fail/, "as long as it lasts");
  bench.works = true;
  assert.equal(bench.pass(2000), null);
  const tries = bench.tried.length;
  bench.pass(10_000);
  assert.equal(bench.tried.length, tries, "what works is left alone");
});

test("service: one success ends it; a crowd on one key, a refusal and an absent key are no failures", () => {
  const bench = new Bench();
  for (let second = 0; second < 10; second++) {
    bench.service.seen("read", KEY, "no_quorum");
    bench.service.seen("read", KEY, "absent");
    bench.service.seen("write", KEY, "overloaded");
    bench.service.seen("write", KEY, "unknown_outcome");
    bench.service.seen("write", KEY, "precondition_failed");
    assert.equal(bench.pass(1000), null);
  }
  assert.deepEqual(bench.tried, []);
  bench.service.seen("read", KEY, "no_quorum");
  assert.match(bench.pass(5000) ?? "", /^reads through this node fail/);
  bench.service.seen("read", KEY, "found");
  assert.equal(bench.service.problem, null);
});
