/** PATCH of keys. */
import { KEY_PATHS, type Operation } from "../describe/operation.ts";
import { Shape } from "../describe/schema.ts";
import {
  ANY,
  anyOf,
  arrayOf,
  BYTES,
  COUNT,
  EXPIRES,
  FLAG,
  flag,
  JSON_TYPE,
  KEY,
  NUMBER,
  object,
  oneOf,
  query,
  TEXT,
  TTL_SCHEMA,
} from "../describe/shapes.ts";
import { CONDITIONS, WRITE_ERRORS, WRITE_HEADERS } from "./writes.ts";

const INCREMENT = new Shape(
  "Increment",
  object({ increment: NUMBER, initial: NUMBER, min: NUMBER, max: NUMBER }, ["initial", "min", "max"]),
);
const APPEND = new Shape("Append", object({ append: ANY }));
const JSON_PATCH = new Shape(
  "JsonPatch",
  arrayOf(
    object(
      {
        op: oneOf("add", "remove", "replace", "move", "copy", "test"),
        path: TEXT,
        from: TEXT,
        value: ANY,
      },
      ["from", "value"],
    ),
  ),
);
const PATCHED = new Shape(
  "Patched",
  anyOf(
    object({ success: oneOf(true), created: FLAG, value: ANY }, ["value"]),
    object({ success: oneOf(true), created: FLAG, bytes: COUNT }),
  ),
);

export const PATCH_OPERATIONS: readonly Operation[] = [
  {
    ...{ id: "change", group: "Keys", methods: ["PATCH"], paths: KEY_PATHS, needs: ["read", "write"] },
    summary: "Change a value in place, or its end of life",
    text: "Atomic over all nodes; answers the new value. The body's type says which form the change has. Without a body, `ttl` or `expires` give the value another end (`ttl=none`: none). With `increment`, `ttl` is the end of a counter that the request creates.",
    parameters: [
      ...[...KEY, ...CONDITIONS],
      query("ttl", "How long the value is to live from now on; `none`: for ever.", {
        anyOf: [TTL_SCHEMA, { const: "none" }],
      }),
      EXPIRES,
      flag("append", "The body is bytes (`application/octet-stream`) to be put behind those of the value."),
    ],
    body: {
      text: "The change. A value that is changed in place has at most 1 MiB.",
      required: false,
      content: {
        [JSON_TYPE]: anyOf(INCREMENT, APPEND),
        "application/merge-patch+json": {
          ...ANY,
          description: "RFC 7396: members to set, `null` to take away.",
        },
        "application/json-patch+json": JSON_PATCH,
        "application/octet-stream": BYTES,
      },
    },
    answers: {
      200: {
        text: "The value was changed. `value` is the new one, or `bytes` its length where it is no JSON.",
        headers: WRITE_HEADERS,
        content: { [JSON_TYPE]: PATCHED },
      },
      201: {
        text: "There was nothing: the counter begins.",
        headers: WRITE_HEADERS,
        content: { [JSON_TYPE]: PATCHED },
      },
    },
    errors: [
      ...WRITE_ERRORS,
      ...(["not_found", "patch_conflict", "length_required", "bad_json", "unsupported_encoding"] as const),
    ],
    errorHeaders: {
      ...{ precondition_failed: ["ETag"], patch_conflict: ["ETag"], too_large: ["ETag"] },
      unsupported_encoding: ["Accept-Encoding"],
      // In a cluster: the version of the mark that it is gone.
      not_found: ["ETag"],
    },
  },
];
