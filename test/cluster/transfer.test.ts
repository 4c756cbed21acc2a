/**
 * Export, import and backups of a cluster of real processes: all nodes and one down, values that lie on other
 * nodes, and what the copies of all nodes hold together, brought into a single node and into another cluster.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { runCommand } from "../cli/terminal.ts";
import { closeConnections, content, inParallel } from "../rest/client.ts";
import { removeFolder, runProgram, startServer, temporaryFolder, withServer } from "../rest/server.ts";
import { callPatiently as call } from "./patience.ts";
import { startCluster } from "./workers.ts";

const folder = temporaryFolder();
after(() => {
  closeConnections();
  removeFolder(folder);
});

const KEYS = 120;

function bodyOf(key: number, round: number): Buffer {
  return content(key * 10 + round, key % 40 === 0 ? 2_500_000 : 100 + key);
}

/** Writes all keys, again half of them, and deletes some. */
async function fill(ports: readonly number[]): Promise<Map<string, Buffer>> {
  const model = new Map<string, Buffer>();
  for (const round of [1, 2])
    await inParallel(KEYS, 8, async (key) => {
      if (round === 2 && key % 2 === 0) return;
      const body = bodyOf(key, round);
      const { status, text } = await call(ports[key % ports.length], "PUT", `/k/${key}`, {
        body,
        headers: { "X-Meta-Round": String(round) },
      });
      assert.ok(status === 200 || status === 201, text);
      model.set(`k/${key}`, body);
    });
  for (let key = 0; key < KEYS; key += 7) {
    assert.equal((await call(ports[0], "DELETE", `/k/${key}`)).status, 200);
    model.delete(`k/${key}`);
  }
  return model;
}

async function compare(port: number, model: Map<string, Buffer>): Promise<void> {
  const { count } = (await call(port, "GET", "/k/?list&count")).json();
  assert.equal(count, model.size);
  await inParallel(KEYS, 8, async (key) => {
    const reply = await call(port, "GET", `/k/${key}`);
    const expected = model.get(`k/${key}`);
    assert.equal(reply.status, expected === undefined ? 404 : 200, `k/${key}`);
    if (expected !== undefined) {
      assert.ok(reply.body.equals(expected), `k/${key}`);
      assert.equal(reply.headers["x-meta-round"], key % 2 === 0 ? "1" : "2");
    }
  });
}

