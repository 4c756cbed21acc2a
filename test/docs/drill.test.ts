/** The drill of docs/backups.md, word for word, with a cluster of three: only paths and ports are other ones. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { startCluster } from "../cluster/workers.ts";
import { call, closeConnections, inParallel } from "../rest/client.ts";
import { builtProgram, cleanEnvironment, REPOSITORY, removeFolder, temporaryFolder } from "../rest/server.ts";

const KEYS = 200;
const LONGEST_MS = 300_000;

const folder = temporaryFolder();
after(() => {
  closeConnections();
  removeFolder(folder);
});

/** Runs a script to its end, and ends what it has left in the background. */
function runScript(script: string): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve) => {
    // A group of its own, so that what it has begun can be ended with it.
    const child = spawn("bash", ["-eu", "-c", `${script}\nkill $!`], {
      cwd: folder,
      env: cleanEnvironment({ PATH: `${path.join(folder, "bin")}:${process.env.PATH}` }),
      detached: true,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (piece) => {
        output += piece;
      });
    const timer = setTimeout(() => process.kill(-(child.pid as number), "SIGKILL"), LONGEST_MS);
    child.on("close", (status) => {
      clearTimeout(timer);
      resolve({ status, output });
    });
  });
}

test("docs: the drill, word for word", async () => {
  const text = fs.readFileSync(path.join(REPOSITORY, "docs/backups.md"), "utf8");
  const drill = /^```sh drill\n(.*?)^```$/ms.exec(text)?.[1] as string;
  const program = await builtProgram();
  const command = path.join(folder, "bin/minivault");
  fs.mkdirSync(path.dirname(command));
  fs.writeFileSync(command, `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`, { mode: 0o755 });
  const cluster = await startCluster({ workers: 3 });
  try {
    await inParallel(KEYS, 8, async (key) => {
      const { status } = await call(cluster.workers[key % 3].port, "PUT", `/key/${key}`, {
        body: `value ${key}`,
      });
      assert.equal(status, 201);
    });
    await call(cluster.workers[0].port, "DELETE", "/key/7");
    const port = String(await freePort());
    for (const name of ["backup", "new"]) fs.mkdirSync(path.join(folder, name), { mode: 0o700 });
    const [before, later] = drill.split("# Tuesday");
    const here = (script: string): string =>
      script
        .replaceAll("/backup/", `${folder}/backup/`)
        .replaceAll("/new/", `${folder}/new/`)
        .replaceAll("localhost:3000", `127.0.0.1:${cluster.masterPort}`)
        .replaceAll("3005", port);
    const monday = await runScript(`${here(before)}\nsleep 0 &`);
    assert.equal(monday.status, 0, monday.output);
    assert.match(monday.output, /copied 3 of 3 nodes/);
    assert.equal(monday.output.match(/^sound: /gm)?.length, 3);
    await cluster.dispose();
    const tuesday = await runScript(here(`# Tuesday${later}`));
    assert.equal(tuesday.status, 0, tuesday.output);
    assert.match(tuesday.output, new RegExp(`saved ${KEYS - 1} keys of 3 copies`));
    assert.match(tuesday.output, new RegExp(`stored ${KEYS - 1} keys, kept 0 as they were, refused 0`));
    assert.equal(tuesday.output.match(new RegExp(`^ *${KEYS - 1}$`, "gm"))?.length, 2);
    assert.match(tuesday.output, /created drill /);
  } finally {
    await cluster.dispose();
  }
});
