/** Answers that are lost on the way: what the client then sends again takes effect once. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as client from "../../src/client/index.ts";
import { Random, randomSeed } from "../random.ts";
import { withServer } from "../rest/server.ts";
import { type Fate, lossyProxy } from "./lossy-proxy.ts";

const ROUNDS = 15;

/** A third of the answers does not come whole. */
function fates(random: Random): () => Fate {
  return () => (["lost", "cut", "comes", "comes", "comes", "comes"] as const)[random.below(6)];
}

describe("client: lost answers", () => {
  test("client: each write takes effect once, and is answered as the first time", (t) =>
    withServer({}, async ({ port }) => {
      const seed = randomSeed(t);
      const random = new Random(seed);
      const proxy = await lossyProxy(port, fates(random));
      try {
        const store = new client.MinivaultClient({ url: proxy.url, retries: 50 });
        let sum = 0;
        for (let round = 0; round < ROUNDS; round++) {
          const key = `n${round % 5}`;
          const by = 1 + random.below(9);
          sum += by;
          const expected = await store.increment(key, by);
          assert.equal(await store.get(key), expected, `seed ${seed}`);
          const made = await store.create(`c${round}`, round);
          assert.equal(made.created, true, `seed ${seed}`);
          const replaced = await store.put(`c${round}`, "new", { ifMatch: made.etag });
          assert.deepEqual(
            [replaced.created, (await store.delete(`c${round}`)).deleted],
            [false, true],
            `seed ${seed}`,
          );
          await store.append("list", round).catch(async (error) => {
            if (!(error instanceof client.NotFoundError)) throw error;
            await store.create("list", [round]);
          });
        }
        let found = 0;
        for (let index = 0; index < 5; index++) found += Number(await store.get(`n${index}`));
        assert.equal(found, sum, `seed ${seed}`);
        assert.deepEqual(
          await store.get("list"),
          Array.from({ length: ROUNDS }, (_, round) => round),
          `seed ${seed}`,
        );
        t.diagnostic(`${proxy.lost()} answers were lost`);
      } finally {
        proxy.close();
      }
    }));

  test("client: each write of a batch takes effect once, and is answered as the first time", (t) =>
    withServer({}, async ({ port, url }) => {
      const seed = randomSeed(t);
      const random = new Random(seed);
      const proxy = await lossyProxy(port, fates(random));
      try {
        const store = new client.MinivaultClient({ url: proxy.url, retries: 50 });
        const sums = [0, 0, 0, 0];
        for (let round = 0; round < ROUNDS; round++) {
          const operations: client.Operation[] = [
            { op: "post", key: `new/${round}`, value: round },
            { op: "delete", key: `new/${round - 1}` },
            round === 0
              ? { op: "put", key: "list", value: [0] }
              : { op: "append", key: "list", value: round },
          ];
          for (let count = 0; count < 8; count++) {
            const name = random.below(sums.length);
            const by = 1 + random.below(9);
            sums[name] += by;
            operations.push({ op: "increment", key: `n${name}`, by });
          }
          const results = await store.batch(operations);
          assert.deepEqual(
            [results[0].created, results[1].status, results[2].status],
            [true, 200, round === 0 ? 201 : 200],
            `seed ${seed}`,
          );
          for (const { status, value } of results.slice(3))
            assert.ok(status < 300 && typeof value === "number", `seed ${seed}`);
        }
        const plain = new client.MinivaultClient({ url });
        for (const [name, sum] of sums.entries())
          assert.equal((await plain.get(`n${name}`)) ?? 0, sum, `seed ${seed}`);
        const rounds = Array.from({ length: ROUNDS }, (_, round) => round);
        assert.deepEqual(await plain.get("list"), rounds, `seed ${seed}`);
        assert.equal(await plain.count("new/"), 1, `seed ${seed}`);
        t.diagnostic(`${proxy.lost()} answers were lost`);
      } finally {
        proxy.close();
      }
    }));

  test("client: a batch whose order counts is not sent again, and none without keys", () =>
    withServer({}, async ({ port, url }) => {
      const proxy = await lossyProxy(port, () => "cut");
      try {
        const lossy = new client.MinivaultClient({ url: proxy.url });
        const plain = new client.MinivaultClient({ url });
        // Sent again, the first one would find what the second has put.
        const ordered: client.Operation[] = [
          { op: "patch", key: "o", change: { late: true } },
          { op: "put", key: "o", value: {} },
        ];
        await assert.rejects(lossy.batch(ordered), client.UnknownOutcomeError);
        assert.deepEqual(await plain.get("o"), {});
        await assert.rejects(
          lossy.batch([{ op: "increment", key: "n" }], { once: false }),
          client.UnknownOutcomeError,
        );
        assert.equal(await plain.get("n"), 1);
      } finally {
        proxy.close();
      }
    }));

  test("client: without a key nobody knows, and the client says so", () =>
    withServer({}, async ({ port, url }) => {
      const proxy = await lossyProxy(port, () => "lost");
      try {
        const store = new client.MinivaultClient({ url: proxy.url, once: false });
        await assert.rejects(store.increment("n"), client.UnknownOutcomeError);
        assert.equal(await new client.MinivaultClient({ url }).get("n"), 1);
      } finally {
        proxy.close();
      }
    }));
});
