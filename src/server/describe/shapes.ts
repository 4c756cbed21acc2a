/** Words for shapes, and those that several rooms share. */

import { JSON_TYPE, LINES_TYPE } from "../../util/header-text.ts";
import { CONDITION_BYTES_MAX, KEY_BYTES_MAX } from "../../util/limits.ts";
import type { Parameter } from "./operation.ts";
import { type Schema, Shape } from "./schema.ts";

export const TEXT = { type: "string" } as const;
export const NUMBER = { type: "number" } as const;
export const COUNT = { type: "integer", minimum: 0 } as const;
export const FLAG = { type: "boolean" } as const;
/** Bytes of any kind. */
export const BYTES = {} as const;
/** Any JSON. */
export const ANY = { description: "Any JSON." } as const;
/** A version without its quotes, as it stands inside JSON. */
export const VERSION = { type: "string", pattern: "^[0-9a-f]{32}$" } as const;

export { JSON_TYPE, LINES_TYPE };
export const ANY_TYPE = "*/*";

/** An object with just these members. @param optional those that can be missing */
export function object(
  properties: Readonly<Record<string, Schema>>,
  optional: readonly string[] = [],
): Schema {
  const required = Object.keys(properties).filter((name) => !optional.includes(name));
  return { type: "object", required, properties, additionalProperties: false };
}

/** An object with at least these members. */
export function openObject(properties: Readonly<Record<string, Schema>> = {}): Schema {
  return { type: "object", required: Object.keys(properties), properties };
}

export function arrayOf(items: Schema): Schema {
  return { type: "array", items };
}

export function oneOf(...values: readonly (string | number | boolean)[]): Schema {
  return values.length === 1 ? { const: values[0] } : { enum: values };
}

export function anyOf(...schemas: readonly Schema[]): Schema {
  return schemas.length === 1 ? schemas[0] : { anyOf: schemas };
}

export function orNull(schema: Schema): Schema {
  return { anyOf: [schema, { type: "null" }] };
}

export function query(name: string, text: string, schema: Schema = TEXT): Parameter {
  return { name, in: "query", text, schema };
}

export function header(name: string, text: string, schema: Schema = TEXT): Parameter {
  return { name, in: "header", text, schema };
}

/** A parameter that is there or not: `?list`, which is the same as `?list=true`. */
export function flag(name: string, text: string): Parameter {
  return query(name, text, { type: "boolean", default: false });
}

const KEY_TEXT = `The key, or where many are asked for their prefix: UTF-8 of 1 to ${KEY_BYTES_MAX} bytes. \`/\` is an ordinary character, sent as it is or as \`%2F\`.`;
/** Each path with a key has one of these. */
export const KEY: readonly Parameter[] = [
  {
    ...{ name: "key", in: "path", at: ["/{key}"] },
    text: `${KEY_TEXT} What begins with \`_\`, and \`health\`, are reserved: \`/_kv/{key}\` reaches every key.`,
    schema: { type: "string", minLength: 1, pattern: "^(?!_|health(/|$))" },
  },
  {
    ...{ name: "key", in: "path", at: ["/_kv/{key}", "/_raw/{key}"] },
    text: KEY_TEXT,
    schema: { type: "string", minLength: 1 },
  },
];

export const CONSISTENCY = query(
  "consistency",
  "`quorum`: what a majority of replicas says; `one`: what the replica nearest says. On a single node they are the same.",
  oneOf("quorum", "one"),
);

const TAGS_TEXT = `\`*\` or a list of versions such as \`"a1", "b2"\`, with or without quotes, up to ${CONDITION_BYTES_MAX} bytes`;
export const IF_MATCH = header("If-Match", `Only if the key has one of these versions: ${TAGS_TEXT}.`);
export const IF_NONE_MATCH = header("If-None-Match", `Only if it has none of these: ${TAGS_TEXT}.`);
export const IDEMPOTENCY_KEY = header(
  "Idempotency-Key",
  "Sent again under the same key, to any node and within ten minutes, the write takes effect once and is answered as the first time; with another request under it 422. Not with bodies above 1 MiB.",
  { type: "string", minLength: 1, maxLength: 64, pattern: "^[ -~]+$" },
);
export const IF_MODIFIED_SINCE = header(
  "If-Modified-Since",
  "304 where the version is not newer than this date.",
);
export const IF_UNMODIFIED_SINCE = header(
  "If-Unmodified-Since",
  "412 where the version is newer than this date. Means nothing beside If-Match.",
);

/** How long something takes or lasts. */
export const TTL_SCHEMA = {
  type: "string",
  pattern: "^\\d+(ms|s|m|h|d)?$",
  examples: ["90", "500ms", "12h"],
} as const;
export const EXPIRES = query(
  "expires",
  "The moment at which the value ends: seconds since 1970, or RFC 3339. Not with `ttl`.",
  { type: "string", examples: ["1924988400", "2030-12-31T23:00:00Z"] },
);

export const ERROR = new Shape("Error", {
  ...object({ success: oneOf(false), error: TEXT, code: TEXT }),
  description: "What went wrong: `error` is a sentence for a person, `code` a word for a program.",
});

/** A value that is JSON, as a key has it. */
export const JSON_VALUE = new Shape("Value", object({ value: ANY }));

/** A value whose type is that of our own documents, and which was stored as it came. */
const KEPT_VALUE = {
  description: "A value that was stored as it came (`/_raw/`), with that type.",
} as const;
/** What a read of a key can answer. */
export const VALUE_CONTENT = {
  [JSON_TYPE]: anyOf(JSON_VALUE, KEPT_VALUE),
  [LINES_TYPE]: KEPT_VALUE,
  [ANY_TYPE]: BYTES,
};
