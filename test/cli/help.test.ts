/** The help of each command. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SUBCOMMANDS } from "../../src/cli/commands.ts";
import { runCommand } from "./terminal.ts";

test("help: of each command, with all that it takes, in lines that fit", async () => {
  for (const { name, flags, switches, options = {} } of SUBCOMMANDS) {
    const { status, out } = await runCommand([name, "-help"]);
    assert.equal(status, 0);
    for (const flag of [...flags, ...Object.keys(switches), ...Object.keys(options)])
      assert.match(out, new RegExp(`^ {2}-${flag} .*\\S`, "m"), name);
    for (const line of out.split("\n")) assert.ok(line.length <= 100 || line.startsWith("  minivault"), line);
    assert.ok(!/[ \t]\n/.test(out), name);
  }
});

test("help: a command's own flags stand before what it runs", async () => {
  assert.match((await runCommand(["lock", "-help"])).out, /^Usage: minivault lock KEY \[flags\] -- COMMAND/);
});
