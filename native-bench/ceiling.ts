/**
 * The ceiling: a bare uWS server that answers every GET with one answer and every PUT, after it has swallowed the body, with another.
 * Both are given by whoever starts it, as minivault gave them. Nothing here looks at the request, stores anything or
 * allocates; so this is what the network and uWS leave for a store to lose.
 *
 *   node --import tsx native-bench/ceiling.ts ANSWERS.json       prints "listening on PORT"
 */

import type { HttpResponse, us_socket } from "uWebSockets.js";
import { readFileSync } from "node:fs";
import { loadAddon } from "../src/platform/addon.ts";
import { REPLY_AT_ONCE_BYTES } from "../src/util/limits.ts";

export interface CeilingAnswer {
  /** Status line after "HTTP/1.1 " and the headers that uWS does not write by itself, as one text with CRLFs between. */
  head: string;
  /** The body, in base64. */
  body: string;
}

export interface CeilingAnswers {
  get: CeilingAnswer;
  put: CeilingAnswer;
}

interface Prepared {
  head: Uint8Array;
  body: Uint8Array;
}

function prepare({ head, body }: CeilingAnswer): Prepared {
  return {
    head: Uint8Array.from(Buffer.from(head, "latin1")),
    body: Uint8Array.from(Buffer.from(body, "base64")),
  };
}

const nothing = () => {};

/** Sends a body that is too large for one call as the socket takes it. */
function stream(res: HttpResponse, body: Uint8Array): void {
  let open = true;
  const send = () => {
    const [, complete] = res.tryEnd(body.subarray(res.getWriteOffset()), body.length);
    if (complete) open = false;
    return true;
  };
  res.onAborted(() => {
    open = false;
  });
  res.onWritable(() => !open || send());
  send();
}

function serve(answers: CeilingAnswers): void {
  const get = prepare(answers.get);
  const put = prepare(answers.put);
  const uWS = loadAddon("uws");
  const app = uWS.App();
  app.get("/*", (res) => {
    res.writeStatus(get.head);
    if (get.body.length > REPLY_AT_ONCE_BYTES) stream(res, get.body);
    else res.end(get.body);
  });
  app.put("/*", (res) => {
    res.onAborted(nothing);
    res.onData((_, last) => {
      if (!last) return;
      res.writeStatus(put.head);
      res.end(put.body);
    });
  });
  app.listen("127.0.0.1", 0, (socket) => {
    if (socket === false) throw new Error("the ceiling cannot listen");
    console.log(`listening on ${uWS.us_socket_local_port(socket as unknown as us_socket)}`);
  });
}

if (require.main === module) serve(JSON.parse(readFileSync(process.argv[2], "utf8")) as CeilingAnswers);
