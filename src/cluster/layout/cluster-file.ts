/**
 * The CLUSTER file of a data directory: what its worker knows of the cluster, so that it starts without a
 * master and knows who it was. FORMAT.md has the members. Written as a sealed file, so it is whole or absent.
 */
import { randomBytes } from "node:crypto";
import path from "node:path";
import { readSealed, writeSealed } from "../../util/sealed-file.ts";
import { checked } from "./check.ts";
import { isNamedIn, type Layout } from "./layout.ts";

const NAME = "CLUSTER";
const FORMAT = "minivault-cluster";
const VERSION = 1;

export interface ClusterState {
  /** The worker's own URL: its id in the layout. */
  url: string;
  /** Identity of the store that lies beside it, in hex. */
  store: string;
  /**
   * Who it is in the cluster: 32 hex digits and a number in ballots, drawn when the file is made, so that
   * copies of a directory that was in no cluster are not one node.
   */
  member: string;
  number: number;
  /** Of its starts, as ballots and other nodes count them. */
  incarnation: number;
  masters: string[];
  voting: boolean;
  /** Null: never heard of one. */
  layout: Layout | null;
  /** Epoch of the last move that it has finished, data and all; 0: none. */
  finished: number;
  /** Stores at the layout's birth, by URL. */
  birth: Record<string, string>;
}

/**
 * Reads the file. Null: the directory was never part of a cluster. Throws an Error with a sentence for a
 * person.
 * @param storeNode the node number of STORE, for a file from before it had one of its own
 */
export function readClusterFile(directory: string, storeNode = 0): ClusterState | null {
  const file = path.join(directory, NAME);
  let members: Record<string, unknown> | null;
  try {
    members = readSealed(file, FORMAT, VERSION);
  } catch (error) {
    throw new Error(
      `${(error as Error).message}; restore it from a copy, or move it away: without it the worker, started with -master or -volumes as before, synchronises anew from the others`,
    );
  }
  if (members === null) return null;
  const { url, store, masters, voting, layout, birth } = members;
  // A file from before these were there: by the rules of its time whoever voted had finished.
  const { member = store, number = storeNode, incarnation = 0, finished = epochOf(layout, voting) } = members;
  try {
    if (typeof url !== "string" || typeof store !== "string") throw new Error("url or store is missing");
    if (typeof member !== "string") throw new Error("member is no text");
    if (!isWord(number) || !isWord(incarnation) || !isWord(finished))
      throw new Error("number, incarnation or finished is no number");
    if (!isTextList(masters)) throw new Error("masters is no list of URLs");
    if (typeof voting !== "boolean") throw new Error("voting is neither true nor false");
    if (typeof birth !== "object" || birth === null) throw new Error("birth is no object");
    return {
      url,
      store,
      member,
      number,
      incarnation,
      masters,
      voting,
      finished,
      layout: layout === null ? null : checked(layout),
      birth: birth as Record<string, string>,
    };
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`);
  }
}

function epochOf(layout: unknown, voting: unknown): unknown {
  return voting === true && layout !== null ? (layout as Partial<Layout>).epoch : 0;
}

/** What there is of a worker that is in no cluster yet: it draws who it is. */
export function newClusterState(url: string, store: string, masters: string[]): ClusterState {
  const member = randomBytes(16).toString("hex");
  const number = randomBytes(4).readUInt32LE(0);
  return {
    ...{ url, store, member, number, incarnation: 0, masters },
    ...{ voting: false, finished: 0, layout: null, birth: {} },
  };
}

/**
 * The same as `readClusterFile`, if it is of this store and of this URL. Throws an Error with a sentence for
 * a person where it is another's.
 */
export function readOwnClusterFile({
  directory,
  store,
  storeNode,
  url,
}: {
  directory: string;
  store: string;
  storeNode: number;
  url: string;
}): ClusterState | null {
  const kept = readClusterFile(directory, storeNode);
  if (kept !== null && kept.store !== store)
    throw new Error(
      `${directory}/CLUSTER belongs to another store than the one beside it; remove it, and the worker synchronises anew`,
    );
  // Who never was a member under that URL, such as one that nobody could reach, may have another.
  if (kept !== null && kept.url !== url && isNamedIn(kept.layout, kept.url))
    throw new Error(
      `this data directory belongs to ${kept.url} in its cluster, not to ${url}: start it with -public-url ${kept.url}`,
    );
  return kept;
}

/** Replaces the file; when it returns, the content survives power loss. */
export function writeClusterFile(directory: string, state: ClusterState): void {
  writeSealed(path.join(directory, NAME), { format: FORMAT, version: VERSION, ...state });
}

function isWord(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32;
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((text) => typeof text === "string");
}
