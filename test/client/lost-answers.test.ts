/** Answers that are lost on the way: what the client then sends again takes effect once. */
import assert from "node:assert/strict";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import * as client from "../../src/client/index.ts";
import { Random, randomSeed } from "../random.ts";
import { withServer } from "../rest/server.ts";

const ROUNDS = 15;

/** Hands requests on, and loses some of their answers: the connection closes instead. */
async function lossyProxy(
  port: number,
  loses: () => boolean,
): Promise<{ url: string; lost(): number; close(): void }> {
  let lost = 0;
  const proxy = http.createServer((request, response) => {
    const { method, url, headers } = request;
    const onward = http.request(
      { host: "127.0.0.1", port, method, path: url, headers, agent: false },
      (answer) => {
        const pieces: Buffer[] = [];
        answer.on("data", (piece) => pieces.push(piece));
        answer.on("end", () => {
          if (loses()) {
            lost++;
            request.socket.destroy();
            return;
          }
          response.writeHead(answer.statusCode ?? 500, answer.headers);
          response.end(Buffer.concat(pieces));
        });
      },
    );
    onward.on("error", () => request.socket.destroy());
    request.pipe(onward);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    lost: () => lost,
    close: () => {
      proxy.closeAllConnections();
      proxy.close();
    },
  };
}

describe("client: lost answers", () => {
  test("client: each write takes effect once, and is answered as the first time", (t) =>
    withServer({}, async ({ port }) => {
      const seed = randomSeed(t);
      const random = new Random(seed);
      const proxy = await lossyProxy(port, () => random.below(3) === 0);
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

  test("client: without a key nobody knows, and the client says so", () =>
    withServer({}, async ({ port, url }) => {
      const proxy = await lossyProxy(port, () => true);
      try {
        const store = new client.MinivaultClient({ url: proxy.url, once: false });
        await assert.rejects(store.increment("n"), client.UnknownOutcomeError);
        assert.equal(await new client.MinivaultClient({ url }).get("n"), 1);
      } finally {
        proxy.close();
      }
    }));
});
