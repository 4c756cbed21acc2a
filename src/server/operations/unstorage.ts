/** The protocol of unstorage's http driver: `/_unstorage/<key>`. */
import { LIST_ERRORS, STORE_ERRORS } from "../describe/errors.ts";
import type { Operation, Parameter } from "../describe/operation.ts";
import {
  ANY_TYPE,
  arrayOf,
  BYTES,
  COUNT,
  header,
  JSON_TYPE,
  object,
  oneOf,
  TEXT,
} from "../describe/shapes.ts";
import { READ_OPERATIONS } from "./reads.ts";
import { WRITE_OPERATIONS } from "./writes.ts";

const ITEM_PATHS = ["/_unstorage/{key}"] as const;
/** Also with a slash at the end; without anything before it, that is a path of its own. */
const BASE_PATHS = ["/_unstorage/{base}:", "/_unstorage/"] as const;
const SEGMENTS = "Segments, between which `:`, `/` and `\\` are the same; none is `.` or `..`.";
const ITEM: Parameter = {
  ...{ name: "key", in: "path", text: `The key. ${SEGMENTS}` },
  schema: { type: "string", minLength: 1, pattern: "[^:/]$" },
};
const BASE: Parameter = {
  ...{ name: "base", in: "path", at: ["/_unstorage/{base}:"] },
  ...{ text: `What the keys begin with. ${SEGMENTS} Empty: all.` },
  schema: { type: "string" },
};
const ANY_CONTENT = { [ANY_TYPE]: BYTES };

const withItem = (parameters: readonly Parameter[] = []): Parameter[] => [
  ITEM,
  ...parameters.filter(({ in: place }) => place !== "path"),
];
const writeOf = (id: string): Operation => WRITE_OPERATIONS.find((one) => one.id === id) as Operation;
const PUT = writeOf("put");
const DELETE = writeOf("delete");

export const UNSTORAGE_OPERATIONS: readonly Operation[] = [
  ...READ_OPERATIONS.map((own) => ({
    ...own,
    ...{ id: `${own.id}Item`, paths: ITEM_PATHS, parameters: withItem(own.parameters) },
    ...(own.methods.includes("GET") ? { summary: "Read a value as unstorage does" } : {}),
    text: "As a text, unless `Accept` is `application/octet-stream`.",
    answers: Object.fromEntries(
      Object.entries(own.answers).map(([status, answer]) => [
        status,
        answer.content === undefined ? answer : { ...answer, content: ANY_CONTENT },
      ]),
    ),
  })),
  {
    ...PUT,
    ...{ id: "setItem", paths: ITEM_PATHS },
    summary: "Store a value as unstorage does",
    text: "The body as it is.",
    parameters: [
      ...withItem(PUT.parameters),
      header("X-TTL", "How long it is to live, in seconds.", { type: "string", examples: ["60", "0"] }),
    ],
    body: { text: "Any body.", required: true, content: ANY_CONTENT },
    errors: PUT.errors.filter((code) => code !== "bad_json" && code !== "no_value"),
  },
  {
    ...DELETE,
    ...{ id: "removeItem", paths: ITEM_PATHS, parameters: withItem(DELETE.parameters) },
    summary: "Delete a value as unstorage does",
  },
  {
    ...{ id: "getKeys", group: "Lists", methods: ["GET"], paths: BASE_PATHS, needs: ["list"] },
    summary: "List keys as unstorage does",
    parameters: [BASE],
    answers: {
      200: { text: "The keys.", headers: ["Cache-Control"], content: { [JSON_TYPE]: arrayOf(TEXT) } },
    },
    errors: [...LIST_ERRORS, "bad_key", "key_too_long"],
  },
  {
    ...{ id: "clear", group: "Lists", methods: ["DELETE"], paths: BASE_PATHS, needs: ["delete"] },
    summary: "Delete what unstorage lists",
    parameters: [BASE],
    answers: {
      200: {
        text: "They are gone.",
        headers: ["Cache-Control"],
        content: { [JSON_TYPE]: object({ success: oneOf(true), deleted: COUNT }) },
      },
    },
    errors: [
      ...LIST_ERRORS,
      ...STORE_ERRORS,
      ...(["bad_key", "key_too_long", "bad_request", "foreign_origin"] as const),
    ],
  },
];
