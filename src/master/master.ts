/**
 * The master: a registry of workers over HTTP, and the keeper of the layout. It is never on the path of data.
 * What it knows is on disk before it tells it, so a restart forgets nobody.
 */

import { audienceOf } from "../auth/audience.ts";
import { KeyRing } from "../auth/keys.ts";
import { RequestSigner, RequestVerifier } from "../auth/signature.ts";
import type { TokenRecord } from "../auth/token-file.ts";
import { keyRecord } from "../auth/tokens.ts";
import { Lives } from "../cluster/identity/lives.ts";
import { PeerTls } from "../cluster/link/peer-tls.ts";
import { clientTokens } from "../config/access.ts";
import type { AuthConfig, Config } from "../config/config.ts";
import { lockDirectory } from "../engine/directory/lock.ts";
import { addressText, localUrl } from "../platform/address.ts";
import { buildInfo } from "../platform/build-info.ts";
import type { Logger } from "../platform/log.ts";
import { OwnNames } from "../platform/own-names.ts";
import { reasonOf } from "../platform/system-error.ts";
import { Operators } from "../server/access/operators.ts";
import { withOrigins } from "../server/access/origins.ts";
import { Connections, connectionsMax } from "../server/http/connections.ts";
import { sendError } from "../server/http/reply.ts";
import { createHttp } from "../server/http/uws.ts";
import { REFUSING_CONNECTIONS } from "../server/status/stats.ts";
import { loadHash } from "../util/hash.ts";
import { Recurring } from "../util/recurring.ts";
import { Outreach } from "./outreach.ts";
import { REGISTRY_TIMES, Registry, type RegistryTimes } from "./registry/registry.ts";
import { createMasterRoutes, type MasterAccess } from "./routes.ts";
import { masterFolder, NotKept, readState, writeState } from "./steward/state.ts";
import { SETTLE_MS, STATIC_WAIT_MS, Steward, type StewardTimes } from "./steward/steward.ts";

const TICK_MS = 100;
const CANNOT_WRITE = "the master cannot write to its disk, so nothing new counts";

/** A master is one thread and has no meter. */
function connectionsOf(log: Logger): Connections {
  const own = new Float64Array(1);
  const counts = { own, all: [own], refusedMs: new Float64Array(1) };
  return new Connections(counts, connectionsMax(), (connections) =>
    log.error({ connections }, REFUSING_CONNECTIONS),
  );
}

/** A master that runs. */
export interface RunningMaster {
  port: number;
  renewCertificate(): boolean;
  /** Another key for operators; false: it is what nodes sign with, too. */
  renewKey(key: string): boolean;
  /** From now on these are people's tokens. */
  renewTokens(tokens: readonly TokenRecord[]): void;
  renewClusterKeys(keys: string[]): void;
  stop(): Promise<void>;
}

/** Starts a master; answers its port and how to stop it. Rejects with a sentence for a person. */
export async function startMaster(
  config: Config,
  log: Logger,
  times: Partial<RegistryTimes & StewardTimes> = {},
): Promise<RunningMaster> {
  await loadHash();
  const warn = (message: string) => log.warn(message);
  const folder = masterFolder(config.dataDirectory, warn);
  const lock = await lockDirectory(folder, { warn });
  try {
    const state = readState(folder);
    const now = () => performance.now();
    const disk = new Recurring(
      (reason) => log.error({ folder, reason }, CANNOT_WRITE),
      () => log.info("the master writes to its disk again"),
    );
    const chores = new Recurring((reason) => log.error({ reason }, "the layout could not be looked after"));
    const lives = new Lives(folder, warn);
    const registry = new Registry(config.volumes, { ...REGISTRY_TIMES, ...times }, (url) =>
      steward.isMember(url),
    );
    const steward: Steward = new Steward({
      registry,
      state,
      save: (document) => {
        try {
          writeState(folder, document);
        } catch (error) {
          disk.failed(reasonOf(error));
          throw new NotKept(`${CANNOT_WRITE}: ${disk.reason}`);
        }
        disk.passed();
      },
      staticUrls: config.volumes,
      replicas: config.replicas,
      isReplicasGiven: config.isReplicasGiven,
      lives,
      times: { settleMs: SETTLE_MS, staticWaitMs: STATIC_WAIT_MS, removeMs: config.removeAfterMs, ...times },
      log,
    });
    registry.restore(now(), state?.nodes ?? []);
    const requests = new Recurring((stack) => log.error({ stack }, "a request failed"));
    const onFailed = (error: unknown) => requests.failed((error as Error).stack ?? String(error));
    let { port } = config;
    const ring = config.clusterKeys.length === 0 ? null : new KeyRing(config.clusterKeys);
    const access = createAccess(config.auth);
    const audience = audienceOf(() => config.publicUrl, new OwnNames(() => port));
    const tls = new PeerTls(config.tlsCa, config.tls);
    if (tls.problem !== null) log.warn(tls.problem);
    const routes = createMasterRoutes({
      registry,
      steward,
      access,
      metrics: config.metrics,
      verifier: ring === null ? null : new RequestVerifier(ring, { audience }),
      version: buildInfo.version,
      now,
      trouble: () => (disk.reason === null ? null : `${CANNOT_WRITE}: ${disk.reason}`),
      onFailed,
      onNew: ({ url, region }) => log.info({ url, region }, "a worker is there"),
    });
    const ownUrl = () => config.publicUrl ?? localUrl(config.tls !== null, port);
    const origins = {
      allowed: config.cors,
      ownUrl,
      port: () => port,
      isOpen: access === null,
    };
    const http = createHttp(
      withOrigins(routes, origins, () => {}),
      (method, res, error) => {
        onFailed(error);
        sendError(res, "internal", { head: method === "head" });
      },
      { tls: config.tls, connections: connectionsOf(log) },
    );
    port = await http.listen(config.host, port);
    const outreach = new Outreach({
      steward,
      url: ownUrl(),
      signer: ring === null ? null : new RequestSigner(ring),
      tls,
      now,
      log,
    });
    const timer = setInterval(() => {
      try {
        steward.tick(now());
        outreach.tick();
        chores.passed();
      } catch (error) {
        // Nothing has changed, and the next tick tries again.
        if (!(error instanceof NotKept)) chores.failed((error as Error).message);
      }
    }, TICK_MS);
    const epoch = steward.layout?.epoch ?? 0;
    log.info(
      {
        port,
        host: config.host,
        data: folder,
        volumes: config.volumes,
        epoch,
        known: state?.nodes.length ?? 0,
      },
      `listening on ${addressText(config.host, port)} as master`,
    );
    return {
      port,
      renewCertificate() {
        const isFresh = http.renewCertificate();
        tls.renew();
        return isFresh;
      },
      renewKey(key) {
        if (access === null || config.files.clusterKey === null) return false;
        if (config.files.tokens === null) access.operators.renew([keyRecord(key)]);
        return true;
      },
      renewTokens: (tokens) => access?.operators.renew(tokens),
      renewClusterKeys: (keys) => ring?.renew(keys),
      async stop() {
        clearInterval(timer);
        http.stopAccepting();
        // Requests are answered within one turn of the event loop once they are complete.
        await new Promise((resolve) => setImmediate(resolve));
        http.closeConnections();
        await outreach.close();
        await lives.close();
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** What people need; null: nothing. */
function createAccess(auth: AuthConfig | null): MasterAccess | null {
  if (auth === null) return null;
  const operators = new Operators({ mode: auth.mode, tokens: clientTokens(auth) });
  return { operators, readsArePublic: auth.mode === "writes" };
}
