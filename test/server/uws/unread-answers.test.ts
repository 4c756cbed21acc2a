/** Answers to clients that send on without reading: nothing is lost of one that reads, and nothing ends the process. */
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import type { Handler, HttpServer } from "../../../src/server/http/http.ts";
import { createHttp } from "../../../src/server/uws/uws.ts";
import { Random, randomSeed } from "../../random.ts";
import { RawConnection } from "../../rest/raw.ts";

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
  async function readAnswers(connection: RawConnection, count: number): Promise<string[]> {
    const answers = await connection.answers(count);
    connection.destroy();
    return answers.map(({ status, body }) => {
      assert.equal(status, 200);
      assert.ok(body.every((byte) => byte === body[0]));
      return `${String.fromCharCode(body[0])} ${body.length}`;
    });
  }

  test("who reads gets every answer, whole and in order, however many it asks for at once", async (t) => {
    const seed = randomSeed(t);
    const random = new Random(seed);
    const sizes = Array.from({ length: 100 }, () => 1 + random.below(random.below(2) === 0 ? 300 : 20_000));
    const connection = await RawConnection.open(port);
    connection.send(sizes.map(request).join(""));
    const right = sizes.map((bytes) => `${String(bytes)[0]} ${bytes}`);
    assert.deepEqual(await readAnswers(connection, sizes.length), right, `seed ${seed}`);
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
      const other = await RawConnection.open(port);
      other.send(request(bytes));
      assert.equal((await readAnswers(other, 1)).length, 1);
    });
});
