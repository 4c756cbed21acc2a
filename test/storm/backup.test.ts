/**
 * A cluster of three is copied while 64 connections write; what the copies hold together is imported into one
 * node, into three and into five: all that was acknowledged before is there, nothing from after.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { runCommand } from "../cli/terminal.ts";
import { startCluster } from "../cluster/workers.ts";
import { Load } from "../rest/backup-load.ts";
import { call, closeConnections } from "../rest/client.ts";
import { removeFolder, runProgram, temporaryFolder, withServer } from "../rest/server.ts";

const folder = temporaryFolder();
after(() => {
  closeConnections();
  removeFolder(folder);
});

const LANES = 64;
const COPY = path.join(folder, "copy");
const ARCHIVE = path.join(folder, "all.tar");

/** Copies a cluster; what had been answered before, and what had been sent when it ended. */
async function copyCluster(): Promise<{ before: number[]; after: number[] }> {
  const cluster = await startCluster({ workers: 3 });
  try {
    const load = new Load(
      cluster.workers.map(({ port }) => port),
      LANES,
    );
    await load.until(3);
    const before = [...load.answered];
    const made = await runCommand(["backup", "-master", `http://127.0.0.1:${cluster.masterPort}`, COPY]);
    const after = [...load.sent];
    await load.until(Math.max(...after) + 1);
    await load.stop();
    assert.deepEqual([made.status, made.out], [0, `copied 3 of 3 nodes to ${COPY}\n`], made.err);
    return { before, after };
  } finally {
    await cluster.dispose();
  }
}

test("backup: of a cluster that is written to, imported into one node, three and five", async (t) => {
  const { before, after } = await copyCluster();
  const { nodes } = JSON.parse(fs.readFileSync(path.join(COPY, "manifest.json"), "utf8"));
  for (const { folder: name } of nodes) {
    const sound = await runProgram(["verify", path.join(COPY, name)]);
    assert.equal(sound.status, 0, sound.output);
    const start = await runProgram(["-data", path.join(COPY, name), "-port", "0"]);
    assert.deepEqual([start.status, /nothing starts on one/.test(start.output)], [1, true], start.output);
  }
  const saved = await runCommand(["export", "-copy", COPY, ARCHIVE]);
  assert.deepEqual([saved.status, saved.err], [0, ""]);

  const compare = async (port: number): Promise<void> => {
    const stored = await runCommand(["import", ARCHIVE, "-url", `http://127.0.0.1:${port}`]);
    assert.deepEqual(
      [stored.status, stored.out],
      [0, `stored ${2 * LANES} keys, kept 0 as they were, refused 0\n`],
      stored.err,
    );
    for (let lane = 0; lane < LANES; lane++)
      for (const name of ["first", "second"]) {
        const { status, text } = await call(port, "GET", `/${name}/${lane}`);
        const found = Number(text);
        const sentence = `/${name}/${lane}: ${before[lane]} was acknowledged, ${after[lane]} sent, ${found} found`;
        assert.ok(status === 200 && found >= before[lane] && found <= after[lane], sentence);
      }
  };
  await withServer({}, ({ port }) => compare(port));
  for (const workers of [3, 5]) {
    const cluster = await startCluster({ workers });
    try {
      await compare(cluster.workers[workers - 1].port);
      t.diagnostic(`into ${workers} nodes: all is there`);
    } finally {
      await cluster.dispose();
    }
  }
});
