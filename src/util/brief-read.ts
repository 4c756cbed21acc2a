/**
 * Reading files of keys, tokens and certificates, whatever stands in their place: nothing there may hold up a
 * start for ever, or take its memory. A pipe (`<(command)`, /dev/stdin) is read up to its end, if one comes.
 */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from "node:fs";

/** Larger than files of keys, tokens and certificates are. */
const FILE_BYTES_MAX = 16 * 1024 * 1024;
const PIECE_BYTES = 64 * 1024;
/** How long a pipe may have nobody who writes to it: who makes one opens it about when we do. */
const PIPE_UNOPENED_MS_MAX = 2000;
/** How long who writes to it may take for the next bytes: it may ask a person, or another machine. */
const PIPE_SILENT_MS_MAX = 30_000;
const PIPE_LOOK_MS = 10;

/**
 * Opens a file, without waiting for whom a pipe may want.
 * @throws Error of the system, or that says that there can be nothing to read
 */
export function openBriefly(file: string): number {
  // Opening one says "no such device".
  if (statSync(file).isSocket()) throw new Error("it is a socket, and not a file");
  return openSync(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
}

/**
 * What a file of a key, tokens or a certificate holds.
 * @throws Error of the system, or that says what it is instead of such a file
 */
export function readBriefly(file: string): Buffer {
  const fd = openBriefly(file);
  try {
    return readOpened(fd);
  } finally {
    closeSync(fd);
  }
}

/** The same for a file that `openBriefly` has opened. */
export function readOpened(fd: number): Buffer {
  const kind = kindOf(fstatSync(fd));
  if (kind !== "file" && kind !== "pipe") throw new Error(`it is a ${kind}, and not a file`);
  const pieces: Buffer[] = [];
  const readNext = kind === "pipe" ? pipeReader(fd) : (piece: Buffer) => readSync(fd, piece);
  for (let bytes = 0; bytes <= FILE_BYTES_MAX; bytes += pieces[pieces.length - 1].length) {
    const piece = Buffer.allocUnsafe(PIECE_BYTES);
    const read = readNext(piece);
    if (read === 0) return Buffer.concat(pieces);
    pieces.push(piece.subarray(0, read));
  }
  throw new Error(`it is larger than ${FILE_BYTES_MAX / 2 ** 20} MiB`);
}

function kindOf(stats: Stats): "file" | "folder" | "pipe" | "device" {
  if (stats.isFile()) return "file";
  if (stats.isDirectory()) return "folder";
  return stats.isFIFO() ? "pipe" : "device";
}

/** Reads a pipe on, waiting for its bytes so long; 0: its end. */
function pipeReader(fd: number): (piece: Buffer) => number {
  let hasBegun = false;
  return (piece) => {
    const sinceMs = performance.now();
    for (;;) {
      const read = readIfAny(fd, piece);
      const isWritten = read === null;
      if (read !== null && (read > 0 || hasBegun)) {
        hasBegun = true;
        return read;
      }
      const waitedMs = performance.now() - sinceMs;
      if (isWritten && waitedMs >= PIPE_SILENT_MS_MAX)
        throw new Error(
          `it is a pipe, and who writes to it has sent nothing more for ${PIPE_SILENT_MS_MAX / 1000} seconds`,
        );
      if (!isWritten && waitedMs >= PIPE_UNOPENED_MS_MAX)
        throw new Error("it is a pipe to which nobody writes, and not a file");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PIPE_LOOK_MS);
    }
  };
}

/** Bytes read; 0: nobody writes to it (yet, or any more). Null: somebody does, and has sent nothing. */
function readIfAny(fd: number, piece: Buffer): number | null {
  try {
    return readSync(fd, piece);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return null;
    throw error;
  }
}

/**
 * What a file holds that is read more than once, such as one that the server reads for itself as well: it has
 * to be one.
 * @throws Error of the system, or with a sentence
 */
export function readAgain(file: string): Buffer {
  const kind = kindOf(statSync(file));
  if (kind !== "file") throw new Error(`${file} is a ${kind}, and not a file`);
  return readBriefly(file);
}

/**
 * Makes sure that reading a file holds nobody up who is being served: a pipe that nobody writes to has no
 * end, nor has a device. What cannot be looked at is left to the reader.
 * @throws Error with a sentence for a person
 */
export function assertBriefRead(file: string): void {
  let stats: Stats;
  try {
    stats = statSync(file);
  } catch {
    return;
  }
  if (stats.isDirectory()) throw new Error(`${file} is a directory, not a file`);
  if (!stats.isFile())
    throw new Error(`${file} is a pipe or a device, which is read at the start and never again`);
  if (stats.size > FILE_BYTES_MAX)
    throw new Error(`${file} is larger than ${FILE_BYTES_MAX / 2 ** 20} MiB, so it is not read`);
}
