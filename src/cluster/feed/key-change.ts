/** What a quorum read finds of a key, as a change. */
import { versionText } from "../../format/version.ts";
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
    return { event: "absent", etag: answer.ballot === null ? null : versionText(answer.ballot) };
  }
  const { value, ballot } = answer;
  const { json, contentType, valueBytes: bytes, end } = value;
  const inline = values && isInline(value) && bytes <= LISTED_VALUE_BYTES_MAX;
  const ttlMs = end === 0 ? null : end - nowMs;
  const facts = { key: bytesOfKey(key), ballot, bytes, json, contentType };
  writer.facts(facts, ttlMs, inline ? value.bytes : null);
  return { event: "put", key, etag: versionText(ballot), text: writer.takeText() };
}
