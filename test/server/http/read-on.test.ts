/**
 * A client on the same machine that sends faster than the front takes: uWS reads on from its connection although
 * it was told to pause, until a read is not full.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import type { Res } from "../../../src/server/http/http.ts";
import { Pacer } from "../../../src/server/http/pace.ts";
import { createHttp } from "../../../src/server/uws/uws.ts";
import { BodyFlow } from "../../../src/server/writes/body-flow.ts";

const BODY_BYTES = 512 * 1024 * 1024;
/** What the sender's and our own socket buffers hold, and then some. */
const READ_ON_BYTES_MAX = 48 * 1024 * 1024;
/** What each piece costs to take. */
const TAKING_MS = 1;

/** Sends a body as fast as it goes, and prints the answer. */
const SENDER = `
const socket = require("node:net").connect(Number(process.argv[1]), "127.0.0.1");
const piece = Buffer.alloc(4 * 1024 * 1024, 7);
let left = ${BODY_BYTES};
const send = () => {
  while (left > 0) {
    left -= piece.length;
    if (!socket.write(piece)) return;
  }
};
socket.on("drain", send);
socket.pipe(process.stdout);
socket.write("PUT /k HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: " + left + "\\r\\n\\r\\n");
send();
`;

test("a body that is paused does not come on for long, and comes in full once it is resumed", {
  skip: process.platform === "linux" ? false : "windows are narrowed on Linux only",
}, async () => {
  const pacer = new Pacer();
  const turns = { worstBytes: 0, pauses: 0 };
  const take = (res: Res): void => {
    let turnBytes = 0;
    const taker = { receivedBytes: 0, isReceiving: true, stalled: () => res.close() };
    const flow = new BodyFlow(res, pacer, taker);
    res.onAborted(() => flow.end());
    res.onData((chunk, last) => {
      const untilMs = performance.now() + TAKING_MS;
      taker.receivedBytes += chunk.byteLength;
      if (last) {
        flow.setPaused(false);
        taker.isReceiving = false;
        flow.end();
        res.end(String(taker.receivedBytes));
        return;
      }
      if (turnBytes === 0) {
        turns.pauses++;
        setImmediate(() => {
          turns.worstBytes = Math.max(turns.worstBytes, turnBytes);
          turnBytes = 0;
          flow.setPaused(false);
        });
      }
      turnBytes += chunk.byteLength;
      flow.setPaused(true);
      while (performance.now() < untilMs);
    });
  };
  const other = (res: Res): unknown => res.end();
  const http = createHttp(
    { get: other, head: other, put: take, post: other, delete: other, other },
    (_method, _res, error) => assert.fail(error as Error),
  );
  const port = await http.listen("127.0.0.1", 0);
  const sender = spawn(process.execPath, ["-e", SENDER, String(port)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    let answer = "";
    for await (const text of sender.stdout.setEncoding("utf8")) {
      answer += text;
      if (answer.endsWith(String(BODY_BYTES))) break;
    }
    assert.ok(answer.endsWith(`\r\n\r\n${BODY_BYTES}`), answer);
    assert.ok(turns.pauses > 1);
    assert.ok(turns.worstBytes <= READ_ON_BYTES_MAX, `${turns.worstBytes} bytes came although it was paused`);
  } finally {
    sender.kill("SIGKILL");
    http.stopAccepting();
    http.closeConnections();
  }
});
