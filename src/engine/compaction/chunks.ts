/**
 * The chunks of large values under compaction: whose they are, and the manifests that name where they are
 * once they have been moved.
 */

import { withOrigin } from "../../format/fields/origin.ts";
import { type ChunkRef, manifestBytes, readManifest, writeManifest } from "../../format/manifest.ts";
import { SLAB_UNIT_BITS, TYPE_MANIFEST } from "../../format/offsets.ts";
import {
  emptyHead,
  keyBytesOf,
  keyOffset,
  originOf,
  readHead,
  recordUnits,
  trailerOf,
  typeOf,
  valueOffset,
} from "../../format/record.ts";
import { nameOf } from "../../util/bytes.ts";
import type { Log } from "../log/log.ts";
import { logPlace } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { State } from "../state/state.ts";
import type { Copies } from "./copies.ts";

/** Chunks of one value that were copied and whose manifest still names the old places. */
interface MovedChunks {
  key: Uint8Array;
  hashA: number;
  hashB: number;
  /** By the place that the chunk had (`logPlace`): another manifest may have come to name the same ones. */
  refs: Map<number, ChunkRef>;
}

/** By key, as latin1 text of its bytes. */
export type MovedValues = Map<string, MovedChunks>;

interface Manifest {
  map: SlabMap;
  unit: number;
  chunks: ChunkRef[];
  totalBytes: number;
}

/** The value that a chunk belongs to. */
export interface ChunkOwner {
  key: Uint8Array;
  /** What the manifest says of the chunk, and its number in it. */
  ref: ChunkRef;
  manifest: Manifest;
}

/** A number that no other manifest of the shard has. */
export function placeOfManifest({ map, unit }: Manifest): number {
  return map.slot * 2 ** SLAB_UNIT_BITS + unit;
}

export class Chunks {
  private readonly state: State;
  private readonly log: Log;
  private readonly head = emptyHead();
  private cached: Manifest | null = null;

  constructor(state: State, log: Log) {
    this.state = state;
    this.log = log;
  }

  /** Lets go of the manifest that was read last. */
  forget(): void {
    this.cached = null;
  }

  /**
   * Whose a chunk is, and what the manifest says of it. Null: no value has it any more. Damaged: nobody can
   * tell.
   */
  ownerOf(map: SlabMap, unit: number, hashA: number, hashB: number): ChunkOwner | "damaged" | null {
    const at = keyOffset(unit);
    const key = map.bytes.subarray(at, at + keyBytesOf(map, unit));
    readHead(map, unit, this.head);
    const { chunk } = this.head;
    const manifest = this.manifestOf(key, hashA, hashB);
    if (manifest === "damaged") return manifest;
    const ref = manifest?.chunks[chunk];
    if (manifest === null || ref?.sequence !== map.sequence || ref.unit !== unit) return null;
    return { key, ref, manifest };
  }

  /**
   * The manifest that counts for a key; null: the key holds something else. Damaged: nobody can tell. Leaves
   * its place in `state.lookup`.
   */
  private manifestOf(key: Uint8Array, hashA: number, hashB: number): Manifest | "damaged" | null {
    const { lookup } = this.state;
    const state = lookup.find(key, key.length, hashA, hashB);
    if (state !== "found") return state === "absent" ? null : "damaged";
    const { map, unit } = lookup;
    const isCached = this.cached?.map === map && this.cached.unit === unit;
    if (!isCached && !lookup.checkAgain(map, unit)) return "damaged";
    if (typeOf(map, unit) !== TYPE_MANIFEST) return null;
    if (this.cached === null || !isCached) this.cached = { map, unit, ...readManifest(map, unit) };
    return this.cached;
  }

  /** Notes that a chunk was copied: the copy is the last record of the log. */
  moved(values: MovedValues, hashA: number, hashB: number, owner: ChunkOwner): void {
    const { key, ref } = owner;
    const { appender } = this.log;
    const name = nameOf(key);
    let value = values.get(name);
    if (value === undefined) {
      value = { key: key.slice(), hashA, hashB, refs: new Map() };
      values.set(name, value);
    }
    value.refs.set(logPlace(ref), {
      sequence: appender.sequence,
      unit: appender.lastUnit,
      bytes: ref.bytes,
      checksum: appender.lastChecksum,
    });
  }

  /**
   * Writes new manifests for the values whose chunks were moved, unless they were replaced meanwhile.
   * @returns false: one is damaged now
   * @throws what the disk says
   */
  rewriteManifests(values: MovedValues, copies: Copies): boolean {
    const { state, log, head } = this;
    const { appender } = log;
    this.forget();
    for (const { key, hashA, hashB, refs } of values.values()) {
      const old = this.manifestOf(key, hashA, hashB);
      if (old === null) continue;
      if (old === "damaged") return false;
      if (!old.chunks.some((ref) => refs.has(logPlace(ref)))) continue;
      const chunks = old.chunks.map((ref) => refs.get(logPlace(ref)) ?? ref);
      const value = new Uint8Array(manifestBytes(chunks.length));
      writeManifest(value, 0, old.totalBytes, chunks);
      const typeStart = keyOffset(old.unit) + key.length;
      const contentType = old.map.bytes.slice(typeStart, valueOffset(old.map, old.unit));
      readHead(old.map, old.unit, head);
      head.outranked = state.replication.promiseOf(key, hashA, hashB) !== null;
      const from = { slot: old.map.slot, unit: old.unit };
      head.fresh = state.isFresh(old.map, old.unit, from.slot, from.unit);
      const origin = originOf(old.map, old.unit) || copies.originFor(old.map, old.unit, TYPE_MANIFEST);
      const kept = trailerOf(old.map, old.unit);
      const trailer = origin === 0 ? kept.slice() : withOrigin(kept, origin);
      log.makeRoomToMove(recordUnits(key.length, contentType.length, value.length, trailer.length));
      appender.append(head, key, contentType, hashA, hashB, value.length, [value], trailer);
      if (head.fresh) state.noteFresh(from, appender.sequence, appender.lastUnit);
      copies.write();
      const to = { slot: appender.slot, unit: appender.lastUnit };
      state.moveManifest(hashA, hashB, from, to, appender.lastUnits, key.length, chunks);
      state.publishedUpTo(appender.sequence, appender.endUnit);
    }
    this.forget();
    return true;
  }
}
