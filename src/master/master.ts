/**
 * The master: a registry of workers over HTTP, and the keeper of the layout. It is never on the path of data.
 * What it knows is kept before it tells it, so a restart forgets nobody: on its disk, or with -registry in
 * etcd, where any number of masters stand in for each other.
 */

import { audienceOf } from "../auth/audience.ts";
import { KeyRing } from "../auth/keys.ts";
import { RequestSigner, RequestVerifier } from "../auth/signature.ts";
import type { TokenRecord } from "../auth/token-file.ts";
import { keyRecord } from "../auth/tokens.ts";
import { PeerTls } from "../cluster/link/peer-tls.ts";
import { clientTokens } from "../config/access.ts";
import type { AuthConfig, Config } from "../config/config.ts";
import { type RegistryAddress, registryText } from "../config/registry-address.ts";
import { type DirectoryLock, lockDirectory } from "../engine/directory/lock.ts";
import { addressText, localUrl } from "../platform/address.ts";
import { buildInfo } from "../platform/build-info.ts";
import type { Logger } from "../platform/log.ts";
import { OwnNames } from "../platform/own-names.ts";
import { stackOf } from "../platform/system-error.ts";
import { Operators } from "../server/access/operators.ts";
import { withOrigins } from "../server/access/origins.ts";
import { Connections, connectionsMax } from "../server/http/connections.ts";
import type { HttpServer } from "../server/http/http.ts";
import { sendError } from "../server/http/reply.ts";
import { REFUSING_CONNECTIONS } from "../server/status/stats.ts";
import { createHttp } from "../server/uws/uws.ts";
import { loadHash } from "../util/hash.ts";
import { Recurring } from "../util/recurring.ts";
import { rootDocument } from "./documents.ts";
import { Gateway } from "./etcd/gateway.ts";
import { keysUnder } from "./etcd/keys.ts";
import { RegistryMemory } from "./etcd/memory.ts";
import { Seat } from "./etcd/seat.ts";
import { Standby } from "./etcd/standby.ts";
import { Keeper, type KeeperSetup, type MasterTimes } from "./keeper.ts";
import { masterFolder } from "./layout/state.ts";
import { FileStore, type MasterStore } from "./layout/store.ts";
import type { Office } from "./registry/office.ts";
import { createMasterRoutes, type MasterAccess } from "./routes.ts";

const TICK_MS = 100;

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
  /** It keeps no audit. */
  reopenAudit(): void;
  stop(): Promise<void>;
}

