/**
 * Keys of the catalog, judged by the indexes of the shards: which are there, and what a list says of them.
 */
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import type { ShardLookup } from "../../engine/state/lookup.ts";
import { endAt } from "../../format/end.ts";
import { manifestTotal } from "../../format/manifest.ts";
import { TYPE_ENDED, TYPE_FORGOTTEN, TYPE_MANIFEST } from "../../format/offsets.ts";
import {
  type Ballot,
  ballotAt,
  contentTypeBytesOf,
  isJson,
  keyBytesOf,
  keyOffset,
  type RecordSource,
  typeOf,
  valueBytesOf,
  valueOffset,
} from "../../format/record.ts";
import { isAbsence } from "../../format/record-types.ts";
import { compareBallots, etagScratch, writeEtagOf } from "../../format/version.ts";
import { hasEnded } from "../../rules/expiry.ts";
import { copyOf } from "../../util/bytes.ts";
import type { SteadyClock } from "../../util/clock.ts";
import { VaultError } from "../../util/errors.ts";
import { hashBOf, hashKey, shardOf } from "../../util/hash.ts";
import { LISTED_VALUE_BYTES_MAX } from "../../util/limits.ts";
import { EntryWriter, JSON_TYPE_TEXT, ttlMember, valueMember } from "../../value/entry-text.ts";
import type { Change, ChangeEvent, ChangeTeller } from "../feed/change.ts";
import type { HeldKey } from "./held.ts";
import type { Ended } from "./messages.ts";

/**
 * Records with larger values are listed without reading them: the checksum covers the value, too. Their key
 * was compared; the scrub looks for the rest.
 */
const CHECKED_VALUE_BYTES_MAX = 64 * 1024;
/** How often a record is read again whose pages went missing meanwhile. */
const TRIES_MAX = 3;

/** The one place that names the event of a record that is told. */
function eventOf(type: number): ChangeEvent {
  if (type === TYPE_ENDED) return "expire";
  return isAbsence(type) ? "delete" : "put";
}

export class Entries implements ChangeTeller {
  private readonly lookups: readonly ShardLookup[];
  private readonly store: StoreIdentity;
  private readonly etag = etagScratch();
  private readonly told = new EntryWriter(false);
  private typeBytes: Uint8Array = new Uint8Array(0);
  private typeText = '""';
  private readonly clock: SteadyClock;

  /** @param clock what time it is, for ends */
  constructor(lookups: readonly ShardLookup[], store: StoreIdentity, clock: SteadyClock) {
    this.clock = clock;
    this.lookups = lookups;
    this.store = store;
  }

  /**
   * Looks a key up.
   * @param ended gets the key if its end has come and that is not on the disk yet: then it is absent once
   * somebody has seen to that
   * @returns where it can be read until the caller returns to its event loop; null: it is absent
   * @throws VaultError("corrupt") when nobody can tell
   */
  find(key: Uint8Array, ended: Ended): ShardLookup | null {
    const lookup = this.record(key);
    if (lookup === null || isAbsence(typeOf(lookup.map, lookup.unit))) return null;
    const end = endAt(lookup.map, lookup.unit);
    if (end === 0) return lookup;
    const nowMs = this.clock.now();
    if (!hasEnded(end, nowMs)) return lookup;
    ended.keys.push(copyOf(key));
    ended.nowMs = nowMs;
    return null;
  }

  /** As `find`, tombstones included, and what else says that there is nothing. */
  private record(key: Uint8Array): ShardLookup | null {
    const { store } = this;
    const hashA = hashKey(key, key.length, 0);
    const hashB = hashBOf(key, key.length, store.keyHash);
    const lookup = this.lookups[store.shards === 1 ? 0 : shardOf(hashA, hashB, store.shards)];
    const state = lookup.find(key, key.length, hashA, hashB);
    if (state === "absent") return null;
    if (state === "damaged" || !isGood(lookup)) throw damaged(key);
    return lookup;
  }

