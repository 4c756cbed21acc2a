/**
 * Every offset of FORMAT.md and nothing else: no other file of the program knows one.
 */

/** Versions of STORE that this program reads, and the one that it makes. */
export const STORE_VERSION_MIN = 1;
export const STORE_VERSION = 4;
/** From this version of STORE on a slab's header names the slab before it. */
export const CHAINED_VERSION_MIN = 2;
/** From this version of STORE on records have format 2: they may be extended and fresh. */
export const EXTENDED_VERSION_MIN = 3;
/** From this version of STORE on values may end, and records say that they have. */
export const ENDING_VERSION_MIN = 4;
/** Versions in the header of a slab: that of the format of its records. */
export const SLAB_VERSION_MIN = 1;
export const SLAB_VERSION = 2;
/** Alignment of records, in bytes. */
export const UNIT_BYTES = 16;
export const UNIT_SHIFT = 4;
/** Bits of an index location that count units within a slab. */
export const SLAB_UNIT_BITS = 22;
/** Slots a shard has for slabs: a slab's slot is its sequence modulo this. */
export const SLAB_SLOTS = 65_536;

export const HEADER_BYTES = 4096;
export const FIRST_UNIT = HEADER_BYTES / UNIT_BYTES;
export const HEADER_MAGIC = "MINISLAB";
export const FOOTER_MAGIC = "SLABTAIL";
export const FOOTER_BYTES = 64;
export const TABLE_ENTRY_BYTES = 12;
export const BYTE_ORDER_MARK = 0x01020304;

/** Byte offsets in a slab's header. */
export const HEADER = {
  version: 8,
  byteOrder: 12,
  shard: 16,
  sequence: 20,
  slabBytes: 24,
  unitBytes: 28,
  storeId: 32,
  previousSequence: 48,
  previousEnd: 52,
  previousLast: 56,
  checksum: 60,
} as const;

/** Byte offsets in a slab's footer. */
export const FOOTER = {
  entries: 8,
  tableOffset: 12,
  endUnit: 16,
  sequence: 20,
  clockLow: 24,
  clockHigh: 28,
  tableChecksum: 32,
  checksum: 60,
} as const;

export const SNAPSHOT_MAGIC = "MINIINDX";
/** Changes with the form of the snapshot file or of the index in memory. */
export const SNAPSHOT_FORM = 2;
export const SNAPSHOT_HEADER_BYTES = 128;
/** The sections are checked in pieces of this size. */
export const SNAPSHOT_PIECE_BYTES = 1024 * 1024;
export const SNAPSHOT_SLAB_WORDS = 4;

/** Byte offsets in the header of an index snapshot. */
export const SNAPSHOT = {
  form: 8,
  byteOrder: 12,
  shard: 16,
  incarnation: 20,
  slabBytes: 24,
  slabs: 28,
  storeId: 32,
  segments: 48,
  blocks: 52,
  freeBlocks: 56,
  openRecords: 60,
  entries: 64,
  keys: 72,
  tombstones: 80,
  clockLow: 88,
  clockHigh: 92,
  openClockLow: 96,
  openClockHigh: 100,
  openPrevious: 104,
  promises: 108,
  absenceBytes: 112,
  sectionsChecksum: 120,
  checksum: 124,
} as const;

export const RECORD_HEADER_BYTES = 48;

/** Byte offsets in a record. */
export const RECORD = {
  checksum: 0,
  valueBytes: 4,
  keyBytes: 8,
  contentTypeBytes: 10,
  type: 11,
  durable: 12,
  previous: 16,
  chunk: 20,
  /** Of an extended record, which is no chunk. */
  trailerBytes: 20,
  clockLow: 24,
  clockHigh: 28,
  node: 32,
  incarnation: 36,
  operationLow: 40,
  operationHigh: 44,
} as const;

export const TYPE_VALUE = 1;
export const TYPE_CHUNK = 2;
export const TYPE_MANIFEST = 3;
export const TYPE_TOMBSTONE = 4;
export const TYPE_PROMISE = 5;
export const TYPE_MARK = 6;
export const TYPE_FLOOR = 7;
export const TYPE_FORGOTTEN = 8;
export const TYPE_ENDED = 9;
export const TYPE_MASK = 0x0f;
export const FLAG_JSON = 0x10;
export const FLAG_OUTRANKED = 0x20;
export const FLAG_EXTENDED = 0x40;
export const FLAG_FRESH = 0x80;

/** Longest trailer of an extended record. */
export const TRAILER_BYTES_MAX = 16 * 1024;
/** Each field of a trailer: type and length, 2 bytes each, then so many bytes. */
export const FIELD_HEADER_BYTES = 4;
/** Types of a trailer's fields. */
export const FIELD_END = 1;
export const FIELD_ORIGIN = 2;
export const FIELD_METADATA = 3;
export const FIELD_MD5 = 4;
export const FIELD_RECENT = 5;
export const FIELD_CHECKSUM = 6;
/** What a write is known by when it comes again; only on its way, never stored. */
export const FIELD_ONCE = 0xff05;

/** The field that says where a copy was first appended: its head and a sequence. */
export const ORIGIN_FIELD_BYTES = FIELD_HEADER_BYTES + 4;
/** Longest field of recent operations. Metadata, an end and an origin fit beside it. */
export const RECENT_BYTES_MAX = 8 * 1024;
/** The field of an end of life, the first of those that are kept with a value: its head, and two words. */
export const END_BYTES = FIELD_HEADER_BYTES + 8;

/** Byte offsets in a manifest's value; entries follow its header. */
export const MANIFEST_HEADER_BYTES = 16;
export const MANIFEST_ENTRY_BYTES = 16;
export const MANIFEST_CHUNKS_MAX = 65_536;

/** Stored form of a JSON value: prefix, the client's text, suffix; as bytes. */
export const JSON_PREFIX: Uint8Array = new TextEncoder().encode('{"value":');
export const JSON_SUFFIX: Uint8Array = new TextEncoder().encode("}");
