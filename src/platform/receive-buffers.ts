/**
 * Ends what uWebSockets.js does with one fast client: it reads on, although it was told to pause, for as long
 * as each read fills its 512 KiB, and does not return to its loop meanwhile (http.ts). It does not say which
 * descriptor a connection has; but one that fills such reads has much waiting, and its client is near. Where
 * the system keeps less than such a read, none is full any more.
 */
import { readdirSync } from "node:fs";
import { loadAddon } from "./addon.ts";

/** Of a client that is about to fill a read. */
const UNREAD_MIN = 256 * 1024;
/** As the system counts, with what it needs for each piece. Over a few milliseconds it is no hindrance. */
const NARROW_BYTES = 448 * 1024;

/**
 * Narrows the receive buffers of all connections in which much waits to be read and whose clients are near.
 * Answers what widens them again; those that are closed meanwhile do no harm. Null: there were none, or the
 * system cannot do it (Linux can, from 5.14 on).
 */
export function narrowReceiveBuffers(): (() => void) | null {
  const { narrowReceive, widenReceive } = loadAddon("guard");
  const narrowed: [descriptor: number, former: number][] = [];
  for (const descriptor of openDescriptors()) {
    const former = narrowReceive(descriptor, NARROW_BYTES, UNREAD_MIN);
    if (former > 0) narrowed.push([descriptor, former]);
  }
  if (narrowed.length === 0) return null;
  return () => {
    for (const [descriptor, former] of narrowed) widenReceive(descriptor, former);
  };
}

function openDescriptors(): number[] {
  try {
    return readdirSync("/proc/self/fd").map(Number);
  } catch {
    return [];
  }
}
