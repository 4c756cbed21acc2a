/** Lists over a cluster of real processes: whole at every node, with one down, while it comes back; refused without a majority. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Random, randomSeed } from "../random.ts";
import { call, closeConnections } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { patiently } from "./patience.ts";
import { type Cluster, startCluster } from "./workers.ts";

interface Page {
  keys: { key: string; etag: string; bytes: number; base64?: string }[];
  prefixes: string[];
  cursor: string | null;
}

async function put(port: number, key: string, body = "v"): Promise<void> {
  const reply = await patiently(port, "PUT", `/_kv/${encodeURIComponent(key)}`, body);
  assert.ok(reply.status === 200 || reply.status === 201, reply.text);
}

async function list(port: number, prefix: string, query: string): Promise<[string[], string[]]> {
  const keys: string[] = [];
  const prefixes: string[] = [];
  let cursor: string | null = "";
  for (let pages = 0; cursor !== null; pages++) {
    assert.ok(pages < 2000, "pages without end");
    const more: string = cursor === "" ? "" : `&cursor=${cursor}`;
    const path = `/_kv/${encodeURIComponent(prefix)}?list${query}${more}`;
    const reply = await patiently(port, "GET", path);
    assert.equal(reply.status, 200, reply.text);
    const page = reply.json() as Page;
    keys.push(...page.keys.map(({ key }) => key));
    prefixes.push(...page.prefixes);
    cursor = page.cursor;
  }
  return [keys, prefixes];
}

function sorted(keys: Iterable<string>): string[] {
  return [...keys]
    .map((key) => Buffer.from(key))
    .sort(Buffer.compare)
    .map(String);
}

async function withCluster(workers: number, body: (cluster: Cluster) => Promise<void>): Promise<void> {
  const cluster = await startCluster({ workers });
  try {
    await cluster.ready();
    await body(cluster);
  } finally {
    closeConnections();
    await cluster.dispose();
  }
}

test("cluster lists: every node tells the same, with one down, and when it is back", async (t) => {
  const random = new Random(randomSeed(t));
  await withCluster(4, async (cluster) => {
    const { workers } = cluster;
    const model = new Set<string>();
    const some = () => workers.filter(({ isRunning }) => isRunning);
    const anyPort = () => some()[random.below(some().length)].port;
    const write = async (): Promise<void> => {
      const key = `k/${random.below(8)}/${random.below(40)}`;
      if (random.below(4) === 0) {
        const reply = await patiently(anyPort(), "DELETE", `/${key}`);
        assert.equal(reply.status, 200, reply.text);
        model.delete(key);
      } else {
        await put(anyPort(), key);
        model.add(key);
      }
    };
    const check = async (): Promise<void> => {
      const wanted = sorted(model);
      const folders = sorted(new Set(wanted.map((key) => key.slice(0, 4))));
      for (const { port } of some()) {
        const limit = 1 + random.below(60);
        assert.deepEqual((await list(port, "", `&limit=${limit}`))[0], wanted);
        assert.deepEqual((await list(port, "k", `&limit=${limit}&reverse`))[0], [...wanted].reverse());
        assert.deepEqual(await list(port, "k/", `&delimiter=/&limit=3`), [[], folders]);
        assert.deepEqual(await list(port, "k/", `&delimiter=/&limit=3&reverse`), [
          [],
          [...folders].reverse(),
        ]);
        const count = await patiently(port, "GET", "/?list&count");
        assert.deepEqual(count.json(), { success: true, count: wanted.length, cursor: null });
      }
    };
    for (let i = 0; i < 120; i++) await write();
    await check();
    await workers[1].kill();
    for (let i = 0; i < 60; i++) await write();
    await check();
    await workers[1].start();
    for (let i = 0; i < 20; i++) await write();
    await check();
    const streamed = await call(workers[0].port, "GET", "/?list", {
      headers: { Accept: "application/x-ndjson" },
    });
    const lines = streamed.text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line)]));
    assert.deepEqual(lines.at(-1), { success: true, count: model.size, complete: true });
    assert.deepEqual(
      lines.slice(0, -1).map(({ key }) => key),
      sorted(model),
    );
    const valued = await call(workers[0].port, "GET", "/?list&values&limit=5");
    for (const { base64 } of (valued.json() as Page).keys) assert.equal(base64, "dg==");
    const gone = await patiently(workers[2].port, "POST", "/_delete?prefix=k/1");
    assert.match(gone.text, /"complete":true/);
    for (const key of [...model]) if (key.startsWith("k/1")) model.delete(key);
    await check();
  });
});

test("cluster lists: without a majority of every partition there is none, and with consistency=one there is", async () => {
  await withCluster(3, async ({ workers }) => {
    for (let i = 0; i < 30; i++) await put(workers[0].port, `k/${i}`);
    await workers[1].kill();
    await workers[2].kill();
    // Never a shorter list; on a busy machine the node may have another reason at first.
    await waitUntil("it says that there is no majority", async () => {
      const reply = await call(workers[0].port, "GET", "/?list", { agent: false });
      assert.equal(reply.status, 503, reply.text);
      return reply.json().code === "no_quorum";
    });
    const one = await patiently(workers[0].port, "GET", "/?list&consistency=one");
    assert.equal(one.status, 200, one.text);
    // A majority had each: this one is in it, or may have missed some.
    assert.ok((one.json() as Page).keys.length <= 30);
  });
});
