/** `GET /_openapi.json`: made when it is first asked for, and the same as long as the program runs. */
import { createHash } from "node:crypto";
import { readTags } from "../../rules/conditions.ts";
import type { Operation } from "../describe/operation.ts";
import type { Req, Res } from "../http/http.ts";
import { headerLines, headerName } from "../http/read-headers.ts";
import { endHead, statusLine } from "../http/reply.ts";
import { openApiDocument } from "./document.ts";
import { DESCRIPTION } from "./text.ts";

const IF_NONE_MATCH = headerName("if-none-match");
/** Caches ask whether it is still the same: a node can be replaced by a newer one. */
const CACHING = "Cache-Control: no-cache";
/** Of the hash in its ETag, in hex digits: as many as a version has. */
const ETAG_CHARACTERS = 32;

/** Answers it, and its status. */
export type SendOpenApi = (res: Res, req: Req, head: boolean) => number;

export function createOpenApi(operations: readonly Operation[], version: string): SendOpenApi {
  let made: { body: Buffer; etag: string } | null = null;
  return (res, req, head) => {
    made ??= make(operations, version);
    const { body, etag } = made;
    const known = readTags(headerLines(req, IF_NONE_MATCH), true) ?? "";
    const isKnown = known === "*" || known.includes(etag);
    const status = isKnown ? 304 : 200;
    const type = isKnown ? [] : ["Content-Type: application/json"];
    res.writeStatus([statusLine(status), ...type, CACHING, `ETag: ${etag}`].join("\r\n"));
    if (isKnown) res.endWithoutBody();
    else if (head) endHead(res, body.length);
    else res.end(body);
    return status;
  };
}

function make(operations: readonly Operation[], version: string): { body: Buffer; etag: string } {
  const document = openApiDocument(operations, { title: "minivault", version, description: DESCRIPTION });
  const body = Buffer.from(`${JSON.stringify(document)}\n`);
  const hash = createHash("sha256").update(body).digest("hex").slice(0, ETAG_CHARACTERS);
  return { body, etag: `"${hash}"` };
}
