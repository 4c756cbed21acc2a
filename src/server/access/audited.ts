/**
 * Stands around all handlers of clients where there is an audit (`-audit`), and notes what they answer: each
 * write, and each refusal. Who answers, and when, does not matter: the status is taken as it is written.
 *
 * Of a batch that is done each write is noted by whoever does it, and not the batch.
 */
import { EVERYBODY } from "../../auth/tokens.ts";
import type { FrontContext, RequestNotes } from "../http/context.ts";
import type { Handler, Handlers, Req, Res } from "../http/http.ts";
import type { Audit, Sender } from "./audit.ts";
import { HookedRes, type Hooks, statusOf } from "./hooked-res.ts";

const REFUSALS: ReadonlySet<number> = new Set([401, 403, 429]);
const UNKNOWN_SENDER: Sender = { client: "", forwardedFor: "" };
const FORWARDED_FOR = Buffer.from("x-forwarded-for");
const FORWARDED_CHARACTERS_MAX = 256;
const MAPPED_PREFIX = "0000:0000:0000:0000:0000:ffff:";

/** Who sends a request, as far as the connection and its headers tell. */
function senderOf(res: Res, req: Req): Sender {
  return {
    client: addressOf(Buffer.from(res.getRemoteAddressAsText()).toString("latin1")),
    forwardedFor: req.getHeader(FORWARDED_FOR).slice(0, FORWARDED_CHARACTERS_MAX),
  };
}

/** An address in its usual form: the parser writes those of IPv6 out in full. */
export function addressOf(text: string): string {
  if (!text.includes(":")) return text;
  if (text.startsWith(MAPPED_PREFIX)) {
    const bytes = Buffer.from(text.slice(MAPPED_PREFIX.length).replace(":", ""), "hex");
    return bytes.join(".");
  }
  return URL.canParse(`http://[${text}]/`) ? new URL(`http://[${text}]/`).hostname.slice(1, -1) : text;
}

/** One request, until its answer begins. */
class Noted implements RequestNotes {
  private readonly context: FrontContext;
  private readonly audit: Audit;
  private readonly method: string;
  private readonly path: string;
  private status: number | null = null;
  private name: string | null = null;
  /** Its handler has returned. */
  private isHandled = false;
  /** Somebody else says how it ended. */
  private isToldElsewhere = false;
  sender: Sender = UNKNOWN_SENDER;

  constructor(context: FrontContext, audit: Audit, req: Req) {
    this.context = context;
    this.audit = audit;
    this.method = req.getCaseSensitiveMethod().toUpperCase();
    this.path = req.getUrl();
  }

  get isRead(): boolean {
    return this.method === "GET" || this.method === "HEAD" || this.method === "OPTIONS";
  }

  /** It is answered so; 0: the client has gone before. */
  answered(status: number): void {
    if (this.status !== null) return;
    this.status = status;
    if (this.isHandled) this.note(status);
  }

  /** Its handler has returned: only now it is known for sure whose token it came with. */
  handled(): void {
    this.name = this.context.caller.name;
    this.isHandled = true;
    if (this.status !== null) this.note(this.status);
  }

  private get token(): string | null {
    return this.isHandled ? this.name : this.context.caller.name;
  }

  also(method: string, path: string, status: number): void {
    this.audit.note(this.token, this.sender, method, path, status);
  }

  own(): (target: string, status: number) => void {
    this.isToldElsewhere = true;
    return (target, status) => this.audit.note(this.token, this.sender, this.method, target, status);
  }

  private note(status: number): void {
    if (REFUSALS.has(status) || !(this.isRead || this.isToldElsewhere))
      this.audit.note(this.name, this.sender, this.method, this.path, status);
  }
}

/** Notes what becomes of each request. */
export function withAudit(context: FrontContext, handlers: Handlers, audit: Audit): Handlers {
  const noted = (handler: Handler): Handler => {
    return (res, req) => {
      const request = new Noted(context, audit, req);
      const { isRead } = request;
      // Of a read that is refused it is asked then.
      if (!isRead) request.sender = senderOf(res, req);
      context.caller = EVERYBODY;
      context.notes = request;
      const hooks: Hooks = {
        afterStatus: (line) => {
          const status = statusOf(line);
          if (isRead && REFUSALS.has(status)) request.sender = senderOf(res, req);
          request.answered(status);
        },
        ...(isRead ? {} : { aborted: () => request.answered(0) }),
      };
      try {
        handler(new HookedRes(res, hooks), req);
      } catch (error) {
        request.answered(500);
        throw error;
      } finally {
        request.handled();
        context.notes = null;
      }
    };
  };
  return {
    get: noted(handlers.get),
    head: noted(handlers.head),
    put: noted(handlers.put),
    post: noted(handlers.post),
    delete: noted(handlers.delete),
    other: noted(handlers.other),
  };
}
