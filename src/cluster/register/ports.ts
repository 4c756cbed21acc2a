/**
 * What the coordinator asks of replicas and what they answer: types only. The server's implementation sends
 * frames to peers and calls the local vault; the simulator's is a fake network. The difference that matters
 * everywhere: "no" is for ever; "refused" says that this delivery has had no effect; "lost" says that nobody
 * knows.
 */
import type { Ballot } from "../../format/record.ts";

/** A key as it goes through the cluster. */
export interface ClusterKey {
  readonly bytes: Uint8Array;
  /** Tells its partition in any layout. */
  readonly hashA: number;
}

/**
 * A value, or none; opaque to the coordinator. Small values carry their bytes; a large one is a handle from
 * which a replica that lacks it can be streamed to. What `read` answered may be passed to `accept`.
 */
export interface Payload {
  readonly tombstone: boolean;
  /** The mark that the value at the proposal's ballot has ended (b⁺ of rules/register.ts), a tombstone. */
  readonly ended?: boolean;
  /** End of life of the value, or of the one that is marked, in ms since 1970; 0 or absent: none. */
  readonly end?: number;
  /** Of a tombstone or a mark: what its record remembers of recent operations; of a value a field says it. */
  readonly recent?: Uint8Array | null;
}

/** The payload of every delete. */
export const TOMBSTONE: Payload = Object.freeze({ tombstone: true });

/** The payload that marks a value as ended. */
export function endMark(end: number, recent: Uint8Array | null = null): Payload {
  const mark = { tombstone: true, ended: true, end };
  return recent === null ? mark : { ...mark, recent };
}

/**
 * The bit of a number's upper half that marks a conditional write whose majority of promises held nothing of
 * the key, not even a collected tombstone. It stays with the operation as its number does, and settles what
 * an accept below it may have done (doubt.ts, write.ts).
 */
export const FIRST_WRITE = 0x80000000;

interface Operation {
  readonly operationLow: number;
  readonly operationHigh: number;
}

/** Whether two numbers are of one operation, whatever is marked. */
export function isSameOperation(a: Operation, b: Operation): boolean {
  return (
    a.operationLow === b.operationLow && (a.operationHigh & ~FIRST_WRITE) === (b.operationHigh & ~FIRST_WRITE)
  );
}

/**
 * What an accept asks a replica to hold. The operation stays with a value when it is written again at a
 * higher ballot.
 */
export interface Proposal {
  readonly ballot: Ballot;
  readonly payload: Payload;
  readonly operationLow: number;
  readonly operationHigh: number;
  /**
   * It is a record that some replica holds, at its own ballot: no replica refuses it for being ahead of its
   * clock.
   */
  readonly held?: boolean;
  /**
   * A time by which all replicas judge alike whether what they replace had ended: cluster time in ms since
   * 1970, where the coordinator knows it; 0 or absent: nothing has ended that is not marked.
   */
  readonly atMillis?: number;
  /**
   * What the record is to remember of recent operations, whatever its payload says (rules/recent.ts); null:
   * nothing; absent: what the payload says.
   */
  readonly recent?: Uint8Array | null;
}

/** A record that a replica holds, without its value. `ballot` null: the key is absent there. */
export interface Held {
  readonly ballot: Ballot | null;
  /** A tombstone, or a mark that the value has ended. */
  readonly tombstone: boolean;
  /** A mark that the value at this ballot has ended. */
  readonly ended: boolean;
  /** End of life of the value, also of one that has ended, in ms since 1970; 0: none. */
  readonly end: number;
  readonly operationLow: number;
  readonly operationHigh: number;
  /** What it remembers of recent operations: the field's bytes; null or absent: it has none. */
  readonly recent?: Uint8Array | null;
}

/** Promised; persisted before it was sent. */
export interface PrepareYes extends Held {
  readonly kind: "yes";
  /** With ballot null: the partition's floor; a record up to there may have been collected. Else null. */
  readonly floor: Ballot | null;
}

/**
 * What an accepted record took the place of. `existed`: a value, which had not ended by the proposal's time.
 */
export interface Replaced {
  readonly previous: Ballot | null;
  readonly existed: boolean;
}

