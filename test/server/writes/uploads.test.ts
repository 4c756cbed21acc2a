import assert from "node:assert/strict";
import os from "node:os";
import { test } from "node:test";
import { LINGER_BYTES_MAX } from "../../../src/server/http/linger.ts";
import { Gatherings } from "../../../src/util/gathering/gatherings.ts";
import { CHUNK_BYTES, RECEIVING_BYTES_MAX } from "../../../src/util/limits.ts";
import { etagText } from "../fake-vault.ts";
import { type RawClient, sleep, until, withFront } from "../harness.ts";

const MIB = 1024 * 1024;

function pattern(bytes: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: bytes }, (_, index) => (index * 7) % 253));
}

function putHead(key: string, bytes: number, more = ""): string {
  return `PUT /${key} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes}\r\n${more}\r\n`;
}

/** Sends `bytes` of body as fast as the socket takes them. Stops when the connection closes. */
async function pour(client: RawClient, bytes: number, piece: Buffer): Promise<number> {
  let sent = 0;
  while (sent < bytes && !client.closed) {
    const next = piece.subarray(0, Math.min(piece.length, bytes - sent));
    sent += next.length;
    if (!client.socket.write(next)) {
      await Promise.race([
        new Promise<void>((resolve) => client.socket.once("drain", resolve)),
        new Promise<void>((resolve) => client.socket.once("close", () => resolve())),
      ]);
    }
  }
  return sent;
}

test("uploads: bodies around every border arrive whole, with a length and chunked", async () => {
  await withFront({}, async ({ call, vault }) => {
    for (const bytes of [
      1,
      16 * 1024,
      512 * 1024,
      CHUNK_BYTES - 1,
      CHUNK_BYTES,
      CHUNK_BYTES + 1,
      3 * MIB + 7,
    ]) {
      const body = pattern(bytes);
      for (const headers of [{}, { "transfer-encoding": "chunked" }] as Array<Record<string, string>>) {
        vault.values.clear();
        const reply = await call("PUT", "/k", { headers, body });
        assert.equal(reply.status, 201, `${bytes} ${JSON.stringify(headers)}`);
        assert.ok(Buffer.from(vault.values.get("k")?.bytes ?? []).equals(body), `${bytes}`);
      }
    }
    assert.equal(vault.bytesAfterFull, 0);
    assert.equal((await call("GET", "/_stats")).json().queues.receivingBytes, 0);
  });
});

test("uploads: a fast client is held back by a slow vault, and memory stays bounded", async () => {
  await withFront({}, async ({ connect, vault, call }) => {
    vault.forgetBodies = true;
    vault.uploadWindowBytes = 2 * MIB;
    vault.drainMs = 2;
    const bytes = 256 * MIB;
    const client = await connect();
    client.send(putHead("big", bytes));
    const before = process.memoryUsage().rss;
    let grown = 0;
    const watch = setInterval(() => {
      grown = Math.max(grown, process.memoryUsage().rss - before);
    }, 5);
    await pour(client, bytes, Buffer.alloc(MIB, 1));
    await client.sees("201 Created");
    clearInterval(watch);
    assert.equal(vault.uploadBytes, bytes);
    assert.ok(vault.uploadPauses > 50, `${vault.uploadPauses} pauses`);
    assert.ok(grown < 64 * MIB, `memory grew by ${grown}`);
    assert.equal((await call("GET", "/_stats")).json().queues.requestsInFlight, 0);
  });
});

test("uploads: the front stops reading while the vault is full", async () => {
  await withFront({}, async ({ connect, vault }) => {
    vault.forgetBodies = true;
    vault.uploadWindowBytes = MIB;
    vault.held = true;
    const client = await connect();
    const bytes = 64 * MIB;
    client.send(putHead("big", bytes));
    const poured = pour(client, bytes, Buffer.alloc(MIB, 1));
    await until(() => vault.uploadPauses === 1, "the vault is full");
    await sleep(100);
    assert.ok(vault.uploadBytes <= 2 * MIB, `${vault.uploadBytes} bytes were read`);
    vault.release();
    await poured;
    await client.sees("201 Created");
  });
});

