/** Completion, by the shells themselves where they are installed. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { SUBCOMMANDS } from "../../src/cli/commands.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";
import { runCommand } from "./terminal.ts";

const isThere = (shell: string) => spawnSync(shell, ["-c", "true"]).status === 0;

test("completion: bash completes commands, and the flags of a command", async () => {
  const { out } = await runCommand(["completion", "bash"]);
  const complete = (...words: string[]): string[] => {
    const script = `${out}
COMP_WORDS=(minivault "$@"); COMP_CWORD=$#; _minivault; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync("bash", ["-c", script, "bash", ...words], { encoding: "utf8" });
    assert.equal(stderr, "");
    return stdout.split("\n").filter((line) => line !== "");
  };
  assert.deepEqual(complete("ver"), ["verify"]);
  assert.deepEqual(complete("-publ"), ["-public-url"]);
  assert.deepEqual(complete("put", "-if"), ["-if-match", "-if-none-match"]);
  assert.deepEqual(complete("put", "k"), []);
  assert.deepEqual(complete("-data", "-regio"), ["-region"]);
  for (const { name } of SUBCOMMANDS) assert.ok(complete(name.slice(0, -1)).includes(name), name);
});

for (const shell of ["zsh", "fish"])
  test(`completion: ${shell} takes its script`, {
    skip: !isThere(shell) && `${shell} is not installed`,
  }, async () => {
    const { out } = await runCommand(["completion", shell]);
    const folder = temporaryFolder();
    const file = path.join(folder, "script");
    writeFileSync(file, out);
    const { status, stderr } = spawnSync(shell, ["-n", file], { encoding: "utf8" });
    removeFolder(folder);
    assert.deepEqual([status, stderr], [0, ""]);
  });

test("completion: a shell that there is no script for", async () => {
  const { status, err } = await runCommand(["completion", "tcsh"]);
  assert.equal(status, 2);
  assert.match(err, /bash, zsh, fish/);
});
