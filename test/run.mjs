/**
 * Runs the test files below test/ with Node's own runner (Node 20 has no patterns for it).
 *
 *   node test/run.mjs [--storm] [FILTER...]
 *
 * FILTER: run only the files whose path contains one of these texts. test/storm holds the long tests, which only run
 * with --storm. Each file runs as a program in dist/tests (test/bundle.mjs); those of a run are removed when it ends.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { bundleTests } from "./bundle.mjs";

const TEST_MS_MAX = { normal: 600_000, storm: 4 * 3_600_000 };
/** Test files that run at once: each starts servers and threads of its own. */
const CONCURRENCY = 2;

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.dirname(here);
const storm = process.argv.includes("--storm");
const filters = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));

function isRunning(pid) {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error.code === "EPERM";
  }
}

const all = readdirSync(here, { recursive: true })
  .map((file) => path.join("test", file))
  .filter((file) => file.endsWith(".test.ts"))
  .filter((file) => file.startsWith(path.join("test", "storm") + path.sep) === storm)
  .sort();
const files = all.filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)));

if (files.length === 0) {
  const asked = filters.length > 0;
  console.error(
    asked ? `no test file's path contains ${filters.join(" or ")}` : "there are no tests of this kind yet",
  );
  process.exit(asked ? 1 : 0);
}

// A folder for each run, named by its process: two may run at once, and what a run that was killed has left can go.
const programs = path.join(root, "dist", "tests");
mkdirSync(programs, { recursive: true });
for (const run of readdirSync(programs))
  if (!isRunning(Number(run))) rmSync(path.join(programs, run), { recursive: true, force: true });
const own = path.join(programs, `${process.pid}`);

const { status, signal, error } = spawnSync(
  process.execPath,
  [
    "--enable-source-maps",
    "--test",
    // On a terminal for reading; elsewhere TAP, whose last lines are what failed, and the counts.
    `--test-reporter=${process.stdout.isTTY ? "spec" : path.join(here, "reporter.mjs")}`,
    `--test-concurrency=${storm ? 1 : CONCURRENCY}`,
    `--test-timeout=${storm ? TEST_MS_MAX.storm : TEST_MS_MAX.normal}`,
    ...(await bundleTests(root, files, own)),
  ],
  { cwd: root, stdio: "inherit" },
);
rmSync(own, { recursive: true, force: true });
if (error) console.error(`the test runner did not start: ${error.message}`);
if (signal) console.error(`the test runner was ended by ${signal}`);
process.exit(status ?? 1);
