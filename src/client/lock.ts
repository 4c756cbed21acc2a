/**
 * A lock: a value with an end of life, created only where there is none, and renewed as long as it is held.
 * Who loses it all the same (its machine slept, the network was gone) is told by `signal`; what it wrote
 * meanwhile can be told apart by `token`, which rises from holder to holder.
 */

import type { Entry, LockOptions, Signalled } from "./options/options.ts";
import { sleep } from "./transport/attempt-clock.ts";
import {
  ExistsError,
  LockedError,
  MinivaultError,
  NotFoundError,
  PreconditionFailedError,
} from "./transport/errors.ts";
import { pathOf, queryOf } from "./transport/paths.ts";
import { type Requests, randomName } from "./transport/requests.ts";

const TTL_SECONDS_DEFAULT = 10;
/** Shorter ones would end between two renewals on a busy machine. */
const TTL_SECONDS_MIN = 1;
/** Of the lease: how often it is renewed, and how early it counts as lost when that does not succeed. */
const RENEWALS = 3;
const MARGIN_FRACTION = 0.1;
/** Timers take no more than 24.8 days. */
const RENEW_MS_MAX = 86_400_000;
const ASK_AGAIN_MS = 250;

/** What a lock needs of a client. */
export interface Store {
  create: (key: string, value: unknown, options: CreateOptions) => Promise<{ etag: string }>;
  getEntry: (key: string, options: Signalled) => Promise<Entry | undefined>;
  delete: (key: string, options: { ifMatch: string; once: false }) => Promise<unknown>;
}

interface CreateOptions extends Signalled {
  ttl: number;
  once: false;
}

interface Content {
  id: string;
  holder: unknown;
  since: string;
}

export class Lock {
  readonly key: string;
  /**
   * Rises from holder to holder, in order of its letters: what keeps the highest that it has met can refuse
   * the others.
   */
  readonly token: string;
  private readonly store: Store;
  private readonly requests: Requests;
  private readonly ttlMs: number;
  private readonly id: string;
  private readonly lost = new AbortController();
  private etag: string;
  /** By the monotonic clock. */
  private untilMs: number;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private isReleased = false;

  private constructor(
    store: Store,
    requests: Requests,
    key: string,
    ttlMs: number,
    content: Content,
    lease: Lease,
  ) {
    this.key = key;
    this.token = lease.etag.replaceAll('"', "");
    this.store = store;
    this.requests = requests;
    this.ttlMs = ttlMs;
    this.id = content.id;
    this.etag = lease.etag;
    this.untilMs = lease.untilMs;
    this.plan(this.renewMs);
  }

  /** Ends what is done under the lock: it is lost, or about to be. */
  get signal(): AbortSignal {
    return this.lost.signal;
  }

  get isHeld(): boolean {
    return !this.isReleased && !this.lost.signal.aborted;
  }

  /** Gives it back. Where that does not succeed it ends by itself. */
  async release(): Promise<void> {
    if (this.isReleased) return;
    this.isReleased = true;
    clearTimeout(this.timer);
    if (this.lost.signal.aborted) return;
    try {
      await this.store.delete(this.key, { ifMatch: this.etag, once: false });
    } catch (error) {
      if (!(error instanceof MinivaultError)) throw error;
    }
  }

  /** @throws LockedError when somebody else holds it, after `waitMs` */
  static async acquire(store: Store, requests: Requests, key: string, options: LockOptions): Promise<Lock> {
    const { ttl = TTL_SECONDS_DEFAULT, waitMs = 0, holder = null, signal } = options;
    if (!(ttl >= TTL_SECONDS_MIN)) throw new RangeError("a lock is held for a second at least");
    const content: Content = { id: randomName(), holder, since: new Date().toISOString() };
    const sinceMs = performance.now();
    for (;;) {
      const lease = await take(store, key, ttl, content, signal);
      if (lease !== null) return new Lock(store, requests, key, ttl * 1000, content, lease);
      const leftMs = waitMs - (performance.now() - sinceMs);
      if (leftMs <= 0)
        throw new LockedError(`${key} is held by somebody else`, { status: 409, code: "locked" });
      await sleep(Math.min(ASK_AGAIN_MS, leftMs), signal);
    }
  }

  /** How long it is surely held yet, without the margin. */
  private get leftMs(): number {
    return this.untilMs - this.ttlMs * MARGIN_FRACTION - performance.now();
  }

  private get renewMs(): number {
    return Math.min(this.ttlMs / RENEWALS, RENEW_MS_MAX);
  }

  /** @param afterMs when it is renewed, at the latest when there is nothing left */
  private plan(afterMs: number): void {
    this.timer = setTimeout(() => void this.renew(), Math.max(0, Math.min(afterMs, this.leftMs)));
    // A lock alone keeps no process from ending.
    (this.timer as { unref?: () => void }).unref?.();
  }

  private async renew(): Promise<void> {
    const startMs = performance.now();
    let isGone = this.leftMs <= 0;
    let nextMs = this.renewMs;
    try {
      if (!isGone) await this.prolong(Math.min(nextMs, this.leftMs));
      this.untilMs = startMs + this.ttlMs;
    } catch (error) {
      // Nobody can be reached: there is time until it ends.
      isGone = error instanceof LockedError || this.leftMs <= 0;
      nextMs = ASK_AGAIN_MS;
    }
    if (this.isReleased) return;
    if (isGone) this.lost.abort(lockLost(this.key));
    else this.plan(nextMs);
  }

  private async prolong(longestMs: number): Promise<void> {
    const path = `${pathOf("_kv", this.key)}${queryOf({ ttl: `${this.ttlMs}ms` })}`;
    const signal = AbortSignal.timeout(Math.ceil(longestMs));
    try {
      const headers = { "If-Match": this.etag };
      const answer = await this.requests.send({ method: "PATCH", path, headers, writes: true, signal });
      this.etag = answer.headers.get("etag") ?? this.etag;
    } catch (error) {
      if (error instanceof NotFoundError) throw lockLost(this.key);
      if (!(error instanceof PreconditionFailedError)) throw error;
      // An earlier renewal may have been done, and its answer lost.
      const entry = await this.store.getEntry(this.key, { signal });
      if (entry === undefined || !isOwn(entry, this.id)) throw lockLost(this.key);
      this.etag = entry.etag;
      throw error;
    }
  }
}

function lockLost(key: string): LockedError {
  return new LockedError(`the lock ${key} is lost`, { status: 409, code: "lock_lost" });
}

/** A lock that is held: its version, and until when it surely is. */
interface Lease {
  etag: string;
  untilMs: number;
}

/** Null: somebody else holds it. */
async function take(
  store: Store,
  key: string,
  ttl: number,
  content: Content,
  signal: AbortSignal | undefined,
): Promise<Lease | null> {
  const startMs = performance.now();
  const more = signal === undefined ? {} : { signal };
  try {
    const { etag } = await store.create(key, content, { ttl, once: false, ...more });
    return { etag, untilMs: startMs + ttl * 1000 };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof MinivaultError)) throw error;
    // It may have been done, and only the answer be lost.
    const entry = await store.getEntry(key, more);
    if (entry !== undefined && isOwn(entry, content.id))
      return { etag: entry.etag, untilMs: startMs + ttl * 1000 };
    if (error instanceof ExistsError) return null;
    throw error;
  }
}

function isOwn({ value }: Entry, id: string): boolean {
  return typeof value === "object" && value !== null && (value as Partial<Content>).id === id;
}
