/** Operations of a batch as they travel, and their results as what they say. */
import type { Operation, OperationResult } from "../options/operations.ts";
import { appendOf, type Change, incrementOf, patchOf } from "../transport/changes.ts";
import { ttlText } from "../transport/paths.ts";
import {
  BYTES_TYPE,
  base64Of,
  bytesOfBase64,
  decoded,
  isBytes,
  JSON_TYPE,
  jsonOf,
} from "../transport/values.ts";

/** An operation's members: `value` as its text, since numbers may be larger than JSON.stringify takes. */
export interface Members {
  members: Record<string, unknown>;
  value: string | null;
}

/** A result as it stands in an answer. */
export interface RawResult {
  status: number;
  etag?: string;
  value?: unknown;
  type?: string;
  base64?: string;
  created?: boolean;
  deleted?: boolean;
  replayed?: boolean;
  error?: string;
  code?: string;
}

/** @throws TypeError where an operation cannot be sent */
export function membersOf(operation: Operation): Members {
  switch (operation.op) {
    case "put":
    case "post":
      return storing(operation);
    case "patch": {
      const { change, ...rest } = operation;
      return changing(rest, patchOf(change));
    }
    case "append": {
      const { value, ...rest } = operation;
      const bytes = bytesIn(value);
      return bytes === null
        ? changing(rest, appendOf(value))
        : changing({ ...rest, base64: base64Of(bytes) }, null);
    }
    case "increment": {
      const { by = 1, initial, min, max, ...rest } = operation;
      return changing(rest, incrementOf(by, { initial, min, max }));
    }
    case "touch":
      return changing(operation, null);
    default: {
      const { once: _once, ...members } = operation as Operation & { once?: unknown };
      return { members, value: null };
    }
  }
}

function storing({ value, type, ttl, once: _once, ...rest }: Operation & { op: "put" | "post" }): Members {
  const members = { ...rest, ttl: ttlText(ttl) };
  const bytes = bytesIn(value);
  if (bytes !== null)
    return { members: { ...members, base64: base64Of(bytes), type: type ?? BYTES_TYPE }, value: null };
  if (type === undefined) return { members, value: jsonOf(value) };
  if (typeof value !== "string")
    throw new TypeError("a type goes with bytes, or with a text; JSON has its own");
  return { members: { ...members, base64: base64Of(new TextEncoder().encode(value)), type }, value: null };
}

/** Null: it is none of bytes. */
function bytesIn(value: unknown): Uint8Array | null {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (isBytes(value)) throw new TypeError("a batch takes no Blob and no stream: send it alone");
  return null;
}

/** What a change in place has beside the change. */
interface Changing {
  key: string;
  base64?: string;
  ttl?: number | string | undefined;
  once?: boolean | string | undefined;
}

/** A change in place, whatever the operation is called. */
function changing({ ttl, once: _once, ...rest }: Changing, change: Change | null): Members {
  const members = { ...rest, op: "patch", ttl: ttlText(ttl) };
  return change === null
    ? { members, value: null }
    : { members: { ...members, type: change.type }, value: change.text };
}

/** An operation's text, with what its write is known by; null: nothing. */
export function textOf({ members, value }: Members, once: string | null): string {
  const text = JSON.stringify(once === null ? members : { ...members, idempotencyKey: once });
  return value === null ? text : `${text.slice(0, -1)},"value":${value}}`;
}

export function resultOf({ etag, value, base64, type, ...rest }: RawResult): OperationResult {
  const result: OperationResult = { ...rest, etag: etag === undefined ? null : `"${etag}"` };
  if (base64 !== undefined && type !== undefined) {
    result.type = type;
    result.value = decoded(bytesOfBase64(base64), type);
  } else if (value !== undefined) {
    result.type = JSON_TYPE;
    result.value = value;
  }
  return result;
}
