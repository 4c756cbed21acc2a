/** Bodies as they are, and their locks: `/_raw/<key>`. */
import { BODY_ERRORS, KEY_ERRORS, STORE_ERRORS } from "../describe/errors.ts";
import type { Operation } from "../describe/operation.ts";
import { Shape } from "../describe/schema.ts";
import {
  ANY_TYPE,
  BYTES,
  EXPIRES,
  JSON_TYPE,
  KEY,
  object,
  oneOf,
  openObject,
  query,
  TEXT,
  TTL_SCHEMA,
} from "../describe/shapes.ts";
import { READ_OPERATIONS } from "./reads.ts";
import { WRITE_OPERATIONS } from "./writes.ts";

const RAW_PATHS = ["/_raw/{key}"] as const;
const ID = query("ID", "That of the lock, where one is held.");

const LOCK = new Shape("Lock", {
  ...openObject({ ID: { type: "string", minLength: 1 } }),
  description: "As its holder has sent it.",
});
const DONE = new Shape("Done", object({ success: oneOf(true) }));

const LOCKED = {
  text: "Somebody holds the lock; the lock, to those who may read.",
  headers: ["Cache-Control"],
  content: { [JSON_TYPE]: LOCK },
} as const;

/** A write as it is without `_raw`, but for what the lock is to it. */
function guarded(id: string, name: string, methods: Operation["methods"]): Operation {
  const own = WRITE_OPERATIONS.find((one) => one.id === name) as Operation;
  const errors = own.errors.filter((code) => code !== "bad_json" && code !== "no_value");
  return {
    ...own,
    ...{ id, methods, paths: RAW_PATHS, parameters: [...(own.parameters ?? []), ID] },
    ...(own.body === undefined ? {} : { body: { ...own.body, content: { [ANY_TYPE]: BYTES } } }),
    answers: { ...own.answers, 423: LOCKED },
    errors: [...errors, "locked"],
  };
}

const LOCK_ERRORS = [
  ...KEY_ERRORS,
  ...BODY_ERRORS,
  ...STORE_ERRORS,
  ...(["locked", "too_large", "unsupported_encoding", "upgrade_first"] as const),
];
const LOCK_HEADERS = { unsupported_encoding: ["Accept-Encoding"] } as const;

const locking = (id: string, method: "LOCK" | "UNLOCK") =>
  ({ id, group: "Keys", methods: [method], paths: RAW_PATHS, needs: ["write"] }) as const;

export const RAW_OPERATIONS: readonly Operation[] = [
  ...READ_OPERATIONS.map((own) => ({
    ...own,
    ...{ id: `${own.id}Raw`, paths: RAW_PATHS },
    summary: own.methods.includes("GET") ? "Read a value without the envelope of JSON" : own.summary,
    text: "A body of any type as it was sent; a JSON value that was stored without `_raw` as its own text.",
    answers: Object.fromEntries(
      Object.entries(own.answers).map(([status, answer]) => [
        status,
        answer.content === undefined ? answer : { ...answer, content: { [ANY_TYPE]: BYTES } },
      ]),
    ),
  })),
  {
    ...guarded("putRaw", "put", ["PUT", "POST"]),
    summary: "Store a body as it is",
    text: "POST replaces, too, as Terraform's http backend expects it. A write without the lock's ID is 423 while one is held.",
  },
  guarded("deleteRaw", "delete", ["DELETE"]),
  {
    ...locking("lock", "LOCK"),
    summary: "Take the lock of a key",
    text: "As Terraform's http backend does: held once over all nodes, and kept as a value beside the key (`.tflock`). `ttl` or `expires` give it an end.",
    parameters: [...KEY, query("ttl", "How long it is held at most.", TTL_SCHEMA), EXPIRES],
    body: { text: "The lock, with its ID.", required: true, content: { [JSON_TYPE]: LOCK } },
    answers: {
      200: { text: "It is held now.", headers: ["ETag"], content: { [JSON_TYPE]: DONE } },
      423: LOCKED,
    },
    errors: LOCK_ERRORS,
    errorHeaders: LOCK_HEADERS,
  },
  {
    ...locking("unlock", "UNLOCK"),
    summary: "Give the lock of a key back",
    text: "Without an ID: whoever holds it.",
    parameters: [...KEY, query("ID", "That of the lock, where there is no body.", TEXT)],
    body: { text: "The lock, with its ID.", required: false, content: { [JSON_TYPE]: LOCK } },
    answers: {
      200: { text: "Nobody holds it.", headers: ["ETag"], content: { [JSON_TYPE]: DONE } },
      423: LOCKED,
    },
    errors: LOCK_ERRORS,
    errorHeaders: LOCK_HEADERS,
  },
];
