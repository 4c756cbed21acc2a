/**
 * Runs the test suite by node's own runner: all of test/ but the storms, or what is named.
 *   node test/run.mjs [--storm] [part of a file's path …]
 */
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const words = process.argv.slice(2);
const storm = words.includes("--storm");
const parts = words.filter((word) => word !== "--storm");
const files = readdirSync(here, { recursive: true })
  .filter((file) => file.endsWith(".test.ts"))
  .filter((file) => file.startsWith(`storm${path.sep}`) === storm)
  .filter((file) => parts.length === 0 || parts.some((part) => file.includes(part)))
  .sort()
  .map((file) => path.join(here, file));
if (files.length === 0) {
  console.error(`no test file matches ${parts.join(" ")}`);
  process.exit(1);
}
const reporter = process.stdout.isTTY ? "spec" : "tap";
// Storms measure and load the machine: one file at a time. Node sets its own default elsewhere.
const options = ["--test", `--test-reporter=${reporter}`, `--test-concurrency=${storm ? 1 : 2}`];
const child = spawn(process.execPath, ["--import", "tsx", ...options, ...files], { cwd: path.dirname(here), stdio: "inherit" });
child.on("exit", (status, signal) => process.exit(signal === null ? (status ?? 1) : 1));
