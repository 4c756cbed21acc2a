/**
 * Header page, table and footer of a slab, as bytes. Pure: no file is touched here.
 */
import { hash32 } from "../util/hash.ts";
import { endAt } from "./end.ts";
import {
  BYTE_ORDER_MARK,
  FIRST_UNIT,
  FOOTER,
  FOOTER_BYTES,
  FOOTER_MAGIC,
  HEADER,
  HEADER_BYTES,
  HEADER_MAGIC,
  SLAB_VERSION,
  SLAB_VERSION_MIN,
  TABLE_ENTRY_BYTES,
  UNIT_BYTES,
  UNIT_SHIFT,
} from "./offsets.ts";
import { isExtended, isFresh, isOutranked, type RecordSource, typeOf } from "./record.ts";
import { isValue } from "./record-types.ts";
import type { SlabEnd } from "./slab-list.ts";

const CHECKED_BYTES = 60;

export interface SlabIdentity {
  shard: number;
  sequence: number;
  slabBytes: number;
  /** 16 bytes. */
  storeId: Uint8Array;
}

function putMagic(bytes: Uint8Array, offset: number, magic: string): void {
  for (let i = 0; i < 8; i++) bytes[offset + i] = magic.charCodeAt(i);
}

function hasMagic(bytes: Uint8Array, offset: number, magic: string): boolean {
  for (let i = 0; i < 8; i++) if (bytes[offset + i] !== magic.charCodeAt(i)) return false;
  return true;
}

/**
 * The header page of a slab: 4096 bytes.
 * @param version of the format of its records
 * @param previous the slab that was full when this one was made; null: not known
 */
export function encodeHeader(
  identity: SlabIdentity,
  version: number,
  previous: SlabEnd | null = null,
): Uint8Array {
  const page = new Uint8Array(HEADER_BYTES);
  const view = new DataView(page.buffer);
  putMagic(page, 0, HEADER_MAGIC);
  view.setUint32(HEADER.version, version, true);
  view.setUint32(HEADER.byteOrder, BYTE_ORDER_MARK, true);
  view.setUint32(HEADER.shard, identity.shard, true);
  view.setUint32(HEADER.sequence, identity.sequence, true);
  view.setUint32(HEADER.slabBytes, identity.slabBytes, true);
  view.setUint32(HEADER.unitBytes, UNIT_BYTES, true);
  page.set(identity.storeId, HEADER.storeId);
  if (previous !== null) {
    view.setUint32(HEADER.previousSequence, previous.sequence, true);
    view.setUint32(HEADER.previousEnd, previous.endUnit, true);
    view.setInt32(HEADER.previousLast, previous.last, true);
  }
  view.setInt32(HEADER.checksum, hash32(page.subarray(0, CHECKED_BYTES), 0), true);
  return page;
}

/**
 * Checks a header page against what the slab must be. Null: it is that slab. Otherwise what is wrong, for a
 * person; `foreign` tells a well-formed header that belongs elsewhere or to another version from a damaged
 * one.
 */
export function headerProblem(
  page: Uint8Array,
  expected: SlabIdentity,
): { foreign: boolean; text: string } | null {
  const view = new DataView(page.buffer, page.byteOffset, HEADER_BYTES);
  if (!hasMagic(page, 0, HEADER_MAGIC)) return { foreign: false, text: "no slab header" };
  const sum = hash32(page.slice(0, CHECKED_BYTES), 0);
  // On a big-endian machine the checksum's own bytes are swapped too.
  const isSwapped =
    view.getUint32(HEADER.byteOrder, false) === BYTE_ORDER_MARK &&
    view.getInt32(HEADER.checksum, false) === sum;
  if (isSwapped) return { foreign: true, text: "another byte order: it was written on a big-endian machine" };
  if (view.getInt32(HEADER.checksum, true) !== sum)
    return { foreign: false, text: "the header's checksum does not hold" };
  const version = view.getUint32(HEADER.version, true);
  if (version < SLAB_VERSION_MIN || version > SLAB_VERSION)
    return {
      foreign: true,
      text: `format version ${version}, this program reads ${SLAB_VERSION_MIN} to ${SLAB_VERSION}`,
    };
  if (view.getUint32(HEADER.byteOrder, true) !== BYTE_ORDER_MARK)
    return { foreign: true, text: "another byte order" };
  if (view.getUint32(HEADER.unitBytes, true) !== UNIT_BYTES)
    return { foreign: true, text: "another unit size" };
  const shard = view.getUint32(HEADER.shard, true);
  const sequence = view.getUint32(HEADER.sequence, true);
  if (shard !== expected.shard || sequence !== expected.sequence)
    return { foreign: true, text: `it is slab ${sequence} of shard ${shard}, in the wrong place` };
  if (view.getUint32(HEADER.slabBytes, true) !== expected.slabBytes)
    return { foreign: true, text: "another slab size" };
  for (let i = 0; i < 16; i++)
    if (page[HEADER.storeId + i] !== expected.storeId[i])
      return { foreign: true, text: "it belongs to another store" };
  return null;
}

