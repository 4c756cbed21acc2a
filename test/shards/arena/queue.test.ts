/** The front's end of the way to a thread, with a thread that is played here: nothing is left lying, whoever sleeps when. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { MessageChannel } from "node:worker_threads";
import type { Outcome } from "../../../src/rules/write.ts";
import {
  BUFFER_BYTES,
  BUFFERS,
  createArena,
  Flag,
  FRONT_BUSY,
  FRONT_SLEEPS,
  THREAD_SLEEPS,
} from "../../../src/shards/arena/arena.ts";
import { BatchBuffer } from "../../../src/shards/arena/buffer.ts";
import { emptyOperation, type Operation, operationBytes } from "../../../src/shards/arena/operation.ts";
import { ShardQueue } from "../../../src/shards/arena/queue.ts";
import type { WriteDone, WriteResult } from "../../../src/shards/arena/write.ts";
import { Random, randomSeed } from "../../random.ts";

const ANSWER: Outcome = {
  error: null,
  detail: "",
  created: true,
  deleted: false,
  ballot: null,
  register: null,
};
const HANGS_MS = 60_000;

/** A queue and its thread; `pause` says after how many milliseconds the thread takes the next batch: 0 at once. */
function play(
  t: TestContext,
  patient: boolean,
  pause: () => number,
  arena = createArena(patient),
): ShardQueue {
  const { port1, port2 } = new MessageChannel();
  const threadFlag = new Flag(arena.states, THREAD_SLEEPS);
  const frontFlag = new Flag(arena.states, FRONT_SLEEPS);
  const buffers = Array.from({ length: BUFFERS }, (_, number) => new BatchBuffer(arena, number));
  const operation = emptyOperation();
  let next = 0;
  const serve = (): void => {
    const waitMs = pause();
    if (waitMs > 0) setTimeout(work, waitMs);
    else work();
  };
  const work = (): void => {
    const buffer = buffers[next];
    const count = buffer.close();
    if (count === 0) {
      threadFlag.set();
      if (buffer.pending && threadFlag.reset()) serve();
      return;
    }
    for (let position = 0, i = 0; i < count; i++) {
      const at = position;
      position = buffer.read(position, operation);
      buffer.answer(at, ANSWER);
    }
    buffer.finish();
    next = (next + 1) % BUFFERS;
    if (frontFlag.reset()) port2.postMessage(null);
    serve();
  };
  threadFlag.set();
  const queue = new ShardQueue(arena, port1, () => {});
  port2.on("message", serve);
  t.after(() => queue.close());
  return queue;
}

