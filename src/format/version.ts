/** Versions: the order of ballots, and a ballot as an ETag. */
import { bufferOf } from "../util/bytes.ts";
import { RECORD, UNIT_BYTES } from "./offsets.ts";
import type { Ballot, RecordSource } from "./record.ts";

/**
 * The one order of ballots: clock, then node, then incarnation. Negative when `a` is lower, 0 when they are
 * the same. All words are unsigned, as `readHead` gives them.
 */
export function compareBallots(a: Ballot, b: Ballot): number {
  return (
    a.clockHigh - b.clockHigh || a.clockLow - b.clockLow || a.node - b.node || a.incarnation - b.incarnation
  );
}

/** As `compareBallots`, where null, "none yet", is below every ballot. */
export function compareOptionalBallots(a: Ballot | null, b: Ballot | null): number {
  if (a === null) return b === null ? 0 : -1;
  return b === null ? 1 : compareBallots(a, b);
}

/** The higher of two ballots, either of which may be missing. */
export function higherBallot(a: Ballot | null, b: Ballot | null): Ballot | null {
  return compareOptionalBallots(a, b) >= 0 ? a : b;
}

/** The wall-clock part of a ballot: milliseconds since 1970. */
export function ballotMillis(ballot: Ballot): number {
  return ballot.clockHigh * 0x10000 + Math.floor(ballot.clockLow / 0x10000);
}

/** The lowest ballot of a millisecond since 1970. */
export function ballotOfMillis(millis: number): Ballot {
  const clockHigh = Math.floor(millis / 0x10000);
  return { clockLow: (millis % 0x10000) * 0x10000, clockHigh, node: 0, incarnation: 0 };
}

/**
 * Of a ballot's incarnation, the lower bits are the number of the node's start and the upper 8 tell the
 * clocks of one start apart, so that no two of them give the same ballot.
 */
export const INCARNATION_CLOCK_SHIFT = 24;
/**
 * The clock for keys whose newest record is too far ahead for ordinary ballots
 * (src/cluster/clock/ballots.ts).
 */
export const SECOND_CLOCK = 255;

/** Whether a ballot comes from a second clock: it follows a record of its key, however far ahead that is. */
export function isFromSecondClock(ballot: Ballot): boolean {
  return ballot.incarnation >>> INCARNATION_CLOCK_SHIFT === SECOND_CLOCK;
}

/** Length of an ETag with its quotes, in ASCII bytes. */
export const ETAG_BYTES = 34;

const HEX = new Uint8Array(16);
for (let i = 0; i < 16; i++) HEX[i] = "0123456789abcdef".charCodeAt(i);

function hexWord(target: Uint8Array, at: number, word: number): void {
  target[at] = HEX[word >>> 28];
  target[at + 1] = HEX[(word >>> 24) & 15];
  target[at + 2] = HEX[(word >>> 20) & 15];
  target[at + 3] = HEX[(word >>> 16) & 15];
  target[at + 4] = HEX[(word >>> 12) & 15];
  target[at + 5] = HEX[(word >>> 8) & 15];
  target[at + 6] = HEX[(word >>> 4) & 15];
  target[at + 7] = HEX[word & 15];
}

/** A scratch array for `writeEtag`, quotes in place. */
export function etagScratch(): Uint8Array {
  const scratch = new Uint8Array(ETAG_BYTES);
  scratch[0] = scratch[ETAG_BYTES - 1] = 0x22;
  return scratch;
}

/**
 * Writes a ballot's 32 hex digits between the quotes of `scratch`. No allocation: this is on the path of
 * every GET.
 */
export function writeEtag(
  scratch: Uint8Array,
  clockLow: number,
  clockHigh: number,
  node: number,
  incarnation: number,
): void {
  hexWord(scratch, 1, clockHigh);
  hexWord(scratch, 9, clockLow);
  hexWord(scratch, 17, node);
  hexWord(scratch, 25, incarnation);
}

/** Writes the ETag of the record at `unit`. */
export function writeEtagOf(scratch: Uint8Array, source: RecordSource, unit: number): void {
  const { words } = source;
  const at = unit * (UNIT_BYTES / 4) + RECORD.clockLow / 4;
  writeEtag(scratch, words[at], words[at + 1], words[at + 2], words[at + 3]);
}

/** The wall-clock part of a record's two clock words: milliseconds since 1970. */
export function clockMillis(clockLow: number, clockHigh: number): number {
  return (clockHigh >>> 0) * 0x10000 + (clockLow >>> 16);
}

/** The wall-clock part of the ballot that an ETag, with its quotes, is of: milliseconds since 1970. */
export function etagMillis(etag: string): number {
  return clockMillis(Number.parseInt(etag.slice(9, 17), 16), Number.parseInt(etag.slice(1, 9), 16));
}

/** The text of an ETag's bytes. */
export function etagOf(bytes: Uint8Array): string {
  return bufferOf(bytes).toString("latin1");
}

/** A ballot as ETag text, with quotes. */
export function etagText(ballot: Ballot): string {
  const scratch = etagScratch();
  writeEtag(scratch, ballot.clockLow, ballot.clockHigh, ballot.node, ballot.incarnation);
  return String.fromCharCode(...scratch);
}

/** A ballot as a version: its ETag without the quotes. */
export function versionText(ballot: Ballot): string {
  return etagText(ballot).slice(1, -1);
}
