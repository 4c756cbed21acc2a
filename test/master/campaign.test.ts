/**
 * Terms and writes over an etcd that is made up, on a clock that is made up: requests that take effect although their answer is lost, or
 * that never arrive; masters that stand still beyond their lease and then go on. What is kept is one history, and whatever was told is in it.
 */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Campaign, type Won } from "../../src/master/etcd/campaign.ts";
import { EtcdStore } from "../../src/master/etcd/etcd-store.ts";
import {
  type Comparison,
  type Gateway,
  type Kept,
  type Operation,
  type Outcome,
  Refused,
  Unreached,
} from "../../src/master/etcd/gateway.ts";
import { decodeValue, keysUnder } from "../../src/master/etcd/keys.ts";
import { NotKept } from "../../src/master/layout/state.ts";
import { loadHash } from "../../src/util/hash.ts";
import { Random, randomSeed } from "../random.ts";

const KEYS = keysUnder("made-up");
const LEASE_MS = 5000;
const EMPTY = { layout: null, queue: [], stores: {}, left: {}, returning: {}, nodes: [] };

/** One etcd, whose answers get lost by chance. */
class MadeUpEtcd {
  nowMs = 0;
  revision = 1;
  /** Every value of the state, oldest first. */
  readonly history: string[] = [];
  private readonly kept = new Map<string, Kept & { lease: string | null }>();
  private readonly leases = new Map<string, number>();
  private readonly random: Random;
  private readonly lossPercent: number;

  constructor(random: Random, lossPercent: number) {
    this.random = random;
    this.lossPercent = lossPercent;
  }

  get gateway(): Gateway {
    const carried = async <Result>(work: () => Result): Promise<Result> => {
      if (this.random.below(100) < this.lossPercent) throw new Unreached("lost on its way");
      this.expire();
      const result = work();
      if (this.random.below(100) < this.lossPercent) throw new Unreached("its answer was lost");
      return result;
    };
    return {
      grant: () =>
        carried(() => {
          const lease = String(++this.revision * 1000);
          this.leases.set(lease, this.nowMs + LEASE_MS);
          return { lease, ttlMs: LEASE_MS };
        }),
      renew: (lease: string) =>
        carried(() => {
          if (!this.leases.has(lease)) return 0;
          this.leases.set(lease, this.nowMs + LEASE_MS);
          return LEASE_MS;
        }),
      revoke: (lease: string) =>
        carried(() => {
          if (this.leases.has(lease)) this.leases.set(lease, this.nowMs);
          this.expire();
        }),
      transact: (compare: Comparison[], success: Operation[], failure: Operation[] = []) =>
        carried(() => this.transact(compare, success, failure)),
    } as unknown as Gateway;
  }

  private expire(): void {
    for (const [lease, endMs] of this.leases)
      if (endMs <= this.nowMs) {
        this.leases.delete(lease);
        for (const [key, kept] of this.kept) if (kept.lease === lease) this.kept.delete(key);
      }
  }

  private transact(compare: Comparison[], success: Operation[], failure: Operation[]): Outcome {
    const succeeded = compare.every(({ key, target, revision }) => {
      const kept = this.kept.get(key);
      return (
        (target === "CREATE" ? kept?.createRevision : kept?.modRevision) ===
        (revision === "0" ? undefined : revision)
      );
    });
    const operations = succeeded ? success : failure;
    if (operations.some((operation) => "put" in operation)) this.revision++;
    const revision = String(this.revision);
    const found = operations.map((operation) => {
      if ("range" in operation) return this.kept.get(operation.range) ?? null;
      const { put, value, lease = null } = operation;
      if (lease !== null && !this.leases.has(lease)) throw new Refused("lease not found", true);
      const createRevision = this.kept.get(put)?.createRevision ?? revision;
      this.kept.set(put, { value, lease, createRevision, modRevision: revision });
      if (put === KEYS.state) this.history.push(value.toString());
      return null;
    });
    return { succeeded, revision, found };
  }
}

/** A master that does nothing but write down what comes next. */
class Writer {
  private readonly etcd: MadeUpEtcd;
  private readonly campaign: Campaign;
  private readonly name: string;
  private held: { won: Won; store: EtcdStore; next: number } | null = null;
  /** Its clock, when it was looked at last: it stands still while this process does. */
  readonly told: number[];

  constructor(etcd: MadeUpEtcd, name: string, told: number[]) {
    const clocks = { monotonic: () => etcd.nowMs, wall: () => etcd.nowMs };
    this.etcd = etcd;
    this.name = name;
    this.told = told;
    this.campaign = new Campaign({
      ...{ gateway: etcd.gateway, keys: KEYS, clocks },
      url: () => `http://${name}`,
    });
  }

