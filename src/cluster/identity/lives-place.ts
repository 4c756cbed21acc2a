/** Where the lives of others are kept (lives.ts): the file LIVES, or what a master has. */
import { open, rename } from "node:fs/promises";
import path from "node:path";
import { readSealed, sealed, writeSealed } from "../../util/sealed-file.ts";

export const LIVES_NAME = "LIVES";
export const LIVES_FORMAT = "minivault-lives";
export const LIVES_VERSION = 1;

const FILE_PACE_MS = 1000;

/** As it is kept, with its format and version. */
export interface LivesDocument {
  format: string;
  version: number;
}

export interface LivesPlace {
  /** For messages. */
  readonly name: string;
  /** Between two writes of marks while they rise. */
  readonly paceMs: number;
  /** What is kept; null: nothing yet. Throws an Error with a sentence for a person. */
  read(): Record<string, unknown> | null;
  /** Nothing that depends on it is told before it is durable. Throws when it cannot be kept. */
  write(document: LivesDocument): void;
  /**
   * Writes what may as well be lost. Answers false where something newer was written meanwhile, and it is
   * not there.
   */
  writeSoon(document: LivesDocument, isNewest: () => boolean): Promise<boolean>;
}

export class LivesFile implements LivesPlace {
  readonly name: string;
  readonly paceMs = FILE_PACE_MS;

  constructor(directory: string) {
    this.name = path.join(directory, LIVES_NAME);
  }

  read(): Record<string, unknown> | null {
    return readSealed(this.name, LIVES_FORMAT, LIVES_VERSION);
  }

  write(document: LivesDocument): void {
    writeSealed(this.name, document);
  }

  async writeSoon(document: LivesDocument, isNewest: () => boolean): Promise<boolean> {
    const fresh = `${this.name}.marks`;
    const handle = await open(fresh, "w", 0o600);
    try {
      await handle.writeFile(sealed(document));
      await handle.datasync();
    } finally {
      await handle.close();
    }
    if (!isNewest()) return false;
    await rename(fresh, this.name);
    return true;
  }
}
