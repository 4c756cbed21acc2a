/**
 * Logs on standard error: pino's JSON lines, or one readable line each where that is a terminal. Written
 * synchronously, because the last line before an exit is the one that matters; so nothing is logged for each
 * request.
 */
import pino, { type Logger } from "pino";
import { createLineWriter, openStandardError } from "./line-writer.ts";

export type { Logger };

/** Least to most urgent. */
export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;

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
  write?: (line: string) => void,
): Logger {
  const format = (line: string): string => (terminal ? readable(line) : line);
  const out = write ?? createLineWriter(openStandardError(), (lines) => format(lostLines(lines)));
  return pino(
    {
      level: LOG_LEVELS.some((known) => known === level) ? (level as string) : "info",
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line: string) => out(format(line)) },
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

/** What stands in the log where lines are missing. */
function lostLines(lines: number): string {
  const time = new Date().toISOString();
  return `${JSON.stringify({ level: "warn", time, msg: `lines of this log were lost here, because nobody took them: ${lines}` })}\n`;
}
