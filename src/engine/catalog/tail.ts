/**
 * The keys that are in no file yet: the latest as a set without order, the rest as runs in memory.
 */
import { nameOf } from "../../util/bytes.ts";
import { MemoryRunBuilder } from "./runs/builder.ts";
import type { KeyRun } from "./runs/run.ts";

/** Keys that wait without order; they are sorted when a list wants them, or when there are so many. */
export const UNSORTED_KEYS_MAX = 4096;

export class Tail {
  private readonly unsorted = new Set<string>();
  /** Replaced, never changed: who reads them keeps them. */
  runs: readonly KeyRun[] = [];

  /** Takes a key in; it may be there already. */
  add(key: Uint8Array): void {
    this.unsorted.add(nameOf(key));
    if (this.unsorted.size >= UNSORTED_KEYS_MAX) this.sort();
  }

  /** Keys, those that are there twice counted twice. */
  get keys(): number {
    return this.runs.reduce((sum, { keys }) => sum + keys, this.unsorted.size);
  }

  get memoryBytes(): number {
    let bytes = 0;
    for (const { parts } of this.runs)
      for (const part of parts) bytes += part.bytes + part.fences.memoryBytes;
    return bytes;
  }

  /** Gives what waits its order: then all of the tail is in `runs`. */
  sort(): void {
    if (this.unsorted.size === 0) return;
    // In names, a character a byte: their order is that of the bytes.
    const names = [...this.unsorted].sort();
    const builder = new MemoryRunBuilder();
    for (const name of names) {
      const key = Buffer.from(name, "latin1");
      builder.add(key, 0, key.length);
    }
    this.unsorted.clear();
    this.runs = [...this.runs, builder.end() as KeyRun];
  }

  /** Puts one run in the place of some; null: nothing is left of them. */
  replace(merged: readonly KeyRun[], by: KeyRun | null): void {
    const rest = this.runs.filter((run) => !merged.includes(run));
    this.runs = by === null ? rest : [...rest, by];
  }

  clear(): void {
    this.unsorted.clear();
    this.runs = [];
  }
}