for (const patient of [false, true]) {
  const who = patient ? "that looks" : "that sleeps at once";

  test(`queue: operations submitted from answers reach a thread that answers at once, by a front ${who}`, async (t) => {
    const queue = play(t, patient, () => 0);
    let left = 500;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${left} are left`)), HANGS_MS);
      t.after(() => clearTimeout(timer));
      const done: WriteDone = () => {
        if (--left === 0) resolve();
        else assert.ok(queue.submit(emptyOperation(), done));
      };
      queue.submit(emptyOperation(), done);
    });
  });

  test(`queue: rounds of many at once, a thread of any pace, a front ${who}`, async (t) => {
    const random = new Random(randomSeed(t));
    const queue = play(t, patient, () => (random.below(2) === 0 ? random.below(3) : 0));
    let open = 0;
    let submitted = 0;
    let round = 0;
    for (; round < 60; round++) {
      const follows = random.below(2) === 0;
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`round ${round}: ${open} are left`)), HANGS_MS);
        const done: WriteDone = () => {
          open--;
          if (follows && random.below(8) === 0) submit();
          if (open > 0) return;
          clearTimeout(timer);
          resolve();
        };
        const submit = (): void => {
          open++;
          submitted++;
          assert.ok(queue.submit(emptyOperation(), done));
          assert.equal(queue.figures.queuedWrites[0], queue.queuedWrites);
        };
        for (let count = 1 + random.below(200); count > 0; count--) submit();
      });
      if (random.below(2) === 0) await new Promise((resolve) => setTimeout(resolve, random.below(3)));
    }
    assert.equal(queue.queuedWrites, 0);
    const { queuedWrites, queuedBytes, batches, batchedWrites } = queue.figures;
    assert.deepEqual([queuedWrites[0], queuedBytes[0], batchedWrites[0]], [0, 0, submitted]);
    assert.ok(batches[0] > 0 && batches[0] <= submitted);
  });
}

test("queue: sentences come back whole, however small the operation was; what has no room is left out, not cut", (t) => {
  const arena = createArena(false);
  const front = new BatchBuffer(arena, 1);
  const thread = new BatchBuffer(arena, 1);
  const random = new Random(randomSeed(t));
  const result: WriteResult = { error: null, detail: "", created: false, deleted: false, etag: null };
  for (let round = 0; round < 3; round++) {
    const sentences: string[] = [];
    for (let count = 1 + random.below(1500); count > 0; count--) {
      const body = random.bytes(random.below(200));
      const operation = { ...emptyOperation(), key: Buffer.from("k"), body };
      assert.ok(front.push(operation, operationBytes(operation)));
      sentences.push(random.below(5) === 0 ? "" : `unexpected "é" at byte ${"1".repeat(random.below(150))}`);
    }
    const operation = emptyOperation();
    assert.equal(thread.close(), sentences.length);
    const positions: number[] = [];
    for (let i = 0, position = 0; i < sentences.length; i++) {
      positions.push(position);
      position = thread.read(position, operation);
    }
    const ballot = { clockLow: 1, clockHigh: 2, node: 3, incarnation: 4 };
    for (const [i, detail] of sentences.entries())
      thread.answer(positions[i], { ...ANSWER, ballot, error: detail === "" ? null : "bad_json", detail });
    thread.finish();
    let saidBytes = 0;
    let position = 0;
    for (const sentence of sentences) {
      position = front.result(position, result, new Uint8Array(34));
      assert.equal(result.error, sentence === "" ? null : "bad_json");
      const bytes = Buffer.byteLength(sentence);
      if (result.detail !== "" || saidBytes + bytes < 60_000) assert.equal(result.detail, sentence);
      if (result.detail !== "") saidBytes += bytes;
    }
    front.clear();
  }
});

test("queue: when the thread dies, only what it never saw is called undone", async (t) => {
  const arena = createArena(false);
  const { port1, port2 } = new MessageChannel();
  const queue = new ShardQueue(arena, port1, (message) => t.diagnostic(message));
  t.after(() => {
    queue.close();
    port2.close();
  });
  const outcomes: (string | null)[] = [];
  const large = { ...emptyOperation(), body: new Uint8Array(BUFFER_BYTES - 4096) };
  for (let i = 0; i < BUFFERS + 2; i++) queue.submit(large, ({ error }) => outcomes.push(error), true);
  queue.fail();
  assert.deepEqual(outcomes, [
    ...Array.from({ length: BUFFERS }, () => "unknown_outcome"),
    ...["unavailable", "unavailable"],
  ]);
  assert.equal(
    queue.submit(large, () => {}),
    false,
  );
});

test("queue: a front with many writes under way is busy, and no longer so with one", async (t) => {
  const arena = createArena(true);
  const queue = play(t, true, () => 0, arena);
  const busy = new Flag(arena.states, FRONT_BUSY);
  /** Each of so many clients writes again when it has its answer, until `isOver`. */
  const run = (clients: number, isOver: () => boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      let open = clients;
      const deadlineMs = performance.now() + HANGS_MS;
      const done: WriteDone = () => {
        if (performance.now() > deadlineMs)
          reject(new Error(`busy is ${busy.isSet} with ${clients} clients`));
        else if (!isOver()) assert.ok(queue.submit(emptyOperation(), done));
        else if (--open === 0) resolve();
      };
      for (let i = 0; i < clients; i++) queue.submit(emptyOperation(), done);
    });
  let answers = 0;
  await run(12, () => ++answers > 600);
  assert.ok(busy.isSet);
  await run(1, () => !busy.isSet);
});

test("buffer: every field of an operation arrives, whatever the others are", (t) => {
  const random = new Random(randomSeed(t));
  const arena = createArena(false);
  const front = new BatchBuffer(arena, 0);
  const thread = new BatchBuffer(arena, 0);
  const word = (): number => random.below(2 ** 32);
  const sometimes = <T>(value: T, otherwise: T): T => (random.below(2) === 0 ? value : otherwise);
  const ballot = () => ({ clockLow: word(), clockHigh: word(), node: word(), incarnation: word() });
  const bytes = (most: number): Uint8Array => new Uint8Array(random.bytes(random.below(most)));
  const sent = Array.from(
    { length: 500 },
    (): Operation => ({
      op: random.below(13),
      verb: (["put", "post", "delete", "touch"] as const)[random.below(4)],
      shard: random.below(64),
      upload: random.below(2 ** 31),
      key: bytes(300),
      hashA: word() | 0,
      hashB: word() | 0,
      json: sometimes(true, false),
      contentType: bytes(60),
      trailer: bytes(100),
      keepsEnd: sometimes(true, false),
      ifMatch: sometimes("", `"${"1".repeat(32)}"`),
      ifNoneMatch: sometimes("", "*"),
      operationLow: word(),
      operationHigh: word(),
      ballot: sometimes<Operation["ballot"]>(ballot(), null),
      base: sometimes<Operation["base"]>(ballot(), null),
      ended: sometimes(true, false),
      repair: sometimes(true, false),
      body: bytes(400),
    }),
  );
  for (const operation of sent) assert.ok(front.push(operation, operationBytes(operation)));
  assert.equal(thread.close(), sent.length);
  const got = emptyOperation();
  let position = 0;
  for (const operation of sent) {
    position = thread.read(position, got);
    const { operationLow, operationHigh } = got;
    assert.deepEqual(
      { ...got, operationLow: operationLow >>> 0, operationHigh: operationHigh >>> 0 },
      operation,
    );
  }
  assert.equal(position, front.used);
});
