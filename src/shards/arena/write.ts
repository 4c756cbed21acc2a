/**
 * A write as the front knows it: its head, its outcome, and a body that arrives in pieces.
 */
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { type Life, NO_LIFE } from "../../rules/expiry.ts";
import type { RegisterOutcome, WriteVerb } from "../../rules/write.ts";
import type { ErrorCode } from "../../util/errors.ts";

/**
 * A key, as bytes in a buffer that its caller reuses: the bytes are `bytes[0 .. length)`. Every call that
 * takes one reads it before it returns.
 */
export interface KeyBytes {
  readonly bytes: Uint8Array;
  length: number;
}

/** A write without its body. */
export interface WriteHead {
  verb: WriteVerb;
  key: KeyBytes;
  /** The body is a JSON document `{"value":…}` to be checked; otherwise raw bytes. */
  json: boolean;
  /** Content type to store with raw bytes. */
  contentType: string;
  /**
   * What else is to be kept with the value: fields, as in format/fields/trailer.ts; empty: nothing. And what
   * the write is known by when it comes again (format/fields/recent.ts).
   */
  trailer: Uint8Array;
  /** Of an upload: where what is kept follows from the whole body, what that is; then it counts. */
  trailerAtEnd?: () => Uint8Array;
  /**
   * How long it is to live. Its end is computed by who takes the write, once, when the whole body is there.
   */
  life: Life;
  /** In the form of src/rules/conditions.ts. */
  ifMatch: string;
  ifNoneMatch: string;
  /**
   * Stands for so many writes of one key, each of which was replaced by the next one before anybody could see
   * it: so many versions are drawn, and it gets the highest. Absent: for one. Only in a cluster that can do
   * that.
   */
  versions?: number;
}

/** A write of a key with nothing said of it: no type, no end of life, no condition. */
export function plainHead(verb: WriteVerb, key: Uint8Array): WriteHead {
  return {
    verb,
    key: { bytes: key, length: key.length },
    json: false,
    contentType: "",
    trailer: NO_TRAILER,
    life: NO_LIFE,
    ifMatch: "",
    ifNoneMatch: "",
  };
}

/** The outcome of a write. One object that the vault reuses: valid during the callback. */
export interface WriteResult {
  /** null: done. Otherwise what went wrong. */
  error: ErrorCode | null;
  /** More detail than the error table's sentence, or empty. */
  detail: string;
  /** put, post: the key was new. */
  created: boolean;
  /** delete: there was something to delete. */
  deleted: boolean;
  /** Version written, with quotes (34 ASCII bytes), or null where none was. */
  etag: Uint8Array | null;
  /**
   * It was known by its `Idempotency-Key`, and all of this is what became of it then; `detail` is what a
   * change in place was answered: the value's JSON text, or the length of a raw one, or nothing.
   */
  replayed?: boolean;
  /** Of a prepare or an accept, where `error` is null. */
  register?: RegisterOutcome | null;
  /** On a node of a cluster: replicas known to hold it. */
  replicas?: number;
}

/** Of a write that was not made, or of which nobody knows. */
export function failedWrite(error: ErrorCode, detail: string): WriteResult {
  return { error, detail, created: false, deleted: false, etag: null };
}

export type WriteDone = (result: WriteResult) => void;

/** A body that arrives in pieces. */
export interface Upload {
  /**
   * Takes the next bytes (copied before it returns). False: enough for now, stop reading from the client
   * until `onDrain` is called; bytes passed all the same are kept, so nothing is lost.
   */
  write(bytes: Uint8Array): boolean;
  /** Set by the caller: called when more may be written after `write` said false. */
  onDrain: () => void;
  /**
   * Set by the caller: the upload failed before commit (bad JSON, full disk); nothing was stored; called
   * once.
   */
  onFail: WriteDone;
  /** Ends the body. Preconditions are judged here, atomically. Called once; then only `done` is called. */
  commit(done: WriteDone): void;
  /** Forgets the upload: the client went away. Leaves nothing behind. No callback follows. Idempotent. */
  abort(): void;
}
