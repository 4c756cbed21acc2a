/**
 * What requests and answers between nodes have in common as bytes: ballots and content types. All numbers are
 * little-endian.
 */
import type { Ballot } from "../../format/record.ts";
import { NOTHING } from "../../util/bytes.ts";
import { areHeaderText } from "../../util/header-text.ts";
import { CONTENT_TYPE_BYTES_MAX } from "../../util/limits.ts";

let typeText = "";
let typeBytes: Uint8Array = NOTHING;

/** The bytes of a content type, which mostly is the one of the last value. */
export function bytesOfType(text: string): Uint8Array {
  if (text !== typeText) {
    const bytes = text === "" ? NOTHING : Buffer.from(text);
    // What is kept is what frames are compared with.
    if (bytes.length > CONTENT_TYPE_BYTES_MAX || !areHeaderText(bytes)) return bytes;
    typeBytes = bytes;
    typeText = text;
  }
  return typeBytes;
}

/** A content type in a frame. Null: it is none that a value can have. */
export function textOfType(frame: Buffer, start: number, end: number): string | null {
  if (start === end) return "";
  if (end - start === typeBytes.length && frame.compare(typeBytes, 0, typeBytes.length, start, end) === 0)
    return typeText;
  if (end - start > CONTENT_TYPE_BYTES_MAX || !areHeaderText(frame.subarray(start, end))) return null;
  return frame.toString("latin1", start, end);
}

export function writeBallot(frame: Buffer, at: number, ballot: Ballot): void {
  frame.writeUInt32LE(ballot.clockLow >>> 0, at);
  frame.writeUInt32LE(ballot.clockHigh >>> 0, at + 4);
  frame.writeUInt32LE(ballot.node >>> 0, at + 8);
  frame.writeUInt32LE(ballot.incarnation >>> 0, at + 12);
}

export function readBallot(frame: Buffer, at: number): Ballot {
  return {
    clockLow: frame.readUInt32LE(at),
    clockHigh: frame.readUInt32LE(at + 4),
    node: frame.readUInt32LE(at + 8),
    incarnation: frame.readUInt32LE(at + 12),
  };
}
