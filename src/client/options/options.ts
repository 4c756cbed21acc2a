/** What the client is told, and what it answers. */
import type { Fetch } from "../transport/nodes.ts";
import type { Bytes } from "../transport/values.ts";

export interface ClientOptions {
  /** Of a node, or of several nodes of one cluster: the nearest that works is asked. */
  url: string | readonly string[];
  /** Sent as `Authorization: Bearer`. */
  token?: string;
  /** Sent with each request. */
  headers?: Readonly<Record<string, string>>;
  /** How often a request that failed is sent again; 5 when left out. */
  retries?: number;
  /** Milliseconds until a node's answer has to begin; 10,000 when left out. Large bodies may take longer. */
  attemptMs?: number;
  /**
   * Whether writes of up to 1 MiB carry an `Idempotency-Key` of their own, so that they can be sent again
   * after an answer was lost and take effect once; true when left out. In a cluster such a write takes two
   * round trips, the first one of a key four.
   */
  once?: boolean;
  /** In place of the global one. */
  fetch?: Fetch;
}

export interface Signalled {
  /** Ends what was begun; its reason is thrown. */
  signal?: AbortSignal;
}

export interface ReadOptions extends Signalled {
  consistency?: "quorum" | "one";
}

export interface StreamOptions extends ReadOptions {
  /** First byte; 0 when left out. */
  start?: number;
  /** Behind the last byte. */
  end?: number;
}

export interface Conditions {
  /** Only if the key has this version; `*`: any. */
  ifMatch?: string;
  /** Only if it has not; `*`: only if there is none. */
  ifNoneMatch?: string;
}

export interface Life {
  /** Seconds, or a text such as "500ms", "5m", "12h", "30d". */
  ttl?: number | string;
  /** The moment of its end; a number: seconds since 1970. */
  expires?: Date | number;
}

export interface Once {
  /** Whether this write carries an `Idempotency-Key`, or which one: 1 to 64 characters. */
  once?: boolean | string;
}

export interface WriteOptions extends Signalled, Conditions, Life, Once {
  /** Content type of bytes, or of a text that is not to be JSON. */
  type?: string;
  /** Kept with the value as `X-Meta-<name>`. */
  meta?: Readonly<Record<string, string>>;
}

export interface DeleteOptions extends Signalled, Conditions, Once {}

export interface PatchOptions extends Signalled, Conditions, Once {}

export interface IncrementOptions extends PatchOptions {
  /** Of a counter that begins with it. */
  ttl?: number | string;
  /** From where a key that is not there yet begins; 0 when left out, null: then it is an error. */
  initial?: number | bigint | null;
  min?: number | bigint;
  max?: number | bigint;
}

/** A value with what is known of it. */
export interface Entry<T = unknown> {
  key: string;
  value: T;
  /** The version, with its quotes: for `ifMatch`. */
  etag: string;
  type: string;
  /** Seconds that are left of its life; null: it does not end. */
  ttl: number | null;
  lastModified: Date | null;
  /** What was kept with it, names in small letters. */
  meta: Record<string, string>;
}

/** What is known of a value, without it. */
export interface Info extends Omit<Entry, "value"> {
  /** Of the whole value; null: not known, since it is kept in an encoding that was taken off. */
  bytes: number | null;
}

/** A value as it comes. */
export interface StreamEntry extends Info {
  stream: ReadableStream<Uint8Array>;
}

export interface Written {
  /** The key was new. */
  created: boolean;
  etag: string;
}

export interface Deleted {
  /** There was something to delete. */
  deleted: boolean;
  /** Of the deletion; null where there never was anything. */
  etag: string | null;
}

/** What a patch has made of a value; `value` is undefined where it is bytes. */
export interface Patched<T = unknown> extends Written {
  value: T;
}

export interface ListOptions extends Signalled {
  /** Keys that have it behind the prefix come as one item with `prefix`. */
  delimiter?: string;
  /** From this key on; after it; before it. */
  start?: string;
  after?: string;
  end?: string;
  reverse?: boolean;
  /** With each value up to 64 KiB. */
  values?: boolean;
  /** Of a page; all pages come. */
  limit?: number;
  consistency?: "quorum" | "one";
}

export interface ListItem {
  key: string;
  etag: string;
  bytes: number;
  type: string;
  ttl: number | null;
  /** With `values`: JSON's value, a text's text, else bytes. */
  value?: unknown;
}

/** All keys that begin with it, rolled up. */
export interface ListPrefix {
  prefix: string;
}

export interface WatchOptions extends Signalled {
  /** A place that an earlier watch has told: only what came after it. */
  since?: string;
  /** First what is there, then `live`, then what changes. */
  initial?: boolean;
  /** With each value up to 64 KiB. */
  values?: boolean;
  /** Also tells how far it is, where nothing has changed: for those who keep the place. */
  progress?: boolean;
}

/**
 * What has changed. `place`: what came after it may be told again, and nothing before it was missed; null:
 * none is known yet.
 */
export type WatchEvent =
  | {
      event: "put";
      key: string;
      /** With its quotes. */
      etag: string;
      bytes: number;
      type: string;
      value?: unknown;
      place: string | null;
    }
  | { event: "delete" | "expire"; key: string; etag: string; place: string | null }
  /** What is there has been told. */
  | { event: "live"; place: string | null }
  | { event: "progress"; place: string }
  /** Changes may have been missed: list again. With `initial` that follows by itself. */
  | { event: "reset"; place: null };

export interface LockOptions extends Signalled {
  /** How long the lock outlives a holder that dies, in seconds; 10 when left out. */
  ttl?: number;
  /** How long to wait for it, in milliseconds; not at all when left out. */
  waitMs?: number;
  /** What others see of the holder. */
  holder?: unknown;
}

export type { Bytes };
