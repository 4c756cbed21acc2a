/** Who may ask something of this node as another node, as far as the head of a request tells. */
import type { Genuine, RequestVerifier } from "../../auth/signature.ts";
import { FROM_PARAMETER, MARKS_PARAMETER, parameterOf } from "../../cluster/identity/life.ts";
import {
  PEER_BATCH_PATH,
  PEER_HELLO_PATH,
  PEER_LAYOUT_PATH,
  PEER_PING_PATH,
  PEER_VALUE_PATH,
} from "../../cluster/link/paths.ts";
import type { PeerHandler } from "../../cluster/peers/peer-handler.ts";
import { checkSignature, withSignature } from "../access/signed-answers.ts";
import { BAD_LENGTH, declaredBytes } from "../http/body-length.ts";
import type { FrontContext } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { refuse } from "../http/linger.ts";
import { refusalOf } from "./refusal.ts";

/** Refused requests are logged no more often than this. */
const REFUSAL_LOG_MS = 1000;

/** Every path with the methods that it has. */
const ALLOW: ReadonlyMap<string, string> = new Map([
  [PEER_BATCH_PATH, "POST"],
  [PEER_PING_PATH, "GET"],
  [PEER_HELLO_PATH, "GET"],
  [PEER_LAYOUT_PATH, "GET, POST"],
  [PEER_VALUE_PATH, "POST, PUT"],
]);

/** A request that may pass, as far as its head tells. */
export interface Admitted {
  /** Signs what is answered, where the request is signed. */
  res: Res;
  path: string;
  query: string;
  bodyBytes: number;
  /** null: not signed, since there is no key. */
  genuine: Genuine | null;
}

export class PeerGate {
  private readonly context: FrontContext;
  private readonly handler: PeerHandler;
  private readonly verifier: RequestVerifier | null;
  private refusals = 0;
  private loggedMs = Number.NEGATIVE_INFINITY;

  constructor(context: FrontContext, handler: PeerHandler, verifier: RequestVerifier | null) {
    this.context = context;
    this.handler = handler;
    this.verifier = verifier;
  }

  /** Logs a request that is refused, unless there are too many: strangers must not fill the disk. */
  refused(reason: string): void {
    this.refusals++;
    const nowMs = performance.now();
    if (nowMs - this.loggedMs < REFUSAL_LOG_MS) return;
    this.loggedMs = nowMs;
    this.context.log.info({ reason, refusals: this.refusals }, "a request between nodes was refused");
  }

  /** Judges the head. Null: answered. */
  admit(given: Res, req: Req, method: string): Admitted | null {
    const { context, verifier } = this;
    const head = method === "HEAD";
    const path = req.getUrl();
    const query = req.getQuery();
    const bodyBytes = declaredBytes(req);
    if (bodyBytes === BAD_LENGTH) {
      // uWS notices after this handler; until then nothing may happen.
      given.onAborted(nothingBegun);
      return null;
    }
    let genuine: Genuine | null = null;
    let res = given;
    if (verifier !== null) {
      const verdict = checkSignature(verifier, method, req);
      genuine = verdict.genuine;
      if (genuine !== null) res = withSignature(verifier, genuine, given);
      if (verdict.problem !== null) {
        // Who has the key finds out by itself for which run of this node to sign.
        if (genuine === null) this.refused(verdict.problem);
        refuse(res, "unauthorized", bodyBytes, { detail: verdict.problem, head });
        return null;
      }
    }
    const allow = ALLOW.get(path);
    if (allow === undefined) refuse(res, "not_found", bodyBytes, { detail: `there is no ${path}`, head });
    else if (!allow.split(", ").includes(method))
      refuse(res, "method_not_allowed", bodyBytes, { headers: [["Allow", allow]], head });
    else if (context.stopping) refuse(res, "stopping", bodyBytes);
    else if (path !== PEER_HELLO_PATH && !this.isHeard(res, query ?? "", bodyBytes)) return null;
    else return { res, path, query: query ?? "", bodyBytes, genuine };
    return null;
  }

  /** Judges who sends it, where the request says so. False: answered. */
  private isHeard(res: Res, query: string, bodyBytes: number): boolean {
    const from = parameterOf(query, FROM_PARAMETER);
    if (from === null) return true;
    try {
      const refusal = this.handler.hear(from, parameterOf(query, MARKS_PARAMETER));
      if (refusal === null) return true;
      this.refused(refusal);
      refuse(res, "conflict", bodyBytes, { detail: refusal });
    } catch (error) {
      const { code, options } = refusalOf(this.context, error);
      refuse(res, code, bodyBytes, options);
    }
    return false;
  }
}

function nothingBegun(): void {
  // Nothing was done for this request.
}
