/**
 * The program's entry: decides what this thread is, reads the command line, and starts a node or runs a
 * command.
 */
import { Writable } from "node:stream";
import { isMainThread } from "node:worker_threads";
import { platformProblem } from "./platform/build-info.ts";
import { unreadableWord } from "./platform/command-line.ts";
import { reasonOf, sentenceOf } from "./platform/system-error.ts";

/**
 * What is printed cannot be: the reader of a pipe, such as head, has seen enough, or there is no room for it.
 */
function outputFailed(error: NodeJS.ErrnoException): void {
  if (error.code === "EPIPE") process.exit(process.exitCode ?? 0);
  process.stderr.write(`minivault: standard output: ${reasonOf(error)}\n`);
  process.exit(1);
}

/** Ctrl-D is an empty line. */
async function askAtTerminal(question: string): Promise<string> {
  const { createInterface } = require("node:readline") as typeof import("node:readline");
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  return new Promise((resolve) => {
    lines.once("close", () => resolve(""));
    lines.question(question, (line) => {
      resolve(line);
      lines.close();
    });
  });
}

async function main(): Promise<void> {
  // Else it opens Node.js' debugger, to whoever reaches this machine's loopback address.
  process.on("SIGUSR1", () => {});
  process.stdout.on("error", outputFailed);
  process.stderr.on("error", () => {});
  const unreadable = unreadableWord(process.argv.slice(2), process.env);
  if (unreadable !== null) {
    process.stderr.write(`minivault: ${unreadable}\n`);
    process.exitCode = 2;
    return;
  }
  const { findSubcommand, runSubcommand } =
    require("./cli/commands.ts") as typeof import("./cli/commands.ts");
  const subcommand = findSubcommand(process.argv[2]);
  if (subcommand !== null) {
    // Where its output goes to a file or a pipe, nohup is meant to keep a long one alive, and Node.js has
    // made it listen to SIGHUP again.
    if (process.stdout.isTTY !== true) process.on("SIGHUP", () => {});
    process.exitCode = await runSubcommand(subcommand, process.argv.slice(3), {
      env: process.env,
      out: (text) => process.stdout.write(text),
      stdout: () => {
        // Of a list the reader may have seen enough; a value or an archive that was cut is no success.
        process.exitCode = 1;
        // Standard output stays open for what follows.
        return new Writable({ write: (piece, _encoding, done) => process.stdout.write(piece, done) });
      },
      stdin: () => process.stdin,
      err: (text) => process.stderr.write(text),
      isTerminal: process.stderr.isTTY === true,
      ...(process.stdin.isTTY === true ? { ask: askAtTerminal } : {}),
    });
    return;
  }
  const { parseArguments } = require("./cli/arguments.ts") as typeof import("./cli/arguments.ts");
  const parsed = parseArguments(process.argv.slice(2), process.env);
  if (parsed.kind === "print") {
    (parsed.status === 0 ? process.stdout : process.stderr).write(`${parsed.text.trimEnd()}\n`);
    process.exitCode = parsed.status;
    return;
  }
  const { config } = parsed;
  const { createLog } = require("./platform/log.ts") as typeof import("./platform/log.ts");
  const log = createLog(process.env.MINIVAULT_LOG, process.stderr.isTTY === true);
  for (const warning of config.warnings) log.warn(warning);
  const { followProcess } = require("./app/process.ts") as typeof import("./app/process.ts");
  const { fatal, started } = followProcess(log);
  // Whatever a node makes is its user's alone, also where a package makes it.
  process.umask(0o077);
  try {
    // Its threads ask for it, and could not say so.
    process.cwd();
    const { startMaster } = require("./master/master.ts") as typeof import("./master/master.ts");
    const { startWorker } = require("./app/worker.ts") as typeof import("./app/worker.ts");
    if (config.mode === "worker") started(await startWorker(config, log, fatal));
    else {
      const { FileReload } = require("./app/reload.ts") as typeof import("./app/reload.ts");
      const master = await startMaster(config, log);
      const reload = new FileReload(config, master, log);
      started({ stop: () => master.stop(), reload: () => reload.all() });
    }
  } catch (error) {
    log.fatal(sentenceOf(error as Error));
    process.exit(1);
  }
}

if (!isMainThread) {
  // The one that runs the bundle itself (shards/thread/spawn.ts); it runs when it is imported.
  require("./app/front-thread.ts");
} else {
  const problem = platformProblem();
  if (problem === null)
    main().catch((error: Error) => {
      process.stderr.write(`minivault: ${sentenceOf(error)}\n`);
      process.exitCode = 1;
    });
  else {
    process.stderr.write(`${problem}\n`);
    process.exitCode = 2;
  }
}
