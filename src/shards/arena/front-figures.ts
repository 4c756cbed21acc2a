/**
 * What a front counts of its way to the store: one number each. They can lie where other fronts read them, so
 * that each of them can tell what is true of the whole node.
 */
const NAMES = ["queuedWrites", "queuedBytes", "batches", "batchedWrites", "coldReads"] as const;

/** Where they are kept. */
export type FrontNumbers = Record<(typeof NAMES)[number], Float64Array>;

export class FrontFigures implements FrontNumbers {
  /** Writes that wait for a shard thread. */
  queuedWrites: Float64Array = new Float64Array(1);
  queuedBytes: Float64Array = new Float64Array(1);
  /** Batches that were answered; each shared a sync. */
  batches: Float64Array = new Float64Array(1);
  batchedWrites: Float64Array = new Float64Array(1);
  /** Reads from the disk for what was not in memory. */
  coldReads: Float64Array = new Float64Array(1);

  /** Goes on there. */
  moveTo(numbers: Readonly<FrontNumbers>): void {
    for (const name of NAMES) {
      numbers[name][0] += this[name][0];
      this[name] = numbers[name];
    }
  }

  queued(bytes: number): void {
    this.queuedWrites[0]++;
    this.queuedBytes[0] += bytes;
  }

  /** A batch of so many writes. */
  answered(writes: number, bytes: number): void {
    this.batches[0]++;
    this.batchedWrites[0] += writes;
    this.queuedWrites[0] -= writes;
    this.queuedBytes[0] -= bytes;
  }
}
