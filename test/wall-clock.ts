/** A wall clock that a test sets, in a process of its own. */
import { writeFileSync } from "node:fs";
import path from "node:path";

/** Replaces the wall clock of a process, in each of its threads, by one that is off by what a file says. */
const SCRIPT = `
const { readFileSync } = require("node:fs");
const real = Date.now;
let offMs = 0;
let readMs = 0;
Date.now = () => {
  const ms = real();
  if (ms - readMs > 50) {
    readMs = ms;
    try { offMs = Number(readFileSync(process.env.TEST_CLOCK, "utf8")) || 0; } catch {}
  }
  return ms + offMs;
};
`;

/**
 * The environment of a process whose wall clock can be set.
 * @param folder where the script and the file are
 * @param file says how far it is off
 */
export function clockEnvironment(folder: string, file: string): Record<string, string> {
  const script = path.join(folder, "clock.cjs");
  writeFileSync(script, SCRIPT);
  return { NODE_OPTIONS: `--require ${script}`, TEST_CLOCK: file };
}

/** Sets a clock so far ahead, or behind. Its process sees that within a moment. */
export function setClock(file: string, offMs: number): void {
  writeFileSync(file, String(offMs));
}
