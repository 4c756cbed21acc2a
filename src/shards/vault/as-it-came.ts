/**
 * A value as it came, or would have come, without the envelope of JSON: for those who ask by another protocol
 * than ours.
 */
import { JSON_PREFIX, JSON_SUFFIX } from "../../format/offsets.ts";
import { copyOf } from "../../util/bytes.ts";
import type { Found, ValueReader } from "./vault.ts";

/** What is shown in place of what was found. */
export type Shape = (found: Found) => Found;

/** Shows the value as a GET of ours sends it. */
export const itself: Shape = (found) => found;

/** Shows the value alone. */
export const asItCame: Shape = (found) => (found.json ? new Shown(found, found.contentType) : found);

/** The same, as a value of this type. */
export function asType(contentType: string): Shape {
  return (found) => new Shown(found, contentType);
}

/** How many bytes of what is kept stand before what is shown. */
export function hiddenBytes(found: Found): number {
  return found instanceof Shown ? found.hidden : 0;
}

/** A part of a found value. Valid as long as that is. */
class Shown implements Found {
  readonly state = "found";
  readonly json = false;
  readonly contentType: string;
  readonly trailer: Uint8Array;
  readonly isBare: boolean;
  readonly end: number;
  readonly valueBytes: number;
  readonly etag: Uint8Array;
  readonly versionMs: number;
  readonly hidden: number;
  private readonly found: Found;

  constructor(found: Found, contentType: string) {
    this.found = found;
    this.contentType = contentType;
    this.trailer = found.trailer;
    this.isBare = found.isBare;
    this.end = found.end;
    this.etag = found.etag;
    this.versionMs = found.versionMs;
    this.hidden = found.json ? JSON_PREFIX.length : 0;
    this.valueBytes = found.valueBytes - this.hidden - (found.json ? JSON_SUFFIX.length : 0);
  }

  view(start = 0, end = this.valueBytes): Uint8Array {
    return this.found.view(start + this.hidden, end + this.hidden);
  }

  copy(): Uint8Array {
    return copyOf(this.view());
  }

  open(): ValueReader {
    const reader = this.found.open();
    return this.hidden === 0 ? reader : shifted(reader, this.hidden, this.valueBytes);
  }
}

/** A reader of what stands behind the first bytes of another one's value. */
function shifted(reader: ValueReader, hidden: number, valueBytes: number): ValueReader {
  return {
    valueBytes,
    read: (offset) => reader.read(offset + hidden),
    ...(reader.holds === undefined
      ? {}
      : { holds: (from, to) => reader.holds?.(from + hidden, to + hidden) === true }),
    ...(reader.ready === undefined
      ? {}
      : { ready: (offset, then) => reader.ready?.(offset + hidden, then) !== false }),
    close: () => reader.close(),
  };
}
