/**
 * Logs: pino's JSON lines on standard error, or one readable line each where standard error is a terminal. MINIVAULT_LOG sets the level.
 * Written synchronously: the last line before an exit is the one that matters.
 */
import { writeSync } from "node:fs";
import pino, { type Logger } from "pino";

export type { Logger };

const LEVELS = ["debug", "info", "warn", "error", "silent"];
const STDERR = 2;

/** `time LEVEL message key=value …` from a pino line. */
function readable(line: string): string {
  const { level, time, msg, pid: _pid, hostname: _hostname, ...fields } = JSON.parse(line);
  const rest = Object.entries(fields).map(
    ([name, value]) => ` ${name}=${typeof value === "string" ? value : JSON.stringify(value)}`,
  );
  return `${time} ${String(level).toUpperCase().padEnd(5)} ${msg}${rest.join("")}\n`;
}

/** A logger for the process. An unknown level counts as info. */
export function createLog(level: string | undefined, terminal: boolean): Logger {
  const destination = {
    write(line: string): void {
      try {
        writeSync(STDERR, terminal ? readable(line) : line);
      } catch {
        // A closed or full standard error must not take the store down.
      }
    },
  };
  return pino(
    {
      level: LEVELS.includes(level ?? "") ? (level as string) : "info",
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
}
