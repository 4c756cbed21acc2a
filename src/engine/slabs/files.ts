/**
 * The files of a shard's slabs: their names, and reading them without a map.
 */
import fs from "node:fs";
import { PAGE_BYTES } from "./residence.ts";

/** A header has 32 bits for it. */
const SEQUENCE_MAX = 2 ** 32 - 1;

/** File name of a slab within its shard's directory. */
export function slabName(sequence: number): string {
  return `${String(sequence).padStart(10, "0")}.slab`;
}

/** Sequences of the slabs in a shard's directory, rising. */
export function listSlabs(directory: string): number[] {
  return fs
    .readdirSync(directory)
    .map((name) => (/^\d{10}\.slab$/.test(name) ? Number(name.slice(0, 10)) : 0))
    .filter((sequence) => sequence > 0 && sequence <= SEQUENCE_MAX)
    .sort((a, b) => a - b);
}

/** Added to the name of a slab that is being made. */
export const UNFINISHED = ".new";

/** It ends like a slab that is being made: a program that does not know it removes it as a leftover. */
export const SPARE_NAMES = ["spare.new", "spare-2.new"];

/** Whether a file of this name is a spare slab. */
export function isSpare(name: string): boolean {
  return SPARE_NAMES.includes(name);
}

/**
 * Reads a part of a slab file, with zeros for what the file lacks. Where a slab has not been written it is
 * read like this and not through its map: a map's page of a hole takes a block on tmpfs, and on a full one
 * cannot be had.
 * @param refused told of each page that the disk does not give, in whose place there are zeros then; left
 * out: that is thrown
 */
export function readSlab(
  file: string,
  from: number,
  bytes: number,
  refused?: (position: number, error: Error) => void,
): Uint8Array {
  const fd = fs.openSync(file, "r");
  const found = new Uint8Array(bytes);
  try {
    fill(fd, from, found, refused);
  } finally {
    fs.closeSync(fd);
  }
  return found;
}

/** Reads the same into `bytes`, which are zeros, from an open file. */
export function fill(
  fd: number,
  from: number,
  bytes: Uint8Array,
  refused?: (position: number, error: Error) => void,
): void {
  try {
    fillAll(fd, from, bytes);
  } catch (error) {
    if (refused === undefined || (error as NodeJS.ErrnoException).code !== "EIO") throw error;
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const page = bytes.subarray(at, at + PAGE_BYTES);
      try {
        fillAll(fd, from + at, page);
      } catch (pageError) {
        page.fill(0);
        refused(from + at, pageError as Error);
      }
    }
  }
}

function fillAll(fd: number, from: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const read = fs.readSync(fd, bytes, done, bytes.length - done, from + done);
    if (read === 0) break;
    done += read;
  }
}

/** What is said of a slab's file that another program has cut. */
export function cutError(size: number, slabBytes: number): Error {
  return new Error(`it has ${size} bytes and was made with ${slabBytes}: another program cut it`);
}
