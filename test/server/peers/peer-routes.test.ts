/** Who gets in between the nodes, and who does not: whatever is refused must not reach the handler. */
import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { describe, type TestContext, test } from "node:test";
import { Receiver } from "../../../src/auth/answer.ts";
import { KeyRing } from "../../../src/auth/keys.ts";
import { RequestSigner, SIGNATURE_AGE_MS, STREAMED_BODY } from "../../../src/auth/signature.ts";
import { signStream } from "../../../src/auth/signed-stream.ts";
import { joinFrames, splitFrames } from "../../../src/cluster/peers/frames.ts";
import { LAYOUT_BYTES_MAX, PEER_BATCH_BYTES_MAX } from "../../../src/util/limits.ts";
import { KEY, type Node, receiverLike, startNode } from "../../cluster/peer-harness.ts";
import { call as callPort } from "../../rest/client.ts";
import { RawClient, until } from "../harness.ts";

interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
}

function call(
  node: Node,
  method: string,
  path: string,
  authorization: string | null,
  body: Uint8Array = Buffer.alloc(0),
): Promise<Answer> {
  const headers: Record<string, string> = authorization === null ? {} : { authorization };
  return callPort(node.front.port, method, path, { headers, body, agent: false });
}

async function start(t: TestContext, options: Parameters<typeof startNode>[0] = {}): Promise<Node> {
  const node = await startNode(options);
  t.after(() => node.front.close(1000));
  return node;
}

const signer = new RequestSigner(new KeyRing([KEY]));
const BATCH = joinFrames([Buffer.from("one"), Buffer.from("two")], 6);
const LAYOUT = Buffer.from('{"epoch":8}');
const VALUE = "/_peer/value";

/** A value with its head, as it is sent. */
function withHead(head: string, value: Uint8Array = Buffer.alloc(0)): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(head), 0);
  return Buffer.concat([length, Buffer.from(head), value]);
}

function assertUntouched({ handler }: Node): void {
  assert.deepEqual(handler.frames, []);
  assert.deepEqual(handler.layouts, []);
  assert.equal(handler.values.size, 0);
  assert.equal(handler.sinksOpen, 0);
}

function assertUnauthorized(answer: Answer, what: string): void {
  assert.equal(answer.status, 401, what);
  assert.ok(answer.headers["www-authenticate"], what);
  assert.equal(JSON.parse(answer.body.toString()).code, "unauthorized", what);
}

/** Every route, with the body it takes. */
const ROUTES: ReadonlyArray<readonly [method: string, path: string, body: Buffer]> = [
  ["POST", "/_peer/batch", BATCH],
  ["GET", "/_peer/ping", Buffer.alloc(0)],
  ["GET", "/_peer/layout", Buffer.alloc(0)],
  ["POST", "/_peer/layout", LAYOUT],
  ["PUT", VALUE, withHead("v", Buffer.from("value"))],
  ["POST", VALUE, Buffer.from("v")],
  ["DELETE", "/_peer/batch", Buffer.alloc(0)],
  ["GET", "/_peer/else", Buffer.alloc(0)],
];

