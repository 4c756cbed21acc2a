/**
 * Every bound of the program, with its unit last. Relations between them are asserted below, at load.
 */

/** Longest key, in bytes of UTF-8 after percent-decoding. */
export const KEY_BYTES_MAX = 1024;
/** Longest Content-Type that is stored with a raw value. */
export const CONTENT_TYPE_BYTES_MAX = 255;
/** A value up to this size is one record; a larger one is chunk records of this size and a manifest. */
export const CHUNK_BYTES = 1024 * 1024;
/** Default of -max-value. */
export const VALUE_BYTES_DEFAULT = 1024 * 1024 * 1024;
/** Highest -max-value: what one manifest record can list. */
export const VALUE_BYTES_MAX = 64 * 1024 * 1024 * 1024;
/** Size of a slab file. */
export const SLAB_BYTES = 64 * 1024 * 1024;
/** Deepest nesting of arrays and objects in a JSON value (RFC 8259, section 9, allows a limit). */
export const JSON_DEPTH_MAX = 10_000;
/** Longest If-Match or If-None-Match header. */
export const CONDITION_BYTES_MAX = 4096;
/** A body up to this size is handed to the socket in one call; a larger one is streamed with back-pressure. */
export const REPLY_AT_ONCE_BYTES = 64 * 1024;
/** Bytes of bodies that are being received and are not yet part of a batch, over all connections. */
export const RECEIVING_BYTES_MAX = 64 * 1024 * 1024;
/** Shards a store can have; fixed when a data directory is made. */
export const SHARDS_MAX = 256;

const ordered =
  KEY_BYTES_MAX + CONTENT_TYPE_BYTES_MAX < 65536 &&
  CHUNK_BYTES * 4 < SLAB_BYTES &&
  VALUE_BYTES_DEFAULT <= VALUE_BYTES_MAX &&
  REPLY_AT_ONCE_BYTES <= CHUNK_BYTES;
if (!ordered) throw new Error("limits.ts: the limits contradict each other");
