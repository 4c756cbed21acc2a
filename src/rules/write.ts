/**
 * Writes as a shard sees them, what becomes of them, and the rules by which a write is judged. Pure.
 */
import type { Ballot } from "../format/record.ts";
import type { ErrorCode } from "../util/errors.ts";
import { conditionsHold } from "./conditions.ts";

/** touch: the value that there is gets another end of life, or none. */
export type WriteVerb = "put" | "post" | "delete" | "touch";

/** A key with its hashes. The array is only read during the call. */
export interface KeyRef {
  key: Uint8Array;
  hashA: number;
  hashB: number;
}

/** What a replica answers to prepare and accept, and to what cleans up after them. */
export interface RegisterOutcome {
  /**
   * already: this very ballot is held. ahead: the ballot is too far in the future to be taken. damaged: what
   * is held, or was promised, cannot be told. unprepared: it does not remember what the record does that is
   * held, so it has to be written by who has asked. The last three had no effect.
   */
  verdict: "yes" | "already" | "no" | "damaged" | "unprepared";
  /** prepare, yes: what is held. accept, yes: what it took the place of. no: what was in the way. */
  ballot: Ballot | null;
  /** What is held, or was replaced, is a tombstone. */
  tombstone: boolean;
  /** It is one that says that the value of that ballot has ended. */
  ended: boolean;
  /**
   * prepare and accept, yes: the end of life of what is held, or was replaced, in milliseconds since 1970; 0:
   * none.
   */
  end: number;
  /** prepare, yes: what is held has recent operations. */
  remembers: boolean;
  operationLow: number;
  operationHigh: number;
  /** prepare, yes, of a key without a record: the floor of its partition. Else null. */
  floor: Ballot | null;
  /** Where a step of dropping a partition stopped; -1: it is done. */
  next: number;
}

/**
 * A write: as a front describes it, as it travels to the thread that owns its key, and as that one judges it.
 * The arrays are only read during the call.
 */
export interface Write extends KeyRef {
  /** touch: its end of life is in the trailer, or it gets none. */
  verb: WriteVerb;
  json: boolean;
  /** Empty where `json` says it. */
  contentType: Uint8Array;
  /** What is kept with the value: fields, as in format/fields/trailer.ts; empty: nothing. */
  trailer: Uint8Array;
  /** The end of life is that of the value whose place it takes, if that has one. */
  keepsEnd: boolean;
  /** In the form of conditions.ts. */
  ifMatch: string;
  ifNoneMatch: string;
  operationLow: number;
  operationHigh: number;
  /**
   * Replication: the write is an accept at this ballot (register.ts), whatever its conditions; its value is
   * in stored form.
   */
  ballot: Ballot | null;
  /** With `ballot` and touch: the version that is touched; where another one is held nothing happens. */
  base: Ballot | null;
  /** With `ballot` and delete: the value of that ballot has ended; not a tombstone of its own. */
  ended: boolean;
  /**
   * With `ballot`: where the key's record is damaged, take this in its place, whatever it was; and an absent
   * key's floor does not count. For a replica that synchronises, and knows from a majority of the others that
   * this is the key's record.
   */
  repair: boolean;
}

/** What became of a write; final after the `commit` that follows it. */
export interface Outcome {
  error: ErrorCode | null;
  detail: string;
  created: boolean;
  deleted: boolean;
  /** The version written, or in the way of a write that was refused by what is there; else null. */
  ballot: Ballot | null;
  /**
   * The write was known by its `Idempotency-Key`, and all of this is what became of it then; `detail` is what
   * a change in place was answered.
   */
  replayed?: boolean;
  /**
   * The answer to an operation of replication; null for all others, and meaningless where `error` is not
   * null.
   */
  register: RegisterOutcome | null;
}

/**
 * Whether an accept was refused only for its ballot, or because who wrote it has to ask first: what it brings
 * may be taken at another one.
 */
export function isOutvoted({ error, register }: Pick<Outcome, "error"> & Partial<Outcome>): boolean {
  return error === null && (register?.verdict === "no" || register?.verdict === "unprepared");
}

/** An outcome for what did not happen. */
export function failed(error: ErrorCode, detail = ""): Outcome {
  return { error, detail, created: false, deleted: false, ballot: null, register: null };
}

/** An outcome of which nothing is said yet but that it did not fail. */
export function succeeded(): Outcome {
  return { error: null, detail: "", created: false, deleted: false, ballot: null, register: null };
}

/** The newest state of a key: "damaged" where nobody can tell. */
export type KeyState = "value" | "tombstone" | "absent" | "damaged";

/**
 * Whether a write may go ahead on a key in a state.
 * @param etag version of the value that is there, or null
 * @returns why not, or null
 */
export function judge(write: Write, state: KeyState, etag: string | null): ErrorCode | null {
  if (!isConditional(write)) return null;
  if (state === "damaged") return "corrupt";
  if (write.verb === "touch" && state !== "value") return "not_found";
  if (!conditionsHold(write, etag)) return "precondition_failed";
  return write.verb === "post" && state === "value" ? "exists" : null;
}

/** Whether the outcome of a write depends on what is there. */
export function isConditional(write: Write): boolean {
  const { verb, ifMatch, ifNoneMatch } = write;
  return verb === "post" || verb === "touch" || ifMatch !== "" || ifNoneMatch !== "";
}
