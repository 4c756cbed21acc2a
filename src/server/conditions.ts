/**
 * `If-Match`, `If-None-Match` and `If-Range` of RFC 9110, section 13, against the version of a value. Pure.
 * For writes this is only early advice: the shard judges again, atomically.
 */

/**
 * Whether a header's list of entity tags names `etag` (its ASCII bytes, with quotes), or is `*`. With `weak`,
 * `W/"x"` equals `"x"` (If-None-Match); without, a weak tag equals nothing (If-Match). Text that is not a list
 * of entity tags matches nothing from the bad place on.
 */
export function listMatches(list: string, etag: Uint8Array, weak: boolean): boolean {
  const length = list.length;
  let at = skipSpace(list, 0);
  if (list[at] === "*" && skipSpace(list, at + 1) === length) return true;
  while (at < length) {
    // RFC 9110, section 5.6.1: a recipient accepts empty list elements.
    if (list[at] === ",") {
      at = skipSpace(list, at + 1);
      continue;
    }
    const isWeak = list.startsWith("W/", at);
    const open = isWeak ? at + 2 : at;
    if (list[open] !== '"') return false;
    const close = list.indexOf('"', open + 1);
    if (close < 0) return false;
    if ((weak || !isWeak) && equals(list, open, close + 1, etag)) return true;
    at = skipSpace(list, close + 1);
    if (at < length && list[at] !== ",") return false;
  }
  return false;
}

/** Whether `If-Range` allows the range: only the very version, by strong comparison; a date never does. */
export function ifRangeHolds(header: string, etag: Uint8Array): boolean {
  return equals(header, 0, header.length, etag);
}

/**
 * What a write's conditions say of a key as it is now: false means that 412 is certain unless the key changes.
 * @param etag null where the key is absent
 */
export function writeConditionsHold(ifMatch: string, ifNoneMatch: string, etag: Uint8Array | null): boolean {
  if (ifMatch !== "" && !(etag !== null && listMatches(ifMatch, etag, false))) return false;
  return ifNoneMatch === "" || !(etag !== null && listMatches(ifNoneMatch, etag, true));
}

function equals(text: string, start: number, end: number, etag: Uint8Array): boolean {
  if (end - start !== etag.length) return false;
  for (let index = 0; index < etag.length; index++) {
    if (text.charCodeAt(start + index) !== etag[index]) return false;
  }
  return true;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text[at] === " " || text[at] === "\t") at++;
  return at;
}
