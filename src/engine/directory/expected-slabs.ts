/**
 * Which slabs a shard must have, by its list and by what the slabs say of each other, and whether what is
 * there is them. Reads, changes nothing.
 */
import path from "node:path";
import { FIRST_UNIT, HEADER_BYTES } from "../../format/offsets.ts";
import { headerProblem, previousSlab } from "../../format/slab.ts";
import {
  LISTED_FULL,
  LISTED_OPEN,
  LISTED_UNKNOWN,
  type ListedSlab,
  type SlabEnd,
} from "../../format/slab-list.ts";
import type { ReadList } from "../list/copies.ts";
import { checksumBefore, type FoundSlab, misfitOf, shortfallOf, unknownSlab } from "../list/found-slab.ts";
import { readSlab, slabName } from "../slabs/files.ts";
import { type StoreIdentity, shardDirectory } from "./store-file.ts";

export class ExpectedSlabs {
  /** Those that there must be, and newer ones that are there, rising. */
  readonly sequences: readonly number[];
  /** Of these, those without a file. */
  readonly missing: ReadonlySet<number>;
  /** Files of slabs that were dropped and whose removal was not finished. */
  readonly leftovers: readonly number[];
  /** Newer ones than the list has. */
  readonly adopted: readonly number[];
  private readonly listed: ReadonlyMap<number, ListedSlab>;
  private readonly note: SlabEnd | null;
  /** How slabs ended that the list does not know as full, by the header of the one after each. */
  private readonly ends = new Map<number, SlabEnd>();

  /** @param present sequences of the files that are there, rising */
  constructor(
    dataDirectory: string,
    store: StoreIdentity,
    shard: number,
    list: Pick<ReadList, "content" | "note">,
    present: readonly number[],
  ) {
    const slabs = list.content?.slabs ?? [];
    this.note = list.note;
    this.listed = new Map(slabs.map((slab) => [slab.sequence, slab]));
    const highest = slabs.at(-1)?.sequence ?? 0;
    this.adopted = present.filter((sequence) => sequence > highest);
    this.leftovers = present.filter((sequence) => sequence < highest && !this.listed.has(sequence));
    const there = new Set(present);
    const missing = new Set([...this.listed.keys()].filter((sequence) => !there.has(sequence)));
    for (const sequence of this.adopted) {
      const file = path.join(shardDirectory(dataDirectory, shard), slabName(sequence));
      const end = previousIn(file, store, shard, sequence);
      if (end === null || this.listed.get(end.sequence)?.state === LISTED_FULL) continue;
      this.ends.set(end.sequence, end);
      // Without a list it may have been dropped.
      if (list.content !== null && end.sequence > highest && !there.has(end.sequence))
        missing.add(end.sequence);
    }
    this.missing = missing;
    this.sequences = [...new Set([...this.listed.keys(), ...this.adopted, ...missing])].sort((a, b) => a - b);
  }

  /** What the list has of a slab. */
  of(sequence: number): ListedSlab | undefined {
    return this.listed.get(sequence);
  }

  /** Whether a slab takes no more records, whatever its file looks like. */
  isFull(sequence: number): boolean {
    return this.listed.get(sequence)?.state === LISTED_FULL;
  }

  /**
   * How a damaged slab, one that is missing, or one that does not fit goes on being listed: with the furthest
   * end that is known of it. The note and the header of the next slab will soon tell of others, and the next
   * start must still notice.
   * @param found what is whole of it, if that fits; null: it does not, or nothing is
   */
  stillListed(sequence: number, found: FoundSlab | null): ListedSlab {
    const listed = this.listed.get(sequence);
    if (listed?.state === LISTED_FULL) return listed;
    const { note } = this;
    const ends: SlabEnd[] = [];
    if (listed?.state === LISTED_OPEN) ends.push(listed);
    if (note?.sequence === sequence && listed?.state !== LISTED_UNKNOWN) ends.push(note);
    const end = this.ends.get(sequence);
    if (end !== undefined) ends.push(end);
    if (found !== null) {
      const last = checksumBefore(found, found.endUnit);
      if (last !== null) ends.push({ sequence, endUnit: found.endUnit, last });
    }
    if (ends.length === 0) return unknownSlab(sequence);
    const { endUnit, last } = ends.reduce((furthest, end) =>
      end.endUnit > furthest.endUnit ? end : furthest,
    );
    return { sequence, state: LISTED_OPEN, endUnit, last, seal: 0 };
  }

  /** Why the file of a slab is not what it must be, for a person; null: it is, as far as can be told. */
  misfit(sequence: number, found: FoundSlab): string | null {
    const listed = this.listed.get(sequence);
    // What was lost of it has been made good.
    if (listed?.state === LISTED_UNKNOWN) return null;
    const end = this.ends.get(sequence);
    const problem = listed === undefined ? null : misfitOf(found, listed);
    if (problem !== null) return problem;
    // At least: a slab whose making failed may have come back, and then this one went on.
    const shortfall = end === undefined ? null : shortfallOf(found, end);
    if (shortfall !== null) return shortfall;
    return this.note?.sequence === sequence ? shortfallOf(found, this.note) : null;
  }
}

/** What the header of a slab says of the one before it; null: nothing, or it cannot be trusted. */
function previousIn(file: string, store: StoreIdentity, shard: number, sequence: number): SlabEnd | null {
  let page: Uint8Array;
  try {
    page = readSlab(file, 0, HEADER_BYTES);
  } catch {
    return null;
  }
  const identity = { shard, sequence, slabBytes: store.slabBytes, storeId: store.slabId };
  const end = headerProblem(page, identity) === null ? previousSlab(page) : null;
  return end !== null && end.endUnit >= FIRST_UNIT && end.sequence < sequence ? end : null;
}
