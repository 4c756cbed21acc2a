/**
 * Copies of bytes, and bytes as names. `slice()` copies a Uint8Array but gives only a view of a Buffer, and
 * which of both a caller passed cannot be seen from its type.
 */

/** No bytes at all. */
export const NOTHING = new Uint8Array(0);

/** From so many bytes on `fill` is faster than `set` where one side is shared memory. */
const FILL_BYTES_MIN = 128;

/**
 * Copies all of `source` into `target`, from `at` on, one of which may be shared memory. There `set` copies
 * byte by byte, unless both are aligned alike: 450 µs a MiB. `fill` with a source as long as what it fills is
 * one memcpy: 40 to 100 µs.
 */
export function copyInto(target: Uint8Array, at: number, source: Uint8Array): void {
  if (source.length < FILL_BYTES_MIN) target.set(source, at);
  else Buffer.prototype.fill.call(target, source, at, at + source.length);
}

/** The bytes from `start` to `end`, copied, whatever kind of array they are in. */
export function copyOf(bytes: Uint8Array, start = 0, end: number = bytes.length): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes, start, end);
}

/** The same bytes as a Buffer; nothing is copied. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Bytes as a text that is equal where they are: a key's name in a map. */
export function nameOf(bytes: Uint8Array): string {
  return bufferOf(bytes).toString("latin1");
}

/** Whether the first `length` of `bytes` begin with a prefix. */
export function beginsWith(bytes: Uint8Array, prefix: Uint8Array, length: number = bytes.length): boolean {
  if (length < prefix.length) return false;
  for (let index = 0; index < prefix.length; index++) if (bytes[index] !== prefix[index]) return false;
  return true;
}

/** Whether two arrays hold the same. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}
