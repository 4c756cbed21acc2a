/**
 * The promises of a shard that still count (register.ts): keys that may take nothing at or below a ballot which is above what they hold. There are
 * few: the accept that follows a prepare makes its promise void.
 *
 * Invariants: what `of` says is never below what a yes to a prepare has said; a published promise has its record, counted as live, until it is void.
 */

import { UNIT_BYTES } from "../format/layout.ts";
import type { Ballot } from "../format/record.ts";
import { compareBallots } from "../format/version.ts";

interface Promised {
  ballot: Ballot;
  /** Its record; slot -1: not on disk, or not any more. */
  slot: number;
  unit: number;
  units: number;
}

interface Staged {
  name: string;
  promised: Promised;
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString("latin1");
}

export class Promises {
  private readonly byKey = new Map<string, Promised>();
  private staged: Staged[] = [];
  private readonly live: (slot: number, bytes: number) => void;

  /** @param live adds bytes to what counts of a slab, or takes them off */
  constructor(live: (slot: number, bytes: number) => void) {
    this.live = live;
  }

  /** Whether records are staged, so that a sync is due before anybody is told. */
  get hasStaged(): boolean {
    return this.staged.length > 0;
  }

  get count(): number {
    return this.byKey.size;
  }

  /** The promise for a key, or null. */
  of(key: Uint8Array): Ballot | null {
    if (this.byKey.size === 0) return null;
    return this.byKey.get(nameOf(key))?.ballot ?? null;
  }

  /** A promise whose record is staged at `unit` of the open slab. It counts at once. */
  stage(key: Uint8Array, ballot: Ballot, unit: number, units: number): void {
    const name = nameOf(key);
    const promised: Promised = { ballot, slot: -1, unit, units };
    this.replace(name, promised);
    this.staged.push({ name, promised });
  }

  /** The staged records are on disk, in the slab of this slot. */
  publish(slot: number): void {
    for (const { name, promised } of this.staged) {
      if (this.byKey.get(name) !== promised) continue;
      promised.slot = slot;
      this.live(slot, promised.units * UNIT_BYTES);
    }
    this.staged = [];
  }

  /** The staged records were lost. What they promised is kept all the same. */
  forgetStaged(): void {
    this.staged = [];
  }

  /** A promise that was read back, or copied, to this place. The higher one of a key stays. */
  read(key: Uint8Array, ballot: Ballot, slot: number, unit: number, units: number): void {
    const name = nameOf(key);
    const other = this.byKey.get(name);
    if (other !== undefined && compareBallots(other.ballot, ballot) > 0) return;
    this.replace(name, { ballot, slot, unit, units });
    this.live(slot, units * UNIT_BYTES);
  }

  /** Whether the record at this place is the promise that counts for its key. */
  isAt(key: Uint8Array, slot: number, unit: number): boolean {
    const promised = this.byKey.get(nameOf(key));
    return promised !== undefined && promised.slot === slot && promised.unit === unit;
  }

  /** The key holds a record with this ballot now: promises at or below it are void. */
  settle(key: Uint8Array, ballot: Ballot): void {
    if (this.byKey.size === 0) return;
    const name = nameOf(key);
    const promised = this.byKey.get(name);
    if (promised === undefined || compareBallots(promised.ballot, ballot) > 0) return;
    this.drop(promised);
    this.byKey.delete(name);
  }

  /** Where the records of the published promises lie. */
  *places(): Iterable<{ slot: number; unit: number; units: number }> {
    for (const promised of this.byKey.values()) if (promised.slot >= 0) yield promised;
  }

  /** Keys that have a promise, as bytes. */
  *keys(): Iterable<Uint8Array> {
    for (const name of this.byKey.keys()) yield Buffer.from(name, "latin1");
  }

  private replace(name: string, promised: Promised): void {
    const old = this.byKey.get(name);
    if (old !== undefined) this.drop(old);
    this.byKey.set(name, promised);
  }

  private drop(promised: Promised): void {
    if (promised.slot >= 0) this.live(promised.slot, -promised.units * UNIT_BYTES);
    promised.slot = -1;
  }
}
