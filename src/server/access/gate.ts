/**
 * Who gets in: finds whose token a request carries, and lets pass what it allows (needs.ts). Stands before
 * all handlers of clients, so that none of them can forget to ask. Requests between nodes do not come by
 * here: they are signed, and no client's token opens anything there.
 */
import type { TokenRecord } from "../../auth/token-file.ts";
import { ANYBODY, createRates, idForLog, NOBODY, type Token, TokenSet } from "../../auth/tokens.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { declaredBytes } from "../http/body-length.ts";
import type { FrontContext } from "../http/context.ts";
import type { Handler, Handlers, Req } from "../http/http.ts";
import { refuse } from "../http/linger.ts";
import type { Header } from "../http/reply.ts";
import { parseTarget } from "../http/target.ts";
import { DELETE, GET, HEAD, OTHER, POST, PUT } from "../status/meter.ts";
import { type Asked, isOpen, may } from "./needs.ts";
import { RefusalLog } from "./refusal-log.ts";

/** What clients need. */
export interface ClientAccess {
  /** all: a token for everything; writes: GET and HEAD of single keys are public. */
  mode: "all" | "writes";
  tokens: readonly TokenRecord[];
}

export interface GateOptions {
  access: ClientAccess;
  /** `/_metrics` needs no token. */
  metricsAreOpen: boolean;
  /** Memory of `createRates` that all front threads have; left out: there is one. */
  rates?: ArrayBufferLike;
}

/** Answers differ by it, and caches have to know. */
export const VARY: readonly Header[] = [["Vary", "Authorization"]];

const AUTHORIZATION = new TextEncoder().encode("authorization").buffer as ArrayBuffer;

/** Whose token an Authorization header carries; null: nobody's, or its time is over. */
export function holderOf(tokens: TokenSet, authorization: string): Token | null {
  const token = authorization === "" ? null : tokens.find(authorization);
  return token?.hasEnd && token.isOver(Date.now()) ? null : token;
}

/** Judges the requests of clients. */
export class Gate {
  /** Whose token the request that was judged last carries; while it may pass. */
  caller: Token = NOBODY;
  private tokens: TokenSet;
  private readonly options: GateOptions;
  private readonly rates: Float64Array;
  private readonly readsArePublic: boolean;
  /** Clocks of threads begin at different times; rates are counted over all of them. */
  private readonly steadyOffsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

  constructor(options: GateOptions) {
    this.options = options;
    this.tokens = new TokenSet(options.access.tokens);
    this.rates = new Float64Array(options.rates ?? createRates());
    this.readsArePublic = options.access.mode === "writes";
  }

  /** From now on these are the tokens. */
  renew(tokens: readonly TokenRecord[]): void {
    this.tokens = new TokenSet(tokens);
  }

  /** Whether a token is still what it was when a request came with it, and its time not over. */
  isGood(token: Token): boolean {
    return token.name === null || (this.tokens.has(token) && !(token.hasEnd && token.isOver(Date.now())));
  }

  /** Why a request may not pass; null: it may, and `caller` says who it comes from. */
  judge(asked: Asked, authorization: string): ErrorCode | null {
    const token = holderOf(this.tokens, authorization);
    this.caller = token ?? (this.readsArePublic ? ANYBODY : NOBODY);
    if (token?.hasRate && !token.takes(this.rates, performance.now() + this.steadyOffsetMs))
      return "too_many_requests";
    if (token !== null && may(token, asked)) return null;
    if (isOpen(asked, this.readsArePublic, this.options.metricsAreOpen)) return null;
    return token === null ? "unauthorized" : "forbidden";
  }
}

/** Stands before the handlers of clients. */
export function withGate(context: FrontContext, handlers: Handlers, gate: Gate): Handlers {
  const { key, meter } = context;
  const log = new RefusalLog(context.log);
  const guarded = (verb: number, handler: Handler): Handler => {
    const asked: Asked = { verb, target: 0, key, req: NO_REQUEST };
    return (res, req) => {
      const target = parseTarget(req.getUrl(), key);
      const authorization = req.getHeader(AUTHORIZATION);
      asked.target = target;
      asked.req = req;
      const code = gate.judge(asked, authorization);
      context.caller = gate.caller;
      if (code === null) {
        context.target = target;
        handler(res, req);
        return;
      }
      const { name } = gate.caller;
      const method = req.getCaseSensitiveMethod().toUpperCase();
      log.note(code, name ?? idForLog(authorization), method);
      meter.refused(code);
      const body = verb === GET || verb === HEAD ? 0 : declaredBytes(req);
      meter.count(verb, refuse(res, code, body, { head: verb === HEAD, headers: VARY }));
    };
  };
  return {
    get: guarded(GET, handlers.get),
    head: guarded(HEAD, handlers.head),
    put: guarded(PUT, handlers.put),
    post: guarded(POST, handlers.post),
    delete: guarded(DELETE, handlers.delete),
    other: guarded(OTHER, handlers.other),
  };
}

const NO_REQUEST: Pick<Req, "getQuery" | "getCaseSensitiveMethod"> = {
  getQuery: () => undefined,
  getCaseSensitiveMethod: () => "",
};
