/** The forms that a change in place can have, by the type of what is sent. */
import { isJsonType } from "../../util/header-text.ts";

/** Of bytes, "append". Of JSON: RFC 7396, RFC 6902, `{"increment": …}` or `{"append": …}`. */
export const FORMS = ["merge", "operations", "command", "append"] as const;
export type Form = (typeof FORMS)[number];

const MERGE_SYNTAX = /^application\/merge-patch\+json[ \t]*(;|$)/i;
const OPERATIONS_SYNTAX = /^application\/json-patch\+json[ \t]*(;|$)/i;
const BYTES_SYNTAX = /^application\/octet-stream[ \t]*(;|$)/i;

/** The form of a patch of JSON; null: it is none. */
export function formOfJson(type: string): Form | null {
  if (MERGE_SYNTAX.test(type)) return "merge";
  if (OPERATIONS_SYNTAX.test(type)) return "operations";
  return isJsonType(type) ? "command" : null;
}

/** The form of what is put behind bytes; null: it is none. */
export function formOfBytes(type: string): Form | null {
  return BYTES_SYNTAX.test(type) ? "append" : null;
}
