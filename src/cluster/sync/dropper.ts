/**
 * Forgets partitions that the own replica holds no more, one after the other. What is left of one from an
 * earlier time must be gone before this replica votes for it again: its deletes may have been collected
 * meanwhile, without it. The file DROPPED of the data directory says for which move that is done, so that a
 * restart in the middle of it does not take new records for old ones.
 */
import path from "node:path";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { readSealed, writeSealed } from "../../util/sealed-file.ts";

const NAME = "DROPPED";
const FORMAT = "minivault-dropped";
const VERSION = 1;

export class PartitionDropper {
  /** Partitions dropped since the start of the process. */
  dropped = 0;
  private readonly vault: LocalVault;
  private readonly file: string;
  private tail: Promise<void> = Promise.resolve();
  private epoch: number;

  constructor(vault: LocalVault, directory: string) {
    this.vault = vault;
    this.file = path.join(directory, NAME);
    this.epoch = Number(readSealed(this.file, FORMAT, VERSION)?.epoch ?? 0);
  }

  /** Whether nothing is left of what this replica gains in the move of that epoch. */
  isClear(epoch: number): boolean {
    return this.epoch === epoch;
  }

  /** Nothing is left: on disk when it returns. */
  setClear(epoch: number): void {
    if (this.epoch === epoch) return;
    const document = { format: FORMAT, version: VERSION, epoch };
    writeSealed(this.file, document);
    this.epoch = epoch;
  }

  /**
   * Forgets a partition, if `may` still says so when it is its turn. Answers whether there was something. The
   * replica must not take anything for it until this has resolved.
   */
  drop(partition: number, may: () => boolean): Promise<boolean> {
    const work = this.tail.then(async () => {
      if (!may() || (await this.isEmpty(partition))) return false;
      await new Promise<void>((resolve, reject) => {
        this.vault.replica.dropPartition(partition, (error) =>
          error === null
            ? resolve()
            : reject(new Error(`partition ${partition} cannot be dropped: ${error}`)),
        );
      });
      this.dropped++;
      return true;
    });
    this.tail = work.then(
      () => {},
      () => {},
    );
    return work;
  }

  /** Resolves when no partition is being dropped. */
  idle(): Promise<void> {
    return this.tail;
  }

  private async isEmpty(partition: number): Promise<boolean> {
    for (let cursor = 0; cursor >= 0; ) {
      const step = this.vault.replica.scan(partition, cursor, 1);
      if (step.keys.length > 0) return false;
      cursor = step.next;
      if (cursor >= 0) await new Promise((resolve) => setImmediate(resolve));
    }
    return true;
  }
}
