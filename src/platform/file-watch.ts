/**
 * Files that somebody may change while a node runs. They are looked at by their names a few times a second:
 * that notices a file that is written over, one that another is renamed to, and a link that points elsewhere
 * (as Kubernetes changes its secrets), on any file system, which notifications of the system do not.
 */
import {
  closeSync,
  openSync,
  readFileSync,
  readSync,
  type Stats,
  statSync,
  unwatchFile,
  watchFile,
} from "node:fs";

const LOOK_MS = 300;
/** A file that is being written over is read only when two looks in a row find the same. */
const SETTLE_MS = 100;
/** A file that does not come to rest is then read as it is. */
const SETTLE_TRIES_MAX = 20;
/** Larger than files of keys, tokens and certificates are. */
const FILE_BYTES_MAX = 16 * 1024 * 1024;
const PIECE_BYTES = 64 * 1024;

/**
 * What a file of a key, tokens or a certificate holds: a pipe up to its end, a device no further than files
 * of those are.
 * @throws Error of the system, or that says that it is too large
 */
export function readBriefly(file: string): Buffer {
  const fd = openSync(file, "r");
  try {
    return readOpened(fd);
  } finally {
    closeSync(fd);
  }
}

/** The same for a file that is open. */
export function readOpened(fd: number): Buffer {
  const pieces: Buffer[] = [];
  for (let bytes = 0; bytes <= FILE_BYTES_MAX; bytes += pieces[pieces.length - 1].length) {
    const piece = Buffer.allocUnsafe(PIECE_BYTES);
    const read = readSync(fd, piece);
    if (read === 0) return Buffer.concat(pieces);
    pieces.push(piece.subarray(0, read));
  }
  throw new Error(`it is larger than ${FILE_BYTES_MAX / 2 ** 20} MiB`);
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

/**
 * Calls `changed` with the name of a file that is not what it was, within a second. Answers what ends it.
 */
export function watchFiles(files: readonly string[], changed: (file: string) => void): () => void {
  const timers = new Map<string, NodeJS.Timeout>();
  const settle = (file: string, before: string | null, tries: number): void => {
    const now = contentOf(file);
    if (now === before || tries === SETTLE_TRIES_MAX) {
      timers.delete(file);
      changed(file);
      return;
    }
    timers.set(file, setTimeout(() => settle(file, now, tries + 1), SETTLE_MS).unref());
  };
  const listeners = files.map((file) => {
    const listener = (now: Stats, before: Stats): void => {
      if (now.nlink === 0 && before.nlink === 0) return;
      clearTimeout(timers.get(file));
      const content = contentOf(file);
      timers.set(file, setTimeout(() => settle(file, content, 1), SETTLE_MS).unref());
    };
    watchFile(file, { interval: LOOK_MS, persistent: false }, listener);
    return { file, listener };
  });
  return () => {
    for (const { file, listener } of listeners) unwatchFile(file, listener);
    for (const timer of timers.values()) clearTimeout(timer);
  };
}

/** null: it cannot be read. */
function contentOf(file: string): string | null {
  try {
    assertBriefRead(file);
    return readFileSync(file, "latin1");
  } catch {
    return null;
  }
}
