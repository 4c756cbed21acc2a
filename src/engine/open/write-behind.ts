/**
 * Gets a large value to the disk while more of it arrives, so that the sync at its end has little left to do.
 * Through a file descriptor of its own: Linux tells each open file once that write-back has failed, so a sync
 * that is made before the failure of a step has been heard of fails, too.
 */
import type { FileIo } from "../slabs/io.ts";

/** So much gathers before the disk gets it. */
const STEP_BYTES = 1 * 1024 * 1024;

export class WriteBehind {
  private readonly io: FileIo;
  private readonly onSyncFailed: (error: unknown) => void;
  private file = "";
  private fd = -1;
  /** Up to where the disk has, or is being given, what is in the file. */
  private begunBytes = 0;
  private underWay: Promise<void> | null = null;

  /** @param onSyncFailed a step failed; like any sync, it must not be retried */
  constructor(io: FileIo, onSyncFailed: (error: unknown) => void) {
    this.io = io;
    this.onSyncFailed = onSyncFailed;
  }

  /**
   * Gives the disk what is in `file` up to `writtenBytes` and not synced, if it is much and the last step is
   * over.
   */
  advance(file: string, syncedBytes: number, writtenBytes: number): void {
    if (this.underWay !== null) return;
    this.begunBytes = file === this.file ? Math.max(this.begunBytes, syncedBytes) : syncedBytes;
    if (writtenBytes - this.begunBytes < STEP_BYTES) return;
    if (file !== this.file && !this.open(file)) return;
    this.begunBytes = writtenBytes;
    this.underWay = this.io
      .fdatasyncAsync(this.fd)
      .catch(this.onSyncFailed)
      .finally(() => {
        this.underWay = null;
      });
  }

  private open(file: string): boolean {
    this.release();
    try {
      this.fd = this.io.open(file, "r");
    } catch {
      // The sync at the end then has more to do.
      return false;
    }
    this.file = file;
    return true;
  }

  private release(): void {
    if (this.fd >= 0) this.io.close(this.fd);
    this.fd = -1;
    this.file = "";
  }

  /** Lets go of the file: at once, or when the step that is under way is over. */
  async leave(): Promise<void> {
    if (this.underWay !== null) await this.underWay;
    this.release();
  }
}
