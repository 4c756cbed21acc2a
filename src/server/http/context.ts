/** What the parts of one front share. */

import type { Token } from "../../auth/tokens.ts";
import type { ClusterAccess } from "../../cluster/node/access.ts";
import type { KeyBytes } from "../../shards/arena/write.ts";
import type { Vault } from "../../shards/vault/vault.ts";
import type { Meter } from "../status/meter.ts";
import type { Req } from "./http.ts";
import type { Pacer } from "./pace.ts";
import type { sendWriteResult } from "./reply.ts";
import { parseTarget } from "./target.ts";

/** The slice of a pino logger that the front uses. */
export interface FrontLog {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Requests that are not answered yet, for a graceful stop. */
export class InFlight {
  /** Called whenever the last one is answered. */
  readonly onIdle: (() => void)[] = [];
  private readonly counted: Float64Array;

  /** @param counted one number, where others see it */
  constructor(counted: Float64Array = new Float64Array(1)) {
    this.counted = counted;
  }

  get count(): number {
    return this.counted[0];
  }

  enter(): void {
    this.counted[0]++;
  }

  leave(): void {
    this.counted[0]--;
    if (this.count === 0) for (const call of this.onIdle) call();
  }
}

/** What the audit (`-audit`) says of one request; by itself, the status that it is answered with. */
export interface RequestNotes {
  /** Something that is done for it. */
  also(method: string, path: string, status: number): void;
  /**
   * To be called in the request's handler by who will say himself how it ended, once: the status of a long
   * answer is written before that is known. 0: the client has gone before.
   */
  own(): (target: string, status: number) => void;
}

/** A target that nobody has parsed yet. */
export const NOT_PARSED = -1;

export interface FrontContext {
  readonly vault: Vault;
  /** null: a single node. */
  readonly cluster: ClusterAccess | null;
  readonly log: FrontLog;
  readonly meter: Meter;
  readonly pacer: Pacer;
  readonly inFlight: InFlight;
  readonly maxValueBytes: number;
  /** Scratch of the request at hand; no one keeps it across an event. */
  readonly key: KeyBytes;
  /** What the request at hand asks for, where access has parsed it; else NOT_PARSED. See `targetOf`. */
  target: number;
  /** Whose token the request at hand carries: who goes on after an event keeps it. */
  caller: Token;
  /** Whether what came with a token may go on: it is still what it was then, and its time not over. */
  mayGoOn: (token: Token) => boolean;
  /** Of the request at hand, as `caller`; null: nothing is noted. */
  notes: RequestNotes | null;
  /** Whether a token is needed, so that answers depend on it. */
  readonly varies: boolean;
  /** Answers travel by TLS. */
  readonly encrypts: boolean;
  /** A PUT replaces nothing (`-compat mkv`). */
  readonly writesOnce: boolean;
  /** Answers a write, and its status. */
  readonly answerWrite: typeof sendWriteResult;
  stopping: boolean;
}

/** What the request at hand asks for; its key is in `context.key` then. */
export function targetOf(context: FrontContext, req: Req): number {
  return context.target === NOT_PARSED ? parseTarget(req.getUrl(), context.key) : context.target;
}
