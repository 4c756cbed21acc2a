/**
 * Web pages as callers. A browser sends a page's writes to any address, this node's too, and only hides the
 * answers: so a write whose `Origin` is another one is refused, unless `-cors` allows it. What `-cors` allows
 * may also read the answers (the CORS protocol of the Fetch standard).
 *
 * Requests without an Origin come from no page, and cost one look at a header. Without `-cors`, reads are not
 * looked at.
 */
import { isIP } from "node:net";
import { hostname } from "node:os";
import { declaredBytes } from "../http/body-length.ts";
import type { Handler, Handlers, Req, Res } from "../http/http.ts";
import { refuse } from "../http/linger.ts";
import { headerLines, headerName } from "../http/read-headers.ts";
import { statusLine } from "../http/reply.ts";
import { HookedRes } from "./hooked-res.ts";

export interface OriginSettings {
  /** Origins as browsers write them, or "*" for all; empty: none. */
  allowed: readonly string[];
  /** URL of this node, as far as it is known. */
  ownUrl: () => string | null;
  /** Port that it listens on. */
  port: () => number;
  /** Nobody needs a key here: then it matters by which name a browser has found this node. */
  isOpen: boolean;
  /** What a page may send, and what it may see of an answer; left out: our own headers. */
  headers?: { request: string; answer: string };
  /** Refuses a page, and answers the status; left out: as all is refused here. */
  refuse?: Refuse;
}

/** In the request's handler. */
export type Refuse = (res: Res, req: Req, detail: string) => number;

/** A longer one is none. */
const ORIGIN_CHARACTERS_MAX = 512;
const ORIGIN = headerName("origin");
const HOST = Buffer.from("host");
const REQUESTED_METHOD = Buffer.from("access-control-request-method");
const REQUESTED_NETWORK = Buffer.from("access-control-request-private-network");

/** How long a browser may keep a preflight's answer. */
const PREFLIGHT_SECONDS = 600;
const METHODS = "GET, HEAD, PUT, POST, PATCH, DELETE, LOCK, UNLOCK";
const REQUEST_HEADERS = [
  ...["Authorization", "Content-Type", "Content-Encoding", "Range", "If-Range"],
  ...["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"],
  ...["Content-Language", "Content-Disposition", "Cache-Control", "Last-Event-ID", "X-TTL"],
  // And what a page has named itself: X-Meta-…
  ...["Idempotency-Key", "*"],
].join(", ");
const ANSWER_HEADERS = [
  ...["ETag", "Last-Modified", "Content-Length", "Content-Range", "Content-Encoding", "Content-Disposition"],
  ...["Accept-Ranges", "Retry-After", "Allow"],
  ...["WWW-Authenticate", "X-TTL", "X-Minivault-Replicas", "X-Minivault-Region", "Idempotency-Replayed"],
].join(", ");

/** Top-level names that nobody can register, so that no page of a stranger is found under one. */
const LOCAL_NAMES = ["localhost", "local", "internal", "lan", "home.arpa"];

const DEFAULT_PORTS: Record<string, string> = { http: ":80", https: ":443" };

/**
 * Scheme and host of an origin, the port left out where it is the scheme's; null: it is none, such as "null".
 */
function splitOrigin(origin: string): { scheme: string; host: string } | null {
  const end = origin.indexOf("://");
  if (end <= 0 || end + 3 === origin.length || origin.length > ORIGIN_CHARACTERS_MAX) return null;
  const scheme = origin.slice(0, end).toLowerCase();
  return { scheme, host: withoutPort(origin.slice(end + 3), scheme) };
}

/** A host as it is compared: in small letters, without the port that the scheme has anyway. */
function withoutPort(host: string, scheme: string): string {
  const text = host.toLowerCase();
  const preset = DEFAULT_PORTS[scheme];
  return preset !== undefined && text.endsWith(preset) ? text.slice(0, -preset.length) : text;
}

/**
 * Whether a host could be the name that a stranger has given this node's address (DNS rebinding: the page's
 * own name then resolves to the node, and the browser takes it for the page's own server). Only a direct
 * connection can be that, so a name behind a proxy, on another port, is not looked at.
 */
function isStrangersName(host: string, port: number, scheme: string): boolean {
  // A stranger has no certificate that this node would show.
  if (scheme !== "http") return false;
  const name = host.startsWith("[") ? host.slice(1, host.indexOf("]")) : host.split(":")[0];
  const sentPort = host.startsWith("[") ? host.slice(host.indexOf("]") + 1) : host.slice(name.length);
  if ((sentPort || DEFAULT_PORTS[scheme]) !== `:${port}`) return false;
  if (isIP(name) !== 0 || !name.includes(".")) return false;
  const bare = name.endsWith(".") ? name.slice(0, -1) : name;
  if (bare === hostname().toLowerCase()) return false;
  return !LOCAL_NAMES.some((local) => bare.endsWith(`.${local}`));
}

