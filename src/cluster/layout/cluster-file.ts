/**
 * The CLUSTER file of a data directory: what its worker knows of the cluster, so that it starts without a
 * master and knows who it was. FORMAT.md has the members. Written as a sealed file, so it is whole or absent.
 */
import path from "node:path";
import { readSealed, writeSealed } from "../../util/sealed-file.ts";
import { checked } from "./check.ts";
import type { Layout } from "./layout.ts";

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
  // A file from before these were there.
  const { member = store, number = storeNode, incarnation = 0 } = members;
  try {
    if (typeof url !== "string" || typeof store !== "string") throw new Error("url or store is missing");
    if (typeof member !== "string") throw new Error("member is no text");
    if (!isWord(number) || !isWord(incarnation)) throw new Error("number or incarnation is no number");
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
      layout: layout === null ? null : checked(layout),
      birth: birth as Record<string, string>,
    };
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`);
  }
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
