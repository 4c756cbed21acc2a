/**
 * The list of a shard's slabs, as bytes. Pure: no file is touched here. FORMAT.md has the tables.
 */
import { hash32 } from "../util/hash.ts";
import { BYTE_ORDER_MARK } from "./offsets.ts";

/** What the list says of one slab. */
export interface ListedSlab {
  sequence: number;
  state: ListedState;
  /** End of its records in units: at least (open), or exactly (full). */
  endUnit: number;
  /** Checksum of the record that ends there, 0: there is none, or it was not read. */
  last: number;
  /** Checksum in its footer, which a full slab has or gets; else 0. */
  seal: number;
}

/**
 * Open: records may have been added since. Full: nothing changes any more. Unknown: it was damaged when it
 * was listed.
 */
export const LISTED_OPEN = 1;
export const LISTED_FULL = 2;
export const LISTED_UNKNOWN = 3;
export type ListedState = typeof LISTED_OPEN | typeof LISTED_FULL | typeof LISTED_UNKNOWN;

/** A place in a shard's log; sequence 0: none. */
export interface LogPlace {
  sequence: number;
  unit: number;
}

export interface SlabListContent {
  /** The start that wrote it. */
  incarnation: number;
  /** Rises with each write of the list. */
  generation: number;
  /** What was lost up to here has been made good from other replicas. */
  settled: LogPlace;
  /** Up to here slabs may have been lost that nobody can name. */
  doubt: LogPlace;
  /** Before here the log does not tell all deletes any more. */
  horizon: LogPlace;
  /** In order of sequence. */
  slabs: readonly ListedSlab[];
}

/** The end of a slab's records that was durable at some moment. */
export interface SlabEnd {
  sequence: number;
  endUnit: number;
  last: number;
}

/** Whose list it is. */
export interface ListIdentity {
  shard: number;
  /** 16 bytes. */
  storeId: Uint8Array;
}

export const LIST_MAGIC = "MINILIST";
const FORM = 1;
/** The header page; the entries follow it. */
export const LIST_HEADER_BYTES = 4096;
/** Of the header page, what the list itself takes. */
const LIST_HEAD_BYTES = 80;
/** Where the note stands in the header page: in a sector of its own. */
export const NOTE_OFFSET = 512;
const NOTE_BYTES = 32;
export const LIST_ENTRY_BYTES = 16;

const AT = {
  form: 8,
  byteOrder: 12,
  shard: 16,
  incarnation: 20,
  generation: 24,
  entries: 28,
  storeId: 32,
  settledSequence: 48,
  settledUnit: 52,
  doubtSequence: 56,
  doubtUnit: 60,
  horizonSequence: 64,
  horizonUnit: 68,
  checksum: 76,
} as const;
const NOTE = { sequence: 0, endUnit: 4, last: 8, shard: 12, checksum: 28 } as const;
const STATE_SHIFT = 28;
const UNIT_MASK = (1 << STATE_SHIFT) - 1;

/** The first LIST_HEAD_BYTES of a list, and its entries. */
export function encodeSlabList(
  identity: ListIdentity,
  content: SlabListContent,
): { head: Uint8Array; entries: Uint8Array } {
  const { slabs } = content;
  const entries = new Uint8Array(slabs.length * LIST_ENTRY_BYTES);
  const words = new DataView(entries.buffer);
  slabs.forEach(({ sequence, state, endUnit, last, seal }, i) => {
    const at = i * LIST_ENTRY_BYTES;
    words.setUint32(at, sequence, true);
    words.setUint32(at + 4, endUnit | (state << STATE_SHIFT), true);
    words.setInt32(at + 8, last, true);
    words.setInt32(at + 12, seal, true);
  });
  const head = new Uint8Array(LIST_HEAD_BYTES);
  const view = new DataView(head.buffer);
  for (let i = 0; i < LIST_MAGIC.length; i++) head[i] = LIST_MAGIC.charCodeAt(i);
  view.setUint32(AT.form, FORM, true);
  view.setUint32(AT.byteOrder, BYTE_ORDER_MARK, true);
  view.setUint32(AT.shard, identity.shard, true);
  view.setUint32(AT.incarnation, content.incarnation, true);
  view.setUint32(AT.generation, content.generation, true);
  view.setUint32(AT.entries, slabs.length, true);
  head.set(identity.storeId, AT.storeId);
  view.setUint32(AT.settledSequence, content.settled.sequence, true);
  view.setUint32(AT.settledUnit, content.settled.unit, true);
  view.setUint32(AT.doubtSequence, content.doubt.sequence, true);
  view.setUint32(AT.doubtUnit, content.doubt.unit, true);
  view.setUint32(AT.horizonSequence, content.horizon.sequence, true);
  view.setUint32(AT.horizonUnit, content.horizon.unit, true);
  view.setInt32(AT.checksum, checksumOf(head, entries), true);
  return { head, entries };
}

