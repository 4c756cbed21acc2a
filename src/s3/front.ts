/**
 * The front of S3: a server of its own, on a port of its own, over the same store as the others. Who asks is
 * known by the signature; routes.ts says who answers.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { TokenRecord } from "../auth/token-file.ts";
import { EVERYBODY } from "../auth/tokens.ts";
import type { ClusterAccess } from "../cluster/node/access.ts";
import { stackOf } from "../platform/system-error.ts";
import type { Audit } from "../server/access/audit.ts";
import { withAudit } from "../server/access/audited.ts";
import type { ClientAccess } from "../server/access/gate.ts";
import { withOrigins } from "../server/access/origins.ts";
import { RefusalLog } from "../server/access/refusal-log.ts";
import { createContext } from "../server/front.ts";
import { declaredBytes, framingProblem, NO_BODY } from "../server/http/body-length.ts";
import type { Connections } from "../server/http/connections.ts";
import type { FrontLog } from "../server/http/context.ts";
import type { Handler, Handlers, Req, Res, TlsFiles } from "../server/http/http.ts";
import { endsByLength, lingerAndClose, lingerOn, SWALLOW_BYTES_MAX } from "../server/http/linger.ts";
import { idle } from "../server/idle.ts";
import { DELETE, GET, HEAD, type Meter, OTHER, POST, PUT, VERB_OF } from "../server/status/meter.ts";
import { createHttp } from "../server/uws/uws.ts";
import type { Vault } from "../shards/vault/vault.ts";
import { Access } from "./exchange/access.ts";
import { sendError } from "./exchange/answer.ts";
import { Body } from "./exchange/body.ts";
import { type Asked, Exchange, type S3Context } from "./exchange/exchange.ts";
import { Payload } from "./exchange/payload.ts";
import { HashPool } from "./hashing/hash-pool.ts";
import { completeMultipartUpload } from "./multipart/complete-multipart-upload.ts";
import { S3Error } from "./protocol/errors.ts";
import { placeOf } from "./protocol/names.ts";
import { verbOf } from "./routes.ts";
import { parametersOf } from "./signature/canonical.ts";
import { UNSIGNED } from "./signature/verify.ts";
import { Buckets } from "./store/buckets.ts";
import { createS3Memory, S3Counters, type S3Memory } from "./store/s3-memory.ts";

/** How long `close` waits for requests that are under way. */
const CLOSE_DEADLINE_MS = 10_000;
const REQUEST_ID_BYTES = 8;
/** Parameters of a presigned URL that stand for headers begin so. */
const HOISTED = "x-amz-";
/** Made by programs that sign a URL before they know the body. */
const NOT_HOISTED = /^x-amz-(?:sdk-)?checksum-/;
/** What a page may send and see. */
const PAGE_HEADERS = { request: "Authorization, *", answer: "*" };

export interface S3FrontOptions {
  vault: Vault;
  host: string;
  /** 0: any free port. */
  port: number;
  auth: ClientAccess;
  rates?: ArrayBufferLike;
  audit?: Audit | null;
  tls?: TlsFiles | null;
  cluster?: () => ClusterAccess | null;
  maxValueBytes: number;
  cors?: readonly string[];
  publicUrl?: () => string | null;
  meter: Meter;
  connections?: Connections;
  /** What it has in common with the other fronts of S3. Left out: there is none. */
  memory?: S3Memory;
  /** How many fronts of S3 the node has, all on this port. 1 when left out. */
  fronts?: number;
  log: FrontLog;
  /** Milliseconds since 1970; left out: the system's clock. */
  now?: () => number;
}

export interface S3Front {
  /** The actual port. */
  readonly port: number;
  renewCertificate(): boolean;
  renewTokens(tokens: readonly TokenRecord[]): void;
  close(deadlineMs?: number): Promise<void>;
}

