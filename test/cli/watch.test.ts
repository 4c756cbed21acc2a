/** `minivault watch` as it is shipped: what changes, over a restart of the node, and what it refuses. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { call } from "../rest/client.ts";
import { builtProgram, cleanEnvironment, startServer } from "../rest/server.ts";
import { runCommand } from "./terminal.ts";

/** A command that goes on until it is ended, and its lines. */
class Running {
  readonly child: ChildProcess;
  readonly lines: string[] = [];
  private rest = "";
  private wake: (() => void)[] = [];

  constructor(program: string, words: string[]) {
    this.child = spawn(process.execPath, [program, ...words], { env: cleanEnvironment() });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const lines = (this.rest + text).split("\n");
      this.rest = lines.pop() as string;
      this.lines.push(...lines);
      for (const wake of this.wake.splice(0)) wake();
    });
    this.child.on("exit", () => {
      for (const wake of this.wake.splice(0)) wake();
    });
  }

  async until(holds: (lines: string[]) => boolean): Promise<void> {
    while (!holds(this.lines)) {
      assert.equal(this.child.exitCode, null, "it has ended");
      await new Promise<void>((resolve) => this.wake.push(resolve));
    }
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill();
    await ended;
  }
}

test("watch: what changes below a prefix, a line each, also over a restart of the node", async () => {
  const program = await builtProgram();
  const port = await freePort();
  const server = await startServer({ flags: ["-port", String(port)] });
  const put = (key: string) =>
    call(server.port, "PUT", `/${key}`, {
      agent: false,
      body: '{"value":"x"}',
      headers: { "Content-Type": "application/json" },
    });
  const url = ["-url", `http://127.0.0.1:${port}`];
  await put("jobs/0");
  const running = new Running(program, ["watch", "jobs/", "-json", "-initial", "-values", ...url]);
  try {
    await running.until((lines) => lines.some((line) => line.startsWith('{"event":"live"')));
    const first = JSON.parse(running.lines[0]);
    assert.deepEqual([first.event, first.key, first.value], ["put", "jobs/0", "x"]);
    await put("jobs/1");
    await put("other");
    await call(server.port, "DELETE", "/jobs/0", { agent: false });
    await running.until((lines) => lines.some((line) => line.startsWith('{"event":"delete","key":"jobs/0"')));
    await server.restart();
    await put("jobs/2");
    await running.until((lines) => lines.some((line) => line.includes('"jobs/2"')));
    const keys = running.lines.map((line) => JSON.parse(line)).filter(({ key }) => key !== undefined);
    assert.ok(keys.every(({ key }) => key !== "other"));
    assert.deepEqual(keys.map(({ event, key }) => `${event} ${key}`).slice(0, 3), [
      "put jobs/0",
      "put jobs/1",
      "delete jobs/0",
    ]);
  } finally {
    await running.end();
    await server.dispose();
  }
});

test("watch: what cannot be is said at once", async () => {
  const values = await runCommand(["watch", "-values"]);
  assert.deepEqual([values.status, values.err.includes("-json")], [2, true]);
  const nobody = await runCommand(["watch", "-url", `http://127.0.0.1:${await freePort()}`]);
  assert.deepEqual([nobody.status, /cannot be reached/.test(nobody.err)], [1, true]);
  const server = await startServer();
  try {
    const url = `http://127.0.0.1:${server.port}`;
    const since = await runCommand(["watch", "-url", url, "-since", "x"]);
    assert.deepEqual([since.status, /no place/.test(since.err)], [1, true], since.err);
  } finally {
    await server.dispose();
  }
});
