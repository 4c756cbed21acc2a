/**
 * Many clients that begin a large upload and go on slowly, or not at all, while another one uploads: nobody waits for them, they hold no memory that
 * grows with their number, and what they complete in the end is stored whole.
 */
import assert from "node:assert/strict";
import { CHUNK_BYTES } from "../../src/util/limits.ts";
import { call, content, inParallel } from "./client.ts";
import { RawConnection } from "./raw.ts";

/** The shard thread holds a part of a chunk of these: blanks in front of the value move everything by their number. */
const JSON_HEAD = '{   "value": "';
const JSON_END = '"}';

interface SlowUpload {
  key: string;
  json: boolean;
  body: Buffer;
  begunBytes: number;
  client: RawConnection;
}

/** Every third is JSON, every fourth a body of one record that comes in pieces. */
async function begin(port: number, number: number): Promise<SlowUpload> {
  const json = number % 3 === 0;
  const bytes = number % 4 === 1 ? CHUNK_BYTES - 1000 : 2 * CHUNK_BYTES + 100 * number;
  const body = json
    ? Buffer.from(JSON_HEAD + content(number, bytes / 2).toString("hex") + JSON_END)
    : content(number, bytes);
  const begunBytes = Math.floor(body.length * 0.7);
  const client = await RawConnection.open(port);
  const type = json ? "application/json" : "text/plain";
  const key = `slow-${number}`;
  client.send(
    `PUT /${key} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n`,
  );
  client.send(body.subarray(0, begunBytes));
  return { key, json, body, begunBytes, client };
}

/**
 * Begins `count` uploads at one port, uploads something else meanwhile, and ends them.
 * @param begun called when all of them stand still
 * @param readPort where the values are read
 */
export async function crowdOfSlowUploads(
  port: number,
  count: number,
  begun: () => Promise<void> | void,
  readPort = port,
): Promise<void> {
  const slow: SlowUpload[] = [];
  try {
    await inParallel(count, 8, async (number) => {
      slow[number] = await begin(port, number);
      const { client } = slow[number];
      await new Promise<void>((resolve) =>
        client.socket.writableLength === 0 ? resolve() : client.socket.once("drain", resolve),
      );
    });
    const other = content(-1, 5 * CHUNK_BYTES);
    for (let round = 0; round < 3; round++) {
      const reply = await call(port, "PUT", `/other-${round}`, { body: other });
      assert.equal(reply.status, 201, reply.text);
    }
    await begun();
    // A few at a time: all at once would be more than half a second of work, which may be refused.
    await inParallel(count, 4, async (number) => {
      const { client, key, json, body, begunBytes } = slow[number];
      client.send(body.subarray(begunBytes));
      const [answer] = await client.answers(1, 60_000);
      assert.equal(answer.status, 201, `${key}: ${answer.body.toString()}`);
      const read = await call(readPort, "GET", `/${key}`);
      const whole = json
        ? Buffer.from(
            `{"value":"${body.subarray(JSON_HEAD.length, body.length - JSON_END.length).toString()}"}`,
          )
        : body;
      assert.ok(read.body.equals(whole), `${key} is stored whole`);
    });
    assert.ok((await call(readPort, "GET", "/other-2")).body.equals(other));
  } finally {
    for (const { client } of slow.filter(Boolean)) client.destroy();
  }
}
