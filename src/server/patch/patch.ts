/**
 * `PATCH /key`: takes what is to be changed, has it changed (`change.ts`), and answers what has become of it.
 */

import type { Conditions } from "../../rules/conditions.ts";
import { NO_LIFE } from "../../rules/expiry.ts";
import { queryProblem } from "../../rules/query.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { type FrontContext, targetOf } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { judgeConditions } from "../http/read-headers.ts";
import { type Header, REPLAYED, sendError, statusLine } from "../http/reply.ts";
import { TARGET_KEY } from "../http/target.ts";
import { problemOf } from "../once/once.ts";
import { OTHER } from "../status/meter.ts";
import { HeadLines } from "../writes/head-lines.ts";
import { type BodyKind, takeWhole } from "../writes/whole-body.ts";
import type { Asked, MakeChange } from "./asked.ts";
import type { Ending } from "./ending.ts";
import { formOfBytes, formOfJson, readAppend } from "./form.ts";
import { createTouch, readLife, WITHOUT_NONE } from "./touch.ts";

/** Bodies of all patches of a front. */
const PATCHES_BYTES_MAX = 32 * 1024 * 1024;

const WRONG_TYPE =
  "a patch is application/merge-patch+json, application/json-patch+json, application/json with increment or append, or, with ?append, application/octet-stream";

/** Answers PATCH of a key. */
export function createPatch(context: FrontContext, change: MakeChange): (res: Res, req: Req) => void {
  const touch = createTouch(context);
  const lines = new HeadLines();
  const kind: BodyKind = {
    ...{ name: "a patch", verb: OTHER, bytesMax: CHUNK_BYTES, allBytesMax: PATCHES_BYTES_MAX, bytes: 0 },
  };
  return (res, req) => {
    lines.read(req);
    if (touch(res, req, lines)) return;
    const isKey = targetOf(context, req) === TARGET_KEY;
    const key = context.key.bytes.slice(0, isKey ? context.key.length : 0);
    const conditions: Conditions = { ifMatch: "", ifNoneMatch: "" };
    const query = req.getQuery() ?? "";
    const { contentType, ifMatch, ifNoneMatch, ifUnmodifiedSince, idempotencyKey } = lines;
    const appends = readAppend(query);
    const form = appends === true ? formOfBytes(contentType) : formOfJson(contentType);
    const life = readLife(context, query, WITHOUT_NONE);
    const detail =
      queryProblem(query, true) ??
      (typeof appends === "string" ? appends : null) ??
      judgeConditions(ifMatch, ifNoneMatch, ifUnmodifiedSince, conditions) ??
      (form === null ? WRONG_TYPE : null);
    const lifeProblem = "code" in life ? life : problemOf(context, idempotencyKey);
    const problem = detail !== null ? ({ code: "bad_request", detail } as const) : lifeProblem;
    takeWhole(context, res, req, kind, problem, (body, answer) => {
      const begun = "code" in life ? NO_LIFE : life;
      const [once = ""] = idempotencyKey;
      // Without a form nothing comes so far.
      const asked: Asked = {
        key,
        form: form ?? "command",
        contentType,
        body,
        life: begun,
        ifMatch: conditions.ifMatch,
        ifNoneMatch: conditions.ifNoneMatch,
        once,
      };
      change(asked, (ending) => answer((to) => send(to, ending, context.cluster?.region)));
    });
  };
}

function send(res: Res, ending: Ending, region: string | undefined): number {
  if (ending.error !== null) {
    const { error, detail, etag } = ending;
    const headers: Header[] = etag === null ? [] : [["ETag", etag]];
    return sendError(res, error, { detail, headers });
  }
  const { created, etag, replayed, told, replicas } = ending;
  const status = created ? 201 : 200;
  res.writeStatus(`${statusLine(status)}\r\nContent-Type: application/json\r\nETag: ${etag}`);
  if (replayed) res.writeHeader(REPLAYED, "true");
  if (region !== undefined) {
    res.writeHeader("X-Minivault-Replicas", String(replicas ?? 0));
    res.writeHeader("X-Minivault-Region", region);
  }
  const head = `{"success":true,"created":${created}${told.length === 0 ? "" : ","}`;
  res.end(Buffer.concat([Buffer.from(head), told, Buffer.from("}")]));
  return status;
}
