/** Answers that are sent piece by piece, to clients that take them slowly, or not at all. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type FrontContext, InFlight } from "../../../src/server/http/context.ts";
import type { Res } from "../../../src/server/http/http.ts";
import { StreamedAnswer } from "../../../src/server/lines/streamed-answer.ts";

const MINUTE_MS = 60_000;
const PIECE = Buffer.from("piece");

/** A connection whose buffer has room or not, and what was done to it. */
function open() {
  const connection = { hasRoom: true, log: [] as string[], counted: [] as string[], rooms: 0, gathered: 0 };
  let isCorked = false;
  let onAborted = (): void => {};
  let onWritable = (): boolean => true;
  const res = {
    onAborted: (handler: () => void) => {
      onAborted = handler;
    },
    onWritable: (handler: () => boolean) => {
      onWritable = handler;
    },
    cork: (run: () => void) => {
      isCorked = true;
      run();
      isCorked = false;
    },
    writeStatus: (head: string) => connection.log.push(head),
    write: (bytes: Uint8Array) => {
      if (isCorked) connection.gathered = Math.max(connection.gathered, bytes.length);
      connection.log.push(Buffer.from(bytes).toString());
      return connection.hasRoom;
    },
    end: () => connection.log.push("."),
    close: () => {
      connection.log.push("closed");
      onAborted();
    },
  } as unknown as Res;
  const context = {
    inFlight: new InFlight(),
    pacer: { add() {}, delete: () => connection.counted.push("not paced") },
    meter: {
      count: (_: number, status: number) => connection.counted.push(String(status)),
      countAborted: () => connection.counted.push("aborted"),
    },
  } as unknown as FrontContext;
  const answer = new StreamedAnswer(context, res, "head", {
    onRoom: () => {
      connection.rooms++;
    },
  });
  return { answer, connection, writable: () => onWritable() };
}

test("streamed answers: a client that takes nothing for a minute is cut, however often the connection was kept", () => {
  const { answer, connection } = open();
  connection.hasRoom = false;
  answer.send(PIECE);
  const beganMs = performance.now();
  for (let ms = 3000; ms < MINUTE_MS; ms += 3000) answer.beat(beganMs + ms);
  assert.equal(answer.isOpen, true);
  answer.beat(beganMs + MINUTE_MS + 3000);
  assert.equal(answer.isOpen, false);
  assert.deepEqual(connection.log, ["head", "piece", ...Array<string>(19).fill("\n"), "closed"]);
  assert.deepEqual(connection.counted, ["not paced", "aborted"]);
});

test("streamed answers: there is room once all that was sent is with the system, and not before", () => {
  const { answer, connection, writable } = open();
  answer.send(PIECE);
  assert.equal(answer.hasRoom, true);
  connection.hasRoom = false;
  answer.send(PIECE);
  assert.equal(answer.hasRoom, false);
  // The system has taken a part.
  writable();
  assert.deepEqual([answer.hasRoom, connection.rooms], [false, 0]);
  connection.hasRoom = true;
  writable();
  assert.deepEqual([answer.hasRoom, connection.rooms], [true, 1]);
  answer.end(PIECE);
  assert.deepEqual(connection.log, ["head", "piece", "piece", "\n", "\n", "piece", "."]);
  assert.deepEqual(connection.counted, ["not paced", "200"]);
});

test("streamed answers: what fails before the first piece is an answer like any other, and nothing is sent before", () => {
  const { answer, connection } = open();
  answer.beat(performance.now());
  assert.deepEqual([answer.begun, connection.log], [false, []]);
  answer.cut();
  answer.send(PIECE);
  answer.end(PIECE);
  assert.deepEqual(connection.log, ["closed"]);
});

test("streamed answers: a large piece is gathered in slices that fit: what does not is lost when the socket takes nothing", () => {
  const { answer, connection } = open();
  const pieces = [20_000, 10, 100_000, 4096, 4097].map((bytes, i) => Buffer.alloc(bytes, String(i)));
  for (const piece of pieces) answer.send(piece);
  answer.end(pieces[0]);
  assert.ok(connection.gathered <= 15 * 1024);
  const sent = connection.log.slice(1).join("");
  assert.equal(sent, `${Buffer.concat([...pieces, pieces[0]]).toString()}.`);
});
