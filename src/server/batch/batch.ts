/**
 * `POST /_batch`: takes the body whole, reads its operations, has them done, and answers their results in
 * order; all of it by turns with whoever else waits (turns.ts).
 *
 * Invariants: nothing is done of a batch that is malformed or did not come whole; one that did is done to its
 * end, whether its client waits or not.
 */

import { stackOf } from "../../platform/system-error.ts";
import { isJsonType } from "../../util/header-text.ts";
import type { FrontContext } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { sendError } from "../http/reply.ts";
import type { MakeChange } from "../patch/asked.ts";
import { POST } from "../status/meter.ts";
import { manyKeysProblem } from "../writes/many-keys.ts";
import { type BodyKind, takeWhole } from "../writes/whole-body.ts";
import { bodyOf, send } from "./answer.ts";
import { type Operation, operationsOf, type Refused } from "./parse.ts";
import { type AllResults, ResultsRoom } from "./results.ts";
import { type BatchSetup, runBatch } from "./run.ts";
import { BatchError } from "./text.ts";
import { Turns } from "./turns.ts";

const BATCH_BYTES_MAX = 16 * 1024 * 1024;
/** Bodies of all batches of a front. */
const BATCHES_BYTES_MAX = 64 * 1024 * 1024;

const CONTENT_TYPE = Buffer.from("content-type");
const LINES_SYNTAX = /^application\/(?:x-)?ndjson[ \t]*(;|$)/i;
const OTHER_TYPE = {
  code: "bad_request",
  detail: "a batch is application/json, or application/x-ndjson with an operation a line",
} as const;

/** Answers POST /_batch. */
export function createBatch(context: FrontContext, change: MakeChange): (res: Res, req: Req) => void {
  const kind: BodyKind = {
    ...{ name: "a batch", verb: POST, bytesMax: BATCH_BYTES_MAX, allBytesMax: BATCHES_BYTES_MAX, bytes: 0 },
  };
  const turns = new Turns();
  const all: AllResults = { bytes: 0 };
  return (res, req) => {
    const type = req.getHeader(CONTENT_TYPE);
    const isLines = LINES_SYNTAX.test(type);
    const detail = manyKeysProblem(req);
    const typeProblem = isLines || isJsonType(type) ? null : OTHER_TYPE;
    const problem = detail === null ? typeProblem : ({ code: "bad_request", detail } as const);
    const { caller, notes } = context;
    takeWhole(context, res, req, kind, problem, (body, answer) => {
      const room = new ResultsRoom(all);
      run({ context, turns, change, asker: { caller, notes }, room }, body, isLines)
        .then(answer, (error: unknown) => {
          if (error instanceof BatchError) {
            answer((to) => sendError(to, "bad_request", { detail: error.message }));
            return;
          }
          context.log.error({ error: stackOf(error) }, "a batch could not be done");
          answer((to) => sendError(to, "internal"));
        })
        .finally(() => room.release());
    });
  };
}

async function run(
  setup: Omit<BatchSetup, "operations">,
  body: Uint8Array,
  isLines: boolean,
): Promise<(res: Res) => number> {
  const operations = await read(setup.turns, body, isLines);
  // From here on each write is noted, and not the batch.
  setup.asker.notes?.own();
  const answer = await bodyOf(setup.turns, await runBatch({ ...setup, operations }), isLines);
  return (res) => send(res, answer, isLines);
}

/** Reads the operations. Throws BatchError. */
function read(turns: Turns, body: Uint8Array, isLines: boolean): Promise<(Operation | Refused)[]> {
  return new Promise((resolve, reject) => {
    const operations: (Operation | Refused)[] = [];
    const source = operationsOf(body, isLines);
    turns.add(() => {
      const { done, value } = source.next();
      if (done === true) resolve(operations);
      else operations.push(value);
      return done !== true;
    }, reject);
  });
}
