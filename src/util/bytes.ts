/**
 * Copies of bytes. `slice()` copies a Uint8Array but gives only a view of a Buffer, and which of both a caller passed cannot be seen from its type.
 */

/** The bytes from `start` to `end`, copied, whatever kind of array they are in. */
export function copyOf(bytes: Uint8Array, start = 0, end: number = bytes.length): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes, start, end);
}
