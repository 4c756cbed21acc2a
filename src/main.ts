/**
 * The program's entry: decides what this thread is, reads the command line, starts a node and stops it on a signal.
 */
import { isMainThread } from "node:worker_threads";
import handle from "./shards/handler.ts";
import { isShardThread } from "./shards/spawn.ts";
import { platformProblem } from "./util/build-info.ts";

// Piscina's worker code, when it runs inside the bundle, asks this module for its task handler.
export default handle;

async function main(): Promise<void> {
  const { findSubcommand, runSubcommand } =
    require("./cli/commands.ts") as typeof import("./cli/commands.ts");
  const subcommand = findSubcommand(process.argv[2]);
  if (subcommand !== null) {
    // The reader of a pipe, such as head, has seen enough.
    process.stdout.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      process.exit(process.exitCode ?? 0);
    });
    process.exitCode = await runSubcommand(subcommand, process.argv.slice(3), {
      env: process.env,
      out: (text) => process.stdout.write(text),
      err: (text) => process.stderr.write(text),
      isTerminal: process.stderr.isTTY === true,
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
  const { createLog } = require("./util/log.ts") as typeof import("./util/log.ts");
  const log = createLog(process.env.MINIVAULT_LOG, process.stderr.isTTY === true);
  for (const warning of config.warnings) log.warn(warning);
  const fatal = (error: Error): void => {
    log.fatal({ stack: error.stack }, `a fatal error, ending: ${error.message}`);
    process.exit(1);
  };
  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", (reason) =>
    fatal(reason instanceof Error ? reason : new Error(String(reason))),
  );
  try {
    const { startMaster } = require("./master/master.ts") as typeof import("./master/master.ts");
    const { startWorker } = require("./worker.ts") as typeof import("./worker.ts");
    const running = await (config.mode === "master"
      ? startMaster(config, log)
      : startWorker(config, log, fatal));
    let stopping = false;
    for (const signal of ["SIGTERM", "SIGINT"] as const)
      process.on(signal, () => {
        if (stopping) return;
        stopping = true;
        log.info(`${signal}: finishing what is in flight`);
        running.stop().then(
          () => {
            log.info("stopped");
            process.exit(0);
          },
          (error) => fatal(error),
        );
      });
  } catch (error) {
    log.fatal((error as Error).message);
    process.exit(1);
  }
}

if (isShardThread()) {
  require("piscina/dist/worker.js");
} else if (!isMainThread) {
  // Runs by itself when it finds that this is its thread.
  require("./front-thread.ts");
} else {
  const problem = platformProblem();
  if (problem === null) void main();
  else {
    process.stderr.write(`${problem}\n`);
    process.exitCode = 2;
  }
}
