/** Lists, and deletes of what they find. */
import { LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, LISTED_VALUE_BYTES_MAX } from "../../util/limits.ts";
import { KEY_ERRORS, LIST_ERRORS, STORE_ERRORS } from "../describe/errors.ts";
import { type Operation, type Parameter, PREFIX_PATHS } from "../describe/operation.ts";
import { type Schema, Shape } from "../describe/schema.ts";
import {
  ANY,
  anyOf,
  arrayOf,
  CONSISTENCY,
  COUNT,
  FLAG,
  flag,
  header,
  JSON_TYPE,
  KEY,
  LINES_TYPE,
  NUMBER,
  object,
  oneOf,
  orNull,
  query,
  TEXT,
  VERSION,
} from "../describe/shapes.ts";

const VALUE_MEMBERS = { value: ANY, base64: { type: "string", contentEncoding: "base64" } };

/** What is said of a key: one entry of a list, or of what has changed. */
export const ENTRY_MEMBERS = {
  key: TEXT,
  etag: VERSION,
  bytes: COUNT,
  type: TEXT,
  ttl: NUMBER,
  ...VALUE_MEMBERS,
};
export const ENTRY_OPTIONAL = ["ttl", "value", "base64"] as const;
const ENTRY = new Shape("Entry", {
  ...object(ENTRY_MEMBERS, ENTRY_OPTIONAL),
  description:
    "`etag` without quotes, `ttl` in seconds; `value` (JSON) or `base64` with `values`, up to 64 KiB.",
});
const CURSOR = { ...orNull(TEXT), description: "For the next page; null: this was the last." };
const LIST = new Shape(
  "List",
  object({ success: oneOf(true), keys: arrayOf(ENTRY), prefixes: arrayOf(TEXT), cursor: CURSOR }),
);
const NUMBER_OF_KEYS = new Shape("Count", object({ success: oneOf(true), count: COUNT, cursor: CURSOR }));

/** The last line of lines that broke off. */
const FAILURE_LINE = new Shape("FailureLine", object({ success: oneOf(false), error: TEXT, code: TEXT }));
const LIST_LINE = new Shape(
  "ListLine",
  anyOf(
    ENTRY,
    object({ prefix: TEXT }),
    object({ count: COUNT }),
    object({ success: oneOf(true), count: COUNT, complete: oneOf(true) }),
    FAILURE_LINE,
  ),
);

export const BOUNDS: readonly Parameter[] = [
  query("start", "From this key on, whatever the direction."),
  query("after", "After this key."),
  query("end", "Before this key."),
];
const DELIMITER = query(
  "delimiter",
  "Keys that have it after the prefix are rolled up into `prefixes`, each once.",
);

const HAS_CACHING = ["Cache-Control"] as const;

const MKV_LIST = new Shape("MkvList", object({ keys: arrayOf(TEXT), next: TEXT }));

function listOperation(pages: Readonly<Record<string, Schema>>): Operation {
  return {
    ...{ id: "list", group: "Lists", methods: ["GET"], paths: PREFIX_PATHS, needs: ["list"] },
    form: "GET /<prefix>?list",
    summary: "List keys",
    text: 'Keys that begin with the prefix, in order of their bytes. A page may be short, even empty, while `cursor` says that there is more. As `application/x-ndjson` all pages come as one stream, which is whole if its last line has `"complete":true`. With `values` it also needs `read`.',
    parameters: [
      ...KEY,
      flag("list", "Lists keys, in place of reading one."),
      query("limit", "Most keys and prefixes on a page.", {
        ...{ type: "integer", minimum: 1, maximum: LIST_LIMIT_MAX, default: LIST_LIMIT_DEFAULT },
      }),
      query("cursor", "From the page before."),
      ...BOUNDS,
      DELIMITER,
      flag("reverse", "From the last key to the first."),
      flag("values", `With each value up to ${LISTED_VALUE_BYTES_MAX / 1024} KiB.`),
      flag("count", "Only how many there are."),
      CONSISTENCY,
      header("Accept", "`application/x-ndjson`: all pages as one stream of lines.", {
        type: "string",
        examples: [LINES_TYPE],
      }),
    ],
    answers: {
      200: {
        text: "Keys, or how many.",
        headers: HAS_CACHING,
        content: { ...pages, [LINES_TYPE]: LIST_LINE },
      },
    },
    errors: [...KEY_ERRORS, ...LIST_ERRORS, "bad_request"],
  };
}

const NO_HEAD: Operation = {
  ...{ id: "headList", group: "Lists", methods: ["HEAD"], paths: PREFIX_PATHS, needs: ["list"] },
  form: "HEAD /<prefix>?list",
  summary: "There is no HEAD of lists and changes",
  parameters: KEY,
  answers: {},
  errors: ["method_not_allowed"],
  errorHeaders: { method_not_allowed: ["Allow"] },
};

const TOLD = { found: COUNT, deleted: COUNT, complete: FLAG };
const DELETION_LINE = new Shape(
  "DeletionLine",
  anyOf(
    object(TOLD, ["found", "deleted", "complete"]),
    object({ success: oneOf(true), ...TOLD }, ["found", "deleted", "complete"]),
    object({ success: oneOf(false), ...TOLD, error: TEXT, code: TEXT }, [
      "found",
      "deleted",
      "complete",
      "error",
      "code",
    ]),
  ),
);

const DELETION: Operation = {
  ...{ id: "deletePrefix", group: "Lists", methods: ["POST"], paths: ["/_delete"], needs: ["delete"] },
  form: "POST /_delete?prefix=…",
  summary: "Delete what a list finds",
  text: "Key by key; lines tell how far it is, the last one has `success`. It ends when the client leaves; the same request goes on with what is left.",
  parameters: [
    query("prefix", "Keys that begin with it."),
    flag("all", "Every key, in place of a prefix."),
    flag("dry-run", "Only counts."),
    ...BOUNDS,
    DELIMITER,
  ],
  answers: {
    200: { text: "How far it is.", headers: HAS_CACHING, content: { [LINES_TYPE]: DELETION_LINE } },
  },
  errors: [...LIST_ERRORS, ...STORE_ERRORS, "bad_request", "foreign_origin"],
};

export const LIST_OPERATIONS: readonly Operation[] = [
  listOperation({ [JSON_TYPE]: anyOf(LIST, NUMBER_OF_KEYS) }),
  NO_HEAD,
  DELETION,
];

const OWN_FIRST = listOperation({ [JSON_TYPE]: anyOf(LIST, NUMBER_OF_KEYS, MKV_LIST) });

/** The same with `-compat mkv`. */
export const MKV_LIST_OPERATIONS: readonly Operation[] = [
  {
    ...OWN_FIRST,
    text: `${OWN_FIRST.text} As minikeyvalue answers it, \`{"keys","next"}\`, where \`list\` or \`unlinked\` is the first parameter.`,
    parameters: [
      ...(OWN_FIRST.parameters ?? []).filter(({ name }) => name !== "limit"),
      query(
        "limit",
        "Most keys and prefixes on a page; in the first place of minikeyvalue's list any number.",
        {
          type: "integer",
        },
      ),
      flag("unlinked", "Keys that are gone and whose values are still there: none."),
    ],
    errors: [...OWN_FIRST.errors, "too_large"],
  },
  NO_HEAD,
  DELETION,
];
