/** Lists over a prefix whose keys are nearly all deleted: each page says how far it came, and the list ends. */
import assert from "node:assert/strict";
import { call, inParallel } from "./client.ts";
import type { Server } from "./server.ts";

const BATCH = 5000;

export interface TombstoneResult {
  pages: number;
  p50: number;
  max: number;
}

/** Stores so many keys below "t/", deletes them all but the last, and lists. Times in milliseconds. */
export async function listTombstones({ port }: Server, keys: number): Promise<TombstoneResult> {
  const name = (i: number): string => `t/${String(i).padStart(8, "0")}`;
  await inParallel(Math.ceil(keys / BATCH), 4, async (batch) => {
    const count = Math.min(BATCH, keys - batch * BATCH);
    const body = Array.from(
      { length: count },
      (_, i) => `{"op":"put","key":"${name(batch * BATCH + i)}","value":1}\n`,
    ).join("");
    const headers = { "Content-Type": "application/x-ndjson" };
    const reply = await call(port, "POST", "/_batch", { headers, body });
    assert.equal(reply.status, 200, reply.text);
  });
  const last = name(keys - 1);
  for (let complete = false; !complete; ) {
    const gone = await call(port, "POST", `/_delete?prefix=t/&end=${last}`);
    complete = gone.text.includes('"complete":true');
  }
  const times: number[] = [];
  const found: string[] = [];
  let before = "";
  for (let cursor: string | null = ""; cursor !== null; ) {
    const begun = performance.now();
    const reply = await call(port, "GET", `/t/?list&limit=1${cursor === "" ? "" : `&cursor=${cursor}`}`);
    times.push(performance.now() - begun);
    assert.equal(reply.status, 200, reply.text);
    const page = reply.json();
    found.push(...page.keys.map(({ key }: { key: string }) => key));
    ({ cursor } = page);
    // The place in a cursor, behind version and checksum: each page comes further.
    const place = cursor === null ? "\uffff" : Buffer.from(cursor, "base64url").toString("utf8", 5);
    assert.ok(place > before, `${place} is not behind ${before}`);
    before = place;
  }
  assert.deepEqual(found, [last]);
  times.sort((a, b) => a - b);
  return { pages: times.length, p50: times[times.length >>> 1], max: times[times.length - 1] };
}
