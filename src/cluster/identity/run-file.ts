/**
 * The RUN file of a data directory: under which boot of the machine the last run wrote, and whether it ended
 * in order. With `-sync os` a write is acknowledged before it is on the disk. What a crash of the process
 * leaves is still there, since the system has it; what a crash of the machine, or a power loss, leaves may
 * lack what was counted as this replica's vote. So a run that follows one that did not end in order, under
 * another boot, begins in doubt (standing.ts). FORMAT.md has the members.
 *
 * Where the system does not tell its boots apart, each end that was not in order counts as one of the
 * machine.
 */
import fs from "node:fs";
import path from "node:path";
import { readSealed, sealed, writeSealed } from "../../util/sealed-file.ts";

const NAME = "RUN";
const FORMAT = "minivault-run";
const VERSION = 1;
/** For tests: another file in its place. */
const BOOT_FILE_VARIABLE = "MINIVAULT_TEST_BOOT_FILE";
const BOOT_FILE = "/proc/sys/kernel/random/boot_id";

/** The system's name for this boot; empty: it has none. */
export function bootId(file = BOOT_FILE): string {
  try {
    return fs.readFileSync(file, "utf8").trim();
  } catch {
    return "";
  }
}

/** The file of a data directory, in this boot. */
export function openRunFile(directory: string, isSynced: boolean): RunFile {
  return new RunFile(directory, bootId(process.env[BOOT_FILE_VARIABLE]), isSynced);
}

export class RunFile {
  /** Whether what the last run acknowledged may be lost: why, for a person; null: it is not. */
  readonly doubt: string | null;
  private readonly file: string;
  private readonly boot: string;
  private readonly isSynced: boolean;

  /**
   * Reads the file, and changes nothing. To be called once all that the last run left is read back, and so on
   * the disk.
   * @param isSynced writes are acknowledged once they are on the disk (`-sync always`)
   */
  constructor(directory: string, boot: string, isSynced: boolean) {
    this.file = path.join(directory, NAME);
    this.boot = boot;
    this.isSynced = isSynced;
    this.doubt = this.read();
  }

  private read(): string | null {
    let members: Record<string, unknown> | null;
    try {
      members = readSealed(this.file, FORMAT, VERSION);
    } catch {
      // Cut by the very power loss, perhaps.
      return "its RUN file is damaged, so how the last run with -sync os ended is not known";
    }
    if (members === null || members.clean === true) return null;
    return this.boot !== "" && members.boot === this.boot
      ? null
      : "the machine went down under the last run, which had -sync os: what it acknowledged last may be lost";
  }

  /**
   * A run begins, and the doubt is settled, durably: before its first vote.
   * @throws Error with a sentence when that cannot be noted
   */
  begin(): void {
    if (this.isSynced) fs.rmSync(this.file, { force: true });
    else this.write({ boot: this.boot, clean: false });
  }

  /** It has ended in order, and all that it wrote is on the disk. What cannot be noted is no harm. */
  end(): void {
    if (this.isSynced) return;
    try {
      this.write({ boot: this.boot, clean: true });
    } catch {
      // The next run under another boot then synchronises in vain.
    }
  }

  private write(members: { boot: string; clean: boolean }): void {
    const document = { format: FORMAT, version: VERSION, ...members };
    try {
      writeSealed(this.file, document);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      // A full disk takes what stands in blocks that there are; it is less than a sector.
      const fd = fs.openSync(this.file, "r+");
      try {
        fs.ftruncateSync(fd, fs.writeSync(fd, sealed(document), 0));
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
    }
  }
}
