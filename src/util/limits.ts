/**
 * Every bound of the program, with its unit last. Relations between them are asserted below, at load.
 */

/** Longest key, in bytes of UTF-8 after percent-decoding. */
export const KEY_BYTES_MAX = 1024;
/** Longest key that a record can have. */
export const RECORD_KEY_BYTES_MAX = 1088;
/** Longest Content-Type that is stored with a raw value. */
export const CONTENT_TYPE_BYTES_MAX = 255;
/** Names and values of a value's `X-Meta-…` headers together, without that beginning of their names. */
export const META_BYTES_MAX = 2048;
/** Longest other header that is kept with a value, such as Content-Disposition. */
export const KEPT_HEADER_BYTES_MAX = 1024;
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
/** Most keys on a page of a list, and how many there are when nobody says. */
export const LIST_LIMIT_MAX = 10_000;
export const LIST_LIMIT_DEFAULT = 1000;
/** A larger value does not come with a list. */
export const LISTED_VALUE_BYTES_MAX = 64 * 1024;
/** Clients that wait for changes, on one front. */
export const WATCHERS_MAX = 10_000;
/** What is on its way to one of them, in bytes. */
export const WATCHER_BYTES_MAX = 64 * 1024;
/** Longest that a request waits for a change. */
export const FEED_WAIT_MS_MAX = 300_000;
/** Longest If-Match or If-None-Match header. */
export const CONDITION_BYTES_MAX = 4096;
/**
 * A body up to this size is handed to the socket in one call; a larger one is streamed with back-pressure.
 */
export const REPLY_AT_ONCE_BYTES = 64 * 1024;
/**
 * Memory for bodies that are being received and are not yet part of a batch, over all connections of a front;
 * what stands still goes to the disk.
 */
export const RECEIVING_BYTES_MAX = 64 * 1024 * 1024;
/**
 * Bodies that are being received in several pieces, over all connections of a front; beyond, the slowest give
 * way.
 */
export const RECEIVING_MAX = 1024;
/** Large values on their way from one node into its cluster; beyond, the slowest give way. */
export const CLUSTER_UPLOADS_MAX = 128;
/** Streams from one node to another: its uploads, and as many downloads. */
export const PEER_STREAMS_MAX = 2 * CLUSTER_UPLOADS_MAX;
/** Longest frame between nodes: a value in one record, with its key and all that is said of it. */
export const PEER_FRAME_BYTES_MAX = CHUNK_BYTES + 64 * 1024;
/** A batch between nodes is not filled beyond this; a single longer frame travels alone. */
export const PEER_BATCH_BYTES = 256 * 1024;
/** Longest body of a batch: what fills it, or one frame with its length. */
export const PEER_BATCH_BYTES_MAX = PEER_FRAME_BYTES_MAX + 4;
/** Frames in a batch. */
export const PEER_BATCH_FRAMES_MAX = 4096;
/** Longest description of a value that is streamed between nodes. */
export const PEER_HEAD_BYTES_MAX = 4096;
/** Answers to one batch together, beyond which values come as streams of their own. */
export const PEER_ANSWERS_BYTES_MAX = 16 * 1024 * 1024;
/** The same of all batches that are being answered. */
export const PEER_ANSWERING_BYTES_MAX = 128 * 1024 * 1024;
/** Highest epoch of a layout: it travels as 32 bits. */
export const EPOCH_MAX = 2 ** 32 - 1;
/** Longest layout, as JSON. */
export const LAYOUT_BYTES_MAX = 4 * 1024 * 1024;
/** Bodies of other nodes that are being received, over all connections. */
export const PEER_RECEIVING_BYTES_MAX = 128 * 1024 * 1024;
/** Front threads. */
export const FRONTS_MAX = 64;
/** Shards a store can have; fixed when a data directory is made. */
export const SHARDS_MAX = 256;
/**
 * A ballot further ahead of a node's own clock than this is refused: one bad clock must not drag all others
 * along.
 */
export const BALLOT_AHEAD_MS_MAX = 60_000;
/**
 * Longest life of one operation between the nodes: answers that come later are not counted
 * (src/cluster/sync/rejoin.ts builds on this).
 */
export const OPERATION_MS_MAX = 5_000;
/**
 * How long a replica that lost its data waits before it synchronises: no operation can still count its lost
 * votes.
 */
export const REJOIN_WAIT_MS = 3 * OPERATION_MS_MAX;
/**
 * Entries of one shard's index that may have the same tag. Only keys made to collide come near it, and only
 * in a store whose hash has such keys.
 */
export const TAG_ENTRIES_MAX = 4096;
/**
 * Age from which a promise for an absent key may become part of the floor: its own accept comes too late by
 * then.
 */
export const PROMISE_FOLD_MS = 2 * OPERATION_MS_MAX;
/** Age from which a tombstone may be collected. */
export const TOMBSTONE_AGE_MS = 24 * 3600 * 1000;
/** The same of the mark that a value has ended, counted from its end. */
export const ENDED_AGE_MS = 3600 * 1000;
/** Most copies of a key: sets of replicas, old and new together, are bits of one small integer. */
export const REPLICAS_MAX = 7;

const ordered =
  KEY_BYTES_MAX <= RECORD_KEY_BYTES_MAX &&
  RECORD_KEY_BYTES_MAX + CONTENT_TYPE_BYTES_MAX < 65536 &&
  CHUNK_BYTES * 4 < SLAB_BYTES &&
  VALUE_BYTES_DEFAULT <= VALUE_BYTES_MAX &&
  REPLY_AT_ONCE_BYTES <= CHUNK_BYTES &&
  REJOIN_WAIT_MS >= 2 * OPERATION_MS_MAX &&
  // A node takes the uploads of all others.
  (REPLICAS_MAX - 1) * CLUSTER_UPLOADS_MAX < RECEIVING_MAX &&
  RECEIVING_BYTES_MAX >= CHUNK_BYTES &&
  BALLOT_AHEAD_MS_MAX < ENDED_AGE_MS &&
  ENDED_AGE_MS <= TOMBSTONE_AGE_MS &&
  2 * REPLICAS_MAX < 31 &&
  PEER_BATCH_BYTES <= PEER_BATCH_BYTES_MAX &&
  CHUNK_BYTES < PEER_ANSWERS_BYTES_MAX &&
  PEER_ANSWERS_BYTES_MAX < PEER_ANSWERING_BYTES_MAX &&
  LAYOUT_BYTES_MAX <= PEER_RECEIVING_BYTES_MAX;
if (!ordered) throw new Error("limits.ts: the limits contradict each other");
