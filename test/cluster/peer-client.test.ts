/** The client of one peer against the real routes, over links that are slow, cut, stalled or gone. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import net from "node:net";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { KeyRing } from "../../src/auth/keys.ts";
import { RequestSigner } from "../../src/auth/signature.ts";
import { WINDOW_MAX } from "../../src/cluster/peers/frame-queue.ts";
import { type PeerClient, type PeerClientOptions, PeerError } from "../../src/cluster/peers/peer-client.ts";
import { VaultError } from "../../src/util/errors.ts";
import { PEER_FRAME_BYTES_MAX } from "../../src/util/limits.ts";
import { until } from "../server/harness.ts";
import { stopwatch } from "../stopwatch.ts";
import { createClient, type Node, startNode } from "./peer-harness.ts";
import { createLinkProxy, createNodeProxy, type LinkProxy } from "./proxy.ts";

interface Setting {
  node: Node;
  link: LinkProxy;
  client: PeerClient;
}

/** A node, a link to it, and a client that goes through the link. */
async function setUp(
  t: TestContext,
  options: Partial<PeerClientOptions> = {},
  delayMs = 0,
): Promise<Setting> {
  const node = await startNode();
  const link = await createLinkProxy({ target: { port: node.front.port } });
  link.delay(delayMs);
  const client = createClient(node.url, { address: `http://127.0.0.1:${link.port}`, ...options });
  t.after(async () => {
    node.handler.release();
    await client.close();
    await link.close();
    await node.front.close(1000);
  });
  return { node, link, client };
}

const text = (answer: Uint8Array) => Buffer.from(answer).toString("latin1");

function isPeerError(code: PeerError["code"], outcome: PeerError["outcome"]) {
  return (error: unknown) => {
    assert.ok(error instanceof PeerError, String(error));
    assert.deepEqual([error.code, error.outcome], [code, outcome], error.message);
    return true;
  };
}

