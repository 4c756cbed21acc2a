/** What the socket has not taken of an answer at once, kept until the client takes it. */
import { copyOf } from "../../util/bytes.ts";
import type { Res } from "../http/http.ts";

/** Of all answers of a thread. */
const REST_BYTES_MAX = 256 * 1024 * 1024;

let kept = 0;

/**
 * Sends the rest of a body of which `tryEnd` has taken a part, or nothing. uWS cuts a client that sends its
 * next request meanwhile; one for whose answer there is no memory is cut, too.
 */
export function sendRest(res: Res, body: Uint8Array): void {
  const sent = res.getWriteOffset();
  const bytes = body.length - sent;
  // That nothing was taken says little: with TLS it is so until all of a piece is out.
  if (kept + bytes > REST_BYTES_MAX) {
    res.onAborted(() => {});
    res.close();
    return;
  }
  const rest = copyOf(body, sent);
  kept += bytes;
  let isKept = true;
  const over = (): void => {
    if (isKept) kept -= bytes;
    isKept = false;
  };
  // Nobody else is to be told any more: whoever called `end` is done with it.
  res.onAborted(over);
  res.onWritable((offset) => {
    const [taken, complete] = res.tryEnd(rest.subarray(offset - sent), body.length);
    if (complete) over();
    return taken;
  });
}
