/**
 * Requests until one is answered: failover to other nodes, and again after a while, as far as that is safe.
 *
 * What is asked again after an answer was lost: reads, and writes under an `Idempotency-Key`, if the node
 * says that it knows such keys (`features` of `GET /`): then they take effect once. Any other write only
 * where it is sure that nothing was done: no connection came about, or a node has refused it with a word that
 * says so.
 */

import { AttemptClock, pause } from "./attempt-clock.ts";
import { errorOfAnswer, MinivaultError, NetworkError, UnknownOutcomeError } from "./errors.ts";
import type { Fetch, Node, Nodes } from "./nodes.ts";
import type { Body } from "./values.ts";
import { afterUnclear, isForgetting, isNodes, verdictOf } from "./verdicts.ts";

/** How often a request that failed is sent again, at most. */
export const RETRIES_DEFAULT = 5;
/** How long a node may take until its answer begins. */
export const ATTEMPT_MS_DEFAULT = 10_000;

const IDEMPOTENCY_KEY = "Idempotency-Key";
const FEATURE = "idempotency-key";

/**
 * How long after its first attempt a write is sent again: nodes know its key for twice as long, and what is
 * sent may be late.
 */
const KNOWN_MS = 5 * 60_000;

/** Why no connection came about, in the words of Node.js. */
const NOT_SENT: ReadonlySet<string> = new Set([
  ...["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT"],
]);

export interface Call {
  method: string;
  /** With its query. */
  path: string;
  headers?: Readonly<Record<string, string>>;
  body?: Body | null;
  /** It changes something. */
  writes?: boolean;
  /** What the write is known by; null: nothing. */
  once?: string | null;
  /** Each write in its body has a key of its own, and their order is nothing to anyone. */
  isKeyed?: boolean;
  /** The key is the caller's own: the write is not done without it. */
  needsOnce?: boolean;
  /** When the first attempt at it began (Date.now), where that was in an earlier call. */
  sinceMs?: number;
  /** The answer's body says what its status does not. */
  needsBody?: boolean;
  signal?: AbortSignal | undefined;
  /** Statuses beside 2xx that are answers. */
  expected?: readonly number[];
  /** The answer's body is read by the caller, as it comes. */
  streams?: boolean;
}

export interface Answer {
  status: number;
  headers: Headers;
  /** Empty where it streams. */
  bytes: Uint8Array;
  stream: ReadableStream<Uint8Array> | null;
  /** Who has answered. */
  node: Node;
  /** An earlier attempt at the write may have been done. */
  isAgain: boolean;
}

type Reply = Omit<Answer, "node" | "isAgain">;

export interface RequestSettings {
  headers: Readonly<Record<string, string>>;
  retries: number;
  attemptMs: number;
}

const NOTHING = new Uint8Array(0);

export class Requests {
  readonly nodes: Nodes;
  private readonly fetch: Fetch;
  private readonly settings: RequestSettings;
  /** The nodes know idempotency keys. */
  private knows = false;
  /** A cluster, or a directory, of an earlier format keeps none. */
  private keepsKeys = true;

  constructor(nodes: Nodes, fetch: Fetch, settings: RequestSettings) {
    this.nodes = nodes;
    this.fetch = fetch;
    this.settings = settings;
  }

  /** How often a request that failed is sent again. */
  get retries(): number {
    return this.settings.retries;
  }

  /** Whether writes are to have keys: what is kept here may have no place for them. */
  get takesKeys(): boolean {
    return this.keepsKeys;
  }

  /** What is kept here has no place for keys. */
  keepsNoKeys(): void {
    this.keepsKeys = false;
  }

  /** Sends a request until it is answered. Throws a MinivaultError, or the reason of the signal. */
  async send(given: Call): Promise<Answer> {
    const call = this.keepsKeys || given.needsOnce === true ? given : { ...given, once: null };
    const sinceMs = call.sinceMs ?? Date.now();
    const tried = new Set<Node>();
    let isAgain = false;
    for (let attempt = 0; ; attempt++) {
      call.signal?.throwIfAborted();
      const node = this.nodes.choose(tried);
      if (tried.has(node)) await pause(attempt, call.signal);
      tried.add(node);
      try {
        const answer = await this.attempt(node, call);
        this.nodes.answered(node);
        return { ...answer, node, isAgain };
      } catch (error) {
        call.signal?.throwIfAborted();
        if (!(error instanceof MinivaultError)) throw error;
        if (!isAgain && this.forgetsKeys(call, error)) continue;
        if (isNodes(error)) this.nodes.failed(node);
        const verdict = verdictOf(error);
        const last = isAgain ? afterUnclear(error) : error;
        isAgain ||= call.writes === true && verdict === "unclear";
        if (attempt >= this.retries || call.body?.bytes === null || verdict === "lasting") throw last;
        if (isAgain && !(await this.isKnown(call, sinceMs))) throw last;
      }
    }
  }

