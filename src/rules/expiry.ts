/**
 * Ends of life: what a client asks for, and what becomes of it. Pure.
 *
 * An end is computed once, by who coordinates the write and by its clock, and travels with the value. Whether
 * it has come is judged by the clock of the node that is asked; that it has come is told to nobody before it
 * is on the disk (FORMAT.md, "End of life").
 */

/** How long a value is to live, as a client has said it: at most one of these. */
export interface Life {
  /** Milliseconds from the moment at which it is stored; 0: not said. */
  readonly ttlMs: number;
  /** The moment of its end, in milliseconds since 1970; 0: not said. */
  readonly expiresMs: number;
  /** Until the end of what it takes the place of, if that has one. */
  readonly keep: boolean;
}

/** For ever. */
export const NO_LIFE: Life = Object.freeze({ ttlMs: 0, expiresMs: 0, keep: false });
/** As long as what it takes the place of. */
export const KEEP_LIFE: Life = Object.freeze({ ttlMs: 0, expiresMs: 0, keep: true });

/**
 * When a value that is stored now ends, in milliseconds since 1970; 0: never, or not known before it is
 * judged.
 */
export function endOfLife({ ttlMs, expiresMs }: Life, nowMs: number): number {
  return ttlMs > 0 ? Math.floor(nowMs + ttlMs) : expiresMs;
}

/**
 * Whether a value has ended.
 * @param end 0: it never does
 */
export function hasEnded(end: number, nowMs: number): boolean {
  return end !== 0 && end <= nowMs;
}