describe("peer client: batches", () => {
  test("many frames get their own answers, in few batches", async (t) => {
    const { node, client, link } = await setUp(t);
    await until(() => client.state === "up", "the peer is up");
    const names = Array.from({ length: 5000 }, (_, index) => `frame ${index}`);
    const answers = await Promise.all(names.map((name) => client.send(Buffer.from(name))));
    assert.deepEqual(
      answers.map(text),
      names.map((name) => `echo ${name}`),
    );
    assert.equal(node.handler.frames.length, 5000);
    assert.ok(link.connections <= 5, `${link.connections} connections for frames that came at once`);
    assert.deepEqual([client.queuedFrames, client.queuedBytes, client.inFlight], [0, 0, 0]);
    assert.ok(client.roundTripMs > 0);
  });

  test("frames from empty to the longest arrive whole", async (t) => {
    const { client } = await setUp(t);
    // The first byte says what a frame is: this is none that the node itself knows.
    const frames = [0, 1, 3, 100, 65_000, 300_000, PEER_FRAME_BYTES_MAX].map((bytes) =>
      randomBytes(bytes).fill("f", 0, Math.min(1, bytes)),
    );
    const answers = await Promise.all(frames.map((frame) => client.send(frame)));
    for (const [index, answer] of answers.entries())
      assert.ok(Buffer.concat([Buffer.from("echo "), frames[index]]).equals(answer), `frame ${index}`);
    await assert.rejects(client.send(Buffer.alloc(PEER_FRAME_BYTES_MAX + 1)), /too long/);
  });

  test("the queue is bounded, in frames and in bytes", async (t) => {
    const { node, client } = await setUp(t, { limits: { framesMax: 100, bytesMax: 10_000 } });
    await until(() => client.state === "up", "the peer is up");
    node.handler.held = true;
    const small = Array.from({ length: 100 }, () => client.send(Buffer.alloc(1)));
    await assert.rejects(client.send(Buffer.alloc(1)), isPeerError("peer_overloaded", "not_sent"));
    await until(() => node.handler.frames.length === 100, "the frames have arrived");
    await assert.rejects(client.send(Buffer.alloc(1)), isPeerError("peer_overloaded", "not_sent"));
    node.handler.release();
    await Promise.all(small);
    node.handler.held = true;
    const large = client.send(Buffer.alloc(9000));
    await assert.rejects(client.send(Buffer.alloc(2000)), isPeerError("peer_overloaded", "not_sent"));
    node.handler.release();
    await large;
  });

  test("a handler that throws leaves the outcome open, one that refuses does not", async (t) => {
    const { client } = await setUp(t);
    await assert.rejects(client.send(Buffer.from("throw")), isPeerError("peer_refused", "unknown"));
    await assert.rejects(client.send(Buffer.from("stopping")), isPeerError("peer_refused", "not_sent"));
    assert.equal(text(await client.send(Buffer.from("x"))), "echo x");
  });

  test("a late answer fails its frames as unknown, and later ones pass", async (t) => {
    const { node, client } = await setUp(t, { limits: { operationMs: 400 } });
    await until(() => client.state === "up", "the peer is up");
    node.handler.held = true;
    const late = client.send(Buffer.from("late"));
    await assert.rejects(late, isPeerError("peer_timeout", "unknown"));
    node.handler.release();
    assert.equal(text(await client.send(Buffer.from("x"))), "echo x");
    assert.equal(client.state, "up");
  });

  test("what a node does with the help of others is not in the way of what they need of it", async (t) => {
    const { node, client } = await setUp(t);
    await until(() => client.state === "up", "the peer is up");
    node.handler.held = true;
    // More batches than there may be under way, however slow the link.
    const handed = [];
    for (let number = 0; number < WINDOW_MAX + 10; number++) {
      handed.push(client.handOn(Buffer.from(`handed ${number}`)));
      await until(() => node.handler.frames.length > number || client.inFlight >= 8, "it has left, or waits");
    }
    // One that came later would be answered, and make room.
    await until(() => node.handler.frames.length >= client.inFlight, "those that have left are there");
    node.handler.held = false;
    assert.equal(text(await client.send(Buffer.from("asked"))), "echo asked");
    node.handler.release();
    assert.deepEqual(
      (await Promise.all(handed)).map(text),
      handed.map((_, number) => `echo handed ${number}`),
    );
  });

  test("what is handed on has a window of its own, which is wider", async (t) => {
    // By its clock the node is nearer than any other, so that the windows are as narrow as they get.
    const { node, client } = await setUp(t, { now: () => performance.now() / 1000 });
    await until(() => client.state === "up", "the peer is up");
    node.handler.held = true;
    const handed = [];
    for (let number = 0; number < 8; number++) {
      handed.push(client.handOn(Buffer.from(`handed ${number}`)));
      await until(() => node.handler.frames.length > number, `the one of number ${number} has left`);
    }
    const asked = [];
    for (let number = 0; number < 4; number++) {
      asked.push(client.send(Buffer.from(`asked ${number}`)));
      await until(() => node.handler.frames.length > 8 + Math.min(number, 1), "two batches leave");
    }
    assert.deepEqual([client.inFlight, client.queuedFrames], [10, 2]);
    node.handler.release();
    const answers = (await Promise.all([...handed, ...asked])).map(text);
    assert.equal(answers.length, 12);
  });

  test("a node that has gone silent is waited for longer by what was handed to it", async (t) => {
    const { node, client, link } = await setUp(t, { limits: { silenceMs: 700 } });
    await until(() => client.state === "up", "the peer is up");
    node.handler.held = true;
    const handed = client.handOn(Buffer.from("handed"));
    const asked = client.send(Buffer.from("asked"));
    await until(() => node.handler.frames.length === 2, "both are there");
    link.stall();
    await assert.rejects(asked, isPeerError("peer_timeout", "unknown"));
    assert.equal(client.state, "down");
    await assert.rejects(client.handOn(Buffer.from("x")), isPeerError("peer_down", "not_sent"));
    link.heal();
    node.handler.release();
    assert.equal(text(await handed), "echo handed");
  });

  test("close fails what waits, once", async (t) => {
    const { node, client } = await setUp(t);
    await until(() => client.state === "up", "the peer is up");
    node.handler.held = true;
    const sent = client.send(Buffer.from("sent"));
    await until(() => node.handler.frames.length === 1, "the frame has arrived");
    const queued = client.send(Buffer.from("queued"));
    const both = Promise.all([
      assert.rejects(sent, isPeerError("peer_closed", "unknown")),
      assert.rejects(queued, isPeerError("peer_closed", "not_sent")),
    ]);
    await Promise.all([client.close(), client.close(), both]);
    await assert.rejects(client.send(Buffer.from("x")), isPeerError("peer_closed", "not_sent"));
  });
});