for (const mode of ["all", "writes"] as const) {
  describe(`peer routes: refusals, auth mode ${mode}`, () => {
    test("without a signature, with a client's key, with another key", async (t) => {
      const node = await start(t, { mode });
      const stranger = new RequestSigner(new KeyRing(["another key"]));
      for (const [method, path, body] of ROUTES) {
        const what = `${method} ${path}`;
        assertUnauthorized(await call(node, method, path, null, body), what);
        assertUnauthorized(await call(node, method, path, `Bearer ${KEY}`, body), `${what} as a client`);
        const { header } = stranger.sign(
          node.receiver,
          method,
          path,
          method === "PUT" ? STREAMED_BODY : body,
        );
        assertUnauthorized(await call(node, method, path, header, body), `${what} with another key`);
      }
      assertUntouched(node);
    });

    test("replay", async (t) => {
      const node = await start(t, { mode });
      const { header } = signer.sign(node.receiver, "POST", "/_peer/batch", BATCH);
      assert.equal((await call(node, "POST", "/_peer/batch", header, BATCH)).status, 200);
      assert.deepEqual(node.handler.frames.splice(0), ["one", "two"]);
      assertUnauthorized(await call(node, "POST", "/_peer/batch", header, BATCH), "the same once more");
      const ping = signer.sign(node.receiver, "GET", "/_peer/ping", Buffer.alloc(0)).header;
      assert.equal((await call(node, "GET", "/_peer/ping", ping)).status, 200);
      assertUnauthorized(await call(node, "GET", "/_peer/ping", ping), "a replayed ping");
      assertUntouched(node);
    });

    test("of another time, and of another run", async (t) => {
      const node = await start(t, { mode });
      const receiver = receiverLike(node, { offMs: SIGNATURE_AGE_MS + 60_000 });
      const { header } = signer.sign(receiver, "POST", "/_peer/batch", BATCH);
      assertUnauthorized(await call(node, "POST", "/_peer/batch", header, BATCH), "of another time");
      const unmet = signer.sign(new Receiver(node.url), "POST", "/_peer/batch", BATCH);
      assertUnauthorized(await call(node, "POST", "/_peer/batch", unmet.header, BATCH), "of no run");
      assertUntouched(node);
    });

    test("tampered body, path, query, method; another node's", async (t) => {
      const node = await start(t, { mode });
      const sign = (method: string, target: string, body: Uint8Array) =>
        signer.sign(node.receiver, method, target, body).header;
      const changed = Buffer.from(BATCH);
      changed[5] ^= 1;
      for (const body of [changed, Buffer.alloc(0), BATCH.subarray(0, 7), Buffer.concat([BATCH, BATCH])]) {
        const header = sign("POST", "/_peer/batch", BATCH);
        assertUnauthorized(
          await call(node, "POST", "/_peer/batch", header, body),
          `${body.length} other bytes`,
        );
      }
      // In several segments, so that it is gathered first.
      const long = joinFrames([Buffer.alloc(400_000)], 400_000);
      const header = sign("POST", "/_peer/batch", long);
      const longChanged = Buffer.from(long);
      longChanged[399_999] ^= 1;
      assertUnauthorized(await call(node, "POST", "/_peer/batch", header, longChanged), "a long body");
      assertUnauthorized(
        await call(node, "POST", "/_peer/layout", sign("POST", "/_peer/batch", LAYOUT), LAYOUT),
        "another path",
      );
      assertUnauthorized(
        await call(node, "GET", "/_peer/ping?a=1", sign("GET", "/_peer/ping?a=2", Buffer.alloc(0))),
        "another query",
      );
      assertUnauthorized(
        await call(node, "POST", "/_peer/layout", sign("GET", "/_peer/layout", LAYOUT), LAYOUT),
        "another method",
      );
      const elsewhere = signer.sign(
        receiverLike(node, { url: "http://127.0.0.1:1" }),
        "POST",
        "/_peer/batch",
        BATCH,
      ).header;
      assertUnauthorized(await call(node, "POST", "/_peer/batch", elsewhere, BATCH), "another node");
      assertUntouched(node);
      assert.equal(
        (await call(node, "POST", "/_peer/batch", sign("POST", "/_peer/batch", BATCH), BATCH)).status,
        200,
      );
    });

    test("a stream that is tampered with, cut off or not signed in pieces", async (t) => {
      const node = await start(t, { mode });
      const path = VALUE;
      const stream = async (change: (pieces: Buffer[]) => Buffer[]) => {
        const { header, mac, key } = signer.sign(node.receiver, "PUT", path, STREAMED_BODY);
        const pieces: Buffer[] = [];
        for await (const piece of signStream(key.object, mac, [withHead("v", Buffer.alloc(150_000, "v"))]))
          pieces.push(piece);
        return call(node, "PUT", path, header, Buffer.concat(change(pieces)));
      };
      const flip = (piece: Buffer) => {
        const copy = Buffer.from(piece);
        copy[100] ^= 1;
        return copy;
      };
      const cases: Array<(pieces: Buffer[]) => Buffer[]> = [
        (pieces) => [flip(pieces[0]), ...pieces.slice(1)],
        (pieces) => [...pieces.slice(0, 2), flip(pieces[2]), ...pieces.slice(3)],
        (pieces) => pieces.slice(0, -1),
        (pieces) => pieces.slice(1),
        (pieces) => [...pieces, Buffer.from("more")],
        (pieces) => [pieces[1], pieces[0], ...pieces.slice(2)],
        () => [],
      ];
      for (const [index, change] of cases.entries())
        assertUnauthorized(await stream(change), `case ${index}`);
      const value = withHead("v", Buffer.from("value"));
      const whole = signer.sign(node.receiver, "PUT", path, value).header;
      assertUnauthorized(await call(node, "PUT", path, whole, value), "signed as a whole");
      assertUntouched(node);
      assert.equal((await stream((pieces) => pieces)).status, 200);
      assert.equal(node.handler.values.get("v")?.length, 150_000);
    });
  });
}