/** Listens and serves. Rejects when it cannot listen. */
export async function createS3Front(options: S3FrontOptions): Promise<S3Front> {
  const { tls = null, log } = options;
  const front = createContext({ ...options, varies: false, encrypts: tls !== null });
  const { memory = createS3Memory(), fronts = 1 } = options;
  const access = new Access(options.auth, options.meter, options.rates, memory.repeats, options.now);
  const hashing = new HashPool(log, fronts);
  const counters = new S3Counters(memory);
  const context: S3Context = { front, buckets: new Buckets(front, counters), counters, hashing };
  const server = new S3Server(context, access, options.publicUrl ?? (() => null));
  let { port } = options;
  const origins = {
    ...{ allowed: options.cors ?? [], ownUrl: () => null, port: () => port, isOpen: false },
    headers: PAGE_HEADERS,
    refuse: (res: Res, req: Req, detail: string) => server.refuseOrigin(res, req, detail),
  };
  const guarded = withOrigins(server.handlers, origins, (method, status) =>
    options.meter.count(VERB_OF[method], status),
  );
  const http = createHttp(
    options.audit ? withAudit(front, guarded, options.audit) : guarded,
    (_, res, error) => {
      log.error({ error: stackOf(error) }, "a request failed");
      res.close();
    },
    {
      ...{ tls, sharesPort: fronts > 1 },
      ...(options.connections === undefined ? {} : { connections: options.connections }),
    },
  );
  try {
    port = await http.listen(options.host, port);
  } catch (error) {
    await hashing.close();
    throw error;
  }
  let closing: Promise<void> | null = null;
  return {
    port,
    renewCertificate: () => http.renewCertificate(),
    renewTokens: (tokens) => access.renew(tokens),
    close(deadlineMs = CLOSE_DEADLINE_MS) {
      closing ??= (async () => {
        front.stopping = true;
        http.stopAccepting();
        await idle(front.inFlight, deadlineMs);
        http.closeConnections();
        await hashing.close();
      })();
      return closing;
    },
  };
}

class S3Server {
  private readonly context: S3Context;
  private readonly access: Access;
  private readonly publicUrl: () => string | null;
  private readonly refusals: RefusalLog;
  private readonly idPrefix = randomBytes(REQUEST_ID_BYTES / 2)
    .toString("hex")
    .toUpperCase();
  private requests = 0;
  private hosts: readonly string[] = [];
  private hostsUrl: string | null = null;

  constructor(context: S3Context, access: Access, publicUrl: () => string | null) {
    this.context = context;
    this.access = access;
    this.publicUrl = publicUrl;
    this.refusals = new RefusalLog(context.front.log);
  }

  readonly handlers: Handlers = {
    get: this.handler(GET),
    head: this.handler(HEAD),
    put: this.handler(PUT),
    post: this.handler(POST),
    delete: this.handler(DELETE),
    other: this.handler(OTHER),
  };

  private handler(verb: number): Handler {
    return (res, req) => this.handle(res, req, verb);
  }

  /** Refuses a page of another origin, as S3 does. Answers the status. */
  refuseOrigin(res: Res, req: Req, detail: string): number {
    const error = new S3Error("AccessDenied", detail === "" ? "-cors does not allow this origin." : detail);
    const sentBytes = declaredBytes(req);
    const isOpen = sentBytes > SWALLOW_BYTES_MAX;
    if (isOpen) lingerOn(res);
    const about = { resource: req.getUrl(), requestId: this.nextRequestId(), head: false, isOpen };
    return sendError(res, error, about);
  }

  /** Refuses a request whose end or host nobody can be sure of, and closes its connection. */
  private refuseFraming(res: Res, req: Req, verb: number, sentBytes: number, problem: string): void {
    const about = { resource: req.getUrl(), requestId: this.nextRequestId(), head: false, isOpen: true };
    lingerAndClose(res, sentBytes);
    const error = new S3Error("InvalidRequest", `${problem[0].toUpperCase()}${problem.slice(1)}.`);
    const status = sendError(res, error, about);
    this.context.front.meter.count(verb, status);
  }

