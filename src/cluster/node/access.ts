/** What the HTTP front asks of a cluster: types only. cluster-node.ts implements it. */

import type { Ballot } from "../../format/record.ts";
import type { KeyBytes, Upload, WriteDone, WriteHead } from "../../shards/arena/write.ts";
import type { CatalogAnswer, CatalogQuestion } from "../../shards/catalog/messages.ts";
import type { FeedClient } from "../../shards/feed/client.ts";
import type { PeerClient } from "../peers/peer-client.ts";
import type { RemoteValue, StoredValue } from "../wire/values.ts";

export type Consistency = "quorum" | "one";

/** found: `value` with its version. absent: known to be. unavailable: nobody can know now. */
export type ReadAnswer =
  | { state: "found"; value: StoredValue; ballot: Ballot; replicas: number }
  | { state: "absent"; ballot: Ballot | null; replicas: number }
  | { state: "unavailable" };

/** Where writes go: as `Vault`, with answers that are true for the whole cluster. */
export interface WriteTarget {
  /** Whether fields can be kept with a value: then a head's `trailer` need not be empty. */
  readonly keepsFields: boolean;
  /** Whether values may end: then a head's `life` may say so. */
  readonly keepsEnds: boolean;
  /** Whether writes with an `Idempotency-Key` are known when they come again. */
  readonly remembers: boolean;
  now(): number; // for ends, in milliseconds since 1970
  submit(head: WriteHead, body: Uint8Array, done: WriteDone): boolean;
  upload(head: WriteHead): Upload | null;
}

/** What changes in place ask. */
export interface ChangeAccess {
  /** Whether one write may draw several versions: then a head may say how many. */
  readonly drawsVersions: boolean;
  /** Tells the writes of this node's clients from those of others. */
  readonly writer: number;
  /** A change begins. Answers the node that it should go to; null: this one. */
  elsewhere(key: Uint8Array): Pick<PeerClient, "handOn"> | null;
  /** A change begins that the node of this number has handed on. Answers whether others write the key. */
  begins(key: Uint8Array, writer: number): boolean;
  /** Another node says that several write the key. */
  shared(key: Uint8Array): void;
}

export interface ClusterAccess extends WriteTarget {
  /** Region of this node, which is the one that answers. */
  readonly region: string;
  readonly writes: ChangeAccess;
  /** For reads that do not say. */
  readonly consistency: Consistency;
  /** Whether this node holds a copy of the key that it may answer `consistency=one` from. */
  mayAnswer(key: KeyBytes): boolean;
  /** Reads a key. `key` must not change any more. `done` is called once, possibly before this returns. */
  read(key: Uint8Array, consistency: Consistency, done: (answer: ReadAnswer) => void): void;
  /**
   * Streams the bytes `start` to `end` of a large value that another node holds. Rejects when it has it no
   * more.
   */
  open(key: Uint8Array, value: RemoteValue, start: number, end: number): Promise<RemoteStream>;
  /** Answers questions of lists, as true for the whole cluster as a read is. */
  list(question: CatalogQuestion, consistency: Consistency): Promise<CatalogAnswer>;
  /** What has changed in the whole cluster. */
  readonly feeds: Pick<FeedClient, "ask" | "cancel"> & { close(): void };
  /** Whether a large value lies here: then the vault has it. */
  isHere(value: RemoteValue): boolean;
}

/** To be read to its end or destroyed. */
export type RemoteStream = AsyncIterable<Uint8Array> & { destroy(error?: Error): void };
