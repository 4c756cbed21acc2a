/**
 * What the master answers: /register, /heartbeat, /nodes, /health. Bodies are bounded, and checked before the registry
 * sees them. Keys are never asked for here: the master is not on the path of data.
 */
import { nodeUrl, region } from "../cli/values.ts";
import { type AuthSettings, checkSignature, createKeyCheck } from "../server/auth.ts";
import type { Handlers, Req, Res } from "../server/http.ts";
import { Linger, refuse } from "../server/linger.ts";
import { sendError, sendErrorAndStayOpen, sendJson } from "../server/reply.ts";
import { declaredBytes } from "../server/writes.ts";
import { bodyMatches, type Genuine, RequestVerifier } from "../util/signature.ts";
import { type NodeReport, type Registry, WORKERS_MAX } from "./registry.ts";

/** Largest body of a report. */
export const REPORT_BYTES_MAX = 64 * 1024;
/** Largest "load" in it, as JSON: what the registry keeps for each worker. */
export const LOAD_BYTES_MAX = 4096;

const TOO_LARGE = { detail: `a report is at most ${REPORT_BYTES_MAX} bytes` };

export interface MasterContext {
  registry: Registry;
  auth: AuthSettings | null;
  version: string;
  /** Milliseconds on a clock that only goes forward. */
  now: () => number;
  /** A worker is there that was not before. */
  onNew: (report: NodeReport) => void;
}

/** Every path with the methods that it has. */
const ALLOW: ReadonlyMap<string, string> = new Map([
  ["/register", "POST"],
  ["/heartbeat", "POST"],
  ["/nodes", "GET, HEAD"],
  ["/health", "GET, HEAD"],
]);

/** The handlers of a master. */
export function createMasterRoutes(context: MasterContext): Handlers {
  const { registry, auth, now } = context;
  const startedMs = now();
  const carriesKey = auth === null ? () => true : createKeyCheck(auth);
  // Workers know the master by whatever name -master gives it, so the name in a signature is not compared.
  const verifier = auth === null ? null : new RequestVerifier(auth.key, () => null);

  /** Operators send the key, workers sign. Null: refused. Of a signed request the body is still to be checked. */
  const admit = (req: Req, method: string): "open" | Genuine | null => {
    if (carriesKey(req) || verifier === null) return "open";
    const verdict = checkSignature(verifier, method, req);
    return typeof verdict === "string" ? null : verdict;
  };

  const health = () => {
    const nodes = registry.list(now());
    return {
      status: "healthy",
      role: "master",
      nodes: nodes.length,
      up: nodes.filter((node) => node.state === "up").length,
      version: context.version,
      uptimeSeconds: Math.floor((now() - startedMs) / 1000),
    };
  };

  const read = (res: Res, req: Req, head: boolean): void => {
    const path = req.getUrl();
    // Health is for probes, which have no key.
    const isOpen = path === "/health" || auth?.mode === "writes";
    if (!isOpen && admit(req, head ? "HEAD" : "GET") === null) sendError(res, "unauthorized", { head });
    else if (path === "/health") sendJson(res, 200, health(), head);
    else if (path === "/nodes") sendJson(res, 200, { success: true, nodes: registry.list(now()) }, head);
    else refuseOther(res, path, 0, head);
  };

  const change = (res: Res, req: Req): void => {
    const path = req.getUrl();
    const bytes = declaredBytes(req);
    const method = req.getCaseSensitiveMethod();
    const isReport = ALLOW.get(path) === "POST" && method === "POST";
    const admitted = admit(req, method);
    if (admitted === null) refuse(res, "unauthorized", bytes);
    else if (!isReport) refuseOther(res, path, bytes, false);
    else if (Number.isFinite(bytes) && bytes > REPORT_BYTES_MAX) refuse(res, "too_large", bytes, TOO_LARGE);
    else
      receive(res, (body) => {
        if (admitted === "open" || bodyMatches(admitted, body)) hear(res, body.toString());
        else sendError(res, "unauthorized", { detail: "the body is not the one that was signed" });
      });
  };

  const hear = (res: Res, body: string): void => {
    let report: NodeReport;
    try {
      report = parseReport(body);
    } catch (error) {
      sendError(res, "bad_request", { detail: (error as Error).message });
      return;
    }
    const outcome = registry.hear(now(), report);
    if (outcome === "new") context.onNew(report);
    if (outcome === "full") {
      sendError(res, "overloaded", { detail: `the master knows ${WORKERS_MAX} workers already` });
    } else sendJson(res, 200, { success: true }, false);
  };

  return {
    get: (res, req) => read(res, req, false),
    head: (res, req) => read(res, req, true),
    post: change,
    put: change,
    delete: change,
    other: change,
  };
}

/** A method that the path does not have, or a path that the master does not have. */
function refuseOther(res: Res, path: string, bytes: number, head: boolean): void {
  const allow = ALLOW.get(path);
  if (allow !== undefined) {
    refuse(res, "method_not_allowed", bytes, { head, headers: [["Allow", allow]] });
    return;
  }
  const detail = `this is a master: it has no ${path}, only ${[...ALLOW.keys()].join(", ")}; keys live on the workers`;
  refuse(res, "not_found", bytes, { head, detail });
}

/** Receives a body of at most REPORT_BYTES_MAX and hands it to `take`, which answers. Refuses a larger one. */
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

/** A report from a body; throws an Error with a sentence for a person. */
export function parseReport(text: string): NodeReport {
  let body: Record<string, unknown>;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Error('the body is not JSON such as {"url":"http://10.0.0.1:3000","region":"eu"}');
  }
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw new Error("the body is not a JSON object");
  if (typeof body.url !== "string") throw new Error('"url" is missing, or no text');
  const { url, region: regionName = "default", load = null } = body;
  if (typeof regionName !== "string") throw new Error('"region" is no text');
  if (JSON.stringify(load).length > LOAD_BYTES_MAX)
    throw new Error(`"load" is longer than ${LOAD_BYTES_MAX} characters`);
  return { url: named("url", () => nodeUrl(url)), region: named("region", () => region(regionName)), load };
}

function named<Result>(name: string, parse: () => Result): Result {
  try {
    return parse();
  } catch (error) {
    throw new Error(`"${name}": ${(error as Error).message}`);
  }
}