describe("peer routes", () => {
  const send = (node: Node, method: string, path: string, body: Uint8Array = Buffer.alloc(0)) =>
    call(node, method, path, signer.sign(node.receiver, method, path, body).header, body);

  test("batch, ping, layout", async (t) => {
    const node = await start(t);
    const batch = await send(node, "POST", "/_peer/batch", BATCH);
    const answers = splitFrames(batch.body, 10)?.map((frame) => Buffer.from(frame).toString());
    assert.deepEqual([batch.status, answers], [200, ["echo one", "echo two"]]);
    assert.deepEqual((await send(node, "POST", "/_peer/batch")).body.length, 0);
    assert.equal((await send(node, "GET", "/_peer/ping")).status, 200);
    assert.equal((await send(node, "GET", "/_peer/layout")).body.toString(), '{"epoch":7}');
    assert.equal((await send(node, "POST", "/_peer/layout", LAYOUT)).body.toString(), '{"success":true}');
    assert.deepEqual(node.handler.layouts, ['{"epoch":8}']);
  });

  test("bodies that are malformed, too long, or of unknown length", async (t) => {
    const node = await start(t);
    assert.equal((await send(node, "POST", "/_peer/batch", Buffer.from([9, 0, 0, 0, 1]))).status, 400);
    assert.equal(
      (await send(node, "POST", "/_peer/batch", Buffer.alloc(PEER_BATCH_BYTES_MAX + 1))).status,
      413,
    );
    assert.equal((await send(node, "POST", "/_peer/layout", Buffer.alloc(LAYOUT_BYTES_MAX + 1))).status, 413);
    assert.equal((await send(node, "POST", "/_peer/layout", Buffer.from("bad"))).status, 400);
    assert.equal((await send(node, "POST", VALUE, Buffer.alloc(5000))).status, 413);
    assert.equal((await send(node, "POST", VALUE, Buffer.from("absent"))).status, 404);
    for (const body of [
      Buffer.alloc(0),
      Buffer.alloc(3),
      withHead(""),
      withHead("cut off").subarray(0, 8),
      withHead("x".repeat(5000)),
      Buffer.alloc(100_000, 255),
    ]) {
      const { header, mac, key } = signer.sign(node.receiver, "PUT", VALUE, STREAMED_BODY);
      const pieces: Buffer[] = [];
      for await (const piece of signStream(key.object, mac, [body])) pieces.push(piece);
      const answer = await call(node, "PUT", VALUE, header, Buffer.concat(pieces));
      assert.equal(answer.status, 400, `a head of ${body.length} bytes`);
    }
    assert.equal((await send(node, "GET", "/_peer/batch")).headers.allow, "POST");
    assert.equal((await send(node, "DELETE", "/_peer/value")).status, 405);
    assert.equal((await send(node, "HEAD", "/_peer/ping")).status, 405);
    assert.equal((await send(node, "GET", "/_peer/")).status, 404);
    const { header } = signer.sign(node.receiver, "POST", "/_peer/batch", BATCH);
    const client = await RawClient.connect(node.front.port);
    client.send(
      `POST /_peer/batch HTTP/1.1\r\nHost: a\r\nAuthorization: ${header}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    );
    await client.sees("411 Length Required");
    client.socket.destroy();
    assertUntouched(node);
  });

  test("a value longer than -max-value is refused", async (t) => {
    const node = await start(t, { maxValueBytes: 100_000 });
    const path = VALUE;
    const { header, mac, key } = signer.sign(node.receiver, "PUT", path, STREAMED_BODY);
    const pieces: Buffer[] = [];
    for await (const piece of signStream(key.object, mac, [withHead("v", Buffer.alloc(150_000))]))
      pieces.push(piece);
    assert.equal((await call(node, "PUT", path, header, Buffer.concat(pieces))).status, 413);
    assertUntouched(node);
  });

  test("a node that goes away in the middle leaves nothing", async (t) => {
    const node = await start(t);
    const { header } = signer.sign(node.receiver, "POST", "/_peer/batch", BATCH);
    const stream = signer.sign(node.receiver, "PUT", VALUE, STREAMED_BODY);
    const pieces: Buffer[] = [];
    for await (const piece of signStream(stream.key.object, stream.mac, [withHead("v")])) pieces.push(piece);
    const half = await RawClient.connect(node.front.port);
    half.send(
      `POST /_peer/batch HTTP/1.1\r\nHost: a\r\nAuthorization: ${header}\r\nContent-Length: ${BATCH.length}\r\n\r\n`,
    );
    half.send(BATCH.subarray(0, 5));
    const value = await RawClient.connect(node.front.port);
    value.send(
      `PUT ${VALUE} HTTP/1.1\r\nHost: a\r\nAuthorization: ${stream.header}\r\nContent-Length: 1000\r\n\r\n`,
    );
    value.send(pieces[0]);
    await until(() => node.handler.sinksOpen === 1, "the stream has begun");
    half.socket.destroy();
    value.socket.destroy();
    await until(() => node.handler.sinksAborted === 1, "the stream is aborted");
    assertUntouched(node);
    // One that goes while its frames are worked on: the answers find nobody.
    node.handler.held = true;
    const waiting = await RawClient.connect(node.front.port);
    const signed = signer.sign(node.receiver, "POST", "/_peer/batch", BATCH).header;
    waiting.send(
      `POST /_peer/batch HTTP/1.1\r\nHost: a\r\nAuthorization: ${signed}\r\nContent-Length: ${BATCH.length}\r\n\r\n`,
    );
    waiting.send(BATCH);
    await until(() => node.handler.frames.length === 2, "the frames are there");
    waiting.socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    node.handler.release();
    assert.equal((await send(node, "GET", "/_peer/ping")).status, 200);
  });

  test("without a key they are open; on a node without peers they do not exist", async (t) => {
    const node = await start(t, { auth: null });
    assert.equal((await call(node, "POST", "/_peer/batch", null, BATCH)).status, 200);
    assert.equal((await call(node, "PUT", VALUE, null, withHead("v", Buffer.from("value")))).status, 200);
    assert.equal(node.handler.values.get("v")?.toString(), "value");
    const value = await call(node, "POST", VALUE, null, Buffer.from("v"));
    assert.equal(value.status, 200);
    assert.equal(value.body.readUInt32LE(0), "head of v".length);
    assert.equal(Number(value.body.readBigUInt64LE(4)), "value".length);
    assert.equal(value.body.subarray(12).toString(), "head of vvalue");
    assert.equal(value.headers["minivault-answer"], undefined);

    const single = await startNode({ auth: null, peers: undefined as never });
    t.after(() => single.front.close(1000));
    for (const [method, path, body] of ROUTES)
      assert.equal((await call(single, method, path, null, body)).status, 404, `${method} ${path}`);
  });

  test("a client's requests are not confused with those of nodes", async (t) => {
    const node = await start(t);
    // Encoded, it is a reserved name for clients, and closed as all others.
    for (const path of ["/%5Fpeer/batch", "/_pee%72/batch", "/_peer"]) {
      assert.equal((await call(node, "POST", path, null, BATCH)).status, 401, path);
      assert.equal((await call(node, "POST", path, `Bearer ${KEY}`, BATCH)).status, 404, path);
    }
    // A signature opens nothing that is a client's.
    const { header } = signer.sign(node.receiver, "GET", "/some-key", Buffer.alloc(0));
    assert.equal((await call(node, "GET", "/some-key", header)).status, 401);
    assertUntouched(node);
    // A key below /_kv/ may have any name.
    assert.equal(
      (await call(node, "PUT", "/_kv/_peer/batch", `Bearer ${KEY}`, Buffer.from("x"))).status,
      201,
    );
  });

  test("a stopping node refuses new work and finishes what it has", async (t) => {
    const node = await start(t);
    node.handler.held = true;
    const open = http.request({
      host: "127.0.0.1",
      port: node.front.port,
      method: "POST",
      path: "/_peer/batch",
      headers: {
        authorization: signer.sign(node.receiver, "POST", "/_peer/batch", BATCH).header,
        "content-length": BATCH.length,
      },
      agent: new http.Agent({ keepAlive: true, maxSockets: 1 }),
    });
    const answered = new Promise<number>((resolve, reject) => {
      open.on("response", (response) => resolve(response.statusCode ?? 0)).on("error", reject);
    });
    open.end(BATCH);
    await until(() => node.handler.frames.length === 2, "the frames are there");
    const spare = await new Promise<net.Socket>((resolve) => {
      const socket = net.connect(node.front.port, "127.0.0.1", () => resolve(socket));
    });
    // Connected before the node stops listening.
    spare.write("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    await new Promise((resolve) => spare.once("data", resolve));
    const closing = node.front.close(5000);
    const { header } = signer.sign(node.receiver, "POST", "/_peer/batch", BATCH);
    spare.write(
      `POST /_peer/batch HTTP/1.1\r\nHost: a\r\nAuthorization: ${header}\r\nContent-Length: ${BATCH.length}\r\n\r\n`,
    );
    spare.write(BATCH);
    const refusal = await new Promise<string>((resolve) =>
      spare.once("data", (data) => resolve(data.toString())),
    );
    assert.match(refusal, /503 Service Unavailable[\s\S]*"stopping"/);
    node.handler.release();
    assert.equal(await answered, 200);
    await closing;
    assert.equal(node.handler.frames.length, 2);
  });
});
