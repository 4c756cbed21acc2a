/** Keys compare as bytes where they stand: nothing is copied, and no views are made. */

/** Bytes that two keys have in common at their beginning. */
export function sharedBytes(
  a: Uint8Array,
  aFrom: number,
  aTo: number,
  b: Uint8Array,
  bFrom: number,
  bTo: number,
): number {
  const most = Math.min(aTo - aFrom, bTo - bFrom);
  let shared = 0;
  while (shared < most && a[aFrom + shared] === b[bFrom + shared]) shared++;
  return shared;
}

/** The order of keys: by their bytes, a prefix before what it begins. Negative when `a` comes first. */
export function compareKeys(
  a: Uint8Array,
  aFrom: number,
  aTo: number,
  b: Uint8Array,
  bFrom: number,
  bTo: number,
): number {
  const shared = sharedBytes(a, aFrom, aTo, b, bFrom, bTo);
  if (aFrom + shared === aTo || bFrom + shared === bTo) return aTo - aFrom - (bTo - bFrom);
  return a[aFrom + shared] - b[bFrom + shared];
}
