/**
 * What unstorage's http driver asks for:
 *
 *   GET, HEAD /_unstorage/a/b   the value of the key a/b; Last-Modified and X-TTL go with it
 *   PUT /_unstorage/a/b         keeps the body as it is; X-TTL: how long it is to live, in seconds
 *   DELETE /_unstorage/a/b
 *   GET /_unstorage/a/:         the keys below a/, as a JSON array
 *   DELETE /_unstorage/a/:      removes them
 *
 * The driver sends a text as application/json, whether it is JSON or not, and reads what comes back by its
 * type. So what is not asked for as bytes (Accept: application/octet-stream) goes out as a plain text, which
 * unstorage itself makes a value of again; a JSON value of ours goes out as its text.
 */
import { type KeyRange, rangeOf } from "../../engine/catalog/runs/listing.ts";
import { type Life, NO_LIFE } from "../../rules/expiry.ts";
import { type Allowed, lifeOfTtl } from "../../rules/life.ts";
import { isStorageKey } from "../../rules/storage-key.ts";
import { asItCame, asType } from "../../shards/vault/as-it-came.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { BYTES_TYPE, isJsonType } from "../../util/header-text.ts";
import type { FrontContext } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { lengthToTake, refuse } from "../http/linger.ts";
import { sendError } from "../http/reply.ts";
import { TARGET_STORAGE, TARGET_STORAGE_BASE } from "../http/target.ts";
import { Deletion } from "../list/deletion.ts";
import { sourceOf } from "../list/list-source.ts";
import { scopesOf } from "../list/lists.ts";
import { readShown } from "../raw/shown-reads.ts";
import { DELETE, GET, HEAD } from "../status/meter.ts";
import type { Manner } from "../writes/manner.ts";
import {
  badRequest,
  type Judge,
  judgeBody,
  judgeHead,
  NO_ENDS,
  type Receive,
  type Refusal,
  readRawType,
} from "../writes/writes.ts";
import { streamKeys } from "./key-array.ts";

const TEXT_TYPE = "text/plain; charset=utf-8";
const ACCEPT = Buffer.from("accept");
const X_TTL = Buffer.from("x-ttl");
const NO_VALUE =
  "this is a base, that of all keys below it: it has no value; GET lists them, DELETE removes them";
const asText = asType(TEXT_TYPE);

const WITHOUT_KEEP: Allowed = { keep: false, none: false };
const WRONG_TTL = "it is a number of seconds";

/** Nothing has to be asked before a write. */
const AT_ONCE: Manner = { ask: (allow) => allow(null) };

export interface Unstorage {
  read(res: Res, req: Req, target: number, head: boolean): void;
  /** False: it is none of these. */
  write(verb: "put" | "post" | "delete", res: Res, req: Req, target: number): boolean;
}

export function createUnstorage(context: FrontContext, receive: Receive): Unstorage {
  const judge: Judge = (req, _target, lines, headers) => {
    headers.manner = AT_ONCE;
    const problem = judgeHead(context, req, lines, headers);
    if (problem !== null || headers.verb === "delete") return problem;
    return (
      readTtl(context, req.getHeader(X_TTL), headers) ?? judgeBody(context, lines, headers, readTextType)
    );
  };
  return {
    read(res, req, target, head) {
      if (target === TARGET_STORAGE_BASE) list(context, res, head);
      else readShown(context, res, req, head, req.getHeader(ACCEPT) === BYTES_TYPE ? asItCame : asText);
    },
    write(verb, res, req, target) {
      if (verb === "post") return false;
      if (target === TARGET_STORAGE) receive(verb, res, req, target, judge);
      else if (verb === "delete") clear(context, res, req);
      else receive(verb, res, req, target, () => badRequest(NO_VALUE));
      return true;
    },
  };
}

/** The driver's header; what is none of its numbers would otherwise be a value that never ends. */
function readTtl(context: FrontContext, text: string, headers: { life: Life }): Refusal | null {
  // As its server does: no time is none that ends.
  if (text === "" || /^0+(?:\.0+)?$/.test(text)) return null;
  if (headers.life !== NO_LIFE) return badRequest("send X-TTL, or say it in the query, not both");
  const life = /^[\d.]+$/.test(text) ? lifeOfTtl(text, WITHOUT_KEEP) : WRONG_TTL;
  if (typeof life === "string") return badRequest(`X-TTL: ${life}`);
  headers.life = life;
  const { keepsEnds } = context.cluster ?? context.vault;
  return keepsEnds ? null : { code: "upgrade_first", options: { detail: NO_ENDS } };
}

/** The type of a text is not what the driver says. */
function readTextType(header: string, headers: { json: boolean; contentType: string }): string | null {
  const problem = readRawType(header, headers);
  if (header === "" || isJsonType(header)) headers.contentType = TEXT_TYPE;
  return problem;
}

/** The keys below the base in `context.key`. */
function rangeBelow(context: FrontContext): KeyRange {
  const prefix = new Uint8Array(context.key.bytes.slice(0, context.key.length));
  const range = rangeOf(prefix, false, null);
  if (context.varies) range.scopes = scopesOf(context, prefix);
  return range;
}

function list(context: FrontContext, res: Res, head: boolean): void {
  const verb = head ? HEAD : GET;
  const source = sourceOf(context);
  if (head) context.meter.count(verb, sendError(res, "bad_request", { detail: NO_VALUE, head }));
  else if ("code" in source)
    context.meter.count(verb, sendError(res, source.code, { detail: source.detail }));
  else streamKeys(context, res, source, rangeBelow(context));
}

function clear(context: FrontContext, res: Res, req: Req): void {
  const declared = lengthToTake(context.meter, DELETE, res, req);
  if (declared === null) return;
  const source = sourceOf(context);
  const problem = context.stopping
    ? ({ code: "stopping", detail: "" } as const)
    : "code" in source
      ? source
      : null;
  if (problem !== null || "code" in source) {
    const { code, detail } = problem ?? (source as { code: ErrorCode; detail: string });
    context.meter.count(DELETE, refuse(res, code, declared, { detail }));
    return;
  }
  const task = { target: req.getUrl(), range: rangeBelow(context), dryRun: false, verb: DELETE };
  void new Deletion(context, res, source, { ...task, isPlain: true, isMeant: isStorageKey }).run();
}