/** Accepted; persisted before it was sent. */
export interface AcceptYes extends Replaced {
  readonly kind: "yes";
  /** This very ballot was held already, so the rest says nothing. */
  readonly already: boolean;
}

/** What is held. `payload`: the value where it is at hand (the own replica's), else null. */
export interface LookYes extends Held {
  readonly kind: "yes";
  readonly payload: Payload | null;
}

/** A higher ballot is in the way; this ballot will never be taken here. */
export interface No {
  readonly kind: "no";
  readonly higher: Ballot;
}

/**
 * unavailable: certainly not delivered (peer known to be down, queue full). stale_epoch: the replica knows a
 * newer layout; behind_epoch: an older one. ahead: the ballot is too far ahead of the replica's cluster time.
 * full: no room on the disk. key_refused: no place in the index. unprepared: the record does not remember the
 * recent operations that the one here does, so whoever wrote it has to ask first.
 */
export type RefusalReason =
  | "unavailable"
  | "not_voting"
  | "stale_epoch"
  | "behind_epoch"
  | "ahead"
  | "full"
  | "damaged"
  | "key_refused"
  | "unprepared";

/** Not done, for another reason than a ballot. */
export interface Refused {
  readonly kind: "refused";
  readonly reason: RefusalReason;
  /** stale_epoch, behind_epoch: the replica's own epoch; else 0. */
  readonly epoch: number;
  /**
   * behind_epoch to an accept that was done when the epoch had just changed: it must not count, but what it
   * did is known.
   */
  readonly replaced?: Replaced;
}

/** No answer in time, or a broken connection: the request may have had its effect, or may yet have it. */
export interface Lost {
  readonly kind: "lost";
}

export const LOST: Lost = Object.freeze({ kind: "lost" });
export const UNAVAILABLE: Refused = Object.freeze({ kind: "refused", reason: "unavailable", epoch: 0 });

/** What a replica remembers of an operation. */
export interface RecallYes {
  readonly kind: "yes";
  /** Its memory goes back far enough; else there may have been more. */
  readonly known: boolean;
  /** A promise has told a coordinator of an older program of its record: its write may build on that. */
  readonly shown: boolean;
  /** At which ballots it has taken it, or may have. */
  readonly ballots: readonly Ballot[];
  /** It surely has taken all of these, sent under the layout that was asked for, and under that. */
  readonly certain: boolean;
}

export type RecallAnswer = RecallYes | Refused | Lost;
export type PrepareAnswer = PrepareYes | No | Refused | Lost;
export type AcceptAnswer = AcceptYes | No | Refused | Lost;
export type LookAnswer = LookYes | Refused | Lost;

/**
 * The replicas, by node id, the own one included. Each call answers once, possibly before it returns, and by
 * itself after a bounded time ("lost" at the latest). Epochs are those of the layout by which the operation
 * was decided.
 *
 * The answer must be that of the first delivery. A transport that may deliver a request twice (one that sends
 * it again on another connection) must drop the answer to a repeat: an accept that was taken, then overtaken
 * by a newer record, and then delivered again would get a "no", and "every replica said no" would no longer
 * mean that it had no effect.
 */
export interface ReplicaPort {
  /** Asks for a promise. */
  prepare(
    node: string,
    key: ClusterKey,
    epoch: number,
    ballot: Ballot,
    reply: (answer: PrepareAnswer) => void,
  ): void;
  /** Asks to hold a record. */
  accept(
    node: string,
    key: ClusterKey,
    epoch: number,
    proposal: Proposal,
    reply: (answer: AcceptAnswer) => void,
  ): void;
  /** Asks which record is held. */
  look(node: string, key: ClusterKey, epoch: number, reply: (answer: LookAnswer) => void): void;
  /**
   * Asks what the replica remembers of this operation, up to now.
   * @param node the number in the ballots of who asks
   * @param ageMs how long ago the operation began, when the replica gets this, at most
   */
  recall(
    replica: string,
    key: ClusterKey,
    epoch: number,
    operation: { readonly operationLow: number; readonly operationHigh: number },
    node: number,
    ageMs: number,
    reply: (answer: RecallAnswer) => void,
  ): void;
  /** As `look`, and a payload whenever there is a value; ballot and payload belong to one record. */
  read(node: string, key: ClusterKey, epoch: number, reply: (answer: LookAnswer) => void): void;
}
