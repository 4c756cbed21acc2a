/** The forms that a change in place can have, by the type of what is sent. */
import { flagOf, noFlag, parametersOf } from "../../rules/query.ts";
import { isJsonType } from "../../util/header-text.ts";

/** Of bytes, "append". Of JSON: RFC 7396, RFC 6902, `{"increment": …}` or `{"append": …}`. */
export const FORMS = ["merge", "operations", "command", "append"] as const;
export type Form = (typeof FORMS)[number];

const MERGE_SYNTAX = /^application\/merge-patch\+json[ \t]*(;|$)/i;
const OPERATIONS_SYNTAX = /^application\/json-patch\+json[ \t]*(;|$)/i;
/** Also no type, and the one that curl's --data sends when nobody chose one: as bytes that are put. */
const BYTES_SYNTAX = /^(?:|application\/(?:octet-stream|x-www-form-urlencoded)[ \t]*(?:;.*)?)$/i;

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

/** Whether a query says that the body is to be put behind bytes; a sentence where it says neither. */
export function readAppend(query: string): boolean | string {
  const said = parametersOf(query).getAll("append");
  if (said.length === 0) return false;
  return said.length > 1 ? "append is given more than once" : (flagOf(said[0]) ?? noFlag("append"));
}
