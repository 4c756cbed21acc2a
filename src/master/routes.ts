/**
 * What the master answers: /register, /heartbeat, /nodes, /layout, /health, /_metrics. Bodies are bounded,
 * and checked before the steward sees them. Keys are never asked for here: the master is not on the path of
 * data.
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
import { BadCommand, parseCommand } from "./commands.ts";
import { type DocumentsSource, MasterDocuments } from "./documents.ts";
import { NotKept } from "./layout/state.ts";
import { masterOperations } from "./operations.ts";
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

export interface MasterContext extends DocumentsSource {
  /** What people need; null: everybody may ask and command. */
  access: MasterAccess | null;
  /** Whether /_metrics is there; open: for everybody. */
  metrics: "on" | "open" | "off";
  /** null: nodes do not sign. */
  verifier: RequestVerifier | null;
  /** A request was answered 500. */
  onFailed: (error: unknown) => void;
  /** A worker is there that was not before. */
  onNew: (report: Heartbeat) => void;
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
  private readonly documents: MasterDocuments;
  /** The methods of each path. */
  private readonly methods: ReadonlyMap<string, string>;
  private readonly sendOpenApi: SendOpenApi;

  constructor(context: MasterContext) {
    const operations = masterOperations({ metrics: context.metrics !== "off", console: hasConsole });
    this.context = context;
    this.documents = new MasterDocuments(context);
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
    else if (path === METRICS) sendText(res, PROMETHEUS_TYPE, this.documents.metrics(), head);
    else sendJson(res, 200, this.documents.paths[path](), head);
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
      receive(res, (body) => {
        // Nothing catches what is thrown once the body came in pieces.
        try {
          if (genuine !== null && !bodyMatches(genuine, body))
            sendError(res, "unauthorized", { detail: "the body is not the one that was signed" });
          else if (path === "/layout") this.command(res, body.toString());
          else this.hear(res, body.toString());
        } catch (error) {
          this.failed(res, error);
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

  private failed(res: Res, error: unknown): void {
    if (error instanceof NotKept) sendError(res, "unavailable", { detail: error.message });
    else {
      this.context.onFailed(error);
      sendError(res, "internal");
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

  private hear(res: Res, body: string): void {
    const { steward, now, onNew } = this.context;
    let report: Heartbeat;
    try {
      report = parseReport(body);
    } catch (error) {
      sendError(res, "bad_request", { detail: (error as Error).message });
      return;
    }
    const heard = steward.hear(now(), report);
    if (heard === "full") {
      sendError(res, "overloaded", { detail: `the master knows ${WORKERS_MAX} workers already` });
      return;
    }
    if (heard.isNew) onNew(report);
    sendJson(res, 200, heard.answer, false);
  }

  private command(res: Res, body: string): void {
    const { steward, now } = this.context;
    try {
      parseCommand(body)(steward.orders, now());
      sendJson(res, 200, this.documents.layout(), false);
    } catch (error) {
      if (error instanceof ChangeError) sendError(res, "conflict", { detail: error.message });
      else if (error instanceof BadCommand) sendError(res, "bad_request", { detail: error.message });
      else throw error;
    }
  }
}

/**
 * Receives a body of at most REPORT_BYTES_MAX and hands it to `take`, which answers. Refuses a larger one.
 */
function receive(res: Res, take: (body: Buffer) => void): void {
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
    res.cork(() => take(Buffer.concat(pieces)));
  });
}
