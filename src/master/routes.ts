/**
 * What the master answers: /register, /heartbeat, /nodes, /layout, /health, /_metrics. Bodies are bounded,
 * and checked before anybody sees them; nothing is told before it is kept. Keys are never asked for here: the
 * master is not on the path of data.
 *
 * Where nodes have a key, reports are taken only with their signature, and answers to what is signed are
 * signed, too. People carry the key of -auth, or an operator's token where there are tokens; a client's token
 * opens nothing here.
 */

import { bodyMatches, type Genuine, type RequestVerifier } from "../auth/signature.ts";
import { ChangeError } from "../cluster/layout/changes.ts";
import type { Heartbeat } from "../cluster/membership/messages.ts";
import type { Operators } from "../server/access/operators.ts";
import { checkSignature, isSigned, withSignature } from "../server/access/signed-answers.ts";
import {
  CONSOLE_PATH,
  hasConsole,
  sendConsole,
  sendToConsole,
  wantsPage,
} from "../server/console/console.ts";
import { declaredBytes } from "../server/http/body-length.ts";
import type { Handlers, Req, Res } from "../server/http/http.ts";
import { Linger, refuse } from "../server/http/linger.ts";
import { sendError, sendErrorAndStayOpen, sendJson, sendText } from "../server/http/reply.ts";
import { createOpenApi, type SendOpenApi } from "../server/openapi/serve.ts";
import { methodsByPath, OPENAPI_PATH } from "../server/operations/worker.ts";
import { PROMETHEUS_TYPE } from "../util/prometheus.ts";
import { BadCommand } from "./commands.ts";
import { NotKept } from "./layout/state.ts";
import { masterOperations } from "./operations.ts";
import { NotLeading, type Office } from "./registry/office.ts";
import { WORKERS_MAX } from "./registry/registry.ts";
import { parseReport } from "./registry/report.ts";

/** Largest body of a report. */
export const REPORT_BYTES_MAX = 64 * 1024;

const TOO_LARGE = { detail: `a report is at most ${REPORT_BYTES_MAX} bytes` };

/** Who gets in. */
export interface MasterAccess {
  operators: Operators;
  readsArePublic: boolean;
}

export interface MasterContext {
  /** What this master does now, and what it says of itself. */
  office: () => Office;
  version: string;
  /** What people need; null: everybody may ask and command. */
  access: MasterAccess | null;
  /** Whether /_metrics is there; open: for everybody. */
  metrics: "on" | "open" | "off";
  /** null: nodes do not sign. */
  verifier: RequestVerifier | null;
  /** A request was answered 500. */
  onFailed: (error: unknown) => void;
}

/** The sentence of the table says it. */
const ANY_KEY = "";
const UNSIGNED = "reports of workers are signed with the cluster's key; this one is not";

interface Admitted {
  res: Res;
  /** Signed by a node: its body is still to be checked. null: not signed. */
  genuine: Genuine | null;
  /** Why it is refused; null: it passes. */
  problem: string | null;
  /** It may say what a worker says. */
  mayReport: boolean;
}

const METRICS = "/_metrics";

/** The handlers of a master. */
export function createMasterRoutes(context: MasterContext): Handlers {
  const routes = new MasterRoutes(context);
  const change = (res: Res, req: Req) => routes.change(res, req);
  return {
    get: (res, req) => routes.read(res, req, false),
    head: (res, req) => routes.read(res, req, true),
    ...{ post: change, put: change, delete: change, other: change },
  };
}

class MasterRoutes {
  private readonly context: MasterContext;
  /** The methods of each path. */
  private readonly methods: ReadonlyMap<string, string>;
  private readonly sendOpenApi: SendOpenApi;

  constructor(context: MasterContext) {
    const operations = masterOperations({ metrics: context.metrics !== "off", console: hasConsole });
    this.context = context;
    this.methods = methodsByPath(operations);
    this.sendOpenApi = createOpenApi(operations, context.version);
  }

  read(given: Res, req: Req, head: boolean): void {
    const path = req.getUrl();
    const { res, genuine, problem } = this.admit(given, req, head ? "HEAD" : "GET");
    // A node signs for this run of the master, and is heard only with that.
    if (hasConsole && (path === CONSOLE_PATH || path === "/_ui")) return void sendConsole(given, head);
    if (path === "/" && wantsPage(req)) return void sendToConsole(given, head);
    if (path === OPENAPI_PATH) return void this.sendOpenApi(given, req, head);
    const isOpen = genuine === null && this.isPublic(path, req);
    if (problem !== null && !isOpen) sendError(res, "unauthorized", { detail: problem, head });
    else if (!this.methods.get(path)?.startsWith("GET")) this.refuseOther(res, path, 0, head);
    else this.tell(res, path, head);
  }

  private tell(res: Res, path: string, head: boolean): void {
    const office = this.context.office();
    // Probes are answered whatever a registry does; nobody acts on it.
    if (path === METRICS) sendText(res, PROMETHEUS_TYPE, office.metrics(), head);
    else if (path === "/health") sendJson(res, 200, office.document(path), head);
    else {
      let gone = false;
      const isGone = () => gone;
      if (office.settled() !== null)
        res.onAborted(() => {
          gone = true;
        });
      this.tellKept(res, office, isGone, head, () => office.document(path));
    }
  }

