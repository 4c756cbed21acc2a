/**
 * Answers. Everything that can be known beforehand is bytes made once: the status line with its headers goes
 * to uWS as one "status" (`HTTP/1.1 ` + bytes + CRLF), because each call into native code costs about as much
 * as copying a kilobyte. That is safe while every byte in it is ours: content types are checked when they are
 * received and again in value-head.ts.
 *
 * The functions here write; the caller is inside a handler or inside `cork`.
 */

import { ETAG_BYTES } from "../../format/version.ts";
import type { WriteVerb } from "../../rules/write.ts";
import type { WriteResult } from "../../shards/arena/write.ts";
import { ERRORS, type ErrorCode } from "../../util/errors.ts";
import type { Res, Text } from "./http.ts";
import { ascii } from "./target.ts";

const REASONS: Record<number, string> = {
  200: "OK",
  201: "Created",
  204: "No Content",
  206: "Partial Content",
  302: "Found",
  304: "Not Modified",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  411: "Length Required",
  412: "Precondition Failed",
  413: "Content Too Large",
  414: "URI Too Long",
  415: "Unsupported Media Type",
  416: "Range Not Satisfiable",
  422: "Unprocessable Content",
  423: "Locked",
  429: "Too Many Requests",
  500: "Internal Server Error",
  501: "Not Implemented",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  507: "Insufficient Storage",
};

/** Says that the write was done before, under the same `Idempotency-Key`. */
export const REPLAYED = "Idempotency-Replayed";

const JSON_TYPE = "Content-Type: application/json";

/** "404 Not Found". */
export function statusLine(status: number): string {
  return `${status} ${REASONS[status] ?? "Status"}`;
}

interface ErrorTemplate {
  /** Status line and headers. */
  head: Uint8Array;
  /** The body with the table's sentence. */
  body: Uint8Array;
}

const ERROR_TEMPLATES = Object.fromEntries(
  Object.keys(ERRORS).map((name) => {
    const code = name as ErrorCode;
    return [code, { head: ascii(errorHead(code)), body: utf8(errorBody(code, ERRORS[code].message)) }];
  }),
) as Record<ErrorCode, ErrorTemplate>;

function errorHead(code: ErrorCode): string {
  const { status, retryable } = ERRORS[code];
  // Without it a cache may keep a 404 and others for a while, and hide what has been stored since.
  const lines = [statusLine(status), JSON_TYPE, "Cache-Control: no-cache"];
  if (retryable && (status === 429 || status === 503)) lines.push("Retry-After: 1");
  if (status === 401) lines.push('WWW-Authenticate: Bearer realm="minivault"');
  return lines.join("\r\n");
}

function errorBody(code: ErrorCode, message: string): string {
  return JSON.stringify({ success: false, error: message, code });
}

export type Header = readonly [name: string, value: Text];

export interface ErrorOptions {
  /** Says more than the table's sentence. */
  detail?: string;
  /** The request was HEAD: headers as for GET, no body. */
  head?: boolean;
  /** More headers: names and values. */
  headers?: readonly Header[];
}

/** Completes the answer to a HEAD whose GET would send so many bytes. */
export function endHead(res: Res, bodyBytes: number): void {
  res.writeHeader("Content-Length", String(bodyBytes));
  res.endWithoutBody();
}

/** Answers an error of the table. Answers its status, for the counters. */
export function sendError(res: Res, code: ErrorCode, options: ErrorOptions = {}): number {
  const template = ERROR_TEMPLATES[code];
  const body = options.detail ? utf8(errorBody(code, options.detail)) : template.body;
  res.writeStatus(template.head);
  for (const [name, value] of options.headers ?? []) res.writeHeader(name, value);
  if (options.head) endHead(res, body.length);
  else res.end(body);
  return ERRORS[code].status;
}

/**
 * Writes an error's complete answer, but leaves the request open for uWS, so that the rest of its body can
 * still be counted and the connection closed (see Linger). The body travels behind the last header; the CRLF
 * that uWS puts after every header becomes its last two bytes, which is white space to JSON.
 */
export function sendErrorAndStayOpen(res: Res, code: ErrorCode, options: ErrorOptions = {}): number {
  const body = errorBody(code, options.detail ? options.detail : ERRORS[code].message);
  const contentLength = Buffer.byteLength(body) + 2;
  res.writeStatus(ERROR_TEMPLATES[code].head);
  for (const [name, value] of options.headers ?? []) res.writeHeader(name, value);
  res.beforeBody?.(`${body}\r\n`);
  res.writeHeader("Connection", "close");
  res.writeHeader("Content-Length", `${contentLength}\r\n\r\n${body}`);
  return ERRORS[code].status;
}

/** Answers a document of our own. */
export function sendJson(res: Res, status: number, document: unknown, head: boolean): void {
  const body = utf8(`${JSON.stringify(document)}\n`);
  res.writeStatus(`${statusLine(status)}\r\n${JSON_TYPE}\r\nCache-Control: no-store`);
  if (head) endHead(res, body.length);
  else res.end(body);
}

/** Answers a text of our own. */
export function sendText(res: Res, contentType: string, text: string, head: boolean): void {
  const body = utf8(text);
  res.writeStatus(`${statusLine(200)}\r\nContent-Type: ${contentType}\r\nCache-Control: no-store`);
  if (head) endHead(res, body.length);
  else res.end(body);
}

const etagHead = (status: number) =>
  ascii(`${statusLine(status)}\r\n${JSON_TYPE}\r\nETag: ${" ".repeat(ETAG_BYTES)}`);
const CREATED_HEAD = etagHead(201);
const REPLACED_HEAD = etagHead(200);
const PLAIN_HEAD = ascii(`${statusLine(200)}\r\n${JSON_TYPE}`);
const CREATED_BODY = utf8('{"success":true,"created":true}');
const REPLACED_BODY = utf8('{"success":true,"created":false}');
const DELETED_BODY = utf8('{"success":true,"deleted":true}');
const NOT_DELETED_BODY = utf8('{"success":true,"deleted":false}');

/**
 * Answers a write. Answers the status.
 * @param region of a node in a cluster
 */
export function sendWriteResult(res: Res, verb: WriteVerb, result: WriteResult, region?: string): number {
  const etag = result.etag;
  if (result.error !== null) {
    return sendError(res, result.error, {
      detail: result.detail,
      headers: etag === null ? [] : [["ETag", etag]],
    });
  }
  const created = verb !== "delete" && result.created;
  if (etag === null) res.writeStatus(PLAIN_HEAD);
  else res.writeStatus(withEtag(created ? CREATED_HEAD : REPLACED_HEAD, etag));
  if (region !== undefined) {
    res.writeHeader("X-Minivault-Replicas", String(result.replicas ?? 0));
    res.writeHeader("X-Minivault-Region", region);
  }
  if (result.replayed === true) res.writeHeader(REPLAYED, "true");
  if (verb === "delete") res.end(result.deleted ? DELETED_BODY : NOT_DELETED_BODY);
  else res.end(created ? CREATED_BODY : REPLACED_BODY);
  return created ? 201 : 200;
}

function withEtag(head: Uint8Array, etag: Uint8Array): Uint8Array {
  head.set(etag, head.length - ETAG_BYTES);
  return head;
}

function utf8(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, "utf8"));
}
