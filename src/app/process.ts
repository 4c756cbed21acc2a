/**
 * The process around a node: its signals, and the errors that nobody has caught.
 *
 *   SIGTERM, SIGINT    stop in order, exit 0; a second one, SECOND_MS later or more, does not wait for what is in flight, exit 1
 *   SIGHUP             files are read again; the end of a terminal, which sends it too, ends nothing (nohup is not needed: Node.js forgets that
 *                      a signal was to be ignored, so it would not help)
 *   SIGUSR1, SIGUSR2   ignored, with a line in the log: by themselves the first opens Node.js' debugger, the second ends the process
 *   SIGXFSZ            a file has reached the limit of the shell (ulimit -f): the write fails, which is reported like other failures
 *   SIGPIPE            ignored by Node.js: a write to what nobody reads fails
 *
 * An error that nobody has caught, in any thread, ends the process with one line and status 1: what state it
 * left behind nobody knows, and the next start reads what is on the disk.
 */
import type { Logger } from "../platform/log.ts";
import { sentenceOf } from "../platform/system-error.ts";

/** Something that runs until it is stopped. */
export interface Running {
  /** Finishes what is under way, and syncs. */
  stop(): Promise<void>;
  /**
   * Reads files again that the command line names, and logs which. Never throws: a bad file changes nothing.
   */
  reload(): void;
}

/**
 * One press of Ctrl-C reaches a process twice where a parent such as npm passes it on: only a later one is
 * meant.
 */
const SECOND_MS = 1000;

export interface ProcessWatch {
  /** Ends the process. */
  fatal: (error: Error) => void;
  /** What runs from now on; before, a signal to stop gives the start up. */
  started(running: Running): void;
}

/** Takes the process' signals and errors from now on. */
export function followProcess(log: Logger): ProcessWatch {
  let running: Running | null = null;
  let stoppedAt: number | null = null;
  let isReloadDue = false;

  const fatal = (error: Error): void => {
    log.fatal({ stack: error.stack }, `a fatal error, ending: ${sentenceOf(error)}`);
    process.exit(1);
  };
  const stop = (signal: string): void => {
    if (stoppedAt !== null) {
      if (performance.now() - stoppedAt < SECOND_MS) return;
      log.warn(`${signal} again: ending at once; what was acknowledged is safe`);
      process.exit(1);
    }
    stoppedAt = performance.now();
    if (running === null) {
      log.info(`${signal}: the start is given up`);
      process.exit(0);
    }
    log.info(`${signal}: finishing what is in flight`);
    running.stop().then(() => {
      log.info("stopped");
      process.exit(0);
    }, fatal);
  };

  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", (reason) =>
    fatal(reason instanceof Error ? reason : new Error(String(reason))),
  );
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, stop);
  process.on("SIGHUP", () => {
    if (running === null) isReloadDue = true;
    else if (stoppedAt === null) running.reload();
  });
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const)
    process.on(signal, () => log.info(`${signal} means nothing here; SIGHUP reads files again`));
  process.on("SIGXFSZ", () => {});
  return {
    fatal,
    started(started) {
      running = started;
      if (isReloadDue) running.reload();
    },
  };
}