/** Answers what is wrong with a page's write, as a sentence; null: nothing. */
export function originProblem(settings: OriginSettings, origin: string, host: string): string | null {
  const { allowed, ownUrl, port, isOpen } = settings;
  if (allowed.includes("*") || allowed.includes(origin.toLowerCase())) return null;
  const sent = splitOrigin(origin);
  const refusal = `the page's origin ${JSON.stringify(origin.slice(0, 80))} is not this node's`;
  if (sent === null) return `${refusal}; -cors allows origins`;
  const { scheme } = sent;
  const url = ownUrl();
  const own = url === null ? null : splitOrigin(url);
  if (own !== null && own.scheme === scheme && own.host === sent.host) return null;
  if (withoutPort(host, scheme) !== sent.host) return `${refusal}; -cors allows origins`;
  if (isOpen && isStrangersName(sent.host, port(), scheme))
    return `${refusal}: it goes by another name, or is given one by the page; name it by -public-url, set a key, or allow the origin by -cors`;
  return null;
}

/** What the answers to an origin say beside all else; null: nothing. */
function corsLines(
  { allowed, headers }: OriginSettings,
  origin: string,
): readonly (readonly [string, string])[] {
  const isAny = allowed.includes("*");
  // Answers differ by the origin, also for whoever sends none.
  const vary = isAny ? [] : ([["Vary", "Origin"]] as const);
  if (origin === "" || !(isAny || allowed.includes(origin.toLowerCase()))) return vary;
  return [
    ["Access-Control-Allow-Origin", isAny ? "*" : origin],
    ["Access-Control-Expose-Headers", headers?.answer ?? ANSWER_HEADERS],
    ...vary,
  ];
}

/** Writes some more headers behind the status, whoever answers, and whenever. */
function withLines(res: Res, lines: readonly (readonly [string, string])[]): Res {
  return new HookedRes(res, {
    afterStatus: () => {
      for (const [name, value] of lines) res.writeHeader(name, value);
    },
  });
}

/** Wraps a node's handlers. `count` gets the status of what is answered here. */
export function withOrigins(
  handlers: Handlers,
  settings: OriginSettings,
  count: (method: keyof Handlers, status: number) => void,
): Handlers {
  const { allowed, refuse: refusePage = refuseForeign } = settings;
  const open = (res: Res, origin: string): Res =>
    allowed.length === 0 ? res : withLines(res, corsLines(settings, origin));
  const guarded = (method: keyof Handlers, handler: Handler): Handler => {
    return (res, req) => {
      const origin = headerLines(req, ORIGIN);
      const answers = open(res, origin);
      const isOptions = method === "other" && req.getCaseSensitiveMethod() === "OPTIONS";
      if (origin !== "" && isOptions && isPreflight(req) && allowed.length > 0) {
        count(method, preflight(answers, req, settings, origin));
        return;
      }
      const problem =
        origin === "" || isOptions ? null : originProblem(settings, origin, req.getHeader(HOST));
      if (problem === null) handler(answers, req);
      else count(method, refusePage(answers, req, problem));
    };
  };
  const read = (handler: Handler): Handler =>
    allowed.length === 0 ? handler : (res, req) => handler(open(res, headerLines(req, ORIGIN)), req);
  return {
    get: read(handlers.get),
    head: read(handlers.head),
    put: guarded("put", handlers.put),
    post: guarded("post", handlers.post),
    delete: guarded("delete", handlers.delete),
    other: guarded("other", handlers.other),
  };
}

/** Wraps handlers that no page has any business with: those between nodes. */
export function withoutPages(handlers: Handlers): Handlers {
  const guarded = (handler: Handler, head: boolean): Handler => {
    return (res, req) => {
      const origin = headerLines(req, ORIGIN);
      if (origin === "") handler(res, req);
      else
        refuse(res, "foreign_origin", declaredBytes(req), { head, detail: "pages have no access to this" });
    };
  };
  return {
    get: guarded(handlers.get, false),
    head: guarded(handlers.head, true),
    put: guarded(handlers.put, false),
    post: guarded(handlers.post, false),
    delete: guarded(handlers.delete, false),
    other: guarded(handlers.other, false),
  };
}

function refuseForeign(res: Res, req: Req, detail: string): number {
  return refuse(res, "foreign_origin", declaredBytes(req), { detail });
}

function isPreflight(req: Req): boolean {
  return req.getHeader(REQUESTED_METHOD) !== "";
}

/** Answers a browser that asks before it sends a page's request. Answers the status. */
function preflight(
  res: Res,
  req: Req,
  { allowed, headers, refuse: refusePage = refuseForeign }: OriginSettings,
  origin: string,
): number {
  if (!allowed.includes("*") && !allowed.includes(origin.toLowerCase())) return refusePage(res, req, "");
  const asksForNetwork = req.getHeader(REQUESTED_NETWORK) === "true";
  res.writeStatus(statusLine(204));
  res.writeHeader("Access-Control-Allow-Methods", METHODS);
  res.writeHeader("Access-Control-Allow-Headers", headers?.request ?? REQUEST_HEADERS);
  res.writeHeader("Access-Control-Max-Age", String(PREFLIGHT_SECONDS));
  // A page of the internet may reach a private address only if that address says so.
  if (asksForNetwork) res.writeHeader("Access-Control-Allow-Private-Network", "true");
  res.endWithoutBody();
  return 204;
}
