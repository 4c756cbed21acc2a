/** Keys of changes are texts: what else they are called by. */
import { hashKey } from "../../util/hash.ts";

export function bytesOfKey(key: string): Buffer {
  return Buffer.from(key);
}

/** Hash A of a key, which tells its partition in a layout. */
export function hashOfKey(key: string): number {
  const bytes = bytesOfKey(key);
  return hashKey(bytes, bytes.length, 0);
}

/** As prefixes of questions are. */
export function latin1OfKey(key: string): string {
  return bytesOfKey(key).toString("latin1");
}
