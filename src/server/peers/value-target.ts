/** What the target of a value between nodes says of it. */
import { parameterOf } from "../../cluster/identity/life.ts";
import { PEER_HEAD_BYTES_MAX } from "../../util/limits.ts";

/** The opaque head in a value's query, or null. */
export function headOf(query: string): Uint8Array | null {
  const text = parameterOf(query, "head");
  if (text === null || !/^[A-Za-z0-9_-]+$/.test(text)) return null;
  const head = Buffer.from(text, "base64url");
  return head.length <= PEER_HEAD_BYTES_MAX ? head : null;
}