  /**
   * What a replica holds of a key, tombstones included; null: nothing is known of it.
   * @param key it is part of the answer as it is
   * @throws as `find`
   */
  held(key: Uint8Array): HeldKey | null {
    for (let tries = 1; ; tries++) {
      const lookup = this.record(key);
      if (lookup === null) return null;
      const { map, unit, missingPages } = lookup;
      const type = typeOf(map, unit);
      if (type === TYPE_FORGOTTEN) return null;
      const tombstone = isAbsence(type);
      const json = isJson(map, unit);
      const held = {
        key,
        ballot: ballotAt(map, unit),
        tombstone,
        ended: type === TYPE_ENDED,
        end: endAt(map, unit),
        json,
        contentType: tombstone || json ? "" : JSON.parse(this.typeOf(map, unit)),
        valueBytes: type === TYPE_MANIFEST ? manifestTotal(map, unit) : valueBytesOf(map, unit),
      };
      if (lookup.missingPages === missingPages) return held;
      if (tries === TRIES_MAX) throw damaged(key);
    }
  }

  /**
   * Writes what a list says of a key.
   * @param values with the value, if it is small
   * @param ended as of `find`
   * @returns bytes written; null: it is absent
   */
  entry(key: Uint8Array, values: boolean, ended: Ended, writer: EntryWriter): number | null {
    const from = writer.length;
    for (let tries = 1; ; tries++) {
      const lookup = this.find(key, ended);
      if (lookup === null) return null;
      const { missingPages } = lookup;
      this.describe(key, lookup.map, lookup.unit, values, writer);
      if (lookup.missingPages === missingPages) return writer.length - from;
      writer.cutTo(from);
      if (tries === TRIES_MAX) throw damaged(key);
    }
  }

  /**
   * What is told of a change that was met, by what the key holds now; null: something later says that, and is
   * met later.
   * @param met its version
   * @throws as `find`
   */
  change(key: Uint8Array, met: Ballot, values: boolean): Change | null {
    for (let tries = 1; ; tries++) {
      const lookup = this.record(key);
      if (lookup === null) return null;
      const { map, unit, missingPages } = lookup;
      if (compareBallots(ballotAt(map, unit), met) !== 0) return null;
      const type = typeOf(map, unit);
      if (type === TYPE_FORGOTTEN) return null;
      if (isAbsence(type)) this.absence(key, map, unit);
      else this.describe(key, map, unit, values, this.told);
      const text = this.told.takeText();
      if (lookup.missingPages === missingPages) return { event: eventOf(type), text };
      if (tries === TRIES_MAX) throw damaged(key);
    }
  }

  private absence(key: Uint8Array, map: RecordSource, unit: number): void {
    writeEtagOf(this.etag, map, unit);
    this.told.absence(key, this.etag);
  }

  private describe(
    key: Uint8Array,
    map: RecordSource,
    unit: number,
    values: boolean,
    writer: EntryWriter,
  ): void {
    const isManifest = typeOf(map, unit) === TYPE_MANIFEST;
    const bytes = isManifest ? manifestTotal(map, unit) : valueBytesOf(map, unit);
    const json = isJson(map, unit);
    writeEtagOf(this.etag, map, unit);
    const type = json ? JSON_TYPE_TEXT : this.typeOf(map, unit);
    const isShown = values && !isManifest && bytes <= LISTED_VALUE_BYTES_MAX;
    const end = endAt(map, unit);
    let more = end === 0 ? "" : ttlMember(end - this.clock.now());
    if (isShown) {
      const at = valueOffset(map, unit);
      more += valueMember(map.bytes.subarray(at, at + bytes), json);
    }
    writer.entry(key, this.etag, bytes, type, more);
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

function isGood(lookup: ShardLookup): boolean {
  const { map, unit } = lookup;
  const isLarge = valueBytesOf(map, unit) > CHECKED_VALUE_BYTES_MAX && typeOf(map, unit) !== TYPE_MANIFEST;
  return isLarge || lookup.check(map, unit);
}

function damaged(key: Uint8Array): VaultError {
  const name = Buffer.from(key).toString();
  return new VaultError("corrupt", `the record of the key ${name} is damaged; run minivault verify`);
}
