/** How answers are written: status, headers, XML. The caller is inside a handler or inside `cork`. */
import type { Res, Text } from "../../server/http/http.ts";
import { statusLine } from "../../server/http/reply.ts";
import type { S3Error } from "../protocol/errors.ts";
import { documentText, XML_TYPE } from "../protocol/xml.ts";

export type Lines = readonly (readonly [name: string, value: Text])[];

/** Begins an answer. */
export function begin(res: Res, status: number, requestId: string, lines: Lines): void {
  res.writeStatus(statusLine(status));
  res.writeHeader("x-amz-request-id", requestId);
  for (const [name, value] of lines) res.writeHeader(name, value);
}

/** The document of an error. */
export function errorText(error: S3Error, resource: string, requestId: string): string {
  const { code, message } = error;
  return documentText(
    "Error",
    { Code: code, Message: message, Resource: resource, RequestId: requestId },
    false,
  );
}

/**
 * Answers an error.
 * @param head without its body
 * @param isOpen more of the request's body is coming: it stays open for uWS, so that the rest can be counted
 * and the connection closed
 */
export function sendError(
  res: Res,
  error: S3Error,
  {
    resource,
    requestId,
    head,
    isOpen,
  }: { resource: string; requestId: string; head: boolean; isOpen: boolean },
): number {
  const { status } = error;
  const retry = status === 503 ? [["Retry-After", "1"] as const] : [];
  begin(res, status, requestId, [...error.headers, ...retry]);
  if (head || status === 304) {
    res.endWithoutBody();
    return status;
  }
  const body = errorText(error, resource, requestId);
  res.writeHeader("Content-Type", XML_TYPE);
  if (!isOpen) {
    res.end(body);
    return status;
  }
  // The body travels behind the last header; the CRLF that uWS puts there is white space to XML.
  res.beforeBody?.(`${body}\r\n`);
  res.writeHeader("Connection", "close");
  res.writeHeader("Content-Length", `${Buffer.byteLength(body) + 2}\r\n\r\n${body}`);
  return status;
}
