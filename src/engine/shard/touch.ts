/**
 * Giving a value that there is another end of life, or none: its record is written again, with another
 * trailer and at a version of its own. Of a large value only the manifest.
 */
import { endOf } from "../../format/end.ts";
import { withEnd } from "../../format/fields/end.ts";
import { readManifest } from "../../format/manifest.ts";
import { END_BYTES, ENDING_VERSION_MIN, TYPE_MANIFEST, UNIT_BYTES } from "../../format/offsets.ts";
import {
  type Ballot,
  contentTypeBytesOf,
  isJson,
  trailerOf,
  typeOf,
  unitsAt,
  valueBytesOf,
  valueOffset,
} from "../../format/record.ts";
import { compareBallots } from "../../format/version.ts";
import { failed, type Outcome, succeeded, type Write } from "../../rules/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import type { Batch } from "../batch/batch.ts";
import type { Current } from "../batch/current.ts";
import { accept, type Content, decide, upgradeFirst } from "./decide.ts";

const NO_CONTENT: Content = {
  type: 0,
  json: false,
  contentType: NOTHING,
  valueBytes: 0,
  parts: [],
  chunks: [],
  trailer: NOTHING,
};

/** Judges a touch and stages its record. */
export function applyTouch(batch: Batch, write: Write): Outcome {
  if (batch.state.store.version < ENDING_VERSION_MIN) return upgradeFirst();
  const before = batch.currentOf(write);
  if (before.state === "value") {
    const { source, unit } = batch.readable(before.slot, before.unit);
    const trailerBytes = Math.max(END_BYTES, write.trailer.length);
    try {
      batch.makeRoom(unitsAt(source, unit) + Math.ceil(trailerBytes / UNIT_BYTES));
    } catch (error) {
      return batch.log.failure(error);
    }
  }
  // What was staged may have been committed.
  const outcome = succeeded();
  const current = batch.currentOf(write, outcome);
  const { base, ballot } = write;
  // The same touch once more is held already.
  if (ballot !== null && ![base, ballot].some((version) => isVersion(batch, current, version)))
    return Object.assign(outcome, failed("not_found"));
  const content = current.state === "value" ? copyOf(batch, current, write) : NO_CONTENT;
  if (content === null) return Object.assign(outcome, failed("corrupt"));
  return ballot === null
    ? decide(batch, write, content, current, outcome)
    : accept(batch, write, content, current, outcome);
}

function isVersion(batch: Batch, current: Current, version: Ballot | null): boolean {
  if (version === null) return false;
  return current.state === "value" && compareBallots(batch.headOf(current), version) === 0;
}

/**
 * What there is, in memory of its own, with the trailer of a touch. Null: the disk cannot give it any more.
 */
function copyOf(batch: Batch, current: Current, write: Write): Content | null {
  const { lookup } = batch.state;
  const { missingPages } = lookup;
  const { source, unit } = batch.readable(current.slot, current.unit);
  const type = typeOf(source, unit);
  const at = valueOffset(source, unit);
  const valueBytes = valueBytesOf(source, unit);
  const trailer = trailerOf(source, unit).slice();
  const content: Content = {
    type,
    json: isJson(source, unit),
    contentType: source.bytes.slice(at - contentTypeBytesOf(source, unit), at),
    valueBytes,
    parts: [source.bytes.slice(at, at + valueBytes)],
    chunks: type === TYPE_MANIFEST ? readManifest(source, unit).chunks : [],
    // A replica is told all of it; else only the end changes.
    trailer: write.ballot === null ? withEnd(trailer, endOf(write.trailer)) : write.trailer,
  };
  return lookup.missingPages === missingPages ? content : null;
}
