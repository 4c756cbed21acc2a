/**
 * The master: a registry of workers over HTTP. It is never on the path of data.
 */
import type { Config } from "../cli/config.ts";
import { createHttp } from "../server/http.ts";
import { sendError } from "../server/reply.ts";
import { buildInfo } from "../util/build-info.ts";
import type { Logger } from "../util/log.ts";
import { Registry } from "./registry.ts";
import { createMasterRoutes } from "./routes.ts";

/** Starts a master; answers its port and how to stop it. Rejects with a sentence for a person. */
export async function startMaster(
  config: Config,
  log: Logger,
): Promise<{ port: number; stop(): Promise<void> }> {
  const routes = createMasterRoutes({
    registry: new Registry(config.volumes),
    auth: config.auth,
    version: buildInfo.version,
    now: () => performance.now(),
    onNew: ({ url, region }) => log.info({ url, region }, "a worker is there"),
  });
  const http = createHttp(
    routes,
    (method, res, error) => {
      log.error({ stack: (error as Error).stack }, "a request failed");
      sendError(res, "internal", { head: method === "head" });
    },
    { tls: config.tls },
  );
  const port = await http.listen(config.host, config.port);
  log.info(
    { port, host: config.host, volumes: config.volumes },
    `listening on ${config.host}:${port} as master`,
  );
  return {
    port,
    async stop() {
      http.stopAccepting();
      // Requests are answered within one turn of the event loop once they are complete.
      await new Promise((resolve) => setImmediate(resolve));
      http.closeConnections();
    },
  };
}
