/**
 * The CATALOG file: which files make the runs, and up to where in each shard's log they have every key
 * (FORMAT.md, "Keys in order").
 */
import fs from "node:fs";
import path from "node:path";
import { sentenceOf } from "../../../platform/system-error.ts";
import { readSealed, sealed } from "../../../util/sealed-file.ts";
import type { FileIo } from "../../slabs/io.ts";

const CATALOG_NAME = "CATALOG";
const FORMAT = "minivault-catalog";
const VERSION = 1;

export interface Manifest {
  /** 32 hex digits. */
  store: string;
  /** Of the start that wrote it. */
  incarnation: number;
  /** The runs have what the slabs had when the first build began, and all since. */
  complete: boolean;
  /** Number of the next file. */
  next: number;
  /** Of each run the numbers of its files, in order of their keys. */
  runs: number[][];
  /** For each shard a place in its log (`logPlace`). */
  watermarks: number[];
}

/** Folder of the runs within the data directory. */
export function keysDirectory(dataDirectory: string): string {
  return path.join(dataDirectory, "keys");
}

/** Name of a file of a run. */
export function runFileName(file: number): string {
  return `${String(file).padStart(10, "0")}.keys`;
}

/** Replaces the manifest; it is on the disk when this returns. */
export function writeManifest(io: FileIo, directory: string, manifest: Manifest): void {
  const watermarks = manifest.watermarks.map((place) => place.toString(16)).join();
  const bytes = Buffer.from(sealed({ format: FORMAT, version: VERSION, ...manifest, watermarks }));
  const file = path.join(directory, CATALOG_NAME);
  const unfinished = `${file}.new`;
  fs.rmSync(unfinished, { force: true });
  const fd = io.open(unfinished, "wx+");
  try {
    io.pwrite(fd, bytes, 0, bytes.length, 0);
    io.fsync(fd);
  } finally {
    io.close(fd);
  }
  io.rename(unfinished, file);
  io.syncDirectory(directory);
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** Reads the manifest; null: there is none. What is wrong with it, for a person, where something is. */
export function readManifest(directory: string): Manifest | string | null {
  let members: Record<string, unknown> | null;
  try {
    members = readSealed(path.join(directory, CATALOG_NAME), FORMAT, VERSION);
  } catch (error) {
    return sentenceOf(error as Error);
  }
  if (members === null) return null;
  const { store, incarnation, complete, next, runs } = members;
  const watermarks = String(members.watermarks)
    .split(",")
    .map((text) => (/^[0-9a-f]{1,14}$/.test(text) ? Number.parseInt(text, 16) : Number.NaN));
  const isRuns =
    Array.isArray(runs) &&
    runs.every((run) => Array.isArray(run) && run.length > 0 && run.every((file) => isCount(file)));
  if (!isRuns || !isCount(incarnation) || !isCount(next) || !watermarks.every(isCount))
    return `${path.join(directory, CATALOG_NAME)} has a member that makes no sense`;
  return {
    store: String(store),
    incarnation,
    complete: complete === true,
    next,
    runs: runs as number[][],
    watermarks,
  };
}

/** The files in the folder that no manifest names, or that were being made. */
export function strayFiles(directory: string, named: ReadonlySet<number>): string[] {
  return fs
    .readdirSync(directory)
    .filter((name) => /^\d{10}\.keys(?:\.new)?$/.test(name))
    .filter((name) => name.endsWith(".new") || !named.has(Number(name.slice(0, 10))))
    .map((name) => path.join(directory, name));
}