/**
 * The format of a slab's records by its header page, 1 or 2. A damaged header counts as 1, of which less is
 * known.
 */
export function recordFormat(slab: RecordSource): 1 | 2 {
  return slab.words[HEADER.version / 4] === SLAB_VERSION ? 2 : 1;
}

/**
 * The slab that was full when this one was made, and how it ended, by a good header page; null: it says
 * nothing of it.
 */
export function previousSlab(page: Uint8Array): SlabEnd | null {
  const view = new DataView(page.buffer, page.byteOffset, HEADER_BYTES);
  const sequence = view.getUint32(HEADER.previousSequence, true);
  if (sequence === 0) return null;
  return {
    sequence,
    endUnit: view.getUint32(HEADER.previousEnd, true),
    last: view.getInt32(HEADER.previousLast, true),
  };
}

/** What a header page says of itself, right or wrong, for a person who looks at it. */
export function describeHeader(page: Uint8Array): Record<string, unknown> {
  const view = new DataView(page.buffer, page.byteOffset, HEADER_BYTES);
  return {
    magic: Buffer.from(page.subarray(0, 8)).toString("latin1"),
    version: view.getUint32(HEADER.version, true),
    byteOrder: `0x${view.getUint32(HEADER.byteOrder, true).toString(16).padStart(8, "0")}`,
    shard: view.getUint32(HEADER.shard, true),
    sequence: view.getUint32(HEADER.sequence, true),
    slabBytes: view.getUint32(HEADER.slabBytes, true),
    unitBytes: view.getUint32(HEADER.unitBytes, true),
    storeId: Buffer.from(page.subarray(HEADER.storeId, HEADER.storeId + 16)).toString("hex"),
    previousSlab: view.getUint32(HEADER.previousSequence, true),
    checksum:
      view.getInt32(HEADER.checksum, true) === hash32(page.subarray(0, CHECKED_BYTES), 0) ? "good" : "bad",
  };
}

/** Where a sealed slab's table lies, or null if the footer is not valid. `bytes` is the whole slab. */
export interface SlabFooter {
  entries: number;
  tableOffset: number;
  endUnit: number;
  clockLow: number;
  clockHigh: number;
}

/** Bytes that a table of `entries` and its footer take at the end of a slab. */
export function tailBytes(entries: number): number {
  return entries * TABLE_ENTRY_BYTES + FOOTER_BYTES;
}

/**
 * The table and footer of a slab as they stand at its end.
 * @param table 3 words an entry: hash A, hash B, and a `tableWord`
 */
export function encodeTail(
  table: Int32Array,
  sequence: number,
  slabBytes: number,
  endUnit: number,
  clockLow: number,
  clockHigh: number,
): Uint8Array {
  const entries = table.length / 3;
  const tail = new Uint8Array(tailBytes(entries));
  tail.set(new Uint8Array(table.buffer, table.byteOffset, table.byteLength));
  const footer = table.byteLength;
  const view = new DataView(tail.buffer, footer);
  putMagic(tail, footer, FOOTER_MAGIC);
  view.setUint32(FOOTER.entries, entries, true);
  view.setUint32(FOOTER.tableOffset, slabBytes - tail.length, true);
  view.setUint32(FOOTER.endUnit, endUnit, true);
  view.setUint32(FOOTER.sequence, sequence, true);
  view.setUint32(FOOTER.clockLow, clockLow, true);
  view.setUint32(FOOTER.clockHigh, clockHigh, true);
  view.setInt32(FOOTER.tableChecksum, hash32(tail.subarray(0, footer), sequence), true);
  view.setInt32(FOOTER.checksum, hash32(tail.subarray(footer, footer + CHECKED_BYTES), 0), true);
  return tail;
}

