/**
 * The master: a registry over HTTP. It is never on the path of data.
 */
import type { Config } from "../cli/config.ts";
import { nodeUrl, region } from "../cli/values.ts";
import { createHttp, type Handler, type Req, type Res } from "../server/http.ts";
import { sendError, sendJson } from "../server/reply.ts";
import { buildInfo } from "../util/build-info.ts";
import type { Logger } from "../util/log.ts";
import { type NodeReport, Registry } from "./registry.ts";

/** Largest body of a registration. */
const REPORT_BYTES_MAX = 64 * 1024;

/** Starts a master; answers how to stop it. */
export async function startMaster(
  config: Config,
  log: Logger,
): Promise<{ port: number; stop(): Promise<void> }> {
  const registry = new Registry(config.volumes);
  const started = Date.now();
  const get: Handler = (res, req) => answer(res, req, false);
  const http = createHttp(
    {
      get,
      head: (res, req) => answer(res, req, true),
      post: (res, req) => {
        const path = req.getUrl();
        if (path !== "/register" && path !== "/heartbeat")
          return void sendError(res, "not_found", { detail: `the master has no ${path}` });
        receive(res, (report) => registry.hear(Date.now(), report));
      },
      put: refuse,
      delete: refuse,
      other: refuse,
    },
    (_method, res, error) => {
      log.error({ stack: (error as Error).stack }, "a request failed");
      sendError(res, "internal");
    },
  );

  function answer(res: Res, req: Req, head: boolean): void {
    const path = req.getUrl();
    const nodes = registry.list(Date.now());
    if (path === "/nodes") sendJson(res, 200, { success: true, nodes }, head);
    else if (path === "/health")
      sendJson(
        res,
        200,
        {
          status: "healthy",
          role: "master",
          nodes: nodes.length,
          up: nodes.filter((node) => node.state === "up").length,
          version: buildInfo.version,
          uptimeSeconds: Math.floor((Date.now() - started) / 1000),
        },
        head,
      );
    else
      sendError(res, "not_found", {
        detail: "this is a master: it has /nodes and /health; keys live on the workers",
        head,
      });
  }

  const port = await http.listen(config.host, config.port);
  log.info(
    { port, host: config.host, volumes: config.volumes },
    `listening on ${config.host}:${port} as master`,
  );
  return {
    port,
    async stop() {
      http.stopAccepting();
      await new Promise((resolve) => setImmediate(resolve));
      http.closeConnections();
    },
  };
}

function refuse(res: Res): void {
  sendError(res, "method_not_allowed", { headers: [["Allow", "GET, HEAD, POST"]] });
}

/** Reads a report and answers. */
function receive(res: Res, take: (report: NodeReport) => void): void {
  let gone = false;
  let answered = false;
  let bytes = 0;
  const pieces: Buffer[] = [];
  const finish = (send: () => void): void => {
    answered = true;
    res.cork(send);
  };
  res.onAborted(() => {
    gone = true;
  });
  res.onData((chunk, last) => {
    if (gone || answered) return;
    bytes += chunk.byteLength;
    if (bytes > REPORT_BYTES_MAX) {
      // What is too large is not worth receiving to its end.
      if (last) finish(() => sendError(res, "too_large", { detail: "a registration is at most 64 KiB" }));
      else if (bytes > 16 * REPORT_BYTES_MAX) res.close();
      return;
    }
    pieces.push(Buffer.from(chunk.slice(0)));
    if (!last) return;
    let report: NodeReport;
    try {
      report = parseReport(Buffer.concat(pieces).toString());
    } catch (error) {
      return finish(() => sendError(res, "bad_request", { detail: (error as Error).message }));
    }
    take(report);
    finish(() => sendJson(res, 200, { success: true }, false));
  });
}

function parseReport(text: string): NodeReport {
  let body: Record<string, unknown>;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Error('the body is not JSON such as {"url":"http://10.0.0.1:3000","region":"eu"}');
  }
  if (typeof body !== "object" || body === null || typeof body.url !== "string")
    throw new Error('"url" is missing');
  return {
    url: nodeUrl(body.url),
    region: region(typeof body.region === "string" ? body.region : "default"),
    load: body.load ?? null,
  };
}
