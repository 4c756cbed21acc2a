/** Batches with a name: what is in them is done once, however often they come. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { joinFrames, splitFrames } from "../../../src/cluster/peers/frames.ts";
import { NamedBatches } from "../../../src/server/peers/named-batches.ts";
import { createClient, startNode } from "../../cluster/peer-harness.ts";
import { call } from "../../rest/client.ts";
import { until } from "../harness.ts";

const BATCH = joinFrames([Buffer.from("one"), Buffer.from("two")], 6);

function textsOf(body: Uint8Array): string[] | undefined {
  return splitFrames(body, 10)?.map((frame) => Buffer.from(frame).toString());
}

test("named batches: one that comes again is not done again, and gets the answer of the first, which may be under way", async (t) => {
  const node = await startNode({ auth: null });
  t.after(() => node.front.close(1000));
  const post = (path: string) => call(node.front.port, "POST", path, { body: BATCH, agent: false });
  node.handler.held = true;
  const first = post("/_peer/batch?name=a1");
  await until(() => node.handler.frames.length === 2, "the first one is being done");
  const second = post("/_peer/batch?name=a1");
  const other = post("/_peer/batch?name=a2");
  await until(() => node.handler.frames.length === 4, "another one is being done");
  node.handler.release();
  for (const reply of [await first, await second, await other, await post("/_peer/batch?name=a1")])
    assert.deepEqual([reply.status, textsOf(reply.body)], [200, ["echo one", "echo two"]]);
  assert.equal(node.handler.frames.length, 4);
  // What may be done twice has no name.
  await post("/_peer/batch");
  await post("/_peer/batch");
  assert.equal(node.handler.frames.length, 8);
});

test("named batches: what is handed on has a name of its own each time, and nothing else has one", async (t) => {
  const targets: string[] = [];
  const node = await startNode({ auth: null });
  const client = createClient(node.url, { sign: null });
  t.after(async () => {
    await client.close();
    await node.front.close(1000);
  });
  const { http } = client as unknown as { http: { exchange(...words: unknown[]): unknown } };
  const exchange = http.exchange.bind(http);
  http.exchange = (...words: unknown[]) => {
    if (String(words[1]).startsWith("/_peer/batch")) targets.push(String(words[1]));
    return exchange(...words);
  };
  for (let round = 0; round < 3; round++) {
    assert.equal((await client.handOn(Buffer.from(`x${round}`))).toString(), `echo x${round}`);
    assert.equal((await client.send(Buffer.from(`y${round}`))).toString(), `echo y${round}`);
  }
  const names = targets.flatMap((target) => /[?&]name=([0-9a-f]+)/.exec(target)?.[1] ?? []);
  assert.deepEqual([targets.length, names.length, new Set(names).size], [6, 3, 3]);
});

test("named batches: they are remembered for a minute, and in bounded memory", () => {
  let nowMs = 0;
  const named = new NamedBatches(() => nowMs);
  const answer = Buffer.from("done");
  const told: string[] = [];
  const tell = (bytes: Uint8Array): void => void told.push(Buffer.from(bytes).toString());
  assert.equal(named.begins("a", tell), true);
  named.ended("a", answer);
  nowMs = 59_000;
  assert.equal(named.begins("b", tell), true);
  assert.equal(named.begins("a", tell), false);
  nowMs = 61_000;
  assert.equal(named.begins("c", tell), true);
  assert.equal(named.begins("a", tell), true, "forgotten");
  assert.equal(named.begins("b", tell), false, "still under way");
  named.ended("b", answer);
  assert.deepEqual(told, ["done", "done"]);
  const large = Buffer.alloc(1024 * 1024);
  for (let number = 0; number < 100; number++) {
    assert.equal(named.begins(`large ${number}`, tell), true);
    named.ended(`large ${number}`, large);
  }
  const { bytes } = named as unknown as { bytes: number };
  assert.ok(bytes < 18 * 1024 * 1024, `${bytes}`);
  assert.equal(
    named.begins("large 99", () => {}),
    false,
  );
});
