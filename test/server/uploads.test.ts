import assert from "node:assert/strict";
import { test } from "node:test";
import { LINGER_BYTES_MAX } from "../../src/server/linger.ts";
import { CHUNK_BYTES, RECEIVING_BYTES_MAX } from "../../src/util/limits.ts";
import { etagText } from "./fake-vault.ts";
import { type RawClient, sleep, until, withFront } from "./harness.ts";

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

test("uploads: bodies being gathered have a bound over all connections", async () => {
  await withFront({}, async ({ connect, call }) => {
    const each = CHUNK_BYTES - 1;
    const clients: RawClient[] = [];
    const half = Buffer.concat([Buffer.from(putHead("k", each)), Buffer.alloc(700_000)]);
    for (let index = 0; index < Math.ceil(RECEIVING_BYTES_MAX / 700_000) + 5; index++) {
      const client = await connect();
      client.send(half);
      clients.push(client);
    }
    await until(() => clients.some((client) => client.text.includes('"overloaded"')), "some are refused");
    const refused = clients.filter((client) => client.text.includes('"overloaded"'));
    assert.match(refused[0].text, /^HTTP\/1\.1 503 Service Unavailable\r\n[\s\S]*Retry-After: 1\r\n/);
    const queues = (await call("GET", "/_stats")).json().queues;
    assert.ok(
      queues.receivingBytes <= RECEIVING_BYTES_MAX && queues.receivingBytes > RECEIVING_BYTES_MAX / 2,
    );
    assert.equal(
      (await call("PUT", "/small", { body: "x" })).status,
      201,
      "a body in one piece needs no buffer",
    );
    for (const client of clients) client.socket.destroy();
    await sleep(50);
    assert.equal((await call("GET", "/_stats")).json().queues.receivingBytes, 0);
  });
});
