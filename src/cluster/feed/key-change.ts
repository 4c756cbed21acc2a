/** What a quorum read finds of a key, as a change. */
import type { Ballot } from "../../format/record.ts";
import { etagText } from "../../format/version.ts";
import { LISTED_VALUE_BYTES_MAX } from "../../util/limits.ts";
import { EntryWriter } from "../../value/entry-text.ts";
import type { KeyRead } from "../list/cluster-list.ts";
import { isInline } from "../wire/values.ts";
import { bytesOfKey } from "./cluster-keys.ts";
import type { Absence, Change } from "./decisions.ts";

const writer = new EntryWriter(false);

/**
 * Null: nobody can know now.
 * @param nowMs cluster time
 */
export function changeOf(
  key: string,
  answer: KeyRead,
  values: boolean,
  nowMs: number,
): Change | Absence | null {
  if (answer.state === "unavailable") return null;
  if (answer.state === "absent") {
    const etag = answer.ballot === null ? null : versionOf(answer.ballot);
    return { event: "absent", etag };
  }
  const { value, ballot } = answer;
  const { json, contentType, valueBytes: bytes, end } = value;
  const etag = versionOf(ballot);
  const inline = values && isInline(value) && bytes <= LISTED_VALUE_BYTES_MAX;
  const ttlMs = end === 0 ? null : end - nowMs;
  const facts = { key: bytesOfKey(key), ballot, bytes, json, contentType };
  writer.facts(facts, ttlMs, inline ? value.bytes : null);
  return { event: "put", key, etag, text: writer.takeText() };
}

function versionOf(ballot: Ballot): string {
  return etagText(ballot).slice(1, -1);
}
