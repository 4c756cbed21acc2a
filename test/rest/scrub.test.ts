/** The background scrub of a running server: it finds a byte that changed on the disk, says where, and the key then answers 500, although it was read before. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { call, closeConnections, content } from "./client.ts";
import { untilLogged, withServer } from "./server.ts";

/** At 4 MiB/s the scrub needs 3 s and more for so much, so that the last value can be read and damaged before it gets there. */
const VALUES = 12;
const VALUE_BYTES = 1_000_000;
const FOUND_MS_MAX = 60_000;

after(closeConnections);

test("scrub: damage under a running server is found, logged, counted, and answered with 500", (t) =>
  withServer({}, async (server) => {
    const get = (key: string) => call(server.port, "GET", `/${key}`);
    for (let i = 0; i < VALUES; i++)
      assert.equal((await call(server.port, "PUT", `/v${i}`, { body: content(i, VALUE_BYTES) })).status, 201);
    await server.kill("SIGKILL");
    await server.restart();
    const last = `v${VALUES - 1}`;
    assert.equal((await get(last)).status, 200);
    const slab = path.join(server.data, "shard-000", "0000000001.slab");
    const at = fs.readFileSync(slab).indexOf(content(VALUES - 1, VALUE_BYTES).subarray(0, 64));
    assert.ok(at > 0);
    const fd = fs.openSync(slab, "r+");
    fs.writeSync(fd, "damaged", at + 500_000);
    fs.closeSync(fd);
    const startMs = performance.now();
    let stats: { scrubDamaged: number; scrubbedBytes: number };
    do {
      await sleep(200);
      stats = JSON.parse((await get("_stats")).text);
      assert.ok(performance.now() - startMs < FOUND_MS_MAX, "it is not found");
    } while (stats.scrubDamaged === 0);
    t.diagnostic(
      `found after ${Math.round(performance.now() - startMs)} ms and ${stats.scrubbedBytes} bytes`,
    );
    const answer = await get(last);
    assert.equal(answer.status, 500, answer.text);
    assert.match(answer.text, /"code":"corrupt"/);
    assert.equal((await get("v0")).status, 200);
    const line = /0000000001\.slab, byte (\d+): a record is damaged/;
    await untilLogged(server, line);
    const place = line.exec(server.log()) as RegExpExecArray;
    // The record's header and key stand before the value.
    assert.ok(Number(place[1]) < at && Number(place[1]) > at - 200, `${place[0]}, the value begins at ${at}`);
  }));
