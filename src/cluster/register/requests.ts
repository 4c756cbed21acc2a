/**
 * What is asked of the coordinator, what it answers, and what it works with: shapes only.
 */
import type { Once } from "../../format/fields/recent.ts";
import type { Ballot } from "../../format/record.ts";
import type { BallotSource } from "../clock/ballots.ts";
import type { ReplicaGroup } from "../layout/groups.ts";
import type { Bound } from "./bound.ts";
import type { ClusterKey, Payload, Proposal, RefusalReason, ReplicaPort } from "./ports.ts";

export interface CoordinatorSetup {
  port: ReplicaPort;
  ballots: BallotSource;
  /** The replicas of a partition by the newest layout that this node knows. */
  groupOf: (key: ClusterKey) => ReplicaGroup;
  /**
   * Round-trip time to a node in ms: 0 for this one, Infinity for one that certainly cannot be reached now.
   */
  distance: (node: string) => number;
  /** Monotonic milliseconds. */
  now: () => number;
  /** Cluster time, in ms since 1970: what ends are judged by. */
  clusterMillis: () => number;
  /**
   * Whether a majority's clocks were heard in this session. Before that nobody is told that a value has
   * ended: one node with a fast clock must not end everybody's leases.
   */
  knowsTime: () => boolean;
  /** The level that all members know (layout/features.ts). */
  features: () => number;
  /** 0 ≤ x < 1. */
  random: () => number;
  /** Calls back once after `ms`, unless cancelled; never before it returns. */
  after: (ms: number, callback: () => void) => unknown;
  cancel: (timer: unknown) => void;
  /** Some replica knows a newer layout: fetch it. */
  staleEpoch: (epoch: number) => void;
  /**
   * A record is decided and these replicas, as far as known, do not hold it: send it later, at the same
   * ballot.
   */
  missed: (key: ClusterKey, proposal: Proposal, nodes: readonly string[]) => void;
}

/** Why a conditional write is refused. */
export type Refusal = "exists" | "precondition_failed" | "not_found";

/**
 * A payload that is made from what is there; only of a conditional write. May be called several times.
 *
 *   keep    from the end of life of the value that is there; 0: it has none, or there is no value
 *   touch   from that value itself, its ballot, and whether a majority holds it; the condition must refuse
 *           where there is none
 */
export type Change =
  | { readonly kind: "keep"; readonly make: (end: number) => Payload }
  | { readonly kind: "touch"; readonly make: (payload: Payload, base: Ballot, isHeld: boolean) => Payload };

/** A write that is known when it comes again. */
export interface OnceWrite {
  /** What it is known by. */
  readonly once: Once;
  /** The value that is there, to be written again as it is: see Change, touch. */
  readonly again: (payload: Payload, base: Ballot, isHeld: boolean) => Payload;
}

export interface RegisterWrite {
  readonly key: ClusterKey;
  /** `TOMBSTONE` for a delete. What is written instead is made by `change`, where there is one. */
  readonly payload: Payload;
  readonly change?: Change | null;
  /** Random, new for each operation of a client; without `FIRST_WRITE`. */
  readonly operationLow: number;
  readonly operationHigh: number;
  /**
   * It was handed on to another node, which has not answered: it may have had its effect, or without a bound
   * may have it at any time, so that it is only looked for. (With `only` it is sent again, which does no
   * harm.)
   */
  readonly lost?: boolean;
  /** Of one that was handed on, here or from here; null or absent: it was not, or without a bound. */
  readonly bound?: Bound | null;
  /** It stands for so many writes, each with a version of its own; it gets the highest. Absent: for one. */
  readonly versions?: number;
  /** It came with an `Idempotency-Key`; null or absent: it did not. */
  readonly only?: OnceWrite | null;
  /** The replicas have the value already, under this very number, so that it must stay as it is. */
  readonly staged?: boolean;
  /** staged: the nodes that have it; null or absent: all of the key's replicas. */
  readonly at?: ReadonlySet<string> | null;
  /**
   * null: a plain PUT or DELETE. Otherwise judges what is there (the ballot is the version, of a tombstone
   * too; null: never written); may be called several times.
   */
  readonly condition: ((exists: boolean, version: Ballot | null) => Refusal | null) | null;
}

