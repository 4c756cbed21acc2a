/**
 * The HTTP front of a worker: wires routes, auth, counters and the vault together. main.ts calls
 * `createFront`.
 */

import type { KeyRing } from "../auth/keys.ts";
import { RequestVerifier } from "../auth/signature.ts";
import type { TokenRecord } from "../auth/token-file.ts";
import { EVERYBODY } from "../auth/tokens.ts";
import { PEER_PREFIX } from "../cluster/link/paths.ts";
import type { ClusterAccess } from "../cluster/node/access.ts";
import type { PeerHandler } from "../cluster/peers/peer-handler.ts";
import type { ClusterFacts } from "../cluster/repair/status.ts";
import { localUrl } from "../platform/address.ts";
import type { RunBackup } from "../shards/backup/backups.ts";
import type { Vault } from "../shards/vault/vault.ts";
import type { Audit } from "./access/audit.ts";
import { withAudit } from "./access/audited.ts";
import { type ClientAccess, Gate, withGate } from "./access/gate.ts";
import { type OriginSettings, withOrigins, withoutPages } from "./access/origins.ts";
import { hasConsole } from "./console/console.ts";
import { Feeds } from "./feed/feeds.ts";
import { handlersOf } from "./handlers.ts";
import { Connections, connectionsMax, isRecent } from "./http/connections.ts";
import { type FrontContext, type FrontLog, InFlight, NOT_PARSED } from "./http/context.ts";
import type { Handlers, HttpOptions, Res, TlsFiles } from "./http/http.ts";
import { Pacer } from "./http/pace.ts";
import { sendError, sendWriteResult } from "./http/reply.ts";
import { createKeyScratch } from "./http/target.ts";
import { Vigil } from "./http/vigil.ts";
import { idle } from "./idle.ts";
import { failureOf } from "./later/failure.ts";
import { sendMkvResult } from "./mkv/answer.ts";
import { workerOperations } from "./operations/worker.ts";
import { createOtherTargets } from "./other-targets.ts";
import type { MakeChange } from "./patch/asked.ts";
import { createChanges } from "./patch/change.ts";
import { createTakeChange } from "./patch/handed.ts";
import { createPeerRoutes } from "./peers/peer-routes.ts";
import type { NodeFacts } from "./status/facts.ts";
import { Meter, VERB_OF } from "./status/meter.ts";
import { REFUSING_CONNECTIONS } from "./status/stats.ts";
import { createHttp } from "./uws/uws.ts";

/** How long `close` waits for requests that are under way. */
const CLOSE_DEADLINE_MS = 10_000;

export interface FrontOptions {
  vault: Vault;
  host: string;
  /** 0: any free port. */
  port: number;
  /** What clients need; null: it is open to everyone. */
  auth: ClientAccess | null;
  /** Memory of `createRates` that all front threads have. Left out: there is one. */
  rates?: ArrayBufferLike;
  /** Whether `/_metrics` is there, and whether without a token. "on" when left out. */
  metrics?: "on" | "open" | "off";
  /** Whose clients are answered as they are used to. "none" when left out. */
  compat?: "none" | "mkv";
  /** Where writes and refusals are noted. Left out, or null: nowhere. */
  audit?: Audit | null;
  /** null or left out: plain HTTP. */
  tls?: TlsFiles | null;
  /** What answers clients once the node is one of a cluster; null, or left out: the vault alone. */
  cluster?: () => ClusterAccess | null;
  /** Makes copies of the store while it serves. Left out: nobody does. */
  backup?: RunBackup;
  /** A node of a cluster: what stands behind the routes between nodes. Left out: they do not exist. */
  peers?: PeerFacts;
  maxValueBytes: number;
  /** Origins whose pages may call; "*": all. Left out: none. */
  cors?: readonly string[];
  /** URL under which others know this node. Left out, or null: localhost. */
  publicUrl?: () => string | null;
  role: string;
  version: string;
  /** Nodes known to serve; 1 when left out. */
  nodes?: () => number;
  /** Memory of the meters of all front threads, and the number of this one. Left out: there is one. */
  meters?: { memories: readonly ArrayBufferLike[]; own: number };
  /** This thread may look for requests rather than sleep: there are processors for all threads. */
  patient?: boolean;
  /** Other threads, or processes, listen on the port, too. */
  sharesPort?: boolean;
  /** What `/health` and `/_stats` say of the cluster, or null. */
  clusterFacts?: () => ClusterFacts | null;
  log: FrontLog;
}

export interface PeerFacts {
  handler: PeerHandler;
  /** What nodes sign with; null: everybody is heard. */
  ring: KeyRing | null;
  /** Why a request that is signed for this URL is not for this node, or null. */
  audience: (url: string) => string | null;
}

export interface Front {
  /** The actual port. */
  readonly port: number;
  /** See HttpServer. */
  renewCertificate(): boolean;
  /** From now on these are clients' tokens. Nothing, where none were needed. */
  renewTokens(tokens: readonly TokenRecord[]): void;
  /**
   * Takes no new connections, answers 503 "stopping" to new writes, lets what is under way finish (at most
   * `deadlineMs`), then closes every connection. The vault is left open: its owner closes it afterwards.
   */
  close(deadlineMs?: number): Promise<void>;
}