/** Whether the last FOOTER_BYTES of a slab look like a footer: then `decodeFooter` can tell. */
export function looksSealed(footer: Uint8Array): boolean {
  return hasMagic(footer, 0, FOOTER_MAGIC);
}

/**
 * The checksum in a footer (the last FOOTER_BYTES of a slab), which names it; null where there is no good
 * footer.
 */
export function footerSeal(footer: Uint8Array): number | null {
  if (!looksSealed(footer)) return null;
  const seal = new DataView(footer.buffer, footer.byteOffset, FOOTER_BYTES).getInt32(FOOTER.checksum, true);
  return seal === hash32(footer.subarray(0, CHECKED_BYTES), 0) ? seal : null;
}

/**
 * Reads and checks footer and table of a slab. Null where there is no valid one: the slab is open, or its
 * tail damaged.
 */
export function decodeFooter(slab: Uint8Array, sequence: number): SlabFooter | null {
  const at = slab.length - FOOTER_BYTES;
  if (!hasMagic(slab, at, FOOTER_MAGIC)) return null;
  const view = new DataView(slab.buffer, slab.byteOffset + at, FOOTER_BYTES);
  if (view.getInt32(FOOTER.checksum, true) !== hash32(slab.subarray(at, at + CHECKED_BYTES), 0)) return null;
  const footer: SlabFooter = {
    entries: view.getUint32(FOOTER.entries, true),
    tableOffset: view.getUint32(FOOTER.tableOffset, true),
    endUnit: view.getUint32(FOOTER.endUnit, true),
    clockLow: view.getUint32(FOOTER.clockLow, true),
    clockHigh: view.getUint32(FOOTER.clockHigh, true),
  };
  if (view.getUint32(FOOTER.sequence, true) !== sequence) return null;
  if (footer.tableOffset !== slab.length - tailBytes(footer.entries)) return null;
  if (footer.endUnit < FIRST_UNIT || footer.endUnit > footer.tableOffset >>> UNIT_SHIFT) return null;
  const table = slab.subarray(footer.tableOffset, at);
  if (view.getInt32(FOOTER.tableChecksum, true) !== hash32(table, sequence)) return null;
  return footer;
}

/** The table of a sealed slab as words, 3 an entry; `footer` must come from `decodeFooter`. */
export function tableWords(slab: Uint8Array, footer: SlabFooter): Int32Array {
  return new Int32Array(slab.buffer, slab.byteOffset + footer.tableOffset, footer.entries * 3);
}

const TABLE_ENDING = 1 << 25;
const TABLE_FRESH = 1 << 26;
const TABLE_OUTRANKED = 1 << 27;
const TABLE_UNIT_MASK = (1 << 24) - 1;

export function tableUnit(word: number): number {
  return word & TABLE_UNIT_MASK;
}
export function tableType(word: number): number {
  return word >>> 28;
}
export function tableOutranked(word: number): boolean {
  return (word & TABLE_OUTRANKED) !== 0;
}
export function tableFresh(word: number): boolean {
  return (word & TABLE_FRESH) !== 0;
}
/** Whether the entry is of a value with an end of life. */
export function tableEnding(word: number): boolean {
  return (word & TABLE_ENDING) !== 0;
}
/** The third word of a table's entry. */
export function tableWord(
  unit: number,
  type: number,
  outranked: boolean,
  fresh: boolean,
  ending = false,
): number {
  const flags = (outranked ? TABLE_OUTRANKED : 0) | (fresh ? TABLE_FRESH : 0) | (ending ? TABLE_ENDING : 0);
  return unit | (type << 28) | flags;
}
/** The same from the record itself. */
export function tableWordAt(source: RecordSource, at: number, unit: number): number {
  const type = typeOf(source, at);
  const ending = isExtended(source, at) && isValue(type) && endAt(source, at) !== 0;
  return tableWord(unit, type, isOutranked(source, at), isFresh(source, at), ending);
}
