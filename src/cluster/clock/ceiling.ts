/**
 * The CEILING file of a data directory: no ballot of this node was above it, so that a restart with a clock
 * that was set back goes on above what was given before. Written in the background, every few seconds of
 * writing; for progress only (see ballots.ts), so a damaged file is no error.
 */
import { open, rename } from "node:fs/promises";
import path from "node:path";
import { reasonOf } from "../../platform/system-error.ts";
import { readBounded } from "../../util/bounded-file.ts";
import { Recurring } from "../../util/recurring.ts";

const NAME = "CEILING";
const BYTES_MAX = 4096;

/** Milliseconds since 1970; 0: none. */
export function readCeiling(directory: string): number {
  try {
    const millis = Number(readBounded(path.join(directory, NAME), BYTES_MAX).toString().trim());
    return Number.isSafeInteger(millis) && millis > 0 ? millis : 0;
  } catch {
    return 0;
  }
}

/** Answers a function that persists a ceiling later; only the newest of those that wait is written. */
export function createCeilingWriter(
  directory: string,
  warn: (message: string) => void,
): (millis: number) => void {
  const file = path.join(directory, NAME);
  let wanted = 0;
  let writing = false;
  const trouble = new Recurring((reason) => warn(`${file} could not be written: ${reason}`));
  const write = async (): Promise<void> => {
    writing = true;
    try {
      while (wanted > 0) {
        const millis = wanted;
        wanted = 0;
        const handle = await open(`${file}.new`, "w", 0o600);
        try {
          await handle.writeFile(`${millis}\n`);
          await handle.datasync();
        } finally {
          await handle.close();
        }
        await rename(`${file}.new`, file);
        trouble.passed();
      }
    } catch (error) {
      trouble.failed(reasonOf(error));
    }
    writing = false;
  };
  return (millis) => {
    wanted = Math.max(wanted, millis);
    if (!writing) void write();
  };
}
