/**
 * What a master keeps: the file MASTER in the folder `master` of its data directory (a worker may
 * have the same data directory). FORMAT.md has the members. Written as a sealed file at every change of the
 * layout, the queue, or who is known; never for a heartbeat as such.
 */
import fs from "node:fs";
import path from "node:path";
import { type Change, checkedChanges } from "../../cluster/layout/changes.ts";
import { checked } from "../../cluster/layout/check.ts";
import type { Layout } from "../../cluster/layout/layout.ts";
import { openDataDirectory } from "../../platform/private-directory.ts";
import { readSealed, writeSealed } from "../../util/sealed-file.ts";
import type { KnownNode } from "../registry/registry.ts";

const FOLDER = "master";
export const STATE_NAME = "MASTER";
const FORMAT = "minivault-master";
const VERSION = 1;

export interface MasterState {
  layout: Layout | null;
  queue: Change[];
  /** Stores of the layout's nodes, by URL: another one under the same URL has lost its data. */
  stores: Record<string, string>;
  /** Stores of workers that left, by URL: they do not join again by themselves. */
  left: Record<string, string>;
  /**
   * Stores of workers whose move was given up because a worker had died, by URL: they may hold keys of it,
   * and join again.
   */
  returning: Record<string, string>;
  nodes: KnownNode[];
}

/** A change could not be put on disk, and so has not happened. */
export class NotKept extends Error {}

/** The folder, made when it is not there. Throws a sentence where the data directory is not fit to be one. */
export function masterFolder(dataDirectory: string, warn: (message: string) => void): string {
  openDataDirectory(dataDirectory, warn);
  const folder = path.join(dataDirectory, FOLDER);
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  return folder;
}

/** Reads the state. Null: none yet. Throws an Error with a sentence for a person. */
export function readState(folder: string): MasterState | null {
  const file = path.join(folder, STATE_NAME);
  try {
    const members = readSealed(file, FORMAT, VERSION);
    return members === null ? null : stateFrom(file, members);
  } catch (error) {
    throw new Error(
      `${(error as Error).message}; restore it from a copy, or move it away: a master without it learns the layout from its workers`,
    );
  }
}

/** Replaces the state; when it returns, it survives power loss. */
export function writeState(folder: string, state: MasterState): void {
  writeSealed(path.join(folder, STATE_NAME), stateDocument(state));
}

/** The state as it is kept. */
export function stateDocument(state: MasterState): { format: string; version: number } {
  return { format: FORMAT, version: VERSION, ...state };
}

/**
 * A state out of what is kept.
 * @throws Error with a sentence for a person
 */
export function stateFrom(name: string, members: Record<string, unknown>): MasterState {
  const { format, version } = members;
  if (format !== FORMAT) throw new Error(`${name} is no ${FORMAT}`);
  if (version !== VERSION)
    throw new Error(
      `${name} has version ${version}; this program reads ${VERSION}. Use the release that wrote it`,
    );
  // A state from before there was "returning" has none.
  const { layout, queue, stores, left, returning = {}, nodes } = members;
  if (!Array.isArray(nodes) || !isTable(stores) || !isTable(left) || !isTable(returning))
    throw new Error(`${name}: a member is missing`);
  return {
    layout: layout === null ? null : checked(layout),
    queue: checkedChanges(queue),
    ...{ stores, left, returning },
    nodes: nodes as KnownNode[],
  };
}

function isTable(value: unknown): value is Record<string, string> {
  return (
    typeof value === "object" &&
    value !== null &&
    Object.values(value).every((item) => typeof item === "string")
  );
}
