/** Answers to clients that send on without reading: nothing is lost of one that reads, and nothing ends the process. */
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import type { Handler, HttpServer } from "../../../src/server/http/http.ts";
import { createHttp } from "../../../src/server/uws/uws.ts";
import { Random, randomSeed } from "../../random.ts";

const METADATA = "m".repeat(3000);

describe("answers and clients that do not read", () => {
  let server: HttpServer;
  let port: number;

  before(async () => {
    // `/<bytes>`: a body of so many, every byte of it the first digit.
    const get: Handler = (res, req) => {
      const [, bytes] = req.getUrl().split("/");
      res.writeStatus("200 OK");
      if (bytes.endsWith("7")) res.writeHeader("X-Long", METADATA);
      res.end(Buffer.alloc(Number(bytes), bytes[0]));
    };
    server = createHttp({ get, head: get, put: get, post: get, delete: get, other: get }, () => {});
    port = await server.listen("127.0.0.1", 0);
  });
  after(() => server.closeConnections());

  const request = (bytes: number) => `GET /${bytes} HTTP/1.1\r\nHost: x\r\n\r\n`;

  /** Reads so many answers. @returns their bodies' first digits and lengths */
  function readAnswers(socket: net.Socket, count: number): Promise<string[]> {
    return new Promise((resolve, reject) => {
      const answers: string[] = [];
      let unread = Buffer.alloc(0);
      const take = (piece: Buffer): void => {
        unread = Buffer.concat([unread, piece]);
        for (;;) {
          const headEnd = unread.indexOf("\r\n\r\n");
          if (headEnd < 0) return;
          const head = unread.subarray(0, headEnd).toString();
          const length = Number(/^Content-Length: (\d+)$/m.exec(head)?.[1]);
          if (!head.startsWith("HTTP/1.1 200 OK\r\n") || !Number.isInteger(length)) {
            reject(new Error(`not a head: ${head.slice(0, 200)}`));
            return;
          }
          if (unread.length < headEnd + 4 + length) return;
          const body = unread.subarray(headEnd + 4, headEnd + 4 + length);
          assert.ok(body.every((byte) => byte === body[0]));
          answers.push(`${String.fromCharCode(body[0])} ${length}`);
          unread = unread.subarray(headEnd + 4 + length);
          if (answers.length === count) resolve(answers);
        }
      };
      socket.on("data", take);
      socket.on("close", () => reject(new Error(`closed after ${answers.length} answers`)));
      socket.on("error", () => {});
    });
  }

  test("who reads gets every answer, whole and in order, however many it asks for at once", async (t) => {
    const seed = randomSeed(t);
    const random = new Random(seed);
    const sizes = Array.from({ length: 100 }, () => 1 + random.below(random.below(2) === 0 ? 300 : 20_000));
    const socket = net.connect({ host: "127.0.0.1", port });
    const answers = readAnswers(socket, sizes.length);
    socket.write(sizes.map(request).join(""));
    const right = sizes.map((bytes) => `${String(bytes)[0]} ${bytes}`);
    assert.deepEqual(await answers, right, `seed ${seed}`);
    socket.destroy();
  });

  for (const bytes of [1, 1007, 5000, 16_000, 60_000])
    test(`who sends on and reads nothing is cut, and nobody else: ${bytes} bytes`, async () => {
      const socket = net.connect({ host: "127.0.0.1", port });
      socket.on("error", () => {});
      socket.pause();
      const isCut = new Promise<void>((resolve) => socket.once("close", () => resolve()));
      const many = request(bytes).repeat(50);
      let isOpen = true;
      void isCut.then(() => {
        isOpen = false;
      });
      const startBytes = process.memoryUsage.rss();
      let most = 0;
      while (isOpen) {
        const isTaken = await new Promise((resolve) => {
          socket.write(many, resolve);
          void isCut.then(resolve);
        });
        most = Math.max(most, process.memoryUsage.rss() - startBytes);
        if (isTaken instanceof Error) break;
      }
      await isCut;
      assert.ok(most < 256 * 1024 * 1024, `${most} bytes of memory`);
      const other = net.connect({ host: "127.0.0.1", port });
      const answers = readAnswers(other, 1);
      other.write(request(bytes));
      assert.equal((await answers).length, 1);
      other.destroy();
    });
});
