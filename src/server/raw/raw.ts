/**
 * `/_raw/<key>`: a value as it is, of whatever type, without the envelope of JSON. GET and HEAD as elsewhere;
 * PUT and POST both replace; and, where its lock is held, writes need its ID (`?ID=`), as Terraform's http
 * backend sends it.
 */
import { asItCame } from "../../shards/vault/as-it-came.ts";
import type { FrontContext } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { type Judge, judgeBody, judgeHead, type Receive, readRawType } from "../writes/writes.ts";
import { createLocks, lockManner } from "./locks.ts";
import { readShown } from "./shown-reads.ts";

export interface Raw {
  read(res: Res, req: Req, head: boolean): void;
  write(verb: "put" | "post" | "delete", res: Res, req: Req, target: number): void;
  /** False: it is another method. */
  lock(res: Res, req: Req): boolean;
}

export function createRaw(context: FrontContext, receive: Receive): Raw {
  const judge: Judge = (req, _target, lines, headers) => {
    headers.manner = lockManner(context, req.getQuery() ?? "");
    const problem = judgeHead(context, req, lines, headers);
    if (problem !== null || headers.verb === "delete") return problem;
    return judgeBody(context, lines, headers, readRawType);
  };
  return {
    read: (res, req, head) => readShown(context, res, req, head, asItCame),
    // Terraform updates a state by POST.
    write: (verb, res, req, target) => receive(verb === "post" ? "put" : verb, res, req, target, judge),
    lock: createLocks(context),
  };
}
