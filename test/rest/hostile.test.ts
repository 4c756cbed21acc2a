/** Hostile and unlucky clients, byte by byte, against the real program: the documented answer, nothing stored that was not sent whole, others served. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CHUNK_BYTES, JSON_DEPTH_MAX, KEY_BYTES_MAX } from "../../src/util/limits.ts";
import { call, closeConnections, content } from "./client.ts";
import { RawConnection } from "./raw.ts";
import { runProgram, type Server, startServer, waitUntil } from "./server.ts";

const MAX_VALUE_BYTES = 4 * CHUNK_BYTES;

let server: Server;
let port: number;

before(async () => {
  server = await startServer({ flags: ["-max-value", "4MiB"] });
  port = server.port;
});

after(async () => {
  closeConnections();
  await server.dispose();
});

/** Nothing of what the test did is still going on. */
async function settled(): Promise<void> {
  await waitUntil("no request is in flight", async () => {
    const { queues } = (await call(port, "GET", "/_stats")).json();
    return queues.requestsInFlight === 0 && queues.receivingBytes === 0;
  });
}

async function isAbsent(key: string): Promise<void> {
  assert.equal((await call(port, "GET", `/${key}`)).status, 404, `${key} must not be there`);
}

/** Sends bytes on a connection of their own and answers the first answer. */
async function answerTo(bytes: string | Uint8Array) {
  const client = await RawConnection.open(port);
  try {
    client.send(bytes);
    return { client, answer: (await client.answers())[0] };
  } finally {
    setImmediate(() => client.destroy());
  }
}

const put = (key: string, headers: string, body = "") =>
  `PUT /${key} HTTP/1.1\r\nHost: x\r\n${headers}\r\n\r\n${body}`;
const chunked = (key: string, body: string) => put(key, "Transfer-Encoding: chunked", body);
const GET_HEALTH = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";

