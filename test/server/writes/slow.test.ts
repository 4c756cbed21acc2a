/** Clients that are slow but alive: uWS alone would close them after ten seconds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sleep, until, withFront } from "../harness.ts";

/** Longer than uWS' timer with its granularity. */
const LONGER_THAN_TIMER_MS = 15_000;
const TICK_MS = 250;
/** More than the sockets of both ends hold between them, however far the system lets them grow. */
const MORE_THAN_SOCKETS = 64 * 1024 * 1024;

test("slow clients: a trickling upload, a stalled and a trickling download live; a silent upload is answered 408 and closed", async () => {
  await withFront({}, async ({ connect, vault }) => {
    const bytes = MORE_THAN_SOCKETS;
    vault.put("big", "", { virtualBytes: bytes });
    const uploader = await connect();
    const perTick = 1024;
    const ticks = LONGER_THAN_TIMER_MS / TICK_MS;
    uploader.send(`PUT /slow HTTP/1.1\r\nHost: x\r\nContent-Length: ${perTick * ticks}\r\n\r\n`);
    const silent = await connect();
    silent.send("PUT /silent HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx");
    const stalled = await connect();
    stalled.stallsAtFirst();
    stalled.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => stalled.received.length > 0, "the download began");
    for (let tick = 0; tick < ticks; tick++) {
      uploader.send(Buffer.alloc(perTick));
      await sleep(TICK_MS);
    }
    await uploader.sees("201 Created");
    assert.equal(vault.values.get("slow")?.bytes.length, perTick * ticks);
    assert.match(
      silent.text,
      /^HTTP\/1\.1 408 Request Timeout\r\n[\s\S]*after 1 bytes of the 1000 announced/,
    );
    await silent.isClosed();
    assert.equal(vault.readersOpen, 1, "the stalled download is still open");
    stalled.socket.resume();
    await until(
      () => stalled.received.length > bytes,
      "the rest arrives",
      () => `${stalled.received.length}`,
    );
    assert.equal(vault.readersOpen, 0);
  });
});

test("slow disk: an upload that is complete is answered, however long the vault takes", async () => {
  await withFront({}, async ({ connect, vault }) => {
    const bytes = 3 * 1024 * 1024;
    const uploader = await connect();
    uploader.send(`PUT /whole HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes}\r\n\r\n`);
    vault.held = true;
    uploader.send(Buffer.alloc(bytes));
    await sleep(LONGER_THAN_TIMER_MS);
    assert.equal(uploader.closed, false, "the connection is kept");
    vault.release();
    await uploader.sees("201 Created");
    assert.equal(vault.values.get("whole")?.bytes.length, bytes);
  });
});

test("slow disk: a client that was paused in the middle of its upload is not taken for a silent one", async () => {
  await withFront({}, async ({ connect, vault }) => {
    const bytes = 24 * 1024 * 1024;
    const uploader = await connect();
    vault.held = true;
    uploader.send(`PUT /ahead HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes}\r\n\r\n`);
    // More than the vault takes, and more than uWS reads in one turn: it is paused with much of it in the socket.
    uploader.send(Buffer.alloc(bytes));
    await sleep(LONGER_THAN_TIMER_MS);
    assert.equal(uploader.closed, false, "the connection is kept");
    vault.release();
    await uploader.sees("201 Created");
    assert.equal(vault.values.get("ahead")?.bytes.length, bytes);
  });
});
