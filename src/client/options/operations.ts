/** The operations of a batch, and what becomes of them. */
import type { Conditions, IncrementOptions, Once, PatchOptions, Signalled } from "./options.ts";

export interface BatchOptions extends Signalled {
  /** Whether its writes carry keys; as the client's own when left out. An operation's `once` counts more. */
  once?: boolean;
}

export type Operation = ReadOperation | WriteOperation;

export type ReadOperation = { op: "get"; key: string } & Conditions;

export type WriteOperation =
  | ({ op: "put" | "post"; key: string; value: unknown; type?: string; ttl?: number | string } & Conditions &
      Once)
  | ({ op: "delete"; key: string } & Conditions & Once)
  | ChangeOperation;

/** What the methods `patch`, `append`, `increment` and `touch` do. */
export type ChangeOperation =
  /** An array: a list of operations (RFC 6902); an object: merged into the value (RFC 7396). */
  | ({ op: "patch"; key: string; change: object } & Omit<PatchOptions, "signal">)
  /** An element to an array, a text to a text, bytes to bytes. */
  | ({ op: "append"; key: string; value: unknown } & Omit<PatchOptions, "signal">)
  /** `by` is 1 when left out. */
  | ({ op: "increment"; key: string; by?: number | bigint } & Omit<IncrementOptions, "signal">)
  /** Another end of life; `"none"`: none. */
  | ({ op: "touch"; key: string; ttl: number | string } & Conditions & Once);

/** What became of an operation. */
export interface OperationResult {
  /** As if it had been sent alone; 503 with `unknown_outcome`: it may have been done. */
  status: number;
  etag: string | null;
  /** Of a get that has found something, and of a change in place. */
  value?: unknown;
  type?: string;
  created?: boolean;
  deleted?: boolean;
  /** It had been done before, when an answer was lost. */
  replayed?: boolean;
  /** Why it was not done. */
  error?: string;
  code?: string;
}