describe("framing", () => {
  test("Content-Length: negative, huge, signed, doubled, listed, beside chunked: 400, closed, nothing stored", async () => {
    for (const headers of [
      "Content-Length: -1",
      "Content-Length: +1",
      "Content-Length: 1x",
      "Content-Length: 0x1",
      "Content-Length: 1 1",
      "Content-Length: 1, 1",
      "Content-Length: 99999999999999999999999",
      "Content-Length: 18446744073709551617",
      "Content-Length: 1\r\nTransfer-Encoding: chunked",
      "Transfer-Encoding: chunked\r\nContent-Length: 1",
      "Transfer-Encoding: gzip",
      "Transfer-Encoding: chunked, gzip",
      "Transfer-Encoding: gzip, chunked",
      "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
      "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
      "Transfer-Encoding: xchunked",
    ]) {
      const client = await RawConnection.open(port);
      client.send(put("framing", headers, "1\r\nx\r\n0\r\n\r\n"));
      const [answer] = await client.answers().catch((error: Error) => {
        throw new Error(`${headers}: ${error.message}`);
      });
      assert.equal(answer.status, 400, headers);
      await client.isClosed();
      await isAbsent("framing");
    }
    await settled();
  });

  test("Content-Length twice: alike it is one, else 400, and when it is empty, closed, nothing stored, whatever the path", async () => {
    const { answer } = await answerTo(put("twice", "Content-Length: 1\r\nContent-Length: 1", "a"));
    assert.equal(answer.status, 201);
    const request = (line: string, lengths: (number | "")[], body: string) =>
      `${line} HTTP/1.1\r\nHost: x\r\n${lengths.map((bytes) => `Content-Length: ${bytes}\r\n`).join("")}\r\n${body}`;
    for (const line of [
      "PUT /lengths",
      "POST /lengths",
      "DELETE /twice",
      "PATCH /twice?append",
      "PATCH /twice?ttl=60",
      "POST /_batch",
      "POST /_delete?prefix=twice",
      "OPTIONS /twice",
      "BREW /twice",
    ])
      for (const lengths of [[1, 2], [2, 1], [0, 1], [1, 0], [1, 1, 2], [""], ["", 2], [2, ""]] as (
        | number
        | ""
      )[][]) {
        const client = await RawConnection.open(port);
        client.send(request(line, lengths, "ab".slice(0, lengths[0] || 0)));
        const [answer] = await client.answers();
        assert.equal(answer.status, 400, `${line} ${lengths}`);
        assert.match(answer.body.toString(), /Content-Length headers differ/);
        await client.isClosed();
      }
    await isAbsent("lengths");
    assert.equal((await call(port, "GET", "/twice")).text, "a");
    await settled();
  });

  test("Host twice: 400 for all that changes something, closed, nothing stored", async () => {
    await call(port, "PUT", "/hosts", { body: "a" });
    for (const line of [
      "PUT /hosts",
      "POST /hosts",
      "DELETE /hosts",
      "PATCH /hosts?append",
      "PATCH /hosts?ttl=60",
      "POST /_batch",
      "POST /_delete?prefix=hosts",
      "OPTIONS /hosts",
    ]) {
      for (const hosts of ["Host: x\r\nHost: x", "Host: x\r\nhost: y", "Host: x\r\nHost:"]) {
        const client = await RawConnection.open(port);
        client.send(`${line} HTTP/1.1\r\n${hosts}\r\nContent-Length: 1\r\n\r\nb`);
        const [answer] = await client.answers();
        assert.equal(answer.status, 400, `${line} ${hosts}`);
        // uWebSockets.js 20.56 refuses some of them itself.
        assert.match(answer.body.toString(), /more than one Host|<h1>Bad Request/);
        await client.isClosed();
      }
    }
    assert.equal((await call(port, "GET", "/hosts")).text, "a");
    const { answer } = await answerTo(put("hosts", "X-Host: y\r\nHos: z\r\nContent-Length: 1", "b"));
    assert.equal(answer.status, 200);
    await settled();
  });

  test("a Transfer-Encoding that is not chunked alone: 400, whatever takes the body, and nothing is changed", async () => {
    await call(port, "PUT", "/coded", { body: "a" });
    for (const line of ["PUT /coded", "PATCH /coded?append", "POST /_batch"]) {
      const client = await RawConnection.open(port);
      client.send(
        `${line} HTTP/1.1\r\nHost: x\r\nContent-Type: application/${line.startsWith("POST") ? "json" : "octet-stream"}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n`,
      );
      const [answer] = await client.answers();
      assert.equal(answer.status, 400, line);
      assert.match(answer.body.toString(), /only Transfer-Encoding/, line);
      client.socket.destroy();
    }
    assert.equal((await call(port, "GET", "/coded")).text, "a");
    await settled();
  });

  test("a length above the limit: 413 at once, also near 2^53; the limit itself is taken", async () => {
    for (const length of [MAX_VALUE_BYTES + 1, 2 ** 40, Number.MAX_SAFE_INTEGER]) {
      const { answer } = await answerTo(put("huge", `Content-Length: ${length}`, "x"));
      assert.equal(answer.status, 413, String(length));
      assert.equal(JSON.parse(answer.body.toString()).code, "too_large");
    }
    await isAbsent("huge");
    const whole = await call(port, "PUT", "/huge", { body: content(1, MAX_VALUE_BYTES) });
    assert.equal(whole.status, 201);
    await call(port, "DELETE", "/huge");
  });

  test("a body above the limit in chunks: 413 while it comes, nothing stored", async () => {
    const client = await RawConnection.open(port);
    client.send(chunked("above", ""));
    const piece = Buffer.concat([Buffer.from("40000\r\n"), Buffer.alloc(0x40000, "a"), Buffer.from("\r\n")]);
    for (let bytes = 0; bytes <= MAX_VALUE_BYTES; bytes += 0x40000) client.send(piece);
    assert.equal((await client.answers())[0].status, 413);
    client.send("0\r\n\r\n");
    await client.isClosed();
    await isAbsent("above");
    await settled();
  });

  test("a length that is too short: what follows is judged as the next request, never as part of the value", async () => {
    const client = await RawConnection.open(port);
    client.send(put("short", "Content-Length: 3", "abcdef\r\n\r\n"));
    await client.answers();
    // What is left is no request, and never becomes one.
    client.socket.end();
    await client.isClosed();
    const { answers, problem } = client.parsed();
    assert.equal(problem, null);
    for (const { status } of answers) assert.ok(status === 201 || status === 400, String(status));
    const stored = await call(port, "GET", "/short");
    assert.ok(stored.status === 404 || stored.text === "abc");
    await settled();
  });

  test("chunked: sizes in any case and with zeros in front, the body at once and byte by byte", async () => {
    const bodies: [string, string][] = [
      ["3\r\nabc\r\n0\r\n\r\n", "abc"],
      ["A\r\n0123456789\r\n0\r\n\r\n", "0123456789"],
      ["a\r\n0123456789\r\n0\r\n\r\n", "0123456789"],
      ["0003\r\nabc\r\n0\r\n\r\n", "abc"],
      ["1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "abc"],
      ["0\r\n\r\n", ""],
    ];
    for (const [number, [body, value]] of bodies.entries()) {
      for (const piece of [body.length, 1]) {
        const client = await RawConnection.open(port);
        client.send(chunked(`chunked-${number}-${piece}`, ""));
        if (piece === 1) {
          for (const byte of body) {
            client.send(byte);
            await sleep(1);
          }
        } else client.send(body);
        assert.equal((await client.answers())[0].status, 201, JSON.stringify(body));
        assert.equal((await call(port, "GET", `/chunked-${number}-${piece}`)).text, value);
        client.send(GET_HEALTH);
        assert.equal((await client.answers(2))[1].status, 200, "the connection is still in step");
        client.destroy();
      }
    }
  });

  test("chunked: bad sizes, extensions and missing ends are refused or never answered, and nothing is stored", async () => {
    for (const body of [
      "zz\r\nx\r\n0\r\n\r\n",
      "-1\r\nx\r\n0\r\n\r\n",
      "0x1\r\nx\r\n0\r\n\r\n",
      ";a=b\r\nx\r\n0\r\n\r\n",
      "1;name=value\r\nx\r\n0\r\n\r\n",
      `1;${"e".repeat(100_000)}\r\nx\r\n0\r\n\r\n`,
      "ffffffffffffffff\r\nx\r\n0\r\n\r\n",
      "ffffffffffffffffffffffff1\r\nx\r\n0\r\n\r\n",
      "100000000\r\nx",
      "1\r\nx\r\nzz\r\nx\r\n0\r\n\r\n",
      "1\r\nx",
      "1\r\nx\r\n",
    ]) {
      const client = await RawConnection.open(port);
      client.send(chunked("bad-chunks", body));
      await sleep(30);
      const { answers, problem } = client.parsed();
      assert.equal(problem, null);
      for (const { status } of answers) assert.equal(status, 400, body.slice(0, 40));
      client.destroy();
      await isAbsent("bad-chunks");
    }
    await settled();
  });

  test("chunked: a trailer closes the connection; the value has nothing of it", async () => {
    const client = await RawConnection.open(port);
    client.send(chunked("trailers", "3\r\nabc\r\n0\r\nChecksum: 1\r\n\r\n"));
    await client.isClosed();
    assert.equal(client.parsed().problem, null);
    const stored = await call(port, "GET", "/trailers");
    assert.ok(stored.status === 404 || stored.text === "abc", stored.text);
  });

  test("chunked: a body that never ends is cut off at the limit", async () => {
    const client = await RawConnection.open(port);
    client.send(chunked("endless", ""));
    const piece = Buffer.concat([Buffer.from("10000\r\n"), Buffer.alloc(0x10000, "a"), Buffer.from("\r\n")]);
    const feed = () => {
      while (!client.closed && client.socket.write(piece));
    };
    client.socket.on("drain", feed);
    feed();
    await client.isClosed(60_000);
    assert.equal(client.parsed().answers[0]?.status, 413);
    assert.ok(
      client.socket.bytesWritten < 600 * 1024 * 1024,
      `${client.socket.bytesWritten} bytes were taken`,
    );
    await isAbsent("endless");
  });
});

describe("request head", () => {
  test("headers too large: 431; too many: refused; both close, and nothing is stored", async () => {
    const large = await answerTo(put("head", `X: ${"y".repeat(20_000)}\r\nContent-Length: 1`, "x"));
    assert.equal(large.answer.status, 431);
    const many = Array.from({ length: 500 }, (_, number) => `X-${number}: y`).join("\r\n");
    const { answer } = await answerTo(put("head", `${many}\r\nContent-Length: 1`, "x"));
    assert.ok(answer.status === 431 || answer.status === 400, String(answer.status));
    const fifty = Array.from({ length: 50 }, (_, number) => `X-${number}: y`).join("\r\n");
    assert.equal((await answerTo(put("fifty", `${fifty}\r\nContent-Length: 1`, "x"))).answer.status, 201);
    await isAbsent("head");
  });

  test("lines that are not HTTP are refused, and the connection closes", async () => {
    for (const bytes of [
      "\r\n\r\n\r\n",
      "GET\r\n\r\n",
      "GET /health\r\n\r\n",
      "GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
      "GET /health HTTP/1.1\r\n\r\n",
      "GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
      "GET /health HTTP/1.1\r\n: x\r\n\r\n",
      "GET /health HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
      "GET /health HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
      "GET health HTTP/1.1\r\nHost: x\r\n\r\n",
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
      `${"A".repeat(30_000)}`,
    ]) {
      const client = await RawConnection.open(port);
      client.send(bytes);
      client.socket.end();
      await client.isClosed();
      const { answers, problem, partial } = client.parsed();
      const what = JSON.stringify(bytes.slice(0, 50));
      assert.equal(problem, null, what);
      assert.equal(partial.length, 0, what);
      assert.ok(answers.length <= 1 && (answers[0]?.status ?? 400) >= 400, `${what}: ${answers[0]?.status}`);
    }
  });

  test("keys: 0, 1024 and 1025 bytes (not characters), bad encoding, bad UTF-8, dots", async () => {
    const status = async (path: string) =>
      (await answerTo(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)).answer.status;
    assert.equal(await status("/_kv/"), 400);
    for (const [unit, bytes] of [
      ["x", 1],
      ["%78", 1],
      ["%C3%A9", 2],
      ["\xc3\xa9", 2],
      ["%F0%9F%98%80", 4],
    ] as const) {
      const longest = unit.repeat(KEY_BYTES_MAX / bytes);
      assert.equal(await status(`/${longest}`), 404, unit);
      assert.equal(await status(`/${longest}x`), 414, unit);
      assert.equal(await status(`/_kv/${longest}`), 404, unit);
      assert.equal(await status(`/_kv/${longest}x`), 414, unit);
    }
    for (const bad of [
      "/%",
      "/%4",
      "/%zz",
      "/%C3",
      "/\xff",
      "/\xc3",
      "/%ED%A0%80",
      "/%F4%90%80%80",
      "/%C0%AE",
    ])
      assert.equal(await status(bad), 400, bad);
    // Dots are ordinary characters of a key: no path on a disk is made of it.
    for (const dots of ["..", "../..", "../../etc/passwd", "a/../b", ".", "./", "%2e%2e%2f", "..%00"]) {
      const { answer } = await answerTo(put(dots, "Content-Length: 4", "dots"));
      assert.equal(answer.status, 201, dots);
      const read = await answerTo(`GET /${dots} HTTP/1.1\r\nHost: x\r\n\r\n`);
      assert.equal(read.answer.body.toString(), "dots");
    }
    await isAbsent("b");
    await isAbsent("etc/passwd");
  });
});

test("JSON: nesting at and beyond the limit, numbers of 400 digits, lone surrogates, BOM, what follows the end", async () => {
  const nested = (depth: number) => `{"value":${"[".repeat(depth)}${"]".repeat(depth)}}`;
  const digits = "1234567890".repeat(40);
  const cases: [string | Buffer, number][] = [
    [nested(JSON_DEPTH_MAX - 1), 201],
    [nested(JSON_DEPTH_MAX + 1), 400],
    [`{"value":${"[".repeat(500_000)}`, 400],
    [`{"value":${'{"a":'.repeat(200_000)}`, 400],
    [`{"value":${digits}}`, 201],
    [`{"value":-${digits}.${digits}e+${digits}}`, 201],
    ['{"value":"\\ud800"}', 201],
    ['{"value":"\\udc00\\ud800"}', 201],
    ['{"value":"\\ud83d\\ude00"}', 201],
    [Buffer.from('{"value":"\xed\xa0\x80"}', "latin1"), 400],
    ['\ufeff{"value":1}', 400],
    ['{"value":1,"value":1}', 400],
    ['{"value":1}\0', 400],
    ['{"value":1}{', 400],
    ['{"value":1} \r\n\t', 201],
    ['{"value":NaN}', 400],
    ['{"value":-Infinity}', 400],
    ['{"value":-}', 400],
    ['{"value":"\0"}', 400],
    [`{"value":"${"\\u0000".repeat(100_000)}"}`, 201],
  ];
  for (const [number, [body, status]] of cases.entries()) {
    const key = `/json-edge-${number}`;
    const reply = await call(port, "PUT", key, { body, headers: { "Content-Type": "application/json" } });
    const what = body.toString().slice(0, 60);
    assert.equal(reply.status, status, what);
    const read = await call(port, "GET", key);
    if (status === 400) {
      assert.equal(reply.json().code, "bad_json", what);
      assert.equal(read.status, 404, what);
    } else {
      const text = body.toString();
      const value = text.slice(text.indexOf(":") + 1, text.lastIndexOf("}"));
      assert.equal(read.text, `{"value":${value}}`, what);
    }
  }
});

describe("clients that leave", () => {
  const value = content(3, 3 * CHUNK_BYTES);
  const head = put("left", `Content-Length: ${value.length}`);

  test("at every stage of a write, by a close and by a reset: nothing half-written, nothing left over", async () => {
    const small = put("left", "Content-Length: 1000", "x".repeat(1000));
    const stages: [string, (client: RawConnection) => Promise<void> | void][] = [
      ["before the first byte", () => {}],
      ["within the request line", (client) => client.send("PUT /le")],
      ["within the headers", (client) => client.send("PUT /left HTTP/1.1\r\nHost: x\r\nContent-Le")],
      ["after the headers", (client) => client.send(head)],
      ["within a small body", (client) => client.send(small.slice(0, -1))],
      [
        "within the first chunk",
        (client) => client.send(Buffer.concat([Buffer.from(head), value.subarray(0, 100_000)])),
      ],
      [
        "within a later chunk",
        (client) => client.send(Buffer.concat([Buffer.from(head), value.subarray(0, -1)])),
      ],
      ["within a chunk size", (client) => client.send(chunked("left", "3\r\nabc\r\n1"))],
      ["before the last chunk", (client) => client.send(chunked("left", "3\r\nabc\r\n"))],
      ["within the last chunk's size", (client) => client.send(chunked("left", "3\r\nabc\r\n0"))],
    ];
    for (const [stage, act] of stages) {
      for (const how of ["close", "reset", "half-close"] as const) {
        const client = await RawConnection.open(port);
        await act(client);
        await sleep(15);
        if (how === "close") client.destroy();
        else if (how === "reset") client.abort();
        else {
          client.socket.end();
          await client.isClosed();
        }
        await settled();
        const read = await call(port, "GET", "/left");
        assert.equal(read.status, 404, `${stage}, ${how}`);
      }
    }
  });

  test("after the body, before the answer: the write happens whole or not at all", async () => {
    for (let round = 0; round < 30; round++) {
      const body = content(round, round % 2 === 0 ? 1000 : value.length);
      const client = await RawConnection.open(port);
      client.send(Buffer.concat([Buffer.from(put(`gone-${round}`, `Content-Length: ${body.length}`)), body]));
      await waitUntil("the body is sent", () => client.closed || client.socket.writableLength === 0);
      if (round % 3 === 0) client.abort();
      else client.destroy();
      await settled();
      const read = await call(port, "GET", `/gone-${round}`);
      if (read.status !== 404) assert.ok(read.body.equals(body), `round ${round}`);
    }
  });

  test("within the answer: the value is let go of, and is served whole to the next", async () => {
    const stored = await call(port, "PUT", "/read", { body: value });
    assert.ok(stored.status < 300);
    for (const wanted of [1, 100, 70_000, 1_500_000]) {
      const client = await RawConnection.open(port);
      client.send("GET /read HTTP/1.1\r\nHost: x\r\n\r\n");
      await waitUntil("some of the answer", () => client.receivedBytes >= wanted);
      client.abort();
    }
    await settled();
    assert.ok((await call(port, "GET", "/read")).body.equals(value));
  });
});

test("pipelining: answers of reads stay in front of the refusal that closes the connection", async () => {
  await call(port, "PUT", "/pipe", { body: "value" });
  const read = "GET /pipe HTTP/1.1\r\nHost: x\r\n\r\n";
  // Newer uWebSockets.js refuses these by itself, in place of what was not sent yet (docs/api.md).
  const isOlderParser = (await runProgram(["-version"])).output.includes("uws-pack");
  const repeated = [
    [put("pipe-no", "Content-Length: 1\r\nContent-Length: 2", "ab"), 400],
    [put("pipe-no", "Content-Length: 1\r\nHost: y", "a"), 400],
  ] as const;
  for (const [refused, status] of [
    ...(isOlderParser ? repeated : []),
    [put("pipe%ff", "Content-Length: 100000", "z".repeat(100_000)), 400],
    ["GET /pipe-no HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404],
  ] as const) {
    const client = await RawConnection.open(port);
    client.send(Buffer.concat([Buffer.from(read.repeat(20)), Buffer.from(refused)]));
    await client.isClosed();
    const { answers, problem } = client.parsed();
    assert.equal(problem, null);
    assert.deepEqual(
      answers.map((answer) => answer.status),
      [...new Array(20).fill(200), status],
    );
  }
  await isAbsent("pipe-no");
});

test("pipelining: reads are answered in order; a request behind an unanswered write closes the connection, unexecuted", async () => {
  await call(port, "PUT", "/pipe", { body: "value" });
  const one = "GET /pipe HTTP/1.1\r\nHost: x\r\n\r\n";
  const none = "GET /pipe-none HTTP/1.1\r\nHost: x\r\n\r\n";
  const client = await RawConnection.open(port);
  client.send((one + none).repeat(500));
  const answers = await client.answers(1000);
  for (const [number, { status, body }] of answers.entries()) {
    assert.equal(status, number % 2 === 0 ? 200 : 404);
    if (number % 2 === 0) assert.equal(body.toString(), "value");
  }
  client.destroy();
  for (let round = 0; round < 10; round++) {
    const behind = await RawConnection.open(port);
    behind.send(put("pipe-a", "Content-Length: 1", "a") + put("pipe-b", "Content-Length: 1", "b"));
    await behind.isClosed();
    const { answers: seen, problem } = behind.parsed();
    assert.equal(problem, null);
    assert.ok(seen.length <= 1);
    await isAbsent("pipe-b");
  }
  await settled();
});
