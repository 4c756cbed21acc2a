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

export const TTL_SECONDS_DEFAULT = 10;
/** Shorter ones would end between two renewals on a busy machine. */
export const TTL_SECONDS_MIN = 1;
/** Of the lease: how often it is renewed, and how early it counts as lost when that does not succeed. */
const RENEWALS = 3;
const MARGIN_FRACTION = 0.1;
/** Timers take no more than 24.8 days. */
export const TIMER_MS_MAX = 86_400_000;
const ASK_AGAIN_MS = 250;

/**
 * What a lock needs of a client. What the node answers is thrown as the errors of this library, and so is
 * that nobody has answered.
 */
export interface LeaseStore {
  create: (key: string, value: unknown, lease: { ttlMs: number } & Signalled) => Promise<{ etag: string }>;
  getEntry: (key: string, options: Signalled) => Promise<Pick<Entry, "value" | "etag"> | undefined>;
  /** Gives the value of that version so long a life from now on; answers its new version. */
  renew: (key: string, etag: string, lease: { ttlMs: number; longestMs: number }) => Promise<string>;
  /** Deletes the value of that version. */
  release: (key: string, etag: string) => Promise<unknown>;
}

/** The methods of a client that make one. */
interface Client {
  create: (key: string, value: unknown, options: CreateOptions) => Promise<{ etag: string }>;
  getEntry: (key: string, options: Signalled) => Promise<Entry | undefined>;
  delete: (key: string, options: { ifMatch: string; once: false }) => Promise<unknown>;
}

interface CreateOptions extends Signalled {
  ttl: string;
  once: false;
}

