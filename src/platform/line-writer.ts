/**
 * Lines for standard error, whatever that is: a file on a disk that may be full, a terminal that somebody has
 * stopped with Ctrl-S, a pipe whose reader is slow, stands still or is gone. What cannot be written is lost
 * and counted; it never ends the process, and never holds it up for longer than PATIENCE_MS each time that a
 * reader begins to stand still.
 */
import { constants, fstatSync, openSync, writeSync } from "node:fs";

const STANDARD_ERROR = 2;
/** How long a reader that takes nothing is waited for, and how often it is asked. */
const PATIENCE_MS = 100;
const ASK_MS = 5;

/**
 * A descriptor for standard error that never makes a writer wait. Pipes and terminals are opened once more
 * for that: to change how the one that we were given behaves would change it for all who share it, such as
 * the shell.
 */
export function openStandardError(): number {
  try {
    const status = fstatSync(STANDARD_ERROR);
    if (!status.isFIFO() && !status.isCharacterDevice()) return STANDARD_ERROR;
    return openSync(
      `/proc/self/fd/${STANDARD_ERROR}`,
      constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY,
    );
  } catch {
    return STANDARD_ERROR; // no /proc, or somebody else's terminal
  }
}

/**
 * Answers a function that writes a line, which ends in a line feed.
 * @param lost the line that says how many are missing, for where they are
 * @param write as `writeSync`: answers the bytes taken, or throws a system error
 */
export function createLineWriter(
  fd: number,
  lost: (lines: number) => string,
  write: (fd: number, bytes: Uint8Array, offset: number) => number = writeSync,
): (line: string) => void {
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  let missing = 0;
  let torn = false;
  let stuck = false;
  return (line) => {
    const note = missing === 0 ? "" : lost(missing);
    const bytes = Buffer.from(`${torn ? "\n" : ""}${note}${line}`);
    let tries = stuck ? 0 : PATIENCE_MS / ASK_MS;
    let written = 0;
    while (written < bytes.length) {
      try {
        written += write(fd, bytes, written);
        stuck = false;
      } catch (error) {
        const isFull = (error as NodeJS.ErrnoException).code === "EAGAIN";
        if (isFull && tries-- > 0) {
          Atomics.wait(sleeper, 0, 0, ASK_MS);
          continue;
        }
        stuck = isFull;
        missing++;
        // The next line must not be taken for the rest of this one.
        if (written > 0) torn = true;
        return;
      }
    }
    missing = 0;
    torn = false;
  };
}
