/** GET and HEAD of keys. */
import { ENDING_ERRORS, KEY_ERRORS, READ_ERRORS } from "../describe/errors.ts";
import type { HeaderName } from "../describe/headers.ts";
import { KEY_PATHS, type Operation } from "../describe/operation.ts";
import {
  ANY_TYPE,
  BYTES,
  CONSISTENCY,
  header,
  IF_MATCH,
  IF_MODIFIED_SINCE,
  IF_NONE_MATCH,
  IF_UNMODIFIED_SINCE,
  KEY,
  VALUE_CONTENT,
} from "../describe/shapes.ts";

const ORIGIN_HEADERS = ["X-Minivault-Replicas", "X-Minivault-Region"] as const;
/** What a cache needs to know. */
const VERSION_HEADERS = ["ETag", "Last-Modified", "Cache-Control", "X-TTL"] as const;
export const VALUE_HEADERS: readonly HeaderName[] = [
  ...VERSION_HEADERS,
  ...(["Content-Encoding", "Content-Language", "Content-Disposition"] as const),
  ...(["X-Content-Type-Options", "Content-Security-Policy", "Accept-Ranges"] as const),
  ...ORIGIN_HEADERS,
];

const CONDITIONS = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

/** What a GET of a key can end with. */
export const VALUE_ERRORS = [
  ...KEY_ERRORS,
  ...READ_ERRORS,
  ...ENDING_ERRORS,
  ...(["bad_request", "not_found", "precondition_failed"] as const),
];
export const VALUE_ERROR_HEADERS = {
  precondition_failed: ["ETag"],
  not_found: ORIGIN_HEADERS,
  range_not_satisfiable: ["ETag", "Content-Range"],
} as const;

const UNCHANGED = { text: "The key has the version that the client knows.", headers: VERSION_HEADERS };
const VALUE_TEXT =
  'A value comes back as it was stored: JSON as `{"value": …}` with its own text, anything else as its bytes with their type, `X-Meta-…` headers and others that are kept with it. 404 is only said when it is known.';

export const READ_OPERATIONS: readonly Operation[] = [
  {
    ...{ id: "get", group: "Keys", methods: ["GET"], paths: KEY_PATHS, needs: ["read"] },
    summary: "Read a value",
    text: VALUE_TEXT,
    parameters: [
      ...[...KEY, CONSISTENCY, ...CONDITIONS],
      header("Range", "One range of bytes, such as `bytes=0-99`; of several all of the value comes.", {
        type: "string",
        examples: ["bytes=0-9", "bytes=-5", "bytes=500-"],
      }),
      header("If-Range", "The range only of this version (an ETag, or a date), else all of the value."),
    ],
    answers: {
      200: {
        text: "The value.",
        headers: VALUE_HEADERS,
        content: VALUE_CONTENT,
      },
      206: {
        text: "A part of it.",
        headers: [...VALUE_HEADERS, "Content-Range"],
        content: { [ANY_TYPE]: BYTES },
      },
      304: UNCHANGED,
    },
    errors: [...VALUE_ERRORS, "range_not_satisfiable"],
    errorHeaders: VALUE_ERROR_HEADERS,
  },
  {
    ...{ id: "head", group: "Keys", methods: ["HEAD"], paths: KEY_PATHS, needs: ["read"] },
    summary: "Read the headers of a value",
    parameters: [...KEY, CONSISTENCY, ...CONDITIONS],
    answers: { 200: { text: "The headers that a GET has.", headers: VALUE_HEADERS }, 304: UNCHANGED },
    errors: VALUE_ERRORS,
    errorHeaders: VALUE_ERROR_HEADERS,
  },
];

/** The same with `-compat mkv`. */
export const MKV_READ_OPERATIONS: readonly Operation[] = READ_OPERATIONS.map((one) =>
  one.id !== "head"
    ? one
    : {
        ...one,
        answers: {
          ...one.answers,
          200: { text: "The headers that a GET has.", headers: [...VALUE_HEADERS, "Content-Md5"] },
        },
      },
);