/** Starts a master; answers its port and how to stop it. Rejects with a sentence for a person. */
export async function startMaster(
  config: Config,
  log: Logger,
  times: Partial<MasterTimes> = {},
): Promise<RunningMaster> {
  await loadHash();
  const warn = (message: string) => log.warn(message);
  const folder = masterFolder(config.dataDirectory, warn);
  const lock = await lockDirectory(folder, { warn });
  try {
    const server = new MasterServer(config, log, folder, lock, times);
    await server.listen();
    return server;
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** Whoever does a master's work: alone (Keeper), or in its turn (Seat). */
interface Post {
  readonly office: Office;
  tick(): void;
  close(): Promise<void>;
}

class MasterServer implements RunningMaster {
  port: number;
  private readonly config: Config;
  private readonly log: Logger;
  private readonly folder: string;
  private readonly lock: DirectoryLock;
  /** null: nodes do not sign. */
  private readonly ring: KeyRing | null;
  private readonly access: MasterAccess | null;
  private readonly tls: PeerTls;
  private readonly post: Post;
  private readonly requests: Recurring;
  private readonly http: HttpServer;
  private timer: NodeJS.Timeout | undefined;

  constructor(config: Config, log: Logger, folder: string, lock: DirectoryLock, times: Partial<MasterTimes>) {
    this.config = config;
    this.log = log;
    this.folder = folder;
    this.lock = lock;
    this.port = config.port;
    this.ring = config.clusterKeys.length === 0 ? null : new KeyRing(config.clusterKeys);
    this.access = createAccess(config.auth);
    this.tls = new PeerTls(config.tlsCa, config.tls);
    if (this.tls.problem !== null) log.warn(this.tls.problem);
    this.requests = new Recurring((stack) => log.error({ stack }, "a request failed"));
    const { registry } = config;
    this.post =
      registry === null
        ? new Keeper(this.keeperSetup(new FileStore(folder), times))
        : this.createSeat(registry, times);
    this.http = this.createHttp();
  }

  private keeperSetup(store: MasterStore, times: Partial<MasterTimes>): KeeperSetup {
    const { config, tls, log, ring } = this;
    const { volumes, replicas, isReplicasGiven, partitions, removeAfterMs } = config;
    return {
      ...{ store, tls, log, times, version: buildInfo.version },
      ...{ volumes, replicas, isReplicasGiven, partitions, removeAfterMs },
      signer: ring === null ? null : new RequestSigner(ring),
      url: () => this.ownUrl(),
      now: () => performance.now(),
    };
  }

  private createSeat(address: RegistryAddress, times: Partial<MasterTimes>): Seat {
    const { folder, tls, log } = this;
    const { version } = buildInfo;
    const name = registryText(address);
    const now = () => performance.now();
    return new Seat({
      ...{ name, log, keys: keysUnder(address.prefix), gateway: new Gateway(address, tls) },
      url: () => this.ownUrl(),
      memory: new RegistryMemory(folder, name),
      standby: new Standby({ ...{ version, now, registry: name }, root: rootDocument(version) }),
      lead: (store, cluster) =>
        new Keeper({ ...this.keeperSetup(store, times), elected: { registry: name, cluster } }),
    });
  }

  private createHttp(): HttpServer {
    const { config, access, ring, log, requests } = this;
    const { metrics, cors: allowed, tls } = config;
    const ownUrl = () => this.ownUrl();
    const audience = audienceOf(() => config.publicUrl, new OwnNames(() => this.port));
    const failed = (error: unknown) => requests.failed(stackOf(error));
    const routes = createMasterRoutes({
      ...{ access, metrics, version: buildInfo.version, onFailed: failed },
      office: () => this.post.office,
      verifier: ring === null ? null : new RequestVerifier(ring, { audience }),
    });
    return createHttp(
      withOrigins(routes, { allowed, ownUrl, port: () => this.port, isOpen: access === null }, () => {}),
      (method, res, error) => {
        failed(error);
        sendError(res, "internal", { head: method === "head" });
      },
      { tls, connections: connectionsOf(log) },
    );
  }

  private ownUrl(): string {
    return this.config.publicUrl ?? localUrl(this.config.tls !== null, this.port);
  }

  async listen(): Promise<void> {
    const { post, log, folder } = this;
    const { host, volumes } = this.config;
    this.port = await this.http.listen(host, this.port);
    this.timer = setInterval(() => post.tick(), TICK_MS);
    try {
      if (post instanceof Seat) await post.start();
    } catch (error) {
      await this.end();
      throw error;
    }
    const kept = post instanceof Keeper ? { epoch: post.steward.layout?.epoch ?? 0, known: post.known } : {};
    log.info(
      { port: this.port, host, data: folder, volumes, ...kept },
      `listening on ${addressText(host, this.port)} as master`,
    );
  }

  renewCertificate(): boolean {
    const isFresh = this.http.renewCertificate();
    this.tls.renew();
    return isFresh;
  }

  renewKey(key: string): boolean {
    const { files } = this.config;
    if (this.access === null || files.clusterKey === null) return false;
    if (files.tokens === null) this.access.operators.renew([keyRecord(key)]);
    return true;
  }

  renewTokens(tokens: readonly TokenRecord[]): void {
    this.access?.operators.renew(tokens);
  }

  renewClusterKeys(keys: string[]): void {
    this.ring?.renew(keys);
  }

  reopenAudit(): void {}

  async stop(): Promise<void> {
    await this.end();
    await this.lock.release();
  }

  private async end(): Promise<void> {
    clearInterval(this.timer);
    this.http.stopAccepting();
    // Requests are answered within one turn of the event loop once they are complete, or when what they say
    // is kept: whoever waits for that asks the next leader.
    await new Promise((resolve) => setImmediate(resolve));
    this.http.closeConnections();
    await this.post.close();
  }
}

/** What people need; null: nothing. */
function createAccess(auth: AuthConfig | null): MasterAccess | null {
  if (auth === null) return null;
  const operators = new Operators({ mode: auth.mode, tokens: clientTokens(auth) });
  return { operators, readsArePublic: auth.mode === "writes" };
}
