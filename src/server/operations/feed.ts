/** Changes as they come. */
import { FEED_WAIT_MS_MAX, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX } from "../../util/limits.ts";
import { KEY_ERRORS, LIST_ERRORS } from "../describe/errors.ts";
import { KEY_PATHS, type Operation, PREFIX_PATHS } from "../describe/operation.ts";
import { Shape } from "../describe/schema.ts";
import {
  arrayOf,
  FLAG,
  flag,
  header,
  IF_NONE_MATCH,
  JSON_TYPE,
  KEY,
  object,
  oneOf,
  query,
  TEXT,
  VALUE_CONTENT,
} from "../describe/shapes.ts";
import { ENTRY_MEMBERS, ENTRY_OPTIONAL } from "./list.ts";
import { VALUE_ERROR_HEADERS, VALUE_ERRORS, VALUE_HEADERS } from "./reads.ts";

const CHANGE = new Shape("Change", {
  ...object({ event: oneOf("put", "delete", "expire"), ...ENTRY_MEMBERS }, [
    "bytes",
    "type",
    ...ENTRY_OPTIONAL,
  ]),
  description: "Of `delete` and `expire` only key and version are told.",
});
const CHANGES = new Shape(
  "Changes",
  object({ success: oneOf(true), changes: arrayOf(CHANGE), place: TEXT, more: FLAG }),
);

const SINCE = query("since", "Goes on from this place; without it, from now on.");
const VALUES = flag("values", "With each value up to 64 KiB; also needs `read`.");
const waitOf = (text: string) =>
  query("wait", `${text} At most ${FEED_WAIT_MS_MAX / 1000} seconds.`, {
    ...{ type: "string", pattern: "^\\d+(ms|s|m)?$", examples: ["30s"] },
  });
const FEED_ERRORS = [...KEY_ERRORS, ...LIST_ERRORS, ...(["bad_request", "place_too_old"] as const)];
const STREAM_HEADERS = ["Cache-Control", "X-Content-Type-Options"] as const;

export const FEED_OPERATIONS: readonly Operation[] = [
  {
    ...{ id: "watch", group: "Changes", methods: ["GET"], paths: PREFIX_PATHS, needs: ["watch"] },
    form: "GET /<prefix>?watch",
    summary: "Follow changes as a stream of events",
    text: "Server-sent events: `put`, `delete` and `expire` with what a list says of the key; `progress` with a place in its `id`, from which the stream can be resumed; `live` behind the first list of `initial`; `reset`: the place is too old, list again.",
    parameters: [
      ...KEY,
      flag("watch", "Follows changes of the keys with this prefix."),
      SINCE,
      flag("initial", "Lists first, and then follows; also needs `list`."),
      VALUES,
      header("Last-Event-ID", "The place to go on from, as browsers send it; counts before `since`."),
    ],
    answers: {
      200: {
        text: "Events, without end.",
        headers: [...STREAM_HEADERS, "X-Accel-Buffering"],
        content: { "text/event-stream": TEXT },
      },
    },
    errors: FEED_ERRORS,
  },
  {
    ...{ id: "changes", group: "Changes", methods: ["GET"], paths: PREFIX_PATHS, needs: ["watch"] },
    form: "GET /<prefix>?changes",
    summary: "Read changes in pages",
    text: "The first page, without `since`, only gives a place.",
    parameters: [
      ...KEY,
      flag("changes", "Reads changes of the keys with this prefix."),
      SINCE,
      query("limit", "Most changes on a page.", {
        ...{ type: "integer", minimum: 1, maximum: LIST_LIMIT_MAX, default: LIST_LIMIT_DEFAULT },
      }),
      VALUES,
      waitOf("Where there is nothing, waits so long for the first change."),
    ],
    answers: {
      200: { text: "What has changed.", headers: STREAM_HEADERS, content: { [JSON_TYPE]: CHANGES } },
    },
    errors: FEED_ERRORS,
  },
  {
    ...{ id: "wait", group: "Changes", methods: ["GET"], paths: KEY_PATHS, needs: ["read"] },
    form: "GET /<key>?wait=30s",
    summary: "Wait until a key differs",
    text: "Answers as a GET does once the key differs from what `If-None-Match` says: a version, `*` (any: 404 once it is gone), or no such header (nothing: once it is there).",
    parameters: [...KEY, waitOf("How long to wait."), IF_NONE_MATCH],
    answers: {
      200: {
        text: "The value.",
        headers: VALUE_HEADERS,
        content: VALUE_CONTENT,
      },
      304: {
        text: "The time is over, and the key is as it was.",
        headers: ["ETag", "Last-Modified", "Cache-Control", "X-TTL"],
      },
    },
    errors: [...VALUE_ERRORS, "not_yet"],
    errorHeaders: VALUE_ERROR_HEADERS,
  },
];
