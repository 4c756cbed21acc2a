/**
 * Signed writes that come again. A client may well sign the same twice: within one second two equal requests
 * have one signature. But what comes again later was not meant by whoever has signed it, so it is refused.
 * Of presigned URLs and of reads nothing is remembered: they are made to be used again.
 */

/** So long after it came first a signature may come again. */
export const REPEAT_MS_MAX = 5000;
/** Signatures of one generation; there are two. Beyond, the oldest are forgotten. */
const GENERATION_MAX = 100_000;
/** So much of a signature tells it from others. */
const DIGITS = 24;

export class Repeats {
  private recent = new Map<string, number>();
  private older = new Map<string, number>();
  private turnedMs: number;
  private readonly keepMs: number;

  /** @param keepMs time after which a signature does not hold any more */
  constructor(keepMs: number, nowMs: number) {
    this.keepMs = keepMs;
    this.turnedMs = nowMs;
  }

  /**
   * Notes a signature that holds. False: it has come before, and too long ago.
   * @param nowMs a clock that only goes forward
   */
  take(signature: string, nowMs: number): boolean {
    if (nowMs - this.turnedMs > this.keepMs || this.recent.size >= GENERATION_MAX) {
      this.older = this.recent;
      this.recent = new Map();
      this.turnedMs = nowMs;
    }
    const name = signature.slice(0, DIGITS);
    const firstMs = this.recent.get(name) ?? this.older.get(name);
    if (firstMs !== undefined) return nowMs - firstMs <= REPEAT_MS_MAX;
    this.recent.set(name, nowMs);
    return true;
  }
}
