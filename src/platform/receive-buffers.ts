/**
 * Ends what uWebSockets.js does with one fast client: it reads on, although it was told to pause, for as long
 * as each read fills its 512 KiB, and does not return to its loop meanwhile (http.ts). It does not say which
 * descriptor a connection has; but one that fills such reads has much waiting, and its client is near. Where
 * the system keeps less than such a read, none is full any more.
 *
 * In two steps: first the connection offers little at once, and only when what it had offered before has come
 * does the system keep little. What has been offered and finds no room is thrown away, and a client sends it
 * again ever later: after a pause of seconds it seems to be silent. Linux only, from 6.2 on.
 */
import { readdirSync } from "node:fs";
import { loadAddon } from "./addon.ts";

/** Of a client that is about to fill a read. */
const UNREAD_MIN = 256 * 1024;
const OFFERED_BYTES = 64 * 1024;
/** As the system counts, with what it needs for each piece. Over a few milliseconds it is no hindrance. */
const KEPT_BYTES = 448 * 1024;

/** A connection that is held back, and what it had before; 0: that is as it was. */
interface Narrowed {
  descriptor: number;
  window: number;
  buffer: number;
}

/** The connections that were held back for one body that came on although it was paused. */
export class NarrowReceive {
  private narrowed: Narrowed[] = [];

  /** One step; to be called each time that more has come all the same. */
  step(): void {
    const { clampWindow, boundBuffer } = loadAddon("guard");
    for (const each of this.narrowed) {
      if (each.buffer > 0) continue;
      each.buffer = boundBuffer(each.descriptor, KEPT_BYTES, 2 * OFFERED_BYTES);
      // From now on the buffer bounds what is offered; so little at once would slow the client down.
      if (each.buffer > 0) clampWindow(each.descriptor, each.window, 0);
    }
    if (this.narrowed.length > 0) return;
    for (const descriptor of openDescriptors()) {
      const window = clampWindow(descriptor, OFFERED_BYTES, UNREAD_MIN);
      if (window > 0) this.narrowed.push({ descriptor, window, buffer: 0 });
    }
  }

  /** The body is wanted again: what offers little and is not bounded yet would only be slow. */
  relax(): void {
    const { clampWindow } = loadAddon("guard");
    this.narrowed = this.narrowed.filter(({ descriptor, window, buffer }) => {
      if (buffer === 0) clampWindow(descriptor, window, 0);
      return buffer > 0;
    });
  }

  /** Undoes it. Connections that were closed meanwhile do no harm. */
  widen(): void {
    this.relax();
    const { freeBuffer } = loadAddon("guard");
    for (const { descriptor, buffer } of this.narrowed.splice(0)) freeBuffer(descriptor, buffer);
  }
}

function openDescriptors(): number[] {
  try {
    return readdirSync("/proc/self/fd").map(Number);
  } catch {
    return [];
  }
}
