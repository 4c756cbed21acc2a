/** PUT, POST and DELETE of keys. */
import { KEPT_HEADER_BYTES_MAX, META_BYTES_MAX } from "../../util/limits.ts";
import { BODY_ERRORS, KEY_ERRORS, STORE_ERRORS } from "../describe/errors.ts";
import { type Body, KEY_PATHS, type Operation } from "../describe/operation.ts";
import { Shape } from "../describe/schema.ts";
import {
  ANY_TYPE,
  BYTES,
  CONSISTENCY,
  EXPIRES,
  FLAG,
  header,
  IDEMPOTENCY_KEY,
  IF_MATCH,
  IF_NONE_MATCH,
  IF_UNMODIFIED_SINCE,
  JSON_TYPE,
  JSON_VALUE,
  KEY,
  object,
  oneOf,
  query,
  TTL_SCHEMA,
} from "../describe/shapes.ts";

export const WRITE_HEADERS = [
  ...(["ETag", "X-Minivault-Replicas", "X-Minivault-Region", "Idempotency-Replayed"] as const),
] as const;
export const CONDITIONS = [IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, IDEMPOTENCY_KEY];
export const WRITE_ERRORS = [
  ...KEY_ERRORS,
  ...BODY_ERRORS,
  ...STORE_ERRORS,
  ...(["precondition_failed", "too_large", "key_reused", "unremembered", "upgrade_first"] as const),
];

const WRITTEN = new Shape("Written", object({ success: oneOf(true), created: FLAG }));
const DELETED = new Shape("Deleted", object({ success: oneOf(true), deleted: FLAG }));

const kept = (name: string) =>
  header(name, `Kept with the value, up to ${KEPT_HEADER_BYTES_MAX} bytes, and sent back with it.`);
const STORING = [
  ...[...KEY, CONSISTENCY, ...CONDITIONS],
  query("ttl", "How long the value is to live, in seconds or with a unit: 1 ms to 10 years.", TTL_SCHEMA),
  EXPIRES,
  header("Content-Encoding", "How the body is encoded: kept, and sent back with it. Not of JSON.", {
    type: "string",
    examples: ["gzip"],
  }),
  kept("Content-Language"),
  kept("Content-Disposition"),
  kept("Cache-Control"),
];
const BODY: Body = {
  text: "JSON, of which the value's own text is kept; or bytes of any type, which are stored with it.",
  required: true,
  content: { [JSON_TYPE]: JSON_VALUE, [ANY_TYPE]: BYTES },
};
const STORING_ERRORS = [
  ...WRITE_ERRORS,
  ...(["bad_json", "no_value", "length_required", "unsupported_encoding"] as const),
];
const STORING_TEXT = `Also kept: up to ${META_BYTES_MAX} bytes of \`X-Meta-<name>\` headers. \`ttl\` and \`expires\` do not go together.`;
const CREATED = {
  text: "There was nothing; now there is this value.",
  headers: WRITE_HEADERS,
  content: { [JSON_TYPE]: WRITTEN },
};
const STORING_HEADERS = { precondition_failed: ["ETag"], unsupported_encoding: ["Accept-Encoding"] } as const;

const PUT: Operation = {
  ...{ id: "put", group: "Keys", methods: ["PUT"], paths: KEY_PATHS, needs: ["write"] },
  summary: "Store a value, in place of one that is there",
  text: `${STORING_TEXT} \`ttl=keep\` keeps the end of the value that is replaced.`,
  parameters: STORING,
  body: BODY,
  answers: {
    200: { text: "The value was replaced.", headers: WRITE_HEADERS, content: { [JSON_TYPE]: WRITTEN } },
    201: CREATED,
  },
  errors: STORING_ERRORS,
  errorHeaders: STORING_HEADERS,
};
const POST: Operation = {
  ...{ id: "create", group: "Keys", methods: ["POST"], paths: KEY_PATHS, needs: ["write"] },
  summary: "Store a value where there is none",
  text: STORING_TEXT,
  parameters: STORING,
  body: BODY,
  answers: { 201: CREATED },
  errors: [...STORING_ERRORS, "exists"],
  errorHeaders: { ...STORING_HEADERS, exists: ["ETag"] },
};
const DELETE: Operation = {
  ...{ id: "delete", group: "Keys", methods: ["DELETE"], paths: KEY_PATHS, needs: ["delete"] },
  summary: "Delete a value",
  text: "A body means nothing.",
  parameters: [...KEY, CONSISTENCY, ...CONDITIONS],
  answers: {
    200: {
      text: "There is nothing now. Without an ETag: there never was.",
      headers: WRITE_HEADERS,
      content: { [JSON_TYPE]: DELETED },
    },
  },
  errors: WRITE_ERRORS,
  errorHeaders: { precondition_failed: ["ETag"] },
};

export const WRITE_OPERATIONS: readonly Operation[] = [PUT, POST, DELETE];

/** The same with `-compat mkv`. */
export const MKV_WRITE_OPERATIONS: readonly Operation[] = [
  {
    ...PUT,
    ...{ summary: "Store a value where there is none", text: STORING_TEXT },
    answers: { 201: CREATED },
    errors: [...STORING_ERRORS.filter((code) => code !== "precondition_failed"), "write_once"],
  },
  POST,
  {
    ...DELETE,
    answers: { 204: { text: "There is nothing now." } },
    errors: [...WRITE_ERRORS, "not_found"],
  },
];
