/** What a record says by its type. */
import { TYPE_ENDED, TYPE_FORGOTTEN, TYPE_MANIFEST, TYPE_TOMBSTONE, TYPE_VALUE } from "./offsets.ts";

/** Whether records of this type say what a key holds, so that the index has the last one of each key. */
export function isIndexed(type: number): boolean {
  return isValue(type) || isAbsence(type);
}

/** Whether a record of this type is what a key holds. */
export function isValue(type: number): boolean {
  return type === TYPE_VALUE || type === TYPE_MANIFEST;
}

/** Whether who follows changes is told of a record of this type. */
export function isTold(type: number): boolean {
  return isIndexed(type) && type !== TYPE_FORGOTTEN;
}

/** Whether a record of this type says that the key has no value. */
export function isAbsence(type: number): boolean {
  return type === TYPE_TOMBSTONE || type === TYPE_FORGOTTEN || type === TYPE_ENDED;
}