  /** Goes on without a key where the node cannot keep it: it has done nothing. */
  private forgetsKeys(call: Call, error: MinivaultError): boolean {
    // A key that has had too many of them takes writes without.
    if (!call.once || call.needsOnce === true || !isForgetting(error)) return false;
    call.once = null;
    if (error.code === "upgrade_first") this.keepsKeys = false;
    return true;
  }

  /** Whether a write of which an attempt may have been done is known when it comes again. */
  private async isKnown({ once, isKeyed, signal }: Call, sinceMs: number): Promise<boolean> {
    return (typeof once === "string" || isKeyed === true) && isRecent(sinceMs) && this.knowsKeys(signal);
  }

  /**
   * Whether the nodes, which are of one cluster, know idempotency keys: that is asked once where it is so.
   * What does not say so does not.
   */
  async knowsKeys(signal: AbortSignal | undefined): Promise<boolean> {
    if (this.knows) return true;
    try {
      const { bytes } = await this.send({
        method: "GET",
        path: "/",
        headers: { Accept: "application/json" },
        signal,
      });
      const { features } = JSON.parse(new TextDecoder().decode(bytes)) as { features?: unknown };
      this.knows = Array.isArray(features) && features.includes(FEATURE);
    } catch {
      // Then nobody knows.
    }
    return this.knows;
  }

  /** One request to one node. Throws a MinivaultError for every answer that is not expected. */
  private async attempt(node: Node, call: Call): Promise<Reply> {
    const clock = new AttemptClock(call, this.settings.attemptMs);
    try {
      const answer = await this.fetch(node.url + call.path, this.optionsOf(call, clock.signal));
      clock.begun();
      const { status, headers } = answer;
      const isExpected = answer.ok || call.expected?.includes(status) === true;
      if (isExpected && call.streams === true)
        return { status, headers, bytes: NOTHING, stream: answer.body ?? new Blob([]).stream() };
      const bytes = await bodyOf(answer, call);
      if (isExpected) return { status, headers, bytes, stream: null };
      throw errorOfAnswer(status, headers.get("etag"), new TextDecoder().decode(bytes));
    } catch (cause) {
      if (cause instanceof MinivaultError) throw cause;
      throw lost(node, call, cause, clock.isOver);
    } finally {
      clock.end();
    }
  }

  private optionsOf(call: Call, signal: AbortSignal): RequestInit {
    const { method, body = null, once } = call;
    const headers: Record<string, string> = { ...this.settings.headers, ...call.headers };
    if (body !== null) headers["Content-Type"] = body.type;
    if (typeof once === "string") headers[IDEMPOTENCY_KEY] = once;
    return {
      ...{ method, headers, signal },
      ...(body === null ? {} : { body: body.content as RequestInit["body"] }),
      // A stream can only be sent so.
      ...(body?.bytes === null ? { duplex: "half" } : {}),
    } as RequestInit;
  }
}

/** Reads an answer's body. Where a write was done, its status says so without it. */
async function bodyOf(answer: Response, call: Call): Promise<Uint8Array> {
  try {
    return new Uint8Array(await answer.arrayBuffer());
  } catch (error) {
    if (call.writes === true && answer.ok && call.needsBody !== true) return NOTHING;
    throw error;
  }
}

/** No answer came, or not all of it. */
function lost(node: Node, call: Call, cause: unknown, isOver: boolean): MinivaultError {
  const code = isOver ? "timeout" : "network";
  const detail = isOver ? "has not answered in time" : reasonOf(cause);
  const facts = { status: 0, code, cause };
  if (call.writes !== true || (!isOver && wasNotSent(cause)))
    return new NetworkError(`${node.url}: ${detail}`, facts);
  const message = `${node.url}: ${detail}; ${call.method} ${call.path} may have been done`;
  return new UnknownOutcomeError(message, facts);
}

function wasNotSent(error: unknown): boolean {
  const { cause, code } = (error ?? {}) as { cause?: unknown; code?: unknown };
  if (typeof code === "string" && NOT_SENT.has(code)) return true;
  return cause !== undefined && cause !== error && wasNotSent(cause);
}

function reasonOf(error: unknown): string {
  const { cause, message } = (error ?? {}) as {
    cause?: { message?: string; code?: string };
    message?: string;
  };
  return cause?.code ?? (cause?.message || message || String(error));
}

/** Whether nodes know what was sent first at that time, and still will when it comes again. */
export function isRecent(sinceMs: number): boolean {
  const ageMs = Date.now() - sinceMs;
  // A clock that was set back says nothing.
  return ageMs >= 0 && ageMs < KNOWN_MS;
}

/** A name that nobody else draws; pages without https have this much of crypto, too. */
export function randomName(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