  private handle(res: Res, req: Req, verb: number): void {
    const { front } = this.context;
    const isRead = verb === GET || verb === HEAD;
    const sentBytes = isRead ? NO_BODY : declaredBytes(req);
    if (endsByLength(front.meter, verb, res, sentBytes, null)) return;
    const problem = isRead ? null : framingProblem(req);
    if (problem !== null) {
      this.refuseFraming(res, req, verb, sentBytes, problem);
      return;
    }
    const asked = askedBy(req, verb, sentBytes);
    const exchange = new Exchange(this.context, res, asked, this.nextRequestId());
    try {
      this.begin(exchange, asked);
    } catch (error) {
      exchange.failed(error);
    }
    exchange.handled();
  }

  /** Finds out whose the request is and what it is about, and has it answered. */
  private begin(exchange: Exchange, asked: AskedQuery): void {
    const { front } = this.context;
    const { headers, method, path, rawQuery, sentBytes } = asked;
    try {
      const header = (name: string): string | null => headers.get(name) ?? null;
      const headerNames = (): Iterable<string> => headers.keys();
      const { caller, genuine } = this.access.judge({ method, path, query: rawQuery, header, headerNames });
      asked.caller = caller;
      front.caller = caller;
      const { bucket, key } = placeOf(path, headers.get("host") ?? "", this.ownHosts());
      asked.bucket = bucket;
      asked.key = key;
      const meant = genuine?.isPresigned ? hoisted(asked) : headers;
      asked.headers = meant;
      if (front.stopping) throw new S3Error("ServiceUnavailable", "The node is stopping.");
      const verb = verbOf(asked);
      const mode = genuine?.payload ?? UNSIGNED;
      // Who completes an upload tells the checksum of the object.
      const hasChecksum = verb !== completeMultipartUpload;
      const seed = genuine?.seed ?? null;
      const payload = new Payload({ mode, seed, headers: meant, sentBytes, hasChecksum });
      exchange.body = new Body(front, exchange.response, payload, sentBytes, this.context.counters);
      verb(exchange).catch((error: unknown) => this.refuse(exchange, error));
    } catch (error) {
      this.refuse(exchange, error);
    }
  }

  private refuse(exchange: Exchange, error: unknown): void {
    const { caller, method } = exchange.asked;
    if (error instanceof S3Error && error.status === 403) {
      // Whose signature is wrong is not known; what is wrong with it is.
      const id = caller.name ?? (error.code === "AccessDenied" ? "none" : error.code);
      this.refusals.note("forbidden", id, method);
    }
    exchange.failed(error);
  }

  /** Names of this node, in front of which a bucket may stand; they change with its URL. */
  private ownHosts(): readonly string[] {
    const url = this.publicUrl();
    if (this.hosts.length === 0 || url !== this.hostsUrl) {
      const names = ["localhost", hostname().toLowerCase(), ...(url === null ? [] : [new URL(url).hostname])];
      this.hosts = names.flatMap((name) => [name, `s3.${name}`]);
      this.hostsUrl = url;
    }
    return this.hosts;
  }

  private nextRequestId(): string {
    this.requests = (this.requests + 1) >>> 0;
    return this.idPrefix + this.requests.toString(16).toUpperCase().padStart(8, "0");
  }
}

interface AskedQuery extends Asked {
  rawQuery: string;
}

/** What the request line and the headers say. */
function askedBy(req: Req, verb: number, sentBytes: number): AskedQuery {
  const headers = new Map<string, string>();
  req.forEach((name, value) => {
    const before = headers.get(name);
    headers.set(name, before === undefined ? value : `${before},${value}`);
  });
  const rawQuery = req.getQuery() ?? "";
  const query = new Map(parametersOf(rawQuery));
  const method = req.getCaseSensitiveMethod().toUpperCase();
  const path = req.getUrl();
  return { method, path, rawQuery, query, headers, caller: EVERYBODY, verb, bucket: "", key: "", sentBytes };
}

/** Headers, with those that a presigned URL has in its query. */
function hoisted({ headers, query }: Asked): ReadonlyMap<string, string> {
  let all: Map<string, string> | null = null;
  for (const [name, value] of query) {
    const isHeader = name.startsWith(HOISTED) && name === name.toLowerCase() && !NOT_HOISTED.test(name);
    if (!isHeader || headers.has(name)) continue;
    all ??= new Map(headers);
    all.set(name, value);
  }
  return all ?? headers;
}
