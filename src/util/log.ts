/**
 * Logs on standard error: pino's JSON lines, or one readable line each where that is a terminal. Written synchronously,
 * because the last line before an exit is the one that matters; so nothing is logged for each request.
 */
import { writeSync } from "node:fs";
import pino, { type Logger } from "pino";

export type { Logger };

/** Least to most urgent. */
export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;

const STDERR = 2;
/** Tries to write to a pipe that is full, MS apart: a reader that is slow gets its lines, a dead one cannot stop us. */
const FULL_PIPE_TRIES = 20;
const FULL_PIPE_WAIT_MS = 5;

/** What no terminal may get from a client's bytes: control characters and what reorders text. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/**
 * A logger.
 * @param level one of LOG_LEVELS; anything else counts as info
 * @param terminal write for a person rather than JSON
 * @param write where a line goes; the default is standard error
 */
export function createLog(
  level: string | undefined,
  terminal: boolean,
  write: (line: string) => void = writeStderr,
): Logger {
  return pino(
    {
      level: LOG_LEVELS.some((known) => known === level) ? (level as string) : "info",
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line: string) => write(terminal ? readable(line) : line) },
  );
}

/** `time LEVEL message name=value …` from a pino line; a stack follows on lines of its own. */
function readable(line: string): string {
  const { level, time, msg = "", stack, err, ...fields } = JSON.parse(line);
  const rest = Object.entries(fields).map(([name, value]) => ` ${name}=${shown(value)}`);
  const text = `${time} ${level.toUpperCase().padEnd(5)} ${msg}${rest.join("")}`;
  const trace = stack ?? err?.stack;
  const lines = typeof trace === "string" ? trace.split("\n") : [];
  return `${[text, ...lines.map((each) => `    ${each.trim()}`)].map(safe).join("\n")}\n`;
}

function shown(value: unknown): string {
  return typeof value === "string" && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}

function safe(line: string): string {
  return line.replace(UNSAFE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function writeStderr(line: string): void {
  const bytes = Buffer.from(line);
  let written = 0;
  for (let tries = 0; written < bytes.length && tries < FULL_PIPE_TRIES; ) {
    try {
      written += writeSync(STDERR, bytes, written);
    } catch (error) {
      // A closed or broken standard error must not take the store down: the line is lost.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return;
      tries++;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, FULL_PIPE_WAIT_MS);
    }
  }
}
