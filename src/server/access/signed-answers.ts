/**
 * Requests between nodes: judged by their signature, and answered with one (src/auth). Whatever writes the
 * answer to a genuine request, its body is signed before it leaves, refusals included.
 */
import { ANSWER_HEADER } from "../../auth/answer.ts";
import { type Genuine, type RequestVerifier, SIGNATURE_SCHEME, type Verdict } from "../../auth/signature.ts";
import type { Req, Res } from "../http/http.ts";
import { HookedRes, statusOf } from "./hooked-res.ts";

const AUTHORIZATION = Buffer.from("authorization");
const ANSWER_NAME = Uint8Array.from(Buffer.from(ANSWER_HEADER));

/** Whether a request says that it is signed by a node. */
export function isSigned(req: Req): boolean {
  return req.getHeader(AUTHORIZATION).startsWith(SIGNATURE_SCHEME);
}

/** Judges a request's head. Its body is then still to be checked. */
export function checkSignature(verifier: RequestVerifier, method: string, req: Req): Verdict {
  const query = req.getQuery();
  const target = query === undefined ? req.getUrl() : `${req.getUrl()}?${query}`;
  return verifier.check(method, target, req.getHeader(AUTHORIZATION));
}

/** The response to a genuine request. What answers by pieces calls `beforeBody`, or signs by itself. */
export function withSignature(verifier: RequestVerifier, genuine: Genuine, res: Res): Res {
  let status = 0;
  return new HookedRes(res, {
    afterStatus: (line) => {
      status = statusOf(line);
    },
    beforeBody: (body) => {
      const bytes = body instanceof ArrayBuffer ? new Uint8Array(body) : body;
      res.writeHeader(ANSWER_NAME, verifier.answer(genuine, status, bytes).header);
    },
  });
}
