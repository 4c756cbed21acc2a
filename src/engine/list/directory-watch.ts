/**
 * Whether the files of a shard that runs are still where they were: somebody may remove or rename the
 * directory, or mount another one over it, and every call on the files that are open goes on to succeed. What
 * is written then is gone with the process.
 */
import fs from "node:fs";
import path from "node:path";
import { listSlabs, slabName } from "../slabs/files.ts";

/** What is said of it, to whoever asks. The log also says what is gone. */
export const DIRECTORY_GONE =
  "the data directory is gone: it, or the file in it that is written, was removed, renamed or covered by another one, or cannot be reached; writes are stopped, reads go on as far as they can; put it back, or restore it from a copy, and restart";

/** How often it is looked. */
export const WATCH_MS = 200;

export class DirectoryWatch {
  private readonly directory: string;
  private readonly identity: string;
  /** Time of change of the directory when its slabs were last looked for. */
  private changed: bigint;
  private openFile = "";
  private openIdentity = "";

  constructor(directory: string) {
    this.directory = directory;
    const stat = fs.statSync(directory, { bigint: true });
    this.identity = identityOf(stat);
    this.changed = -1n;
  }

  /**
   * Looks at the directory and at the open slab in it.
   * @param sequence of the open slab
   * @returns what is gone, for a person; null: nothing
   */
  look(sequence: number): string | null {
    const file = path.join(this.directory, slabName(sequence));
    try {
      if (identityOf(fs.statSync(this.directory, { bigint: true })) !== this.identity)
        return `there is another directory in the place of ${this.directory}`;
      const open = identityOf(fs.statSync(file, { bigint: true }));
      if (file !== this.openFile) {
        this.openFile = file;
        this.openIdentity = open;
      }
      return open === this.openIdentity ? null : `there is another file in the place of ${file}`;
    } catch (error) {
      const { code, path: gone = this.directory, message } = error as NodeJS.ErrnoException;
      return code === "ENOENT" || code === "ENOTDIR" ? `${gone} is gone` : message;
    }
  }

  /** Sequences of the slabs that are there, if the directory has changed since the last call; else null. */
  slabs(): Set<number> | null {
    try {
      const { mtimeNs } = fs.statSync(this.directory, { bigint: true });
      if (mtimeNs === this.changed) return null;
      this.changed = mtimeNs;
      return new Set(listSlabs(this.directory));
    } catch {
      // `look` says why.
      return null;
    }
  }
}

function identityOf({ dev, ino }: fs.BigIntStats): string {
  return `${dev}:${ino}`;
}
