/** Many operations in one request. */

import { OPERATIONS_MAX } from "../batch/parse.ts";
import { BODY_ERRORS } from "../describe/errors.ts";
import type { Operation } from "../describe/operation.ts";
import { Shape } from "../describe/schema.ts";
import {
  ANY,
  arrayOf,
  COUNT,
  FLAG,
  JSON_TYPE,
  LINES_TYPE,
  object,
  oneOf,
  TEXT,
  VERSION,
} from "../describe/shapes.ts";

const BASE64 = { type: "string", contentEncoding: "base64" };

const ASKED = new Shape("BatchOperation", {
  ...object(
    {
      op: oneOf("get", "put", "post", "patch", "delete"),
      key: TEXT,
      value: ANY,
      base64: BASE64,
      type: TEXT,
      ttl: { type: ["number", "string"] },
      ifMatch: TEXT,
      ifNoneMatch: TEXT,
      idempotencyKey: { type: "string", minLength: 1, maxLength: 64 },
    },
    ["value", "base64", "type", "ttl", "ifMatch", "ifNoneMatch", "idempotencyKey"],
  ),
  description:
    "`value` is any JSON; other bytes are `base64` with their `type`. `key` is not percent-encoded. A patch has a change of JSON as `value`, whose `type` says which form it has (`application/json` with `increment` or `append` where there is none); or `base64`, to be put behind bytes; or only a `ttl`, another end (`none`: none).",
});
const RESULT = new Shape("BatchResult", {
  ...object(
    {
      ...{ status: { type: "integer" }, success: FLAG, etag: VERSION, created: FLAG, deleted: FLAG },
      ...{ value: ANY, type: TEXT, base64: BASE64, error: TEXT, code: TEXT, replayed: FLAG },
      ...{ bytes: COUNT, ttl: { type: "number" } },
    },
    [
      "success",
      "bytes",
      "etag",
      "created",
      "deleted",
      "value",
      "type",
      "base64",
      "ttl",
      "error",
      "code",
      "replayed",
    ],
  ),
  description: "What the operation would have been answered alone.",
});

export const BATCH_OPERATIONS: readonly Operation[] = [
  {
    ...{ id: "batch", group: "Many keys", methods: ["POST"], paths: ["/_batch"] },
    ...{ needs: ["read", "write", "delete"] },
    summary: "Do many operations",
    text: `Up to ${OPERATIONS_MAX} operations and 16 MiB, each as if it had been sent alone; those of one key in their order. Not atomic as a whole. Each needs of a token what it would need alone.`,
    body: {
      text: "The operations, as JSON or one a line.",
      required: true,
      content: {
        [JSON_TYPE]: object({ operations: arrayOf(ASKED), atomic: oneOf(false) }, ["atomic"]),
        [LINES_TYPE]: ASKED,
      },
    },
    answers: {
      200: {
        text: "The results, in the same order and form.",
        headers: ["Cache-Control"],
        content: {
          [JSON_TYPE]: object({ success: oneOf(true), results: arrayOf(RESULT) }),
          [LINES_TYPE]: RESULT,
        },
      },
    },
    errors: [
      ...BODY_ERRORS,
      "length_required",
      "too_large",
      "unsupported_encoding",
      "overloaded",
      "stopping",
    ],
    errorHeaders: { unsupported_encoding: ["Accept-Encoding"] },
  },
];
