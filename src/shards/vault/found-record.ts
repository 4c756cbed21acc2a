/**
 * What a search in this thread's maps has found, as the front sees it: the value's facts, its bytes, or a
 * reader of its chunks.
 *
 * A page that can be read now may be missing in a moment (native/map-guard.c) and then reads as zeros. So
 * whatever leaves here was read between two equal counts of missing pages, or checked again.
 */

import type { SlabMap } from "../../engine/slabs/maps.ts";
import type { Residency } from "../../engine/slabs/residency.ts";
import type { ShardLookup } from "../../engine/state/lookup.ts";
import { endAt } from "../../format/end.ts";
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { manifestTotal, readManifest } from "../../format/manifest.ts";
import { END_BYTES, ORIGIN_FIELD_BYTES, RECORD, TYPE_MANIFEST, UNIT_BYTES } from "../../format/offsets.ts";
import {
  contentTypeBytesOf,
  isExtended,
  isJson,
  keyBytesOf,
  keyOffset,
  originOf,
  trailerBytesOf,
  trailerOf,
  typeOf,
  valueBytesOf,
  valueOffset,
} from "../../format/record.ts";
import { clockMillis, etagScratch, writeEtag } from "../../format/version.ts";
import { VaultError } from "../../util/errors.ts";
import { REPLY_AT_ONCE_BYTES } from "../../util/limits.ts";
import type { KeyBytes } from "../arena/write.ts";
import { ChunkReader, RecordReader } from "./value-readers.ts";
import type { Found, ValueReader } from "./vault.ts";

/**
 * Values up to this many bytes are copied word by word: calling a copying function, and making the two views
 * that it takes, costs more than that.
 */
const COPIED_BY_WORDS_BYTES_MAX = 512;

/**
 * The reused answer of `find`. Its facts are read at once, between two counts; the value when it is asked
 * for.
 */
export class FoundRecord implements Found {
  state: Found["state"] = "absent";
  json = false;
  contentType = "";
  isBare = true;
  end = 0;
  valueBytes = 0;
  private clockLow = 0;
  private clockHigh = 0;
  private node = 0;
  private incarnation = 0;
  /** Where the value begins in the map. */
  private valueAt = 0;
  /** The value lies in chunks, and the record only says where. */
  private isChunked = false;
  private isExtended = false;
  private readonly etagBytes = etagScratch();
  private readonly residency: Residency;
  private lookup!: ShardLookup;
  private map!: SlabMap;
  private unit = 0;
  private key!: KeyBytes;
  private hashA = 0;
  private hashB = 0;
  /** Pages that were missing when the record was last seen to be good. */
  private missing = 0;
  private readonly scratch = new Uint8Array(REPLY_AT_ONCE_BYTES);
  private readonly scratchWords = new Int32Array(this.scratch.buffer);
  /**
   * Views of `scratch` by length and first byte, once they were needed: making one costs more than copying.
   */
  private readonly views: (Uint8Array | undefined)[] = new Array((COPIED_BY_WORDS_BYTES_MAX + 1) * 4);

  constructor(residency: Residency) {
    this.residency = residency;
  }

  /** @param state what the lookup says; if "found", `check` was the last thing that it was asked */
  set(lookup: ShardLookup, key: KeyBytes, hashA: number, hashB: number, state: Found["state"]): this {
    this.state = state;
    if (state !== "found") return this;
    this.lookup = lookup;
    this.map = lookup.map;
    this.unit = lookup.unit;
    this.key = key;
    this.hashA = hashA;
    this.hashB = hashB;
    this.missing = lookup.missingAtCheck;
    do this.readFacts();
    while (this.state === "found" && !this.isSteady());
    return this;
  }

  private readFacts(): void {
    const { map, unit } = this;
    this.json = isJson(map, unit);
    this.contentType = this.json ? "application/json" : this.contentTypeOf(map, unit);
    this.isExtended = isExtended(map, unit);
    if (this.isExtended) this.readFields(map, unit);
    else {
      this.isBare = true;
      this.end = 0;
    }
    this.valueAt = valueOffset(map, unit);
    this.isChunked = typeOf(map, unit) === TYPE_MANIFEST;
    this.valueBytes = this.isChunked ? manifestTotal(map, unit) : valueBytesOf(map, unit);
    const { words } = map;
    const at = unit * (UNIT_BYTES / 4) + RECORD.clockLow / 4;
    this.clockLow = words[at];
    this.clockHigh = words[at + 1];
    this.node = words[at + 2];
    this.incarnation = words[at + 3];
  }

  private readFields(map: SlabMap, unit: number): void {
    this.end = endAt(map, unit);
    const bytes = trailerBytesOf(map, unit) - (this.end === 0 ? 0 : END_BYTES);
    this.isBare = bytes === 0 || (bytes === ORIGIN_FIELD_BYTES && originOf(map, unit) !== 0);
  }

  /** Read when it is asked for: most do not need it. */
  get trailer(): Uint8Array {
    if (!this.isExtended) return NO_TRAILER;
    let trailer: Uint8Array;
    do trailer = trailerOf(this.map, this.unit).slice();
    while (!this.isStillSteady());
    return trailer;
  }

