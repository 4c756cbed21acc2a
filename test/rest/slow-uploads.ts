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
  sentBytes: number;
  ended: boolean;
  client: RawConnection;
}

/** Slow, and not so slow that it is given up. */
const TRICKLE_BYTES = 4096;
const TRICKLE_MS = 1000;

function sendMore(upload: SlowUpload, bytes: number): void {
  upload.client.send(upload.body.subarray(upload.sentBytes, upload.sentBytes + bytes));
  upload.sentBytes += bytes;
}

/** Every third is JSON, every fourth a body of one record that comes in pieces. */
async function begin(port: number, number: number): Promise<SlowUpload> {
  const json = number % 3 === 0;
  const bytes = number % 4 === 1 ? CHUNK_BYTES - 1000 : 2 * CHUNK_BYTES + 100 * number;
  const body = json
    ? Buffer.from(JSON_HEAD + content(number, bytes / 2).toString("hex") + JSON_END)
    : content(number, bytes);
  const client = await RawConnection.open(port);
  const type = json ? "application/json" : "text/plain";
  const key = `slow-${number}`;
  client.send(
    `PUT /${key} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n`,
  );
  const upload = { key, json, body, sentBytes: 0, ended: false, client };
  sendMore(upload, Math.floor(body.length * 0.6));
  return upload;
}

/**
 * Begins `count` uploads at one port, uploads something else meanwhile, and ends them.
 * @param begun called when all of them trickle
 * @param readPort where the values are read
 */
export async function crowdOfSlowUploads(
  port: number,
  count: number,
  begun: () => Promise<void> | void,
  readPort = port,
): Promise<void> {
  const slow: SlowUpload[] = [];
  const trickle = setInterval(() => {
    for (const upload of slow) if (upload?.ended === false) sendMore(upload, TRICKLE_BYTES);
  }, TRICKLE_MS);
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
      const upload = slow[number];
      const { client, key, json, body } = upload;
      upload.ended = true;
      sendMore(upload, body.length);
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
    clearInterval(trickle);
    for (const { client } of slow.filter(Boolean)) client.destroy();
  }
}
