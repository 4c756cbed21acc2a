/**
 * Pieces of an answer whose length nobody knows. What uWebSockets gathers within `cork` is 16 KiB for all
 * sockets, and a piece that does not fit behind what is gathered is lost where the socket takes nothing at
 * that moment: the framing is broken then. So a large piece is written in slices, each of which fits.
 * Outside `cork` nothing is lost either, but each part of a chunk's frame becomes a packet of its own.
 */
import type { Res } from "../http/http.ts";

/** So much fits, whatever head is written with it. */
export const FIRST_BYTES = 4096;
/** So much fits alone. */
const SLICE_BYTES = 15 * 1024;

/** A document as a line. */
export function lineOf(document: object): Uint8Array {
  return Buffer.from(`${JSON.stringify(document)}\n`);
}

/**
 * Sends a piece, not to be called within `cork`.
 * @param piece not empty, which would end the answer
 * @returns false: wait for `onWritable`; true where that is not known yet: the next piece tells
 */
export function writePiece(res: Res, piece: Uint8Array | string): boolean {
  if (typeof piece === "string") {
    if (Buffer.byteLength(piece) > SLICE_BYTES) return writePiece(res, Buffer.from(piece));
    return writeSlice(res, piece);
  }
  let hasRoom = true;
  for (let at = 0; at < piece.length; at += SLICE_BYTES)
    hasRoom = writeSlice(res, piece.subarray(at, at + SLICE_BYTES));
  return hasRoom;
}

function writeSlice(res: Res, slice: Uint8Array | string): boolean {
  let hasRoom = true;
  res.cork(() => {
    hasRoom = res.write(slice);
  });
  return hasRoom;
}
