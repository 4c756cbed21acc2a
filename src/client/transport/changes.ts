/** Changes in place, as they travel. */
import { jsonOf } from "./values.ts";

/** A change's text, and its type. */
export interface Change {
  text: string;
  type: string;
}

/** What an increment keeps to. */
export interface Bounds {
  initial?: number | bigint | null | undefined;
  min?: number | bigint | undefined;
  max?: number | bigint | undefined;
}

const MERGE_TYPE = "application/merge-patch+json";
const OPERATIONS_TYPE = "application/json-patch+json";
const COMMAND_TYPE = "application/json";

/** An array is a list of operations (RFC 6902), an object is merged (RFC 7396). */
export function patchOf(change: object): Change {
  return { text: jsonOf(change), type: Array.isArray(change) ? OPERATIONS_TYPE : MERGE_TYPE };
}

export function appendOf(value: unknown): Change {
  return { text: `{"append":${jsonOf(value)}}`, type: COMMAND_TYPE };
}

/** @throws TypeError where a number has no form in JSON */
export function incrementOf(by: number | bigint, { initial = 0, min, max }: Bounds): Change {
  const members = Object.entries({ increment: by, initial, min, max })
    .filter(([, number]) => number != null)
    .map(([name, number]) => {
      if (typeof number === "number" && !Number.isFinite(number))
        throw new TypeError(`${number} has no form in JSON`);
      return `"${name}":${number}`;
    });
  return { text: `{${members.join(",")}}`, type: COMMAND_TYPE };
}
