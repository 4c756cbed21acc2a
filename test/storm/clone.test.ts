/**
 * A clone with nothing installed: `./mkv & ./volume a & ./volume b &` installs and builds once, and all three serve.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import {
  cleanEnvironment,
  healthStatus,
  printedPort,
  REPOSITORY,
  removeFolder,
  temporaryFolder,
  waitUntil,
} from "../rest/server.ts";

/** Not part of a clone. */
const LEFT_OUT = new Set([".git", "node_modules", "dist", "data"]);
const INSTALL_MS_MAX = 300_000;

test("clone: three scripts at once install and build once, and all serve", async (t) => {
  const folder = path.join(temporaryFolder(), "clone");
  t.after(() => removeFolder(path.dirname(folder)));
  for (const name of fs.readdirSync(REPOSITORY))
    if (!LEFT_OUT.has(name))
      fs.cpSync(path.join(REPOSITORY, name), path.join(folder, name), { recursive: true });
  const env = cleanEnvironment({ PORT: "0", MINIVAULT_HOST: "127.0.0.1" });
  const runs = [["./mkv"], ["./volume", "a"], ["./volume", "b"]].map(([script, ...words]) => {
    const child = spawn(script, words, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
    const run = {
      child,
      output: "",
      ended: new Promise<number | null>((resolve) => child.once("close", resolve)),
    };
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (piece) => {
        run.output += piece;
      });
    return run;
  });
  const outputs = () => runs.map((run) => run.output).join("\n");
  try {
    await waitUntil(
      "all three serve",
      async () => {
        for (const { child } of runs) assert.equal(child.exitCode, null, outputs());
        const ports = runs.map((run) => printedPort(run.output.replaceAll(/^minivault: .*$/gm, "")));
        const health = await Promise.all(ports.map((port) => (port === null ? 0 : healthStatus(port))));
        return health.every((status) => status === 200);
      },
      INSTALL_MS_MAX,
    );
    const count = (text: string) => outputs().split(text).length - 1;
    assert.equal(count("installing packages"), 1, outputs());
    assert.equal(count("minivault: building"), 1, outputs());
    assert.equal(count("another start is building already"), 2, outputs());
    for (const { child } of runs) child.kill("SIGTERM");
    assert.deepEqual(await Promise.all(runs.map((run) => run.ended)), [0, 0, 0], outputs());
  } finally {
    for (const { child } of runs) child.kill("SIGKILL");
  }
});
