/**
 * Values that were streamed to this replica, all of their bytes, and wait for their accept. One whose accept
 * does not come is forgotten after a while.
 */
import type { LocalUpload } from "../../shards/upload/upload.ts";

const STAGED_MS = 60_000;

export class StagedValues {
  private readonly waiting = new Map<string, { upload: LocalUpload; timer: NodeJS.Timeout }>();

  /** Keeps a value for an operation on a key, in the place of one that waits already. */
  keep(key: Uint8Array, operationLow: number, operationHigh: number, upload: LocalUpload): void {
    this.drop(key, operationLow, operationHigh);
    const timer = setTimeout(() => this.drop(key, operationLow, operationHigh), STAGED_MS);
    timer.unref();
    this.waiting.set(nameOf(key, operationLow, operationHigh), { upload, timer });
  }

  /** Hands a value over; null: it is not there. */
  take(key: Uint8Array, operationLow: number, operationHigh: number): LocalUpload | null {
    const name = nameOf(key, operationLow, operationHigh);
    const staged = this.waiting.get(name);
    if (staged === undefined) return null;
    this.waiting.delete(name);
    clearTimeout(staged.timer);
    return staged.upload;
  }

  /** Forgets a value. */
  drop(key: Uint8Array, operationLow: number, operationHigh: number): void {
    this.take(key, operationLow, operationHigh)?.abort();
  }
}

function nameOf(key: Uint8Array, operationLow: number, operationHigh: number): string {
  return `${operationLow} ${operationHigh} ${Buffer.from(key).toString("latin1")}`;
}
