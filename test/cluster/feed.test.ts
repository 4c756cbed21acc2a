/** Changes over a cluster of real processes: at every node, with one down, resumed at another node, values, pages, waits. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { closeConnections } from "../rest/client.ts";
import { EventStream, type StreamEvent } from "../rest/event-stream.ts";
import { patiently } from "./patience.ts";
import { startCluster } from "./workers.ts";

const TEXT = { "Content-Type": "text/plain" };

async function put(port: number, key: string, body = "v"): Promise<string> {
  const reply = await patiently(port, "PUT", `/_kv/${encodeURIComponent(key)}`, body, TEXT);
  assert.ok(reply.status === 200 || reply.status === 201, reply.text);
  return String(reply.headers.etag).slice(1, -1);
}

async function watch(port: number, path: string, headers: Record<string, string> = {}): Promise<EventStream> {
  for (let tries = 0; ; tries++) {
    const stream = new EventStream(port, path, headers);
    try {
      await stream.until(({ status, events }) => status === 200 && events.length > 0);
      return stream;
    } catch (error) {
      if (stream.status !== 503 || tries === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

function keyed(events: readonly StreamEvent[]): StreamEvent[] {
  return events.filter(({ event }) => ["put", "delete", "expire"].includes(event));
}

/** What a client has that keeps a copy by the events, and whether versions fell. */
function copyOf(events: readonly StreamEvent[]): Map<string, string> {
  const copy = new Map<string, string>();
  const versions = new Map<string, string>();
  for (const { event, data } of keyed(events)) {
    assert.ok((versions.get(data.key) ?? "") <= data.etag, `${data.key} fell`);
    versions.set(data.key, data.etag);
    if (event === "put") copy.set(data.key, data.etag);
    else copy.delete(data.key);
  }
  return copy;
}

test("feed over a cluster: every node tells what is decided, also with one down, and a place of one is good at another", async () => {
  const cluster = await startCluster({ workers: 3 });
  try {
    const [one, two, three] = cluster.workers;
    const streams = await Promise.all([one, two, three].map(({ port }) => watch(port, "/c/?watch&values")));
    const expected = new Map<string, string>();
    for (let i = 0; i < 30; i++) {
      const key = `c/${i % 20}`;
      expected.set(key, await put([one, two, three][i % 3].port, key, `${i}`));
    }
    for (const key of ["c/3", "c/4"]) {
      assert.equal((await patiently(two.port, "DELETE", `/${key}`)).status, 200);
      expected.delete(key);
    }
    await put(one.port, "elsewhere");
    const same = (events: readonly StreamEvent[]): boolean => {
      const copy = copyOf(events);
      return copy.size === expected.size && [...expected].every(([key, etag]) => copy.get(key) === etag);
    };
    for (const stream of streams) await stream.until(({ events }) => same(events));
    assert.ok(streams.every(({ events }) => keyed(events).every(({ data }) => data.key !== "elsewhere")));
    const valued = keyed(streams[0].events).find(({ event }) => event === "put") as StreamEvent;
    assert.equal(typeof valued.data.base64, "string");
    // Its events' places come at once, or within 100 ms.
    await streams[0].until(({ events }) => events.at(-1)?.event === "progress");
    const place = streams[0].lastId;
    for (const stream of streams) stream.close();

    await three.kill();
    const later = new Map<string, string>();
    for (let i = 0; i < 10; i++) later.set(`c/later-${i}`, await put(one.port, `c/later-${i}`));
    const resumed = await watch(two.port, "/c/?watch", { "Last-Event-ID": place });
    await resumed.until(({ events }) => {
      const copy = copyOf(events);
      return [...later].every(([key, etag]) => copy.get(key) === etag);
    });
    const live = await put(one.port, "c/live");
    await resumed.until(({ events }) => events.some(({ data }) => data.etag === live));
    await three.start();
    const back = await put(one.port, "c/back");
    await resumed.until(({ events }) => events.some(({ data }) => data.etag === back));
    resumed.close();

    const initial = await watch(one.port, "/c/?watch&initial");
    await initial.until(({ events }) => events.some(({ event }) => event === "live"));
    assert.deepEqual(
      [...copyOf(initial.events).keys()].sort(),
      [...expected.keys(), ...later.keys(), "c/live", "c/back"].sort(),
    );
    initial.close();

    const ending = await watch(two.port, "/e/?watch");
    const lease = await patiently(one.port, "PUT", "/e/lease?ttl=300ms", "v", TEXT);
    // Again, when the first was of unknown outcome.
    assert.ok(lease.status === 201 || lease.status === 200, lease.text);
    await ending.until(({ events }) => events.some(({ event }) => event === "expire"));
    assert.deepEqual(
      [...new Set(keyed(ending.events).map(({ event, data }) => `${event} ${data.key}`))],
      ["put e/lease", "expire e/lease"],
    );
    ending.close();

    const page = (await patiently(one.port, "GET", "/p/?changes")).json();
    const waiting = patiently(two.port, "GET", `/p/?changes&wait=60s&since=${page.place}`);
    await put(one.port, "p/1");
    assert.deepEqual(
      (await waiting).json().changes.map(({ event, key }: { event: string; key: string }) => [event, key]),
      [["put", "p/1"]],
    );
    const absent = patiently(two.port, "GET", "/w/1?wait=60s");
    await put(one.port, "w/1", "hello");
    assert.equal((await absent).text, "hello");
    assert.equal((await patiently(two.port, "GET", "/w/2?wait=50ms")).status, 304);
    const foreign = await patiently(
      one.port,
      "GET",
      `/?changes&since=c${Buffer.from('["x",1,{}]').toString("base64url")}`,
    );
    assert.deepEqual([foreign.status, foreign.json().code], [410, "place_too_old"]);
    assert.equal((await patiently(one.port, "GET", "/?changes&since=x")).status, 400);
  } finally {
    closeConnections();
    await cluster.dispose();
  }
});
