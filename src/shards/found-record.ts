/** What a search in this thread's maps has found, as the front sees it: the value's facts, its bytes, or a reader of its chunks. */
import type { ShardLookup } from "../engine/lookup.ts";
import type { Residency } from "../engine/residency.ts";
import type { SlabMap } from "../engine/slab-maps.ts";
import { TYPE_MANIFEST, UNIT_BYTES } from "../format/layout.ts";
import {
  type ChunkRef,
  contentTypeBytesOf,
  isJson,
  keyBytesOf,
  keyOffset,
  manifestTotal,
  readManifest,
  recordUnits,
  typeOf,
  valueBytesOf,
  valueOffset,
} from "../format/record.ts";
import { etagScratch, versionMillisOf, writeEtagOf } from "../format/version.ts";
import { VaultError } from "../util/errors.ts";
import { KEY_BYTES_MAX } from "../util/limits.ts";
import type { Found, KeyBytes, ValueReader } from "./vault.ts";

/** The reused answer of `find`. */
export class FoundRecord implements Found {
  state: Found["state"] = "absent";
  json = false;
  valueBytes = 0;
  private readonly etagBytes = etagScratch();
  private readonly chunkBytes: number;
  private readonly residency: Residency;
  private lookup!: ShardLookup;
  private map!: SlabMap;
  private unit = 0;
  private key!: KeyBytes;
  private hashA = 0;
  private hashB = 0;

  /** @param chunkBytes of the store's large values */
  constructor(chunkBytes: number, residency: Residency) {
    this.chunkBytes = chunkBytes;
    this.residency = residency;
  }

  set(lookup: ShardLookup, key: KeyBytes, hashA: number, hashB: number, state: Found["state"]): this {
    this.state = state;
    if (state !== "found") return this;
    const { map, unit } = lookup;
    this.lookup = lookup;
    this.map = map;
    this.unit = unit;
    this.key = key;
    this.hashA = hashA;
    this.hashB = hashB;
    this.json = isJson(map, unit);
    this.valueBytes =
      typeOf(map, unit) === TYPE_MANIFEST ? manifestTotal(map, unit) : valueBytesOf(map, unit);
    return this;
  }

  /** Written anew each time: most searches do not need it. */
  get etag(): Uint8Array {
    writeEtagOf(this.etagBytes, this.map, this.unit);
    return this.etagBytes;
  }

  get versionMs(): number {
    return versionMillisOf(this.map, this.unit);
  }

  get contentType(): string {
    if (this.json) return "application/json";
    return this.contentTypeOf(this.map, this.unit);
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

  view(): Uint8Array {
    const { map, unit } = this;
    return new Uint8Array(map.buffer, map.base + valueOffset(map, unit), valueBytesOf(map, unit));
  }

  open(): ValueReader {
    for (;;) {
      const { map, unit, lookup } = this;
      if (typeOf(map, unit) !== TYPE_MANIFEST) return new RecordReader(map, this.view());
      const { totalBytes, chunks } = readManifest(map, unit);
      const maps = new Map<number, SlabMap>();
      for (const { sequence } of chunks) {
        if (maps.has(sequence)) continue;
        const chunkMap = lookup.maps.bySequence(sequence);
        if (chunkMap === null) break;
        maps.set(sequence, chunkMap);
      }
      const missing = chunks.find(({ sequence }) => !maps.has(sequence));
      if (missing === undefined)
        return new ChunkReader(lookup, this.residency, totalBytes, chunks, maps, this.chunkBytes);
      // Compaction has moved chunks since the manifest was found: there is a newer one. If not, a slab is lost.
      const state = lookup.find(this.key.bytes, this.key.length, this.hashA, this.hashB);
      if (state !== "found" || (lookup.map === map && lookup.unit === unit))
        throw new VaultError("corrupt", `slab ${missing.sequence} with a part of the value is missing`);
      this.set(lookup, this.key, this.hashA, this.hashB, state);
    }
  }
}

class RecordReader implements ValueReader {
  private readonly map: SlabMap;
  private readonly value: Uint8Array;
  private closed = false;

  constructor(map: SlabMap, value: Uint8Array) {
    this.map = map;
    this.value = value;
    map.pins++;
  }

  get valueBytes(): number {
    return this.value.length;
  }

  read(offset: number): Uint8Array {
    return this.value.subarray(offset);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.map.pins--;
  }
}

class ChunkReader implements ValueReader {
  readonly valueBytes: number;
  private readonly lookup: ShardLookup;
  private readonly residency: Residency;
  private readonly chunks: readonly ChunkRef[];
  private readonly maps: Map<number, SlabMap>;
  private readonly chunkBytes: number;
  private closed = false;

  constructor(
    lookup: ShardLookup,
    residency: Residency,
    valueBytes: number,
    chunks: readonly ChunkRef[],
    maps: Map<number, SlabMap>,
    chunkBytes: number,
  ) {
    this.lookup = lookup;
    this.residency = residency;
    this.valueBytes = valueBytes;
    this.chunks = chunks;
    this.maps = maps;
    this.chunkBytes = chunkBytes;
    for (const map of maps.values()) map.pins++;
  }

  read(offset: number): Uint8Array {
    const number = Math.floor(offset / this.chunkBytes);
    const { sequence, unit, bytes, checksum } = this.chunks[number];
    const map = this.maps.get(sequence) as SlabMap;
    if (!this.lookup.checkChunk(map, unit, checksum) || valueBytesOf(map, unit) !== bytes)
      throw new VaultError("corrupt", `chunk ${number} of the value is damaged`);
    const start = valueOffset(map, unit);
    return map.bytes.subarray(start + offset - number * this.chunkBytes, start + bytes);
  }

  ready(offset: number, then: () => void): boolean {
    const { sequence, unit, bytes } = this.chunks[Math.floor(offset / this.chunkBytes)];
    const map = this.maps.get(sequence) as SlabMap;
    const from = unit * UNIT_BYTES;
    // Key and content type of a chunk are not known yet: as long as they can be.
    const to = Math.min(map.bytes.length, from + recordUnits(KEY_BYTES_MAX, 0, bytes) * UNIT_BYTES);
    if (from >= to || this.residency.isResident(map, from, to)) return true;
    this.residency.read(map, from, to, then);
    return false;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const map of this.maps.values()) map.pins--;
  }
}