test("transfer: a cluster's keys, by HTTP and by copies of its nodes, also with one down; into one node and back", async () => {
  // One more than a key has copies, so that values lie elsewhere.
  const cluster = await startCluster({ workers: 4 });
  try {
    const ports = cluster.workers.map(({ port }) => port);
    const model = await fill(ports);
    const master = ["-master", `http://127.0.0.1:${cluster.masterPort}`];
    const whole = path.join(folder, "whole");
    const made = await runCommand(["backup", ...master, whole]);
    assert.deepEqual([made.status, made.out], [0, `copied 4 of 4 nodes to ${whole}\n`], made.err);
    const manifest = JSON.parse(fs.readFileSync(path.join(whole, "manifest.json"), "utf8"));
    assert.deepEqual([manifest.isEnough, manifest.nodes.length], [true, 4]);
    const again = await runCommand(["backup", ...master, whole]);
    assert.equal(again.status, 1);
    for (const { folder: name } of manifest.nodes) {
      const { status, output } = await runProgram(["verify", path.join(whole, name)]);
      assert.equal(status, 0, output);
    }

    const look = async () => {
      const words = ["top", "-count", "1", "-json", "-url", `http://127.0.0.1:${ports[1]}`];
      const nodes = JSON.parse((await runCommand(words)).out).nodes as { problem: string | null }[];
      return [nodes.length, nodes.filter(({ problem }) => problem === null).length];
    };
    assert.deepEqual(await look(), [4, 4]);
    const [down, ...up] = cluster.workers;
    await down.kill();
    assert.deepEqual(await look(), [4, 3]);
    // What was written before is known to the others; what comes now is theirs alone.
    const changed = content(999, 1000);
    const put = await call(up[0].port, "PUT", "/k/1", { body: changed, headers: { "X-Meta-Round": "2" } });
    assert.equal(put.status, 200, put.text);
    const later = new Map(model).set("k/1", changed);
    const part = path.join(folder, "part");
    const fewer = await runCommand(["backup", ...master, part, "-json"]);
    assert.equal(fewer.status, 0, fewer.err);
    assert.match(fewer.err, /is not in the backup: /);
    assert.equal(JSON.parse(fewer.out).isEnough, true);
    // Wherever the copies are by then.
    fs.renameSync(part, path.join(folder, "moved"));

    const archives: [name: string, words: string[], expected: Map<string, Buffer>][] = [
      ["of all copies", ["export", "-copy", whole], model],
      ["of the copies of three", ["export", "-copy", path.join(folder, "moved")], later],
      ["through a node", ["export", "-url", `http://127.0.0.1:${up[1].port}`], later],
    ];
    for (const [name, words, expected] of archives) {
      const file = path.join(folder, `${name.replaceAll(" ", "-")}.tar`);
      const saved = await runCommand([...words, file]);
      // On a slow machine it says how far it is.
      assert.deepEqual(
        [saved.status, saved.err.replace(/^(?:reading|exporting): .*\n/gm, "")],
        [0, ""],
        name,
      );
      await withServer({}, async ({ port, url }) => {
        const stored = await runCommand(["import", file, "-url", url]);
        assert.deepEqual(
          [stored.status, stored.out],
          [0, `stored ${expected.size} keys, kept 0 as they were, refused 0\n`],
          name,
        );
        await compare(port, expected);
      });
    }

    // What lacks too much never passes as whole, though it gives what it has.
    const lacking = path.join(whole, "manifest.json");
    fs.writeFileSync(lacking, JSON.stringify({ ...manifest, isEnough: false }));
    const less = await runCommand(["export", "-copy", whole, path.join(folder, "less.tar")]);
    assert.deepEqual([less.status, /lacks too many nodes/.test(less.err)], [1, true], less.err);
    assert.match(less.out, /^saved \d+ keys of 4 copies/);
    fs.writeFileSync(lacking, JSON.stringify({ ...manifest, nodes: [{ folder: ".." }] }));
    const elsewhere = await runCommand(["export", "-copy", whole, path.join(folder, "less.tar")]);
    assert.deepEqual([elsewhere.status, /cannot be a folder beside it/.test(elsewhere.err)], [1, true]);

    // Back into the cluster, of which one is down.
    const file = path.join(folder, "of-all-copies.tar");
    const url = `http://127.0.0.1:${up[2].port}`;
    await call(up[0].port, "POST", "/_delete?prefix=k/");
    const back = await runCommand(["import", file, "-url", url, "-mode", "replace"]);
    assert.equal(back.status, 0, back.err);
    await compare(up[0].port, model);
  } finally {
    await cluster.dispose();
  }
});

test("transfer: the copy of one node of a cluster, restored, is a node by itself", async () => {
  const cluster = await startCluster({ workers: 3 });
  try {
    const model = await fill(cluster.workers.map(({ port }) => port));
    const whole = path.join(folder, "three");
    assert.equal(
      (await runCommand(["backup", "-master", `http://127.0.0.1:${cluster.masterPort}`, whole])).status,
      0,
    );
    const { nodes } = JSON.parse(fs.readFileSync(path.join(whole, "manifest.json"), "utf8"));
    const data = path.join(folder, "alone");
    assert.equal((await runCommand(["restore", path.join(whole, nodes[0].folder), data])).status, 0);
    assert.deepEqual(
      fs.readdirSync(data).filter((name) => /CLUSTER|LIVES|BACKUP/.test(name)),
      [],
    );
    const server = await startServer({ data });
    try {
      assert.equal((await call(server.port, "GET", "/health")).json().nodes, 1);
      // A replica of all, which had each decided write, or had missed it.
      const found = await Promise.all(
        [...model.keys()].map(async (key) => (await call(server.port, "GET", `/${key}`)).status),
      );
      assert.ok(found.every((status) => status === 200 || status === 404));
      assert.equal((await call(server.port, "PUT", "/new", { body: "x" })).status, 201);
    } finally {
      await server.dispose();
    }
  } finally {
    await cluster.dispose();
  }
});
