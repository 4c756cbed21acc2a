/**
 * Forgets partitions that the own replica holds no more, one after the other. What is left of one from an
 * earlier time must be gone before this replica votes for it again: its deletes may have been collected
 * meanwhile, without it. The file DROPPED of the data directory says for which move that is done, so that a
 * restart in the middle of it does not take new records for old ones.
 */
import path from "node:path";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { hashKey, INDEX_PARTITIONS } from "../../util/hash.ts";
import { type HashPrefix, indexPartitionOfPrefix, prefixOf, startsWith } from "../../util/hash-prefix.ts";
import { readSealed, writeSealed } from "../../util/sealed-file.ts";

const NAME = "DROPPED";
const FORMAT = "minivault-dropped";
const VERSION = 1;
/** Keys read together when it is looked which partitions have any. */
const STEP_KEYS = 256;

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
   * Forgets partitions of one partition of the index (`neighbours`), if `may` still says so when it is their
   * turn. Answers of how many there was something. The replica must not take anything for them until this has
   * resolved.
   */
  drop(prefixes: readonly HashPrefix[], may: () => boolean): Promise<number> {
    const work = this.tail.then(async () => {
      if (!may()) return 0;
      const full = await this.withKeys(prefixes);
      let dropped = 0;
      for (const prefix of full) {
        // Reading them through took its time.
        if (!may()) break;
        await new Promise<void>((resolve, reject) => {
          this.vault.replica.dropPartition(prefix, (error) =>
            error === null
              ? resolve()
              : reject(new Error(`a partition that has moved away cannot be dropped: ${error}`)),
          );
        });
        this.dropped++;
        dropped++;
      }
      return dropped;
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

  /** Those that have keys: what they are a part of is read through once for all of them. */
  private async withKeys(prefixes: readonly HashPrefix[]): Promise<Set<HashPrefix>> {
    const full = new Set<HashPrefix>();
    const whole = prefixOf(indexPartitionOfPrefix(prefixes[0]), INDEX_PARTITIONS);
    for (let cursor = 0; cursor >= 0 && full.size < prefixes.length; ) {
      const step = this.vault.replica.scan(whole, cursor, STEP_KEYS);
      for (const { key } of step.keys) {
        const hashA = hashKey(key, key.length, 0);
        const prefix = prefixes.find((one) => startsWith(hashA, one));
        if (prefix !== undefined) full.add(prefix);
      }
      cursor = step.next;
      if (cursor >= 0) await new Promise((resolve) => setImmediate(resolve));
    }
    return full;
  }
}

/** The same partitions, those together that are parts of one partition of the index; in order. */
export function neighbours(prefixes: readonly HashPrefix[]): HashPrefix[][] {
  const lists: HashPrefix[][] = [];
  let last = -1;
  for (const prefix of prefixes) {
    const whole = indexPartitionOfPrefix(prefix);
    if (whole === last) lists[lists.length - 1].push(prefix);
    else lists.push([prefix]);
    last = whole;
  }
  return lists;
}
