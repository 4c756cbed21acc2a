/** What a lock makes of a store that is slow, hangs, or loses answers. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type LeaseStore, Lock } from "../../src/client/lock.ts";
import { errorOf, LockedError } from "../../src/client/transport/errors.ts";

const TTL_MS = 1000;

/** A node with one key, whose leases do not end. */
class Node implements LeaseStore {
  held: { value: unknown; etag: string } | null = null;
  renewals = 0;
  private versions = 0;

  async create(_: string, value: unknown): Promise<{ etag: string }> {
    if (this.held !== null) throw errorOf("it is there", { status: 409, code: "exists" });
    return this.write(value);
  }

  async getEntry(): Promise<{ value: unknown; etag: string } | undefined> {
    return this.held ?? undefined;
  }

  async renew(_: string, etag: string): Promise<string> {
    this.renewals++;
    return this.write(this.demand(etag).value).etag;
  }

  async release(_: string, etag: string): Promise<void> {
    this.demand(etag);
    this.held = null;
  }

  write(value: unknown): { etag: string } {
    this.held = { value, etag: `"${String(++this.versions).padStart(32, "0")}"` };
    return this.held;
  }

  private demand(etag: string): { value: unknown } {
    if (this.held === null) throw errorOf("it is not there", { status: 404, code: "not_found" });
    if (this.held.etag !== etag)
      throw errorOf("another version", { status: 412, code: "precondition_failed" });
    return this.held;
  }
}

const acquire = (store: LeaseStore, waitMs = 0): Promise<Lock> =>
  Lock.acquire(store, "a", { ttl: TTL_MS / 1000, waitMs });

test("lock: where a renewal hangs it is lost before its end", async () => {
  const node = new Node();
  node.renew = () => new Promise(() => {});
  const sinceMs = performance.now();
  // A timer keeps this process from ending; the lock's do not.
  const alive = setInterval(() => {}, 1000);
  const lock = await acquire(node);
  await once(lock.signal, "abort");
  clearInterval(alive);
  assert.ok(performance.now() - sinceMs >= TTL_MS - lock.marginMs - 1);
  assert.equal(lock.isHeld, false);
});

test("lock: an answer that took longer than the lease: it is renewed, or somebody else's", async () => {
  for (const taken of [false, true]) {
    const node = new Node();
    const { create } = node;
    node.create = async (key, value) => {
      node.create = create;
      const answer = await node.create(key, value);
      await sleep(TTL_MS);
      if (taken) node.write("somebody else's");
      return answer;
    };
    if (taken) await assert.rejects(acquire(node), LockedError);
    else {
      const lock = await acquire(node);
      assert.deepEqual([lock.isHeld, node.renewals], [true, 1]);
      await lock.release();
    }
    assert.deepEqual(node.held?.value, taken ? "somebody else's" : undefined);
  }
});

test("lock: given back while it is renewed, it is gone", async () => {
  const node = new Node();
  const lock = await acquire(node);
  const { renew } = node;
  const alive = setInterval(() => {}, 1000);
  const begun = new Promise<void>((resolve) => {
    node.renew = async (key, etag) => {
      resolve();
      await sleep(50);
      return renew.call(node, key, etag);
    };
  });
  await begun;
  clearInterval(alive);
  await lock.release();
  assert.deepEqual([node.held, node.renewals], [null, 1]);
});

test("lock: answers that are lost: a creation and a renewal that were done are found again", async () => {
  const node = new Node();
  const { create, renew } = node;
  const lost = (): never => {
    throw errorOf("the answer is lost", { status: 0, code: "network" });
  };
  node.create = async (key, value) => {
    await create.call(node, key, value);
    return lost();
  };
  let losses = 1;
  node.renew = async (key, etag) => {
    const renewed = await renew.call(node, key, etag);
    return losses-- > 0 ? lost() : renewed;
  };
  const lock = await acquire(node);
  const alive = setInterval(() => {}, 1000);
  const endMs = performance.now() + 60_000;
  while (node.renewals < 3 && performance.now() < endMs) await sleep(10);
  clearInterval(alive);
  assert.deepEqual([lock.isHeld, node.renewals], [true, 3]);
  await lock.release();
  assert.equal(node.held, null);
});