  /** Answers a document once all that it says is kept. */
  private tellKept(res: Res, office: Office, isGone: () => boolean, head: boolean, make: () => object): void {
    let document: object;
    try {
      document = make();
    } catch (error) {
      this.failed(res, error, head);
      return;
    }
    const kept = office.settled();
    if (kept === null) {
      sendJson(res, 200, document, head);
      return;
    }
    const answer = (send: () => void) => () => {
      if (!isGone()) res.cork(send);
    };
    const lost = (error: unknown) => answer(() => this.failed(res, error, head))();
    kept.then(answer(() => sendJson(res, 200, document, head))).catch(lost);
  }

  change(given: Res, req: Req): void {
    const path = req.getUrl();
    const method = req.getCaseSensitiveMethod();
    const bytes = declaredBytes(req);
    const { res, genuine, problem, mayReport } = this.admit(given, req, method);
    const isTaken = this.methods.get(path)?.includes("POST") && method === "POST";
    const detail = problem ?? (path === "/layout" || mayReport ? "" : UNSIGNED);
    if (problem !== null || (isTaken && detail !== "")) refuse(res, "unauthorized", bytes, { detail });
    else if (!isTaken) this.refuseOther(res, path, bytes, false);
    else if (Number.isFinite(bytes) && bytes > REPORT_BYTES_MAX) refuse(res, "too_large", bytes, TOO_LARGE);
    else
      receive(res, (body, isGone) => {
        // Nothing catches what is thrown once the body came in pieces.
        try {
          if (genuine !== null && !bodyMatches(genuine, body))
            sendError(res, "unauthorized", { detail: "the body is not the one that was signed" });
          else if (path === "/layout") this.command(res, body.toString(), isGone);
          else this.hear(res, body.toString(), isGone);
        } catch (error) {
          this.failed(res, error, false);
        }
      });
  }

  /** A method that the path does not have, or a path that the master does not have. */
  private refuseOther(res: Res, path: string, bytes: number, head: boolean): void {
    const allow = this.methods.get(path);
    if (allow !== undefined) {
      refuse(res, "method_not_allowed", bytes, { head, headers: [["Allow", allow]] });
      return;
    }
    const detail = `this is a master: it has no ${path}, only ${[...this.methods.keys()].join(", ")}; keys live on the workers`;
    refuse(res, "not_found", bytes, { head, detail });
  }

  private failed(res: Res, error: unknown, head: boolean): void {
    const { message: detail } = error as Error;
    if (error instanceof NotKept) sendError(res, "unavailable", { detail, head });
    else if (error instanceof NotLeading) sendError(res, "not_leading", { detail, head });
    else if (error instanceof ChangeError) sendError(res, "conflict", { detail });
    else if (error instanceof BadCommand) sendError(res, "bad_request", { detail });
    else {
      this.context.onFailed(error);
      sendError(res, "internal", { head });
    }
  }

  /** Judges a request. What is signed is answered so, by the `res` of this. */
  private admit(res: Res, req: Req, method: string): Admitted {
    const { verifier, access } = this.context;
    if (verifier === null || !isSigned(req)) {
      const isPerson = access === null || access.operators.sent(req);
      const problem = isPerson ? null : ANY_KEY;
      return { res, genuine: null, problem, mayReport: verifier === null && isPerson };
    }
    const { genuine, problem } = checkSignature(verifier, method, req);
    const answers = genuine === null ? res : withSignature(verifier, genuine, res);
    return { res: answers, genuine, problem, mayReport: problem === null };
  }

  /** Health is for probes, which have no key; metrics for whoever may read them. */
  private isPublic(path: string, req: Req): boolean {
    const { metrics, access } = this.context;
    if (path === METRICS)
      return metrics === "open" || (metrics === "on" && access?.operators.mayRead(req) === true);
    return path === "/health" || path === "/" || access?.readsArePublic === true;
  }

  private hear(res: Res, body: string, isGone: () => boolean): void {
    const office = this.context.office();
    let report: Heartbeat;
    try {
      report = parseReport(body);
    } catch (error) {
      sendError(res, "bad_request", { detail: (error as Error).message });
      return;
    }
    const answer = office.hear(report);
    if (answer === "full")
      sendError(res, "overloaded", { detail: `the master knows ${WORKERS_MAX} workers already` });
    else this.tellKept(res, office, isGone, false, () => answer);
  }

  private command(res: Res, body: string, isGone: () => boolean): void {
    const office = this.context.office();
    this.tellKept(res, office, isGone, false, () => office.command(body));
  }
}

/**
 * Receives a body of at most REPORT_BYTES_MAX and hands it to `take`, which answers, at once or while the
 * client is still there. Refuses a larger one.
 */
function receive(res: Res, take: (body: Buffer, isGone: () => boolean) => void): void {
  const pieces: Buffer[] = [];
  let bytes = 0;
  let gone = false;
  let refused: Linger | null = null;
  res.onAborted(() => {
    gone = true;
    refused?.aborted();
  });
  res.onData((chunk, last) => {
    if (gone) return;
    if (refused !== null) {
      refused.drop(chunk.byteLength, last);
      return;
    }
    bytes += chunk.byteLength;
    if (bytes > REPORT_BYTES_MAX) {
      refused = new Linger(res);
      res.cork(() => sendErrorAndStayOpen(res, "too_large", TOO_LARGE));
      refused.drop(chunk.byteLength, last);
      return;
    }
    pieces.push(Buffer.from(new Uint8Array(chunk)));
    if (!last) return;
    // Complete: uWS calls neither onAborted nor onData again once it is answered.
    res.cork(() => take(Buffer.concat(pieces), () => gone));
  });
}