/** Listens and serves. Rejects when it cannot listen. */
export async function createFront(options: FrontOptions): Promise<Front> {
  const meters = options.meters?.memories.map((memory) => new Meter(memory)) ?? [new Meter()];
  const meter = meters[options.meters?.own ?? 0];
  options.vault.gatherings.showIn(meter.receivingBytes);
  options.vault.figures.moveTo(meter);
  const { peers, auth, tls = null } = options;
  const context = createContext({
    ...{ vault: options.vault, cluster: options.cluster, log: options.log, meter },
    ...{ maxValueBytes: options.maxValueBytes, varies: auth !== null, encrypts: tls !== null },
    ...(options.compat === "mkv" ? { writesOnce: true, answerWrite: sendMkvResult } : {}),
  });
  const gate = auth === null ? null : createGate(options, auth);
  if (gate !== null) context.mayGoOn = (token) => gate.isGood(token);
  const feeds = new Feeds(context);
  const change = createChanges(context);
  const ring = peers?.ring ?? null;
  const verifier =
    peers === undefined || ring === null ? null : new RequestVerifier(ring, { audience: peers.audience });
  const vigil = options.patient === true ? new Vigil(context.inFlight) : null;
  const onRequest = vigil === null ? () => {} : () => vigil.request();
  let { port } = options;
  const origins: OriginSettings = {
    allowed: options.cors ?? [],
    ownUrl: () => options.publicUrl?.() ?? localUrl(tls !== null, port),
    port: () => port,
    isOpen: auth === null,
  };
  const guarded = withOrigins(
    createHandlers(context, options, meters, gate, feeds, change),
    origins,
    (method, status) => context.meter.count(VERB_OF[method], status),
  );
  const http = createHttp(
    options.audit ? withAudit(context, guarded, options.audit) : guarded,
    (method, res, error) => crashed(context, method, res, error),
    {
      tls,
      sharesPort: options.sharesPort === true,
      ...routesBelow(context, peers, verifier, change),
      onRequest,
      connections: connectionsOf(meter, meters, options.log),
    },
  );
  port = await http.listen(options.host, port);
  let closing: Promise<void> | null = null;
  return {
    port,
    renewCertificate: () => http.renewCertificate(),
    renewTokens(tokens) {
      if (gate === null) return;
      gate.renew(tokens);
      feeds.recheck((token) => gate.isGood(token));
    },
    close(deadlineMs = CLOSE_DEADLINE_MS) {
      closing ??= (async () => {
        context.stopping = true;
        feeds.stop();
        http.stopAccepting();
        await idle(context.inFlight, deadlineMs);
        http.closeConnections();
      })();
      return closing;
    },
  };
}

/** In what the contexts of fronts differ. */
export interface ContextOptions
  extends Pick<FrontContext, "vault" | "log" | "meter" | "maxValueBytes" | "varies" | "encrypts">,
    Partial<Pick<FrontContext, "writesOnce" | "answerWrite">> {
  /** What answers clients once the node is one of a cluster. Left out: it never is. */
  cluster?: (() => ClusterAccess | null) | undefined;
}

export function createContext(options: ContextOptions): FrontContext {
  const { vault, cluster = () => null, log, meter, maxValueBytes, varies, encrypts } = options;
  return {
    vault,
    get cluster() {
      return cluster();
    },
    log,
    meter,
    pacer: new Pacer(),
    inFlight: new InFlight(meter.requestsInFlight),
    maxValueBytes,
    key: createKeyScratch(),
    target: NOT_PARSED,
    caller: EVERYBODY,
    mayGoOn: () => true,
    notes: null,
    varies,
    encrypts,
    writesOnce: options.writesOnce ?? false,
    answerWrite: options.answerWrite ?? sendWriteResult,
    stopping: false,
  };
}

/** The routes between nodes, where there are any. */
function routesBelow(
  context: FrontContext,
  peers: PeerFacts | undefined,
  verifier: RequestVerifier | null,
  change: MakeChange,
): Pick<HttpOptions, "below"> {
  if (peers === undefined) return {};
  const takeChange = createTakeChange(context, change);
  const routes = createPeerRoutes(context, { handler: peers.handler, verifier, takeChange });
  return { below: { prefix: PEER_PREFIX, handlers: withoutPages(routes) } };
}

/** The connections of one front; how many there are at most holds for all of them together. */
export function connectionsOf(own: Meter, meters: readonly Meter[], log: FrontLog): Connections {
  const all = meters.map(({ connections }) => connections);
  const counts = { own: own.connections, all, refusedMs: own.refusedMs };
  return new Connections(counts, connectionsMax(), (connections) =>
    log.error({ connections }, REFUSING_CONNECTIONS),
  );
}

function createGate({ metrics, rates }: FrontOptions, access: ClientAccess): Gate {
  return new Gate({ access, metricsAreOpen: metrics === "open", ...(rates === undefined ? {} : { rates }) });
}

function createHandlers(
  context: FrontContext,
  options: FrontOptions,
  meters: readonly Meter[],
  gate: Gate | null,
  feeds: Feeds,
  change: MakeChange,
): Handlers {
  const facts: NodeFacts = {
    role: options.role,
    version: options.version,
    nodes: options.nodes ?? (() => 1),
    stopping: () => context.stopping,
    refusesConnections: () => meters.some(({ refusedMs }) => isRecent(refusedMs[0], Date.now())),
    refusesFiles: () => meters.some(({ refusedFiles }) => refusedFiles[0] > 0),
    cluster: options.clusterFacts ?? (() => null),
  };
  const operations = workerOperations({
    compat: options.compat ?? "none",
    ...{ metrics: options.metrics !== "off", console: hasConsole, backup: options.backup !== undefined },
  });
  const others = createOtherTargets(context, facts, meters, operations);
  const handlers = handlersOf(context, options, others, feeds, change);
  return gate === null ? handlers : withGate(context, handlers, gate);
}

/** A handler threw before it answered. */
function crashed(context: FrontContext, method: keyof Handlers, res: Res, error: unknown): void {
  const { code, detail } = failureOf(context, error, "a request failed");
  context.meter.count(VERB_OF[method], sendError(res, code, { detail, head: method === "head" }));
}