/** A client as a lock needs it: nothing is sent twice by itself, since the lock knows its own value. */
export function leasesOf(client: Client, requests: Requests): LeaseStore {
  return {
    create: (key, value, { ttlMs, ...signalled }) =>
      client.create(key, value, { ttl: `${ttlMs}ms`, once: false, ...signalled }),
    getEntry: (key, options) => client.getEntry(key, options),
    async renew(key, etag, { ttlMs, longestMs }) {
      const path = `${pathOf("_kv", key)}${queryOf({ ttl: `${ttlMs}ms` })}`;
      const headers = { "If-Match": etag };
      const signal = signalOf(longestMs);
      const answer = await requests.send({ method: "PATCH", path, headers, writes: true, signal });
      return answer.headers.get("etag") ?? etag;
    },
    release: (key, ifMatch) => client.delete(key, { ifMatch, once: false }),
  };
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
  /** So long before its end it counts as lost, when it could not be renewed. */
  readonly marginMs: number;
  private readonly store: LeaseStore;
  private readonly ttlMs: number;
  private readonly id: string;
  private readonly lost = new AbortController();
  private etag: string;
  /** By the monotonic clock. */
  private untilMs: number;
  /** For the next renewal, and for its end. */
  private next: Timer;
  private end: Timer;
  private renewing: Promise<void> = Promise.resolve();
  private isReleased = false;

  private constructor(store: LeaseStore, key: string, ttlMs: number, content: Content, lease: Lease) {
    this.key = key;
    this.token = lease.etag.replaceAll('"', "");
    this.marginMs = ttlMs * MARGIN_FRACTION;
    this.store = store;
    this.ttlMs = ttlMs;
    this.id = content.id;
    this.etag = lease.etag;
    this.untilMs = lease.untilMs;
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
    this.stop();
    // Otherwise the version that it makes would stay.
    await this.renewing;
    if (this.lost.signal.aborted) return;
    try {
      await this.store.release(this.key, this.etag);
    } catch (error) {
      if (!(error instanceof MinivaultError)) throw error;
    }
  }

  /** @throws LockedError when somebody else holds it, after `waitMs` */
  static async acquire(store: LeaseStore, key: string, options: LockOptions): Promise<Lock> {
    const { ttl = TTL_SECONDS_DEFAULT, waitMs = 0, holder = null, signal } = options;
    if (!(ttl >= TTL_SECONDS_MIN)) throw new RangeError("a lock is held for a second at least");
    const ttlMs = Math.round(ttl * 1000);
    const content: Content = { id: randomName(), holder, since: new Date().toISOString() };
    const sinceMs = performance.now();
    for (;;) {
      const lease = await take(store, key, ttlMs, content, signal);
      const lock = lease === null ? null : new Lock(store, key, ttlMs, content, lease);
      if (lock !== null && (await lock.begin())) return lock;
      const leftMs = waitMs - (performance.now() - sinceMs);
      if (leftMs <= 0)
        throw new LockedError(`${key} is held by somebody else`, { status: 409, code: "locked" });
      await sleep(Math.min(ASK_AGAIN_MS, leftMs), signal);
    }
  }

  /** How often it is renewed, and how long that may take. */
  private get renewMs(): number {
    return this.ttlMs / RENEWALS;
  }

  /** How long it is surely held yet, without the margin. */
  private get leftMs(): number {
    return this.untilMs - this.marginMs - performance.now();
  }

  /** False: it was taken, and is over, before the answer was here. */
  private async begin(): Promise<boolean> {
    try {
      if (this.leftMs <= 0) await this.prolong();
    } catch (error) {
      if (error instanceof LockedError) return false;
      throw error;
    }
    this.watch();
    this.plan(this.renewMs);
    return true;
  }

  private plan(afterMs: number): void {
    this.next = timer(afterMs, () => {
      this.renewing = this.renew();
    });
  }

  /** Waits for the lease to be nearly over, whatever becomes of what renews it. */
  private watch(): void {
    clearTimeout(this.end);
    this.end = timer(this.leftMs, () => {
      if (this.leftMs <= 0) this.lose();
      else this.watch();
    });
  }

  private async renew(): Promise<void> {
    let nextMs = this.renewMs;
    try {
      await this.prolong();
    } catch (error) {
      if (error instanceof LockedError) {
        this.lose();
        return;
      }
      // Nobody can be reached: there is time until it ends.
      nextMs = ASK_AGAIN_MS;
    }
    if (!this.isHeld) return;
    this.watch();
    this.plan(nextMs);
  }

  private lose(): void {
    if (!this.isHeld) return;
    this.stop();
    this.lost.abort(lockLost(this.key));
  }

  private stop(): void {
    clearTimeout(this.next);
    clearTimeout(this.end);
  }

  private async prolong(): Promise<void> {
    const { store, key, ttlMs, renewMs: longestMs } = this;
    const startMs = performance.now();
    try {
      this.etag = await store.renew(key, this.etag, { ttlMs, longestMs });
      this.untilMs = startMs + ttlMs;
    } catch (error) {
      if (error instanceof NotFoundError) throw lockLost(key);
      if (!(error instanceof PreconditionFailedError)) throw error;
      // An earlier renewal may have been done, and its answer lost.
      const entry = await store.getEntry(key, { signal: signalOf(longestMs) });
      if (entry === undefined || !isOwn(entry, this.id)) throw lockLost(key);
      this.etag = entry.etag;
      throw error;
    }
  }
}

type Timer = ReturnType<typeof setTimeout> | undefined;

/** Fires then, or after the longest that a timer can. A lock alone keeps no process from ending. */
function timer(ms: number, then: () => void): Timer {
  const started = setTimeout(then, Math.max(0, Math.min(ms, TIMER_MS_MAX)));
  (started as { unref?: () => void }).unref?.();
  return started;
}

function signalOf(ms: number): AbortSignal {
  return AbortSignal.timeout(Math.ceil(Math.min(ms, TIMER_MS_MAX)));
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
  store: LeaseStore,
  key: string,
  ttlMs: number,
  content: Content,
  signal: AbortSignal | undefined,
): Promise<Lease | null> {
  const untilMs = performance.now() + ttlMs;
  const signalled = signal === undefined ? {} : { signal };
  try {
    const { etag } = await store.create(key, content, { ttlMs, ...signalled });
    return { etag, untilMs };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof MinivaultError)) throw error;
    // It may have been done, and only the answer be lost.
    const entry = await store.getEntry(key, signalled);
    if (entry !== undefined && isOwn(entry, content.id)) return { etag: entry.etag, untilMs };
    if (error instanceof ExistsError) return null;
    throw error;
  }
}

function isOwn({ value }: Pick<Entry, "value">, id: string): boolean {
  return typeof value === "object" && value !== null && (value as Partial<Content>).id === id;
}