test("uploads: too large is refused at once by Content-Length, and while counting chunks", async () => {
  await withFront({ maxValueBytes: 2 * MIB }, async ({ connect, call, vault }) => {
    const declared = await connect();
    declared.send(putHead("k", 2 * MIB + 1));
    await declared.sees('"too_large"');
    assert.match(declared.text, /^HTTP\/1\.1 413 Content Too Large\r\n/);
    assert.match(declared.text, /Connection: close/);
    assert.equal(vault.uploadsOpen, 0);
    const chunked = await connect();
    chunked.send("PUT /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    const piece = Buffer.concat([Buffer.from("10000\r\n"), Buffer.alloc(65536), Buffer.from("\r\n")]);
    for (let index = 0; index < 40; index++) chunked.send(piece);
    await chunked.sees('"too_large"');
    chunked.send("0\r\n\r\n");
    await chunked.isClosed();
    assert.deepEqual([vault.uploadsOpen, vault.uploadsAborted], [0, 1]);
    const exact = await call("PUT", "/k", { body: Buffer.alloc(2 * MIB) });
    assert.equal(exact.status, 201);
  });
});

test("uploads: trailers behind a chunked body are refused, and nothing of it is stored", async () => {
  await withFront({}, async ({ connect, call, vault }) => {
    for (const body of [
      "3\r\nabc\r\n",
      "",
      `${(CHUNK_BYTES + 1).toString(16)}\r\n${"x".repeat(CHUNK_BYTES + 1)}\r\n`,
    ])
      for (const method of ["PUT", "POST", "DELETE"]) {
        const client = await connect();
        client.send(`${method} /trailed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${body}`);
        // In one piece, as a client sends it.
        client.send("0\r\nX-Trailer: 1\r\n\r\n");
        await client.isClosed();
        assert.ok(!client.text.includes("HTTP/1.1 2"), client.text);
      }
    assert.equal((await call("GET", "/trailed")).status, 404);
    assert.equal(vault.uploadsOpen, 0);
  });
});

test("uploads: a small limit holds for a chunked body in one piece", async () => {
  await withFront({ maxValueBytes: 10 }, async ({ connect, call, vault }) => {
    const client = await connect();
    client.send(
      "PUT /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n",
    );
    await client.sees('"too_large"');
    const small = await call("PUT", "/k", { body: "12345678901" });
    assert.equal(small.status, 413);
    assert.equal(
      (await call("PUT", "/k", { body: "1234567890" })).status,
      201,
      "and the connection is still good",
    );
    assert.equal(vault.values.get("k")?.bytes.length, 10);
  });
});

test("uploads: the answer to a refusal is a complete message, whose length counts the trailing line end", async () => {
  await withFront({ maxValueBytes: MIB }, async ({ call }) => {
    const reply = await call("PUT", "/k", { body: Buffer.alloc(MIB + 1) });
    assert.equal(reply.status, 413);
    assert.equal(reply.headers["content-length"], String(reply.body.length));
    assert.equal(reply.headers.connection, "close");
    assert.equal(reply.headers["content-type"], "application/json");
    assert.deepEqual([reply.json().success, reply.json().code], [false, "too_large"]);
  });
});

test("uploads: after a refusal the body is dropped, up to a bound", async () => {
  await withFront({ maxValueBytes: MIB }, async ({ connect, call }) => {
    const bytes = LINGER_BYTES_MAX + 64 * MIB;
    const client = await connect();
    client.send(putHead("k", bytes));
    await client.sees('"too_large"');
    const before = process.memoryUsage().rss;
    const sent = await pour(client, bytes, Buffer.alloc(MIB));
    await client.isClosed();
    assert.ok(sent > LINGER_BYTES_MAX / 2, `${sent}`);
    assert.ok(process.memoryUsage().rss - before < 64 * MIB);
    assert.equal((await call("GET", "/_stats")).json().queues.requestsInFlight, 0);
  });
});

test("uploads: what is certain to be refused is refused before its body", async () => {
  await withFront({}, async ({ connect, vault }) => {
    vault.put("k", "old");
    for (const [method, more, code] of [
      ["POST", "", "exists"],
      ["PUT", "If-None-Match: *\r\n", "precondition_failed"],
      ["PUT", `If-Match: ${etagText(99)}\r\n`, "precondition_failed"],
    ] as const) {
      const client = await connect();
      client.send(putHead("k", 1024 * MIB, more).replace("PUT", method));
      await client.sees(`"${code}"`);
      const chunked = await connect();
      chunked.send(`${method} /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n${more}\r\n`);
      const piece = Buffer.concat([Buffer.from("80000\r\n"), Buffer.alloc(0x80000), Buffer.from("\r\n")]);
      for (let index = 0; index < 3; index++) chunked.send(piece);
      await chunked.sees(`"${code}"`);
    }
    assert.equal(vault.uploadBytes, 0);
    const allowed = await connect();
    allowed.send(putHead("k", 2 * MIB, `If-Match: ${etagText(1)}\r\n`));
    await pour(allowed, 2 * MIB, Buffer.alloc(MIB));
    await allowed.sees("200 OK");
    vault.put("damaged", "x", { damaged: true });
    const damaged = await connect();
    damaged.send(putHead("damaged", 2 * MIB).replace("PUT", "POST"));
    await pour(damaged, 2 * MIB, Buffer.alloc(MIB));
    await damaged.sees("409 Conflict");
    assert.equal(vault.uploadBytes, 4 * MIB, "only the vault judges a damaged record");
  });
});

test("uploads: a failure in the middle is answered at once, also while the client is held back", async () => {
  for (const windowBytes of [64 * MIB, MIB]) {
    await withFront({}, async ({ connect, vault, call }) => {
      vault.uploadWindowBytes = windowBytes;
      vault.failUploadAt = { bytes: 3 * MIB, failure: { error: "disk_full", detail: "no space left" } };
      const client = await connect();
      client.send(putHead("k", 512 * MIB));
      const poured = pour(client, 512 * MIB, Buffer.alloc(MIB));
      await client.sees('"disk_full"');
      assert.match(client.text, /^HTTP\/1\.1 507 Insufficient Storage\r\n[\s\S]*no space left/);
      client.socket.destroy();
      await poured;
      assert.equal((await call("GET", "/k")).status, 404);
      assert.equal((await call("GET", "/_stats")).json().queues.requestsInFlight, 0);
    });
  }
});

test("uploads: a commit can fail", async () => {
  await withFront({}, async ({ call, vault }) => {
    vault.nextFailure = { error: "timeout" };
    const reply = await call("PUT", "/k", { body: Buffer.alloc(2 * MIB) });
    assert.deepEqual([reply.status, reply.json().code], [504, "timeout"]);
    assert.equal(vault.values.size, 0);
  });
});

test("uploads: a client that leaves at any stage leaves nothing behind", async () => {
  await withFront({}, async ({ connect, vault, call }) => {
    vault.uploadWindowBytes = MIB;
    const stages: Array<[string, (client: RawClient) => Promise<void>]> = [
      ["in the headers", async (client) => client.send("PUT /k HTTP/1.1\r\nHost: x\r\nContent-Le")],
      ["after the headers", async (client) => client.send(putHead("k", 100))],
      ["in a small body", async (client) => client.send(`${putHead("k", 100)}half`)],
      [
        "in a gathered body",
        async (client) =>
          client.send(Buffer.concat([Buffer.from(putHead("k", 900_000)), Buffer.alloc(700_000)])),
      ],
      [
        "in a chunk",
        async (client) =>
          client.send("PUT /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx"),
      ],
      [
        "in a large body",
        async (client) =>
          client.send(Buffer.concat([Buffer.from(putHead("k", 50 * MIB)), Buffer.alloc(5 * MIB)])),
      ],
      [
        "after a refusal",
        async (client) => {
          client.send(putHead("k", 2 ** 40));
          await client.sees("too_large");
        },
      ],
    ];
    for (const [stage, reach] of stages) {
      for (const leave of [
        (client: RawClient) => client.socket.destroy(),
        (client: RawClient) => client.socket.resetAndDestroy(),
      ]) {
        const client = await connect();
        await reach(client);
        await sleep(30);
        leave(client);
        await until(() => vault.uploadsOpen === 0, `uploads are closed: ${stage}`);
        await sleep(10);
        const queues = (await call("GET", "/_stats")).json().queues;
        assert.deepEqual([queues.requestsInFlight, queues.receivingBytes], [0, 0], stage);
      }
    }
    assert.equal(vault.values.size, 0);
  });
});

test("uploads: a client that leaves while it is held back is noticed when the vault drains", async () => {
  await withFront({}, async ({ connect, vault }) => {
    vault.uploadWindowBytes = MIB;
    vault.held = true;
    const client = await connect();
    client.send(putHead("k", 50 * MIB));
    void pour(client, 50 * MIB, Buffer.alloc(MIB));
    await until(() => vault.uploadPauses > 0, "held back");
    client.socket.resetAndDestroy();
    await sleep(20);
    vault.release();
    await until(() => vault.uploadsOpen === 0, "the upload is aborted");
    assert.equal(vault.values.size, 0);
  });
});

test("uploads: however many slow bodies there are, each is taken, memory has a bound, and others find room", async () => {
  await withFront({}, async ({ connect, call, vault }) => {
    const each = CHUNK_BYTES - 1;
    const begun = 700_000;
    const body = pattern(each);
    const clients: RawClient[] = [];
    const count = Math.ceil(RECEIVING_BYTES_MAX / begun) + 30;
    for (let index = 0; index < count; index++) {
      const client = await connect();
      client.send(Buffer.concat([Buffer.from(putHead(`slow-${index}`, each)), body.subarray(0, begun)]));
      clients.push(client);
    }
    await until(
      () => vault.gatherings.count === count && vault.gatherings.asideCount > 0,
      "all have begun, and some are put aside",
    );
    const queues = (await call("GET", "/_stats")).json().queues;
    assert.ok(queues.receivingBytes <= RECEIVING_BYTES_MAX, `${queues.receivingBytes}`);
    const fast = await connect();
    fast.send(Buffer.concat([Buffer.from(putHead("fast", each)), body.subarray(0, begun)]));
    fast.send(body.subarray(begun));
    await fast.sees("201 Created");
    for (const client of clients) client.send(body.subarray(begun));
    for (const [index, client] of clients.entries()) {
      await client.sees("201 Created");
      assert.ok(Buffer.from(vault.values.get(`slow-${index}`)?.bytes ?? []).equals(body), `slow-${index}`);
    }
    assert.deepEqual([vault.gatherings.heldBytes, vault.gatherings.asideCount], [0, 0]);
  });
});

test("uploads: beyond the number of bodies at once the slowest gives way, with an answer", async () => {
  const gatherings = new Gatherings(os.tmpdir(), { bytesMax: RECEIVING_BYTES_MAX, countMax: 2 });
  await withFront({}, async ({ connect, vault }) => {
    Object.defineProperty(vault, "gatherings", { value: gatherings });
    const [more, less, third] = [await connect(), await connect(), await connect()];
    more.send(Buffer.concat([Buffer.from(putHead("more", 100_000)), Buffer.alloc(30_000)]));
    await until(() => gatherings.count === 1, "the first has begun");
    less.send(`${putHead("less", 100_000)}x`);
    await until(() => gatherings.count === 2, "the second has begun");
    third.send(`${putHead("third", 100_000)}y`);
    await less.sees('"too_slow"');
    assert.match(less.text, /^HTTP\/1\.1 408 Request Timeout\r\n/);
    third.send(Buffer.alloc(99_999));
    await third.sees("201 Created");
    more.send(Buffer.alloc(70_000));
    await more.sees("201 Created");
    assert.ok(!vault.values.has("less"));
  });
});

test("uploads: a disk that takes nothing costs the idle body, not the one that comes", async () => {
  const gatherings = new Gatherings("/nonexistent", { bytesMax: CHUNK_BYTES, countMax: 10 });
  await withFront({}, async ({ connect, vault }) => {
    Object.defineProperty(vault, "gatherings", { value: gatherings });
    const idle = await connect();
    idle.send(Buffer.concat([Buffer.from(putHead("idle", CHUNK_BYTES)), Buffer.alloc(900_000)]));
    await until(() => gatherings.heldBytes >= 900_000, "it holds memory");
    const other = await connect();
    other.send(Buffer.concat([Buffer.from(putHead("other", CHUNK_BYTES)), Buffer.alloc(900_000)]));
    await idle.sees('"internal"');
    other.send(Buffer.alloc(CHUNK_BYTES - 900_000));
    await other.sees("201 Created");
    assert.deepEqual([...vault.values.keys()], ["other"]);
  });
});

test("uploads: a chunked body whose end is taken for its content, since its chunks have extensions, is refused before a client gives up", async () => {
  await withFront({}, async ({ connect, vault }) => {
    for (const body of [
      "3;a=b\r\nabc\r\n0\r\n\r\n",
      "3;a\r\nabc\r\n2;a\r\nde\r\n0;a\r\n\r\n",
      "A;b=c\r\n0123456789\r\n000\r\n\r\n",
    ]) {
      for (const cut of [body.length, body.length - 1, body.length - 3, body.length - 6]) {
        const client = await connect();
        client.send(`PUT /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${body.slice(0, cut)}`);
        await sleep(20);
        client.send(body.slice(cut));
        await client.sees("chunk extensions");
        assert.match(client.text, /^HTTP\/1\.1 400 Bad Request\r\n/);
      }
    }
    assert.equal(vault.values.size, 0);
    const fine = await connect();
    fine.send("PUT /k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n\r\n0\r\n\r\n\r\n");
    fine.send("1\r\nx\r\n0\r\n\r\n");
    await fine.sees("201 Created");
    assert.equal(Buffer.from(vault.values.get("k")?.bytes ?? []).toString(), "\r\n0\r\n\r\nx");
  });
});
