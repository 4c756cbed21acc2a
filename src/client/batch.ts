/** Many operations in one request. */

import type { Operation, OperationResult, Signalled } from "./options.ts";
import { ttlText } from "./transport/paths.ts";
import type { Requests } from "./transport/requests.ts";
import { base64Of, bytesOfBase64, decoded } from "./transport/values.ts";

export interface BatchOptions extends Signalled {}

/** As it stands in an answer. */
interface RawResult {
  status: number;
  etag?: string;
  value?: unknown;
  type?: string;
  base64?: string;
  created?: boolean;
  deleted?: boolean;
  error?: string;
  code?: string;
}

export async function batch(
  requests: Requests,
  operations: readonly Operation[],
  { signal }: BatchOptions,
): Promise<OperationResult[]> {
  if (operations.length === 0) return [];
  const content = JSON.stringify({ operations: operations.map(rawOf) });
  const body = { content, type: "application/json", bytes: content.length };
  const writes = operations.some(({ op }) => op !== "get");
  const { bytes } = await requests.send({ method: "POST", path: "/_batch", body, writes, signal });
  const { results } = JSON.parse(new TextDecoder().decode(bytes)) as { results: RawResult[] };
  return results.map(resultOf);
}

function rawOf(operation: Operation): object {
  if (operation.op !== "put" && operation.op !== "post") return operation;
  const { value, type, ttl, ...rest } = operation;
  const life = ttl === undefined ? {} : { ttl: ttlText(ttl) };
  if (value instanceof Uint8Array)
    return { ...rest, ...life, base64: base64Of(value), type: type ?? "application/octet-stream" };
  if (type !== undefined) {
    if (typeof value !== "string")
      throw new TypeError("a type goes with bytes, or with a text; JSON has its own");
    return { ...rest, ...life, base64: base64Of(new TextEncoder().encode(value)), type };
  }
  if (value === undefined) throw new TypeError("undefined has no form in JSON");
  return { ...rest, ...life, value };
}

function resultOf({ etag, value, base64, type, ...rest }: RawResult): OperationResult {
  const result: OperationResult = { ...rest, etag: etag === undefined ? null : `"${etag}"` };
  if (base64 !== undefined && type !== undefined) {
    result.type = type;
    result.value = decoded(bytesOfBase64(base64), type);
  } else if (value !== undefined) {
    result.type = "application/json";
    result.value = value;
  }
  return result;
}
