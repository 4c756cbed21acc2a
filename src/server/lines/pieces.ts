/**
 * Pieces of an answer whose length nobody knows. What uWebSockets gathers within `cork` is 16 KiB for all
 * sockets, and a piece that does not fit behind what is gathered is lost where the socket takes nothing at
 * that moment: the framing is broken then. So only what is small is gathered.
 */
import type { Res } from "../http/http.ts";

/** Characters of a text, or bytes, that are small: with a head before them they always fit. */
export const SMALL_PIECE = 4096;

/**
 * Sends a piece, not to be called within `cork`.
 * @param piece not empty, which would end the answer
 * @returns false: wait for `onWritable`
 */
export function writePiece(res: Res, piece: Uint8Array | string): boolean {
  if (piece.length > SMALL_PIECE) return res.write(piece);
  let hasRoom = true;
  res.cork(() => {
    hasRoom = res.write(piece);
  });
  return hasRoom;
}
