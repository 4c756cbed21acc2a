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
  try {
    return readBytes(fd, from, bytes);
  } catch (error) {
    if (refused === undefined || (error as NodeJS.ErrnoException).code !== "EIO") throw error;
    return readPages(fd, from, bytes, refused);
  } finally {
    fs.closeSync(fd);
  }
}

function readPages(
  fd: number,
  from: number,
  count: number,
  refused: (position: number, error: Error) => void,
): Uint8Array {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count; at += PAGE_BYTES) {
    try {
      bytes.set(readBytes(fd, from + at, Math.min(PAGE_BYTES, count - at)), at);
    } catch (error) {
      refused(from + at, error as Error);
    }
  }
  return bytes;
}

function readBytes(fd: number, from: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  for (let done = 0; done < count; ) {
    const read = fs.readSync(fd, bytes, done, count - done, from + done);
    if (read === 0) break;
    done += read;
  }
  return bytes;
}

/** What is said of a slab's file that another program has cut. */
export function cutError(size: number, slabBytes: number): Error {
  return new Error(`it has ${size} bytes and was made with ${slabBytes}: another program cut it`);
}
