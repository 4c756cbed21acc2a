/**
 * Keys of the catalog, judged by the indexes of the shards: which are there, and what a list says of them.
 */
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import type { ShardLookup } from "../../engine/state/lookup.ts";
import { manifestTotal } from "../../format/manifest.ts";
import { JSON_PREFIX, JSON_SUFFIX, TYPE_MANIFEST } from "../../format/offsets.ts";
import {
  contentTypeBytesOf,
  isAbsence,
  isJson,
  keyBytesOf,
  keyOffset,
  type RecordSource,
  typeOf,
  valueBytesOf,
  valueOffset,
} from "../../format/record.ts";
import { etagScratch, writeEtagOf } from "../../format/version.ts";
import { VaultError } from "../../util/errors.ts";
import { hashBOf, hashKey, shardOf } from "../../util/hash.ts";
import { LISTED_VALUE_BYTES_MAX } from "../../util/limits.ts";

/**
 * Records with larger values are listed without reading them: the checksum covers the value, too. Their key
 * was compared; the scrub looks for the rest.
 */
const CHECKED_VALUE_BYTES_MAX = 64 * 1024;
/** How often a record is read again whose pages went missing meanwhile. */
const TRIES_MAX = 3;

export class Entries {
  private readonly lookups: readonly ShardLookup[];
  private readonly store: StoreIdentity;
  private readonly etag = etagScratch();
  private typeBytes: Uint8Array = new Uint8Array(0);
  private typeText = '""';

  constructor(lookups: readonly ShardLookup[], store: StoreIdentity) {
    this.lookups = lookups;
    this.store = store;
  }

  /**
   * Looks a key up.
   * @returns where it can be read until the caller returns to its event loop; null: it is absent
   * @throws VaultError("corrupt") when nobody can tell
   */
  find(key: Uint8Array): ShardLookup | null {
    const { store } = this;
    const hashA = hashKey(key, key.length, 0);
    const hashB = hashBOf(key, key.length, store.keyHash);
    const lookup = this.lookups[store.shards === 1 ? 0 : shardOf(hashA, hashB, store.shards)];
    const state = lookup.find(key, key.length, hashA, hashB);
    if (state === "absent") return null;
    if (state === "damaged" || !isGood(lookup)) throw damaged(key);
    return isAbsence(typeOf(lookup.map, lookup.unit)) ? null : lookup;
  }

  /**
   * What a list says of a key, as JSON; null: it is absent.
   * @param values with the value, if it is small
   */
  entry(key: Uint8Array, values: boolean): string | null {
    for (let tries = 1; ; tries++) {
      const lookup = this.find(key);
      if (lookup === null) return null;
      const { missingPages } = lookup;
      const text = this.describe(key, lookup.map, lookup.unit, values);
      if (lookup.missingPages === missingPages) return text;
      if (tries === TRIES_MAX) throw damaged(key);
    }
  }

  private describe(key: Uint8Array, map: RecordSource, unit: number, values: boolean): string {
    const isManifest = typeOf(map, unit) === TYPE_MANIFEST;
    const bytes = isManifest ? manifestTotal(map, unit) : valueBytesOf(map, unit);
    const json = isJson(map, unit);
    writeEtagOf(this.etag, map, unit);
    const etag = latin1(this.etag, 1, this.etag.length - 1);
    const type = json ? '"application/json"' : this.typeOf(map, unit);
    const value =
      values && !isManifest && bytes <= LISTED_VALUE_BYTES_MAX ? valueMember(map, unit, json) : "";
    return `{"key":${keyText(key)},"etag":"${etag}","bytes":${bytes},"type":${type}${value}}`;
  }

  /** The content type, as JSON. Mostly the same as last time. */
  private typeOf(map: RecordSource, unit: number): string {
    const { typeBytes } = this;
    const start = keyOffset(unit) + keyBytesOf(map, unit);
    const length = contentTypeBytesOf(map, unit);
    let same = length === typeBytes.length;
    for (let i = 0; same && i < length; i++) same = map.bytes[start + i] === typeBytes[i];
    if (!same) {
      this.typeBytes = map.bytes.slice(start, start + length);
      this.typeText = JSON.stringify(Buffer.from(this.typeBytes).toString());
    }
    return this.typeText;
  }
}

/** A key as JSON. */
export function keyText(key: Uint8Array): string {
  return JSON.stringify(Buffer.from(key.buffer, key.byteOffset, key.length).toString());
}

function latin1({ buffer, byteOffset }: Uint8Array, from: number, to: number): string {
  return Buffer.from(buffer, byteOffset + from, to - from).toString("latin1");
}

function isGood(lookup: ShardLookup): boolean {
  const { map, unit } = lookup;
  const isLarge = valueBytesOf(map, unit) > CHECKED_VALUE_BYTES_MAX && typeOf(map, unit) !== TYPE_MANIFEST;
  return isLarge || lookup.check(map, unit);
}

function damaged(key: Uint8Array): VaultError {
  const name = Buffer.from(key).toString();
  return new VaultError("corrupt", `the record of the key ${name} is damaged; run minivault verify`);
}

/** A value as a member of its entry. */
function valueMember(map: RecordSource, unit: number, json: boolean): string {
  const from = valueOffset(map, unit);
  const to = from + valueBytesOf(map, unit);
  const bytes = Buffer.from(map.buffer, map.base + from, to - from);
  if (!json) return `,"base64":"${bytes.toString("base64")}"`;
  // Line ends in JSON are white space: a text of its own must stay on one line.
  const text = bytes.toString("utf8", JSON_PREFIX.length, bytes.length - JSON_SUFFIX.length);
  return `,"value":${text.replaceAll(/[\r\n]/g, " ")}`;
}
