/**
 * Telling that a file was cut within a page. The rest of that page then reads as zeros, and nobody is told:
 * only the pages behind it are missing, which is counted (maps.ts).
 */
import { END_BYTES, FIELD_END, ORIGIN_FIELD_BYTES } from "../../format/offsets.ts";
import { type RecordSource, trailerBytesOf, valueBytesOf, valueOffset } from "../../format/record.ts";

/** A time has zeros there for some thousand years; the length of an origin stands so far from its end. */
const ZEROS_OF_END = 2;
const ZEROS_OF_ORIGIN = 5;

/**
 * Whether the last byte of a record is not zero: then one that was good before still has all its bytes, or a
 * page of it is missing and that was counted now. False: only the checksum can tell.
 */
export function isEndVisible(source: RecordSource, unit: number): boolean {
  const { bytes } = source;
  const trailerBytes = trailerBytesOf(source, unit);
  const end = valueOffset(source, unit) + valueBytesOf(source, unit) + trailerBytes;
  if (bytes[end - 1] > 0) return true;
  if (trailerBytes === 0) return false;
  // Numbers end in zeros. Of an origin they say nothing of the value.
  if (trailerBytes === ORIGIN_FIELD_BYTES) return bytes[end - 1 - ZEROS_OF_ORIGIN] > 0;
  const field = end - END_BYTES;
  return (
    trailerBytes >= END_BYTES &&
    bytes[field] === FIELD_END &&
    bytes[field + 1] === 0 &&
    bytes[end - 1 - ZEROS_OF_END] > 0
  );
}
