/** Words for people about what a record's trailer holds. Pure. */
import { endOf } from "../../../format/end.ts";
import { readRecent } from "../../../format/fields/recent.ts";
import { readFields } from "../../../format/fields/trailer.ts";
import { FIELD_END, FIELD_METADATA, FIELD_RECENT } from "../../../format/offsets.ts";

/** The end of life, metadata as text, how many operations are remembered; the rest as hexadecimal digits. */
export function fieldsText(trailer: Uint8Array): Record<string, string> | string {
  const end = endOf(trailer);
  const entries = readFields(trailer)?.map(({ type, bytes }) => {
    if (type === FIELD_END && end !== 0) return ["end", new Date(end).toISOString()];
    if (type === FIELD_RECENT && bytes.length >= 8) return ["recent operations", recentText(bytes)];
    const isText = type === FIELD_METADATA;
    return [isText ? "metadata" : `field ${type}`, Buffer.from(bytes).toString(isText ? "latin1" : "hex")];
  });
  return entries === undefined ? "they cannot be read" : Object.fromEntries(entries);
}

function recentText(field: Uint8Array): string {
  const { until, operations } = readRecent(field);
  const last = operations.at(-1);
  const newest = last === undefined ? "" : `, the last at ${new Date(last.atSeconds * 1000).toISOString()}`;
  return `${operations.length}${newest}; guarded until ${new Date(until).toISOString()}`;
}
