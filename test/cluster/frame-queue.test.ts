/** How many batches of frames are under way at once, and how long frames wait: against a link that the test answers for. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ExchangeHandler } from "../../src/cluster/link/exchange.ts";
import type { NodeHttp } from "../../src/cluster/link/node-http.ts";
import { FrameQueue, WINDOW_MAX } from "../../src/cluster/peers/frame-queue.ts";
import { joinFrames, splitFrames } from "../../src/cluster/peers/frames.ts";
import type { PeerError } from "../../src/cluster/peers/peer-error.ts";
import type { PeerPulse } from "../../src/cluster/peers/peer-pulse.ts";
import type { Telling } from "../../src/cluster/peers/telling.ts";

const FRAME = Buffer.from("frame");
const OPERATION_MS = 1000;
const ANSWER_MS = 2500;

/** A queue of a node whose link has this round trip. */
class Bench {
  /** What becomes of each frame, in order. */
  readonly ends: string[] = [];
  readonly pulse = { linkMs: 0, patientMs: 0, state: "up", heard: () => {}, failed: () => {} };
  readonly queue: FrameQueue;
  private readonly batches: { frames: number; handler: ExchangeHandler }[] = [];

  constructor(linkMs: number, windowMin: number, answerMs?: number) {
    this.pulse.linkMs = linkMs;
    const http = {
      url: "http://a-node",
      exchange: (_method: string, _target: string, body: Uint8Array, handler: ExchangeHandler) => {
        const batch = { frames: splitFrames(body, 1000)?.length ?? 0, handler };
        this.batches.push(batch);
        return (why: Error) => {
          this.batches.splice(this.batches.indexOf(batch), 1);
          handler.failed(why, true);
        };
      },
    };
    this.queue = new FrameQueue({
      http: http as unknown as NodeHttp,
      pulse: this.pulse as unknown as PeerPulse,
      telling: { batchTarget: () => ({ target: "/", words: null }) } as unknown as Telling,
      ...{ framesMax: 10_000, bytesMax: 1_000_000, operationMs: OPERATION_MS, windowMin },
      ...(answerMs === undefined ? {} : { answerMs }),
    });
  }

  /** Sends so many frames, each in a turn of its own. Answers how many batches are under way then. */
  async send(count: number): Promise<number> {
    for (let sent = 0; sent < count; sent++) {
      this.queue.send(
        FRAME,
        () => this.ends.push("answered"),
        (error: PeerError) => this.ends.push(`${error.code} ${error.outcome}`),
      );
      await new Promise((resolve) => setImmediate(resolve));
    }
    return this.queue.inFlight;
  }

  /** The oldest batch is answered. Answers how many frames it had. */
  async answer(): Promise<number> {
    const { frames, handler } = this.batches.shift() as (typeof this.batches)[number];
    const answers = Array.from({ length: frames }, () => FRAME);
    handler.answered(200, Buffer.from(joinFrames(answers, frames * FRAME.length)));
    await new Promise((resolve) => setImmediate(resolve));
    return frames;
  }

  /** Time passes. */
  pass(ms: number): void {
    this.pulse.patientMs += ms;
    this.queue.sweep();
  }
}

test("frame queue: so many batches are under way as the link needs, at least the least number, and the next one takes all that waits", async () => {
  for (const [linkMs, windowMin, window] of [
    [0, 2, 8],
    [0.2, 2, 2],
    [0.2, 8, 8],
    [4, 2, 2],
    [5, 2, 3],
    [90, 8, 45],
    [1000, 2, WINDOW_MAX],
  ]) {
    const bench = new Bench(linkMs, windowMin);
    const told = `${linkMs} ms, at least ${windowMin}`;
    assert.equal(await bench.send(window + 5), window, told);
    assert.equal(bench.queue.waiting, 5, told);
    assert.equal(await bench.answer(), 1, told);
    assert.deepEqual([bench.queue.inFlight, bench.queue.waiting], [window, 0], told);
    for (let left = 1; left < window; left++) assert.equal(await bench.answer(), 1, told);
    assert.equal(await bench.answer(), 5, told);
    assert.deepEqual([bench.queue.inFlight, bench.ends.length], [0, window + 5], told);
  }
});

test("frame queue: what is not answered in time is unknown, and what has not left was not sent", async () => {
  const bench = new Bench(1, 2);
  await bench.send(3);
  bench.pass(OPERATION_MS - 1);
  assert.deepEqual(bench.ends, []);
  bench.pass(1);
  assert.deepEqual(bench.ends, ["peer_timeout unknown", "peer_timeout unknown", "peer_timeout not_sent"]);
});

test("frame queue: where answers may take longer they are waited for, unless the node is down; what waits to leave is not", async () => {
  for (const state of ["up", "suspect", "down"]) {
    const bench = new Bench(1, 2, ANSWER_MS);
    await bench.send(3);
    bench.pulse.state = state;
    bench.pass(OPERATION_MS);
    if (state !== "down") {
      assert.deepEqual(bench.ends, ["peer_timeout not_sent"], state);
      bench.pass(ANSWER_MS - OPERATION_MS - 1);
      assert.equal(await bench.answer(), 1);
      assert.deepEqual(bench.ends, ["peer_timeout not_sent", "answered"], state);
      bench.pass(1);
    }
    const late = bench.ends.filter((end) => end === "peer_timeout unknown").length;
    assert.deepEqual([late, bench.queue.inFlight], [state === "down" ? 2 : 1, 0], state);
  }
});