describe("peer client: links", () => {
  test("over a round trip of 90 ms the link does not limit the rate", async (t) => {
    const { client } = await setUp(t, {}, 45);
    await until(() => client.state === "up" && client.roundTripMs >= 80, "the round trip is known");
    const frame = Buffer.alloc(100);
    // As many senders as 5,000 operations a second need at 90 ms, each with one operation at a time.
    const senders = 500;
    const each = 8;
    const watch = stopwatch();
    let slowest = 0;
    await Promise.all(
      Array.from({ length: senders }, async () => {
        for (let count = 0; count < each; count++) {
          const begun = performance.now();
          await client.send(frame);
          slowest = Math.max(slowest, performance.now() - begun);
        }
      }),
    );
    const rate = (senders * each * 1000) / watch.stop();
    t.diagnostic(
      `${Math.round(rate)} frames/s over ${Math.round(client.roundTripMs)} ms, slowest ${Math.round(slowest)} ms`,
    );
    // In lockstep, with one batch at a time, they would still pass; frames spread over time would not.
    assert.ok(rate > 2000, `only ${Math.round(rate)} frames/s`);
  });

  test("over a long link frames that come one by one leave without waiting for each other", async (t) => {
    const { client } = await setUp(t, {}, 75);
    await until(() => client.roundTripMs >= 140, "the round trip is known");
    const took: number[] = [];
    const sends: Promise<unknown>[] = [];
    for (let count = 0; count < 100; count++) {
      const watch = stopwatch();
      sends.push(client.send(Buffer.from("x")).then(() => took.push(watch.stop())));
      await sleep(5);
    }
    assert.ok(client.inFlight > 8, `${client.inFlight} batches in flight`);
    await Promise.all(sends);
    took.sort((a, b) => a - b);
    t.diagnostic(`p50 ${Math.round(took[50])} ms, slowest ${Math.round(took[99])} ms`);
    assert.ok(took[50] < 230, `half of them took ${took[50]} ms`);
  });

  test("nobody listens: down at once, and back within a second", async (t) => {
    const node = await startNode();
    const { port } = node.front;
    await node.front.close(1000);
    const client = createClient(node.url);
    t.after(() => client.close());
    await until(() => client.state === "down", "the peer is down");
    await assert.rejects(client.send(Buffer.from("x")), isPeerError("peer_down", "not_sent"));
    assert.match(client.lastFailure, /ECONNREFUSED/);
    const back = await startNode({ port });
    t.after(() => back.front.close(1000));
    const started = performance.now();
    await until(() => client.state === "up", "the peer is found again");
    t.diagnostic(`found after ${Math.round(performance.now() - started)} ms`);
    assert.equal(text(await client.send(Buffer.from("x"))), "echo x");
    assert.equal(client.lastFailure, "");
  });

  for (const how of ["both", "to", "from", "stall"] as const) {
    test(`a link that goes silent (${how}): unknown, then down, then up again`, async (t) => {
      const { client, link, node } = await setUp(t, { limits: { silenceMs: 700 } });
      await until(() => client.state === "up", "the peer is up");
      assert.equal(text(await client.send(Buffer.from("before"))), "echo before");
      if (how === "stall") link.stall();
      else link.cut(how);
      const caught = client.send(Buffer.from("caught"));
      await assert.rejects(caught, isPeerError("peer_timeout", "unknown"));
      assert.equal(client.state, "down");
      assert.equal(node.handler.frames.includes("caught"), how === "from", "only answers are lost");
      const watch = stopwatch();
      await assert.rejects(client.send(Buffer.from("x")), isPeerError("peer_down", "not_sent"));
      assert.ok(watch.stop() < 100, "a peer that is down fails at once");
      link.heal();
      await until(() => client.state === "up", "the peer is found again");
      assert.equal(text(await client.send(Buffer.from("after"))), "echo after");
    });
  }

  test("connections that break fail what was on them, and new ones are made", async (t) => {
    const { client, link, node } = await setUp(t);
    await until(() => client.state === "up", "the peer is up");
    node.handler.held = true;
    const caught = client.send(Buffer.from("caught"));
    await until(() => node.handler.frames.length === 1, "the frame has arrived");
    link.reset();
    await assert.rejects(caught, isPeerError("peer_failed", "unknown"));
    node.handler.release();
    await until(() => client.state === "up", "the peer is up again");
    assert.equal(text(await client.send(Buffer.from("x"))), "echo x");
  });

  test("a pause of this process is not taken for silence of the peer", async (t) => {
    const { client } = await setUp(t, { limits: { operationMs: 1000, silenceMs: 700 } });
    await until(() => client.state === "up", "the peer is up");
    const sent = client.send(Buffer.from("x"));
    // The event loop stands still for longer than any patience.
    const end = performance.now() + 1500;
    while (performance.now() < end);
    assert.equal(text(await sent), "echo x");
    assert.equal(client.state, "up");
  });

  test("another key: refused, down, and nothing reaches the handler", async (t) => {
    const { client, node } = await setUp(t, {
      sign: new RequestSigner(new KeyRing(["wrong"])),
      limits: { silenceMs: 1500 },
    });
    // Its answer is not signed with our key: who knows who it is.
    await assert.rejects(client.send(Buffer.from("x")), isPeerError("peer_failed", "unknown"));
    await until(() => client.state === "down", "the peer counts as down");
    // It is not asked in a tight loop.
    assert.ok(node.log.length <= 4, node.log.join());
    const { refusals } = JSON.parse(node.log[node.log.length - 1].replace(/^[^{]*/, ""));
    assert.ok(refusals < 20, `${refusals} requests were refused`);
    assert.match(client.lastFailure, /another key.*401/);
    assert.deepEqual(node.handler.frames, []);
  });
});

describe("peer client: how far the own log was answered", () => {
  test("under load batches tell it, without requests of their own; without batches a pulse does, soon", async (t) => {
    let mark = 1;
    const identity = {
      life: () => "a-life",
      marks: () => String(mark),
      counts: () => true,
      refused: () => {},
    };
    const { client, node, link } = await setUp(t, { identity });
    const heard: { marks: string; frames: number }[] = [];
    node.handler.hear = (_from, marks) => {
      if (marks !== null) heard.push({ marks, frames: node.handler.frames.length });
      return null;
    };
    await until(() => client.state === "up" && client.marksTold, "the first mark is told");
    let pulses = 0;
    link.listen((_connection, data) => {
      pulses += data.toString("latin1").split("GET /_peer/ping").length - 1;
    });
    // The marks rise with each frame.
    const begun = performance.now();
    let sent = 0;
    while (performance.now() - begun < 2000) {
      mark++;
      sent++;
      await client.send(Buffer.from("x"));
    }
    link.listen(null);
    const told = heard.length;
    await until(() => client.marksTold, "the last mark is told");
    assert.equal(heard.at(-1)?.marks, String(mark));
    t.diagnostic(`${sent} frames in 2 s: told ${told} times, ${pulses} requests for a pulse`);
    // The probes alone would be two or three; told by pulses of their own it was about twenty.
    assert.ok(told > pulses, `${told} times told, ${pulses} pulses`);
    // Nothing is sent any more: it is heard all the same.
    mark++;
    const { frames } = node.handler;
    const before = frames.length;
    await until(() => heard.at(-1)?.marks === String(mark), "it is told without a batch");
    assert.equal(frames.length, before);
  });

  test("what a batch told counts only once the batch is answered", async (t) => {
    let mark = 1;
    const identity = {
      life: () => "a-life",
      marks: () => String(mark),
      counts: () => true,
      refused: () => {},
    };
    const { client, node } = await setUp(t, { identity });
    await until(() => client.state === "up" && client.marksTold, "the first mark is told");
    mark++;
    node.handler.hear = (_from, marks) => (marks === "2" ? "not now" : null);
    await client.send(Buffer.from("x")).catch(() => {});
    assert.equal(client.marksTold, false);
    node.handler.hear = () => null;
    await until(() => client.marksTold, "it is told again");
  });
});

describe("peer client: streams", () => {
  async function* pieces(bytes: Buffer, pieceBytes: number): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
  }

  test("values of many sizes go up and come down", async (t) => {
    const { client, node } = await setUp(t);
    for (const bytes of [0, 1, 65_535, 65_536, 65_537, 3_000_001]) {
      const value = randomBytes(bytes);
      const name = `value ${bytes}`;
      assert.equal(
        (await client.putStream(Buffer.from(name), pieces(value, 10_007))).toString(),
        `stored ${name}`,
      );
      assert.ok(node.handler.values.get(name)?.equals(value), name);
      const { head, valueBytes, body } = await client.getStream(Buffer.from(name));
      assert.deepEqual([head.toString(), valueBytes], [`head of ${name}`, bytes]);
      const back: Buffer[] = [];
      for await (const piece of body) back.push(piece);
      assert.ok(Buffer.concat(back).equals(value), name);
    }
    assert.deepEqual([node.handler.sinksOpen, node.handler.sourcesOpen], [0, 0]);
  });

  test("the source is read no faster than the sink takes it", async (t) => {
    const { client, node } = await setUp(t);
    node.handler.windowBytes = 1024 * 1024;
    let produced = 0;
    let ahead = 0;
    const piece = Buffer.alloc(64 * 1024);
    const source = async function* () {
      for (let count = 0; count < 400; count++) {
        produced += piece.length;
        ahead = Math.max(ahead, produced - node.handler.sinkBytes);
        yield piece;
      }
    };
    await client.putStream(Buffer.from("slow"), source());
    assert.equal(node.handler.values.get("slow")?.length, produced);
    assert.ok(node.handler.pauses > 3, `${node.handler.pauses} pauses`);
    // Socket buffers on the way, the proxy's among them, hold some.
    t.diagnostic(`at most ${Math.round(ahead / 1024)} KiB ahead, ${node.handler.pauses} pauses`);
    assert.ok(ahead < 16 * 1024 * 1024, `${ahead} bytes ahead`);
  });

  test("a source that breaks off leaves nothing behind", async (t) => {
    const { client, node } = await setUp(t);
    const source = async function* () {
      yield Buffer.alloc(200_000);
      throw new Error("the source broke");
    };
    await assert.rejects(
      client.putStream(Buffer.from("half"), source()),
      isPeerError("peer_failed", "unknown"),
    );
    await until(() => node.handler.sinksOpen === 0 && node.handler.sinksAborted === 1, "the sink is aborted");
    assert.equal(node.handler.values.size, 0);
  });

  test("refusals: no room, a sink that fails, a value that is not there, one that breaks", async (t) => {
    const { client, node } = await setUp(t);
    const value = Buffer.alloc(300_000);
    await assert.rejects(
      client.putStream(Buffer.from("refused"), pieces(value, 65_536)),
      isPeerError("peer_refused", "not_sent"),
    );
    node.handler.sinkFailure = new VaultError("disk_full");
    await assert.rejects(client.putStream(Buffer.from("full"), pieces(value, 65_536)), (error: PeerError) => {
      assert.equal(error.status, 507);
      return true;
    });
    node.handler.sinkFailure = null;
    await assert.rejects(client.getStream(Buffer.from("absent")), (error: PeerError) => {
      assert.deepEqual([error.status, error.outcome], [404, "not_sent"]);
      return true;
    });
    node.handler.values.set("broken", Buffer.alloc(3 * 1024 * 1024));
    const { body } = await client.getStream(Buffer.from("broken"));
    await assert.rejects(async () => {
      for await (const _ of body);
    });
    await until(() => node.handler.sourcesOpen === 0 && node.handler.sinksOpen === 0, "all is closed");
    assert.equal(node.handler.values.size, 1);
  });

  test("streams are bounded", async (t) => {
    const { client, node } = await setUp(t, { limits: { streamsMax: 1 } });
    node.handler.values.set("large", Buffer.alloc(8 * 1024 * 1024));
    const { body } = await client.getStream(Buffer.from("large"));
    await assert.rejects(client.getStream(Buffer.from("large")), isPeerError("peer_overloaded", "not_sent"));
    body.destroy();
    await until(() => node.handler.sourcesOpen === 0, "the source is closed");
    const again = await client.getStream(Buffer.from("large"));
    again.body.destroy();
  });
});

test("node proxy: each node that connects has a link of its own", async (t) => {
  const node = await startNode();
  const proxy = await createNodeProxy({ target: { port: node.front.port } });
  const address = `http://127.0.0.1:${proxy.port}`;
  const limits = { silenceMs: 500 };
  const first = createClient(node.url, { address, localAddress: "127.0.0.2", limits });
  const second = createClient(node.url, { address, localAddress: "127.0.0.3", limits });
  t.after(async () => {
    await Promise.all([first.close(), second.close(), proxy.close()]);
    await node.front.close(1000);
  });
  await until(() => first.state === "up" && second.state === "up", "both reach the node");
  proxy.from("127.0.0.2").cut("from");
  await until(() => first.state === "down", "the first has lost it");
  assert.equal(text(await second.send(Buffer.from("x"))), "echo x");
  proxy.from("127.0.0.2").heal();
  await until(() => first.state === "up", "the first has it again");
});

test("link proxy: a connection that nobody takes is reset", async () => {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const link = await createLinkProxy({ target: { port } });
  const socket = net.connect(link.port, "127.0.0.1");
  const error = await new Promise<NodeJS.ErrnoException>((resolve) => socket.once("error", resolve));
  assert.equal(error.code, "ECONNRESET");
  await link.close();
});
