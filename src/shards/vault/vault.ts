/**
 * What the HTTP front sees of the store: synchronous reads from the maps, and writes that are batched to the
 * thread that owns the key's shard. Front thread only.
 */
import type { ShardStats } from "../../engine/figures/stats.ts";
import type { Gatherings } from "../../util/gathering/gatherings.ts";
import type { FrontFigures } from "../arena/front-figures.ts";
import type { KeyBytes, Upload, WriteDone, WriteHead } from "../arena/write.ts";
import type { CatalogClient } from "../catalog/client.ts";
import type { CatalogStats } from "../catalog/thread.ts";
import type { FeedClient } from "../feed/client.ts";

export type { ShardStats };

/**
 * A record that is "cold" so many times in a row is to be waited for: memory is so short that reading it
 * beforehand does not help.
 */
export const COLD_READS_MAX = 8;

/**
 * The answer of `Vault.find`. One object that the vault reuses: valid until the next call of `find`; what is
 * not `state`, only if that is "found". "absent" is only said when it is known. "cold", only said by
 * `findResident`: the disk must be asked first. "ended": the value's end has come, and that is not on the
 * disk yet: call `end`, and look again.
 */
export interface Found {
  state: "found" | "absent" | "damaged" | "cold" | "ended";
  /** The stored kind: a JSON answer `{"value":…}` ready to send, or raw bytes. */
  json: boolean;
  /** Content type to send: "application/json" for JSON. */
  contentType: string;
  /** What else is kept with the value: fields, as in format/fields/trailer.ts; empty: nothing. Not reused. */
  readonly trailer: Uint8Array;
  /** Nothing is kept with it but its end of life, if it has one. */
  readonly isBare: boolean;
  /** When it ends, in milliseconds since 1970; 0: never. */
  readonly end: number;
  /** Size of what a GET sends, in bytes (for JSON: of the whole `{"value":…}` text). */
  valueBytes: number;
  /** The version with its quotes, 34 ASCII bytes; the same scratch array in every answer. */
  etag: Uint8Array;
  /** When the version was made, by the clock of the node that made it: milliseconds since 1970. */
  versionMs: number;
  /**
   * The value from `start` to `end` (all of it when left out), where it is one record (valueBytes ≤
   * CHUNK_BYTES): valid until the next call of this. Throws VaultError("corrupt") when the disk cannot give
   * it any more.
   */
  view(start?: number, end?: number): Uint8Array;
  /** Like `view`, in memory of its own. */
  copy(): Uint8Array;
  /** Opens the value for streaming, whatever its size. The caller must close it. */
  open(): ValueReader;
}

/**
 * A value being streamed out. What it reads stays mapped, even if the key is replaced or deleted meanwhile.
 */
export interface ValueReader {
  readonly valueBytes: number;
  /**
   * The bytes from `offset` on, as far as they lie in one piece (1 byte to CHUNK_BYTES): a view of mapped
   * memory, valid until close. Throws VaultError("corrupt") when the piece's checksum does not hold.
   */
  read(offset: number): Uint8Array;
  /**
   * Whether the bytes `from` to `to` of the piece that was last read are still what they were, and can all be
   * read: a file can be cut, and a disk fail, after `read`. Who hands them on asks before, and again after,
   * where what was handed on can still be called back. Left out: nothing here is on a disk.
   */
  holds?(from: number, to: number): boolean;
  /**
   * Whether `read` at this offset would not wait for the disk. False: what is missing is being read, and
   * `then` is called later, even after `close`. Left out: nothing here is on a disk.
   */
  ready?(offset: number, then: () => void): boolean;
  /** Releases the maps; calling it twice is harmless. */
  close(): void;
}

export interface VaultStats {
  shards: ShardStats[];
  /** Of all keys in order; left out where there are none. */
  catalog?: CatalogStats;
}

export interface Vault {
  /** Why nothing can be written since the start; null, or left out: it can. */
  readonly readOnly?: string | null;
  /** Whether fields can be kept with a value: then a head's `trailer` need not be empty. */
  readonly keepsFields: boolean;
  /** Whether values may end: then a head's `life` may say so. */
  readonly keepsEnds: boolean;
  /** Whether writes with an `Idempotency-Key` are known when they come again. */
  readonly remembers: boolean;
  /** What time it is, for ends: milliseconds since 1970, never less than before. */
  now(): number;
  /** Looks a key up, now: waits for the disk where the record is not in memory. */
  find(key: KeyBytes): Found;
  /** Like `find`, but answers "cold" instead of waiting for the disk. */
  findResident(key: KeyBytes): Found;
  /**
   * To be called at once after `findResident` has answered "cold": reads what it missed and then calls back;
   * look again then.
   */
  warm(done: () => void): void;
  /**
   * To be called when `find` has answered "ended": makes that known for good. `done` is called later, with an
   * error where that is not possible; without one, look again. False: the queue is full.
   * @param nowMs when somebody has found that it has ended; left out: now
   */
  end(key: KeyBytes, done: WriteDone, nowMs?: number): boolean;
  /**
   * Queues a write whose whole body (at most CHUNK_BYTES; ignored for delete) is at hand; head and body are
   * copied before it returns. `done` is called later, never from inside this call. False: the queue is full,
   * `done` is not called, answer 503.
   */
  submit(head: WriteHead, body: Uint8Array, done: WriteDone): boolean;
  /** Starts a body of any size that arrives in pieces. Null: the queue is full, answer 503. */
  upload(head: WriteHead): Upload | null;
  /** All keys in order; left out: there are no lists. */
  readonly catalog?: Pick<CatalogClient, "ask">;
  /** What has changed; left out: nobody can follow it. */
  readonly feed?: Pick<FeedClient, "ask" | "cancel">;
  /** Where bodies of this front are gathered that do not come in one piece. */
  readonly gatherings: Gatherings;
  /** What this front counts. */
  readonly figures: FrontFigures;
  stats(): VaultStats;
  /** Finishes what is in flight, syncs, releases everything. Later writes fail with "stopping". */
  close(): Promise<void>;
}