export interface RegisterResult {
  /**
   * done: a majority holds it. no_quorum: no effect, now or later. unknown_outcome: it may have had its
   * effect, or may yet have it. overloaded: too many writes of this key wait; no effect. key_reused: another
   * write had its `Idempotency-Key`; no effect. unremembered: the key remembers too many others; no effect.
   */
  outcome:
    | ("done" | Refusal | "no_quorum" | "unknown_outcome" | "overloaded")
    | ("key_reused" | "unremembered");
  /**
   * done: the version written; refused: the version that is there, or null. unknown_outcome: the highest one
   * that it was tried at; null: nobody knows. Else null.
   */
  ballot: Ballot | null;
  /** done: the version that it took the place of, as far as known; null: none. */
  previous: Ballot | null;
  /** done, refused: whether the key has a value at `ballot`. */
  exists: boolean;
  /** End of life of that value, in ms since 1970; 0: none. */
  end: number;
  /** done: whether the key had a value before. */
  existed: boolean;
  /** Whether `existed` is known exactly; after lost or repeated messages it is the best guess. */
  certain: boolean;
  /** done: replicas known to hold it at the time of the answer. */
  replicas: number;
  /** no_quorum: the last refusal of a replica, if any. */
  reason: RefusalReason | null;
  /** It has met writes of another coordinator. */
  raced: boolean;
  /** done: it was known, and this is what it was answered then beside its version. Else null or absent. */
  replayed?: Uint8Array | null;
}

export interface ReadResult {
  /** absent: known to be. no_quorum: nobody can know now. */
  outcome: "found" | "absent" | "no_quorum";
  /** The version; for an absent key that of its tombstone, or null. */
  ballot: Ballot | null;
  /** found: the value, as a replica's `look` or `read` gave it, or as it was proposed. */
  payload: Payload | null;
  /** Replicas known to hold this version. */
  replicas: number;
}

/**
 * Steps that the protocol is wrong without. Production always has all of them; the simulator shows that it
 * notices when one is left out.
 */
export interface OperationRules {
  /** A refusal (409, 412) is a read: given only when a majority holds what it rests on. */
  readonly confirmRefusals: boolean;
  /** A conditional write builds only on what a majority holds. */
  readonly confirmFoundations: boolean;
  /** After an accept that may have had an effect, look before trying again. */
  readonly resolveAmbiguous: boolean;
  /** The highest record seen is made the decided one before it is answered. */
  readonly confirmReads: boolean;
  /** A write is marked as the first only when it is. */
  readonly markFirstOnly: boolean;
  /** The mark that a value has ended ranks above that value. */
  readonly ranksEnds: boolean;
  /** A refusal that rests on an end is given only when a majority holds that. */
  readonly confirmEndedRefusals: boolean;
  /** A write in doubt whose value was marked as ended is not written again. */
  readonly keepOwnMark: boolean;
  /** Nor is one that somebody's refusal has buried under a tombstone. */
  readonly keepOwnTombstone: boolean;
  /** A write is only remembered once a majority refuses those who have not asked. */
  readonly guardsOnce: boolean;
}

export const ALL_RULES: OperationRules = Object.freeze({
  confirmRefusals: true,
  confirmFoundations: true,
  resolveAmbiguous: true,
  confirmReads: true,
  markFirstOnly: true,
  ranksEnds: true,
  confirmEndedRefusals: true,
  keepOwnMark: true,
  keepOwnTombstone: true,
  guardsOnce: true,
});

/** The answer to a write that has had no effect. */
export const NOTHING_DONE: RegisterResult = Object.freeze({
  outcome: "no_quorum",
  ballot: null,
  previous: null,
  exists: false,
  end: 0,
  existed: false,
  certain: true,
  replicas: 0,
  reason: null,
  raced: false,
});

/** The answer to a write that was not tried here. */
export function undone({ lost }: RegisterWrite, outcome: "overloaded" | "no_quorum"): RegisterResult {
  return { ...NOTHING_DONE, outcome: lost === true ? "unknown_outcome" : outcome };
}
