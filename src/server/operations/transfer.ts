/** Archives out and in. */
import { BODY_ERRORS, LIST_ERRORS, STORE_ERRORS } from "../describe/errors.ts";
import type { Operation } from "../describe/operation.ts";
import { Shape } from "../describe/schema.ts";
import {
  ANY_TYPE,
  anyOf,
  arrayOf,
  BYTES,
  CONSISTENCY,
  COUNT,
  LINES_TYPE,
  object,
  oneOf,
  query,
  TEXT,
} from "../describe/shapes.ts";
import { BOUNDS } from "./list.ts";

const COUNTS = { entries: COUNT, stored: COUNT, kept: COUNT, refused: COUNT };
const REFUSALS = arrayOf(object({ key: TEXT, error: TEXT, code: TEXT }));
const FAILURE = new Shape(
  "ImportFailure",
  object({ success: oneOf(false), ...COUNTS, refusals: REFUSALS, error: TEXT, code: TEXT }, ["refusals"]),
);
const LINE = new Shape(
  "ImportLine",
  anyOf(
    object({ ...COUNTS, bytes: COUNT }),
    object({ success: oneOf(true), ...COUNTS, complete: oneOf(true) }),
    FAILURE,
  ),
);

export const TRANSFER_OPERATIONS: readonly Operation[] = [
  {
    ...{ id: "export", group: "Many keys", methods: ["GET"], paths: ["/_export"], needs: ["read", "list"] },
    summary: "Export values as a tar",
    text: "What a list finds, of any size. An archive that came to its end has everything.",
    parameters: [query("prefix", "Keys that begin with it; left out: all."), ...BOUNDS, CONSISTENCY],
    answers: {
      200: {
        text: "The archive.",
        headers: ["Content-Disposition", "Cache-Control"],
        content: { "application/x-tar": BYTES },
      },
    },
    errors: [...LIST_ERRORS, "bad_request"],
  },
  {
    ...{ id: "import", group: "Many keys", methods: ["PUT"], paths: ["/_import"], needs: ["write"] },
    summary: "Import a tar",
    text: 'An export, or any tar of files. Lines tell how far it is; the last one has `"success":true` if all was stored or kept. Whatever ends it, what was stored stays.',
    parameters: [
      query(
        "mode",
        "What becomes of keys that are there: `create`: they stay (the default); `replace`; `newer`: replaced where the archive has a newer version.",
        oneOf("create", "replace", "newer"),
      ),
    ],
    body: { text: "The archive, not compressed.", required: true, content: { [ANY_TYPE]: BYTES } },
    answers: {
      200: { text: "How far it is.", headers: ["Cache-Control"], content: { [LINES_TYPE]: LINE } },
    },
    errors: [
      ...BODY_ERRORS,
      ...STORE_ERRORS,
      ...(["length_required", "unsupported_encoding", "upgrade_first"] as const),
    ],
    failureLine: FAILURE,
  },
];