function checksumOf(head: Uint8Array, entries: Uint8Array): number {
  return hash32(entries, hash32(head.subarray(0, AT.checksum), 0));
}

/** Whose list the bytes of a file say to be. */
export function listIdentity(bytes: Uint8Array): ListIdentity {
  const head = new Uint8Array(LIST_HEAD_BYTES);
  head.set(bytes.subarray(0, LIST_HEAD_BYTES));
  return {
    shard: new DataView(head.buffer).getUint32(AT.shard, true),
    storeId: head.subarray(AT.storeId, AT.storeId + 16),
  };
}

/** The list in the bytes of a file, or why there is none of that shard, for a person. */
export function decodeSlabList(bytes: Uint8Array, identity: ListIdentity): SlabListContent | string {
  if (bytes.length < LIST_HEADER_BYTES) return "it is too short";
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let i = 0; i < LIST_MAGIC.length; i++)
    if (bytes[i] !== LIST_MAGIC.charCodeAt(i)) return "it is no list of slabs";
  const count = view.getUint32(AT.entries, true);
  const end = LIST_HEADER_BYTES + count * LIST_ENTRY_BYTES;
  if (end > bytes.length) return "it is too short";
  const sum = checksumOf(bytes.slice(0, LIST_HEAD_BYTES), bytes.slice(LIST_HEADER_BYTES, end));
  if (view.getInt32(AT.checksum, true) !== sum) return "its checksum does not hold";
  if (view.getUint32(AT.form, true) !== FORM) return "it has another form";
  if (
    view.getUint32(AT.shard, true) !== identity.shard ||
    identity.storeId.some((byte, i) => bytes[AT.storeId + i] !== byte)
  )
    return "it belongs to another store or shard";
  return {
    incarnation: view.getUint32(AT.incarnation, true),
    generation: view.getUint32(AT.generation, true),
    settled: {
      sequence: view.getUint32(AT.settledSequence, true),
      unit: view.getUint32(AT.settledUnit, true),
    },
    doubt: { sequence: view.getUint32(AT.doubtSequence, true), unit: view.getUint32(AT.doubtUnit, true) },
    horizon: {
      sequence: view.getUint32(AT.horizonSequence, true),
      unit: view.getUint32(AT.horizonUnit, true),
    },
    slabs: Array.from({ length: count }, (_, i) => {
      const at = LIST_HEADER_BYTES + i * LIST_ENTRY_BYTES;
      const word = view.getUint32(at + 4, true);
      return {
        sequence: view.getUint32(at, true),
        state: (word >>> STATE_SHIFT) as ListedState,
        endUnit: word & UNIT_MASK,
        last: view.getInt32(at + 8, true),
        seal: view.getInt32(at + 12, true),
      };
    }),
  };
}

/** The note of how far the open slab is durable, for NOTE_OFFSET. */
export function encodeNote(
  { shard, storeId }: ListIdentity,
  { sequence, endUnit, last }: SlabEnd,
): Uint8Array {
  const bytes = new Uint8Array(NOTE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(NOTE.sequence, sequence, true);
  view.setUint32(NOTE.endUnit, endUnit, true);
  view.setInt32(NOTE.last, last, true);
  view.setUint32(NOTE.shard, shard, true);
  view.setInt32(NOTE.checksum, noteChecksum(bytes, storeId), true);
  return bytes;
}

/** The note in the bytes of a list, or null where there is no good one of that shard. */
export function decodeNote(list: Uint8Array, { shard, storeId }: ListIdentity): SlabEnd | null {
  if (list.length < NOTE_OFFSET + NOTE_BYTES) return null;
  const bytes = list.subarray(NOTE_OFFSET, NOTE_OFFSET + NOTE_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, NOTE_BYTES);
  if (view.getUint32(NOTE.sequence, true) === 0 || view.getUint32(NOTE.shard, true) !== shard) return null;
  if (view.getInt32(NOTE.checksum, true) !== noteChecksum(bytes, storeId)) return null;
  return {
    sequence: view.getUint32(NOTE.sequence, true),
    endUnit: view.getUint32(NOTE.endUnit, true),
    last: view.getInt32(NOTE.last, true),
  };
}

function noteChecksum(note: Uint8Array, storeId: Uint8Array): number {
  return hash32(note.subarray(0, NOTE.checksum), hash32(storeId, 0));
}
