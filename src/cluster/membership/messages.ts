/**
 * What workers and masters tell each other. The master checks a heartbeat field by field
 * (src/master/registry/report.ts), the worker an answer (membership.ts).
 */
import type { Known } from "../identity/lives.ts";
import { checked, checkStores } from "../layout/check.ts";
import type { Layout } from "../layout/layout.ts";

/** Heartbeats come this often; a node that has been silent for longer is suspect, then down. */
export const HEARTBEAT_MS = 1000;
export const SUSPECT_MS = 3000;
export const DOWN_MS = 10_000;

if (!(HEARTBEAT_MS < SUSPECT_MS && SUSPECT_MS < DOWN_MS))
  throw new Error("messages.ts: the times contradict each other");

export type Liveness = "up" | "suspect" | "down";

/** Partitions of the move under way that a worker has synchronised. */
export interface Progress {
  epoch: number;
  done: number;
  total: number;
}

/** A worker that wants to join, as the master knows it. */
export interface Candidate {
  url: string;
  store: string;
}

/** Somebody has tried to reach it under its public URL: what went wrong, or null. */
export interface Tried extends Candidate {
  problem: string | null;
}

/** What a node says of itself, to whomever. */
interface SelfDescription {
  /** How others reach it: its identity. */
  url: string;
  region: string;
  /** The machine. */
  host: string;
  /** Identity of its store, 32 hex digits; empty: it has none, so it takes no part in the layout. */
  store: string;
  /** Of the layout that it knows; 0: none. */
  epoch: number;
  /** Its store holds nothing at all. */
  empty: boolean;
  /** It may vote for the partitions it holds. */
  voting: boolean;
  /** The highest feature level that it can do (layout/features.ts). Absent: the first. */
  features?: number;
}

/** POST /register and POST /heartbeat. */
export interface Heartbeat extends SelfDescription {
  /** Place of this master in the worker's -master list; the first one makes the layouts. */
  rank: number;
  progress: Progress | null;
  /** Whatever else it says, such as {keys, bytes}. */
  load: unknown;
  /** Its life and marks (cluster/identity/life.ts), so that a master can be asked for them. */
  life?: string;
  marks?: string;
  /** What came of those that the master wanted to be tried. */
  tried?: Tried[];
}

/** The answer to it. */
export interface HeartbeatAnswer {
  success: true;
  /** Whether this master leads. Absent: the first of the -master list does. */
  leads?: boolean;
  /** Of the master's layout; 0: none. */
  epoch: number;
  /** Present where the worker's own is older. */
  layout?: Layout;
  /**
   * The store that the layout knows under this URL, or null; another one than the worker's own: its data is
   * lost.
   */
  store: string | null;
  /** With the first layout of all, as in MemberDocument: for masters that learn it from the worker. */
  birth?: Record<string, string>;
  /** Nodes of the layout that are not up. */
  suspect: string[];
  down: string[];
  /** Why the worker is not taken into the layout. */
  refused?: string;
  /** Workers that this one is to try to reach. */
  candidates?: Candidate[];
  /** What is known here of the worker's store, apart from this life. */
  known?: Known;
  /** A later start of the worker is known: this one must not serve. */
  fenced?: string;
  /** The worker is of another cluster. */
  foreign?: string;
}

/** GET /_peer/layout: what a node says of itself to masters and other nodes. */
export interface MemberDocument extends SelfDescription {
  success: true;
  layout: Layout | null;
  /**
   * Stores of the nodes at the birth of the layout, by URL; a node that has another one by now has lost its
   * data.
   */
  birth: Record<string, string>;
  /** The list of -volumes, itself included, in order; null: it has a master, or is alone. */
  volumes: string[] | null;
}

/** POST /_peer/layout: a master asks a worker that knows of no master to register. */
export interface Invitation {
  /** The master's URL. */
  master: string;
  /** The worker's URL, as the master knows it. */
  url: string;
  /** The worker is asked in spite of its keys: they become the cluster's first. */
  withKeys: boolean;
  /** Of the master's layout; null: it has none. */
  cluster: string | null;
}

/** Reads what a node says of itself. Throws an Error with a sentence for a person. */
export function readMember(text: string): MemberDocument {
  const document = JSON.parse(text) as MemberDocument;
  const { url, store, epoch, layout, birth, volumes } = document;
  if (typeof url !== "string" || typeof store !== "string" || !Number.isSafeInteger(epoch))
    throw new Error("the answer does not describe a node");
  if (volumes !== null && !Array.isArray(volumes)) throw new Error("the answer does not describe a node");
  checkStores(birth);
  return { ...document, layout: layout === null ? null : checked(layout) };
}