  get leads(): boolean {
    return this.held !== null && !this.held.won.term.isOver;
  }

  /** Campaigns, or writes the next number; whatever fails is left to the next turn. */
  async turn(): Promise<void> {
    try {
      if (!this.leads) this.held = null;
      if (this.held === null) {
        const won = await this.campaign.win();
        if (won === null) return;
        const store = new EtcdStore({
          gateway: this.etcd.gateway,
          keys: KEYS,
          name: "made up",
          won,
          onKept: () => {},
          againMs: 0,
        });
        const last = Number((store.read()?.nodes[0] as { url?: string } | undefined)?.url ?? 0);
        this.held = { won, store, next: last + 1 };
        return;
      }
      const { store, next, won } = this.held;
      await won.term.renew();
      store.save({ ...EMPTY, nodes: [{ url: String(next), region: this.name, host: "", store: "" }] });
      this.held.next++;
      await store.settled();
      this.told.push(next);
    } catch (error) {
      assert.ok(
        error instanceof Unreached || error instanceof NotKept || error instanceof Refused,
        String(error),
      );
    }
  }
}

describe("terms", () => {
  before(() => loadHash());

  test("terms: whatever is lost on its way, there is one history, and what was told is in it", async (t) => {
    const seed = randomSeed(t);
    for (let round = 0; round < 20; round++) {
      const random = new Random(seed + round);
      const etcd = new MadeUpEtcd(random, 10 + random.below(20));
      const told: number[] = [];
      const writers = ["a", "b", "c"].map((name) => new Writer(etcd, name, told));
      for (let step = 0; step < 150; step++) {
        // Some turns take longer than a lease: whoever leads stood still meanwhile.
        etcd.nowMs += random.below(10) === 0 ? 6000 : random.below(400);
        const busy = writers.filter(() => random.below(2) === 0);
        await Promise.all(busy.map((writer) => writer.turn()));
        assert.ok(writers.filter(({ leads }) => leads).length <= 1, "at most one leads");
      }
      const numbers = etcd.history.map((value) => {
        const { nodes } = decodeValue(KEYS.state, Buffer.from(value)) as { nodes: { url: string }[] };
        return Number(nodes[0].url);
      });
      assert.deepEqual(
        numbers,
        Array.from(numbers, (_, index) => index + 1),
        "each number once, in order",
      );
      assert.deepEqual(
        [...told].sort((a, b) => a - b),
        [...new Set(told)].sort((a, b) => a - b),
        "told once",
      );
      assert.ok(
        told.every((number) => number <= numbers.length),
        "and only what is kept",
      );
    }
  });

  test("terms: one that was paused beyond its lease writes nothing, by its clock and by etcd", async () => {
    const etcd = new MadeUpEtcd(new Random(1), 0);
    const told: number[] = [];
    const [first, second] = ["a", "b"].map((name) => new Writer(etcd, name, told));
    await first.turn();
    await second.turn();
    assert.deepEqual([first.leads, second.leads], [true, false]);
    etcd.nowMs += 4100;
    assert.deepEqual(
      [first.leads, second.leads],
      [false, false],
      "it stops before etcd lets another one lead",
    );
    await second.turn();
    assert.equal(second.leads, false);
    etcd.nowMs += 1000;
    await second.turn();
    assert.equal(second.leads, true);
    await second.turn();
    assert.deepEqual(told, [1]);
  });

  test("terms: a write of an earlier term has no effect, though its writer's clock stands still", async () => {
    const etcd = new MadeUpEtcd(new Random(1), 0);
    const still = { monotonic: () => 0, wall: () => 0 };
    const setup = { gateway: etcd.gateway, keys: KEYS, clocks: still };
    const open = async (name: string) => {
      const won = (await new Campaign({ ...setup, url: () => name }).win()) as Won;
      return new EtcdStore({ gateway: etcd.gateway, keys: KEYS, name: "made up", won, onKept: () => {} });
    };
    const before = await open("http://before");
    etcd.nowMs += LEASE_MS;
    const after = await open("http://after");
    before.save({ ...EMPTY, stores: { by: "before" } });
    await assert.rejects(before.settled() as Promise<void>, NotKept);
    assert.throws(() => before.save(EMPTY), NotKept, "and its term is over for good");
    after.save({ ...EMPTY, stores: { by: "after" } });
    await after.settled();
    assert.equal(etcd.history.length, 1);
    assert.match(etcd.history[0], /"by":"after"/);
  });
});
