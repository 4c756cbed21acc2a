/** What operators ask of a node. */
import { STORE_ERRORS } from "../describe/errors.ts";
import type { Operation } from "../describe/operation.ts";
import { Shape } from "../describe/schema.ts";
import { anyOf, arrayOf, COUNT, LINES_TYPE, NUMBER, object, oneOf, query, TEXT } from "../describe/shapes.ts";

const FAILURE = new Shape("BackupFailure", object({ success: oneOf(false), error: TEXT, code: TEXT }));
const LINE = new Shape(
  "BackupLine",
  anyOf(
    object({ doneSlabs: COUNT, slabs: COUNT }),
    object({
      ...{ success: oneOf(true), directory: TEXT, began: NUMBER, ended: NUMBER, slabs: COUNT },
      ...{ linked: COUNT, bytes: COUNT, problems: arrayOf(TEXT) },
    }),
    FAILURE,
  ),
);

export const ADMIN_OPERATIONS: readonly Operation[] = [
  {
    ...{ id: "backup", group: "Node", methods: ["POST"], paths: ["/_admin/backup"], needs: ["admin"] },
    summary: "Copy the node's data",
    text: "At one moment, while it serves. It goes on when its client has gone: the copy's file BACKUP says that it is whole.",
    parameters: [query("directory", "A folder on the node, which is new or empty.")],
    answers: {
      200: { text: "How far it is.", headers: ["Cache-Control"], content: { [LINES_TYPE]: LINE } },
    },
    errors: [...STORE_ERRORS, "bad_request", "foreign_origin", "conflict"],
  },
];
