/** Requests whose path is reserved and has a handler of its own, beside those of keys. */
import { type FrontContext, targetOf } from "./context.ts";
import type { Handler, Req } from "./http.ts";
import { TARGET_RESERVED } from "./target.ts";

const UNDERSCORE = 0x5f;
const PERCENT = 0x25;

/** Handlers of one method by the decoded path. */
export type ReservedPosts = Map<string, Handler>;

/** Who takes a request, however its path is encoded; null: it is for a key, or for nobody. */
export function reservedPost(context: FrontContext, req: Req, handlers: ReservedPosts): Handler | null {
  const first = req.getUrl().charCodeAt(1);
  if (first !== UNDERSCORE && first !== PERCENT) return null;
  if (targetOf(context, req) !== TARGET_RESERVED) return null;
  const { bytes, length } = context.key;
  return handlers.get(Buffer.from(bytes.buffer, bytes.byteOffset, length).toString("latin1")) ?? null;
}
