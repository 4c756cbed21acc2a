/**
 * Rebuilding a shard's index from the tables of all its slabs, at start.
 *
 * Entering record after record into the index would miss the processor's caches at each of them and deal the
 * growing index out again and again. So the entries are first dealt by partition, newest first; then each
 * partition is made in one go, in cache: the first entry of a key counts, later ones are dead, and what is
 * left goes into blocks of the right number. Partitions are taken in a few passes over the tables, which
 * bounds the memory this needs to a fraction of the index'.
 */

import { readManifest } from "../../format/manifest.ts";
import {
  SLAB_SLOTS,
  TYPE_ENDED,
  TYPE_FORGOTTEN,
  TYPE_MANIFEST,
  TYPE_TOMBSTONE,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import { keyBytesOf, keyEquals, keyOf, keyOffset } from "../../format/record.ts";
import { isAbsence, isIndexed } from "../../format/record-types.ts";
import { tableType, tableUnit } from "../../format/slab.ts";
import { hash32, hashBOf, INDEX_PARTITIONS, indexPartitionOf } from "../../util/hash.ts";
import { entryWord0, entryWord1, slotOf, tagOf, unitOf } from "../index/memory.ts";
import { firstFrom } from "../list/found-slab.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { SlabRecords } from "../state/candidates.ts";
import type { State } from "../state/state.ts";

/** A pass deals out so many entries, or this part of all, whatever is more. */
const PASS_ENTRIES_MIN = 1 << 20;
const PASS_SHARE = 1 / 4;

/** From so many keys with one tag on they are told apart by a set, instead of each from each. */
const CROWD_ENTRIES_MIN = 16;

/** Keys that share a tag: those that count so far, as latin1, and which of their records are damaged. */
interface Crowd {
  keys: Set<string>;
  damaged: number[];
}

/**
 * Enters the records of all slabs, which are in order of sequence, into the empty index and into the
 * accounts.
 */
export function rebuildIndex(
  state: State,
  slabs: readonly SlabRecords[],
  progress: (share: number) => void,
): void {
  const builder = new Builder(state, slabs);
  const counts = countByPartition(slabs);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const entriesMax = Math.max(PASS_ENTRIES_MIN, Math.ceil(total * PASS_SHARE));
  for (let first = 0; first < INDEX_PARTITIONS; ) {
    let end = first;
    let entries = 0;
    do entries += counts[end++];
    while (end < INDEX_PARTITIONS && entries + counts[end] <= entriesMax);
    builder.pass(counts, first, end, entries);
    first = end;
    progress(first / INDEX_PARTITIONS);
  }
  builder.finish();
}

function countByPartition(slabs: readonly SlabRecords[]): Int32Array {
  const counts = new Int32Array(INDEX_PARTITIONS);
  for (const { table } of slabs)
    for (let at = 0; at < table.length; at += 3)
      if (isIndexed(tableType(table[at + 2]))) counts[indexPartitionOf(table[at])]++;
  return counts;
}

class Builder {
  private readonly state: State;
  private readonly slabs: readonly SlabRecords[];
  /**
   * Of each entry: its two words in the index, and the type and size of its record, as type << 28 | units.
   */
  private word0 = new Int32Array(0);
  private word1 = new Int32Array(0);
  private sizes = new Int32Array(0);
  /** Hash table of one partition: numbers of entries, from 1. */
  private seen = new Int32Array(0);
  /** Of the partition that is made: the tags that many keys share. */
  private readonly crowds = new Map<number, Crowd>();
  private readonly liveUnits = new Float64Array(SLAB_SLOTS);
  private keys = 0;
  private tombstones = 0;
  /** Units of tombstones and forgotten records. */
  private absenceUnits = 0;
  private forgotten = 0;

  constructor(state: State, slabs: readonly SlabRecords[]) {
    this.state = state;
    this.slabs = slabs;
  }

  /** Makes the partitions `first` to `end` - 1, which have so many `entries`. */
  pass(counts: Int32Array, first: number, end: number, entries: number): void {
    if (this.word0.length < entries) {
      this.word0 = new Int32Array(entries);
      this.word1 = new Int32Array(entries);
      this.sizes = new Int32Array(entries);
    }
    const next = new Int32Array(INDEX_PARTITIONS);
    for (let partition = first + 1; partition < end; partition++)
      next[partition] = next[partition - 1] + counts[partition - 1];
    for (let i = this.slabs.length - 1; i >= 0; i--) this.deal(this.slabs[i], first, end, next);
    let start = 0;
    for (let partition = first; partition < end; partition++) {
      const count = this.keepNewest(start, counts[partition]);
      this.account(start, count);
      this.state.index.build(partition, this.word0, this.word1, start, count);
      start += counts[partition];
    }
  }

  /** Puts a slab's entries of some partitions to their partition's others, the last record first. */
  private deal(slab: SlabRecords, first: number, end: number, next: Int32Array): void {
    const { table } = slab;
    const { slot } = slab.map;
    const { word0, word1, sizes } = this;
    let after = slab.endUnit;
    for (let at = table.length - 3; at >= 0; at -= 3) {
      const word = table[at + 2];
      const unit = tableUnit(word);
      const units = after - unit;
      after = unit;
      const partition = indexPartitionOf(table[at]);
      if (partition < first || partition >= end) continue;
      const type = tableType(word);
      if (!isIndexed(type)) continue;
      const entry = next[partition]++;
      word0[entry] = entryWord0(table[at + 1], slot);
      word1[entry] = entryWord1(slot, unit);
      sizes[entry] = (type << 28) | units;
    }
  }

  /** Moves the entries that count to the front of their partition's range; answers how many they are. */
  private keepNewest(start: number, count: number): number {
    const { word0, word1, sizes } = this;
    let size = 64;
    while (size < count * 2) size *= 2;
    if (this.seen.length < size) this.seen = new Int32Array(size);
    const { seen, crowds } = this;
    seen.fill(0, 0, size);
    crowds.clear();
    const mask = size - 1;
    let kept = start;
    next: for (let entry = start; entry < start + count; entry++) {
      const tag = tagOf(word0[entry]);
      const crowd = crowds.size === 0 ? undefined : crowds.get(tag);
      if (crowd !== undefined && this.isReplacedIn(crowd, entry)) continue;
      let at = tag & mask;
      let newerOnes = 0;
      for (; crowd === undefined && seen[at] !== 0; at = (at + 1) & mask) {
        const newer = seen[at] - 1;
        if (tagOf(word0[newer]) !== tag) continue;
        if (this.isReplaced(entry, newer)) continue next;
        newerOnes++;
      }
      word0[kept] = word0[entry];
      word1[kept] = word1[entry];
      sizes[kept] = sizes[entry];
      if (crowd !== undefined) this.join(crowd, kept);
      else seen[at] = kept + 1;
      kept++;
      if (newerOnes < CROWD_ENTRIES_MIN) continue;
      const made: Crowd = { keys: new Set(), damaged: [] };
      for (at = tag & mask; seen[at] !== 0; at = (at + 1) & mask)
        if (tagOf(word0[seen[at] - 1]) === tag) this.join(made, seen[at] - 1);
      crowds.set(tag, made);
    }
    return kept - start;
  }

  private nameOf(entry: number): string {
    const map = this.state.lookup.mapOf(slotOf(this.word0[entry], this.word1[entry]));
    return Buffer.from(keyOf(map, unitOf(this.word1[entry]))).toString("latin1");
  }

  /** Adds an entry that counts to those of its tag. */
  private join(crowd: Crowd, entry: number): void {
    const { word0, word1 } = this;
    const { lookup } = this.state;
    crowd.keys.add(this.nameOf(entry));
    const map = lookup.mapOf(slotOf(word0[entry], word1[entry]));
    if (!lookup.check(map, unitOf(word1[entry]))) crowd.damaged.push(entry);
  }

  /** Like `isReplaced`, by any of a crowd. */
  private isReplacedIn(crowd: Crowd, older: number): boolean {
    return crowd.keys.has(this.nameOf(older)) || crowd.damaged.some((newer) => this.isReplaced(older, newer));
  }

  /** Whether the record of `newer` takes the place of that of `older`, which has the same tag. */
  private isReplaced(older: number, newer: number): boolean {
    const { word0, word1 } = this;
    const { lookup } = this.state;
    const olderMap = lookup.mapOf(slotOf(word0[older], word1[older]));
    const newerMap = lookup.mapOf(slotOf(word0[newer], word1[newer]));
    const olderUnit = unitOf(word1[older]);
    const newerUnit = unitOf(word1[newer]);
    const at = keyOffset(olderUnit);
    const key = olderMap.bytes.subarray(at, at + keyBytesOf(olderMap, olderUnit));
    if (keyEquals(newerMap, newerUnit, key, key.length)) return true;
    // The keys differ, or one of the two records is damaged. The newer one's hashes in its table still say
    // whose record it was.
    const row = this.rowOf(newerMap, newerUnit);
    if (hash32(key, 0) !== row.hashA || hashBOf(key, key.length, this.state.store.keyHash) !== row.hashB)
      return false;
    return !lookup.check(newerMap, newerUnit);
  }

  /** The hashes of a record in its slab's table. */
  private rowOf(map: SlabMap, unit: number): { hashA: number; hashB: number } {
    const { table } = this.slabs.find((slab) => slab.map.slot === map.slot) as SlabRecords;
    const at = firstFrom(table, unit);
    return { hashA: table[at], hashB: table[at + 1] };
  }

  private account(start: number, count: number): void {
    const { state, word0, word1, sizes, liveUnits } = this;
    for (let entry = start; entry < start + count; entry++) {
      const slot = slotOf(word0[entry], word1[entry]);
      const type = tableType(sizes[entry]);
      liveUnits[slot] += tableUnit(sizes[entry]);
      if (isAbsence(type)) this.absenceUnits += tableUnit(sizes[entry]);
      if (type === TYPE_TOMBSTONE || type === TYPE_ENDED) this.tombstones++;
      else if (type === TYPE_FORGOTTEN) this.forgotten++;
      else this.keys++;
      if (type !== TYPE_MANIFEST) continue;
      const map = state.lookup.mapOf(slot);
      const unit = unitOf(word1[entry]);
      if (state.lookup.check(map, unit))
        state.loadChunks(keyBytesOf(map, unit), readManifest(map, unit).chunks);
    }
  }

  /** Enters the sums into the shard's accounts. */
  finish(): void {
    const { state, keys, tombstones, forgotten } = this;
    for (const { map } of this.slabs) state.slabs.live(map.slot, this.liveUnits[map.slot] * UNIT_BYTES);
    state.load({ keys, tombstones, forgotten, absenceBytes: this.absenceUnits * UNIT_BYTES });
  }
}
