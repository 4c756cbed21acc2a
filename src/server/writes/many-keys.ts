/** What does not go with a request that writes many keys: headers that speak of one. */
import type { Req } from "../http/http.ts";
import { headerName } from "../http/read-headers.ts";

const OF_ONE_KEY = ["Idempotency-Key", "If-Match", "If-None-Match", "If-Unmodified-Since"].map((shown) => ({
  shown,
  ...headerName(shown.toLowerCase()),
}));

/** What is wrong with the headers of a request that is about many keys, or null. */
export function manyKeysProblem(req: Req): string | null {
  const found = OF_ONE_KEY.find(({ bytes }) => req.getHeader(bytes) !== "");
  return found === undefined
    ? null
    : `${found.shown} goes with a write of one key, and this request is about many; operations of a batch have idempotencyKey, ifMatch and ifNoneMatch of their own`;
}
