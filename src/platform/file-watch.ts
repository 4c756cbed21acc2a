/**
 * Files that somebody may change while a node runs. They are looked at by their names a few times a second:
 * that notices a file that is written over, one that another is renamed to, and a link that points elsewhere
 * (as Kubernetes changes its secrets), on any file system, which notifications of the system do not.
 */
import { readFileSync, type Stats, unwatchFile, watchFile } from "node:fs";
import { assertBriefRead } from "../util/brief-read.ts";

const LOOK_MS = 300;
/** A file that is being written over is read only when two looks in a row find the same. */
const SETTLE_MS = 100;
/** A file that does not come to rest is then read as it is. */
const SETTLE_TRIES_MAX = 20;

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