  /**
   * Whether what was just read of the record is what was checked. False: a page was missing meanwhile; read
   * it again, if the record is still good, and otherwise it is "damaged" now.
   */
  private isSteady(): boolean {
    const { missingPages } = this.lookup;
    if (missingPages === this.missing) return true;
    this.missing = missingPages;
    if (!this.lookup.check(this.map, this.unit)) this.state = "damaged";
    return false;
  }

  /** As `isSteady`, for those who have been told "found". */
  private isStillSteady(): boolean {
    if (this.isSteady()) return true;
    if (this.state === "damaged") throw new VaultError("corrupt", "the disk cannot give the record");
    return false;
  }

  /** Written anew each time: most searches do not need it. */
  get etag(): Uint8Array {
    writeEtag(this.etagBytes, this.clockLow, this.clockHigh, this.node, this.incarnation);
    return this.etagBytes;
  }

  get versionMs(): number {
    return clockMillis(this.clockLow, this.clockHigh);
  }

  private typeBytes: Uint8Array = new Uint8Array(0);
  private typeText = "";

  /** The content type stored with a record. Mostly the same as last time, so the last one is kept as text. */
  private contentTypeOf(map: SlabMap, unit: number): string {
    const { typeBytes } = this;
    const start = keyOffset(unit) + keyBytesOf(map, unit);
    const length = contentTypeBytesOf(map, unit);
    let same = 0;
    if (length === typeBytes.length)
      while (same < length && map.bytes[start + same] === typeBytes[same]) same++;
    if (same < length || length !== typeBytes.length) {
      this.typeBytes = map.bytes.slice(start, start + length);
      this.typeText = Buffer.from(this.typeBytes).toString();
    }
    return this.typeText;
  }

  view(start = 0, end: number = this.valueBytes): Uint8Array {
    const bytes = end - start;
    if (this.isChunked) return this.gather(start, end);
    if (bytes <= COPIED_BY_WORDS_BYTES_MAX) return this.viewOfWords(this.valueAt + start, bytes);
    const { buffer } = this.scratch;
    const target = bytes <= REPLY_AT_ONCE_BYTES ? new Uint8Array(buffer, 0, bytes) : new Uint8Array(bytes);
    return this.copyTo(target, start);
  }

  /** Copies whole words, and what lies around the bytes within the first and the last. */
  private viewOfWords(at: number, bytes: number): Uint8Array {
    const { scratchWords, views } = this;
    const { words } = this.map;
    const first = at >>> 2;
    const count = ((at + bytes + 3) >>> 2) - first;
    do for (let word = 0; word < count; word++) scratchWords[word] = words[first + word];
    while (!this.isStillSteady());
    const skipped = at & 3;
    const known = views[bytes * 4 + skipped];
    if (known !== undefined) return known;
    const made = new Uint8Array(this.scratch.buffer, skipped, bytes);
    views[bytes * 4 + skipped] = made;
    return made;
  }

  /** Of a value in chunks, which may be short all the same. */
  private gather(start: number, end: number): Uint8Array {
    const target = new Uint8Array(end - start);
    const reader = this.open();
    try {
      for (let at = start; at < end; ) {
        const piece = reader.read(at).subarray(0, end - at);
        target.set(piece, at - start);
        // What was copied is what was checked.
        if (reader.holds?.(at, at + piece.length) !== false) at += piece.length;
        else throw new VaultError("corrupt", "the disk cannot give the value");
      }
    } finally {
      reader.close();
    }
    return target;
  }

  copy(): Uint8Array {
    if (this.isChunked) return this.gather(0, this.valueBytes);
    return this.copyTo(Buffer.allocUnsafe(this.valueBytes), 0);
  }

  private copyTo(target: Uint8Array, start: number): Uint8Array {
    const { map, valueAt } = this;
    const source = new Uint8Array(map.buffer, map.base + valueAt + start, target.length);
    do target.set(source);
    while (!this.isStillSteady());
    return target;
  }

  open(): ValueReader {
    for (;;) {
      const { map, unit, lookup } = this;
      if (typeOf(map, unit) !== TYPE_MANIFEST) {
        if (this.isStillSteady()) return new RecordReader(lookup, map, unit);
        continue;
      }
      const { totalBytes, chunks } = readManifest(map, unit);
      if (!this.isStillSteady()) continue;
      const maps = new Map<number, SlabMap>();
      for (const { sequence } of chunks) {
        if (maps.has(sequence)) continue;
        const chunkMap = lookup.maps.bySequence(sequence);
        if (chunkMap === null) break;
        maps.set(sequence, chunkMap);
      }
      const missing = chunks.find(({ sequence }) => !maps.has(sequence));
      if (missing === undefined) return new ChunkReader(lookup, this.residency, totalBytes, chunks, maps);
      // Compaction has moved chunks since the manifest was found: there is a newer one. If not, a slab is
      // lost.
      const state = lookup.find(this.key.bytes, this.key.length, this.hashA, this.hashB);
      const isNewer = state === "found" && !(lookup.map === map && lookup.unit === unit);
      if (!isNewer || !lookup.check(lookup.map, lookup.unit))
        throw new VaultError("corrupt", `slab ${missing.sequence} with a part of the value is missing`);
      this.set(lookup, this.key, this.hashA, this.hashB, state);
    }
  }
}
