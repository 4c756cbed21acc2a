/**
 * Who leads: the master that has put its name under the key `leader`, with a lease that it renews. The
 * revision at which the key was made is the number of its term; every write compares it (etcd-store.ts), so
 * that nothing of an earlier term takes effect once another one has begun.
 *
 * A term ends here before it ends at etcd: a lease is counted from the moment at which its renewal was sent,
 * and only for a part of its time, by whichever of two clocks has gone further (one stands still while a
 * machine sleeps, the other one can be set back).
 */
import { randomBytes } from "node:crypto";
import { type Gateway, type Kept, Refused } from "./gateway.ts";
import { decodeLeader, encodeValue, type Keys, type Leader } from "./keys.ts";

/** A master that is gone is replaced after so long. */
const LEASE_S = 5;
/** The share of a lease for which its holder counts on it. */
const COUNTED_SHARE = 0.8;
/** Renewals in the time of a lease. */
const RENEWALS = 5;

/** Milliseconds of a clock that only goes forward, and of the wall's. */
export interface Clocks {
  monotonic: () => number;
  wall: () => number;
}

const CLOCKS: Clocks = { monotonic: () => performance.now(), wall: () => Date.now() };

/** What is in etcd. */
export interface View {
  leader: Leader | null;
  state: Kept | null;
}

/** What a master found when its term began. */
export interface Won {
  term: Term;
  state: Kept | null;
  lives: Kept | null;
}

export interface CampaignSetup {
  gateway: Gateway;
  keys: Keys;
  /** This master's URL. */
  url: () => string;
  leaseSeconds?: number;
  clocks?: Clocks;
}

export class Campaign {
  /** Drawn for this run: two masters that say the same URL are two all the same. */
  readonly id = randomBytes(16).toString("hex");
  private readonly setup: CampaignSetup;

  constructor(setup: CampaignSetup) {
    this.setup = setup;
  }

  /**
   * Who leads now.
   * @param seen the revision of the state that is known; the value of that one is not fetched again
   */
  async look(seen: string | null): Promise<View & { isSeen: boolean }> {
    const { gateway, keys } = this.setup;
    const looked = await gateway.transact(
      [],
      [{ range: keys.leader }, { range: keys.state, keysOnly: true }],
    );
    const [leader, state] = looked.found;
    const isSeen = (state?.modRevision ?? null) === seen;
    const whole =
      isSeen || state === null ? state : (await gateway.transact([], [{ range: keys.state }])).found[0];
    return { leader: leader === null ? null : decodeLeader(keys.leader, leader.value), state: whole, isSeen };
  }

  /** Tries to become the leader; null: another one is. */
  async win(): Promise<Won | null> {
    const { gateway, keys, url } = this.setup;
    const clocks = this.setup.clocks ?? CLOCKS;
    const deadline = new Deadline(clocks);
    const { lease, ttlMs } = await gateway.grant(this.setup.leaseSeconds ?? LEASE_S);
    deadline.extend(ttlMs);
    try {
      const name = encodeValue({ url: url(), id: this.id, lease });
      const reads = [{ range: keys.leader }, { range: keys.state }, { range: keys.lives }];
      const { found } = await gateway.transact(
        [{ key: keys.leader, target: "CREATE", revision: "0" }],
        [{ put: keys.leader, value: name, lease }, ...reads],
        reads,
      );
      const [leader, state, lives] = found.slice(-reads.length);
      // Sent twice, the second time finds what the first one has put.
      if (leader?.value.equals(name)) {
        const term = new Term({ gateway, lease, deadline, revision: leader.createRevision });
        return { term, state, lives };
      }
    } catch (error) {
      await gateway.revoke(lease).catch(() => {});
      throw error;
    }
    await gateway.revoke(lease);
    return null;
  }
}

/** Until when a lease is counted on. */
class Deadline {
  private readonly clocks: Clocks;
  private sent: { monotonic: number; wall: number };
  private counted = { monotonic: 0, wall: 0 };
  private countedMs = 0;

  constructor(clocks: Clocks) {
    this.clocks = clocks;
    this.sent = this.now();
  }

  /** A renewal is sent. */
  mark(): void {
    this.sent = this.now();
  }

  /** It was answered: the lease holds for so long from there. */
  extend(ttlMs: number): void {
    this.counted = this.sent;
    this.countedMs = ttlMs * COUNTED_SHARE;
  }

  get leftMs(): number {
    const { monotonic, wall } = this.now();
    const elapsedMs = Math.max(monotonic - this.counted.monotonic, wall - this.counted.wall);
    return this.countedMs - elapsedMs;
  }

  private now(): { monotonic: number; wall: number } {
    return { monotonic: this.clocks.monotonic(), wall: this.clocks.wall() };
  }
}

export interface TermSetup {
  gateway: Gateway;
  lease: string;
  deadline: Deadline;
  revision: string;
}

/** The time for which this master leads. Over once, it is over for good. */
export class Term {
  /** At which the key of the leader was made. */
  readonly revision: string;
  private readonly setup: TermSetup;
  private ended: string | null = null;

  constructor(setup: TermSetup) {
    this.setup = setup;
    this.revision = setup.revision;
  }

  /** Milliseconds for which it still can be counted on; 0: it is over. */
  get leftMs(): number {
    if (this.ended === null && this.setup.deadline.leftMs <= 0)
      this.end("its lease was not renewed in time: etcd did not answer, or this process stood still");
    return this.ended === null ? this.setup.deadline.leftMs : 0;
  }

  get isOver(): boolean {
    return this.leftMs <= 0;
  }

  /** Why it is over; null: it is not. */
  get reason(): string | null {
    return this.isOver ? this.ended : null;
  }

  /** How long to wait before the next renewal. */
  get pauseMs(): number {
    return this.leftMs / RENEWALS;
  }

  /** Is said once, by whoever knows it first. */
  end(reason: string): void {
    this.ended ??= reason;
  }

  /** Renews the lease. Rejects where etcd does not answer; the term goes on as long as its lease. */
  async renew(): Promise<void> {
    const { gateway, lease, deadline } = this.setup;
    deadline.mark();
    const ttlMs = await gateway.renew(lease);
    // Whatever came too late does not bring it back.
    if (this.isOver) return;
    if (ttlMs > 0) deadline.extend(ttlMs);
    else this.end("its lease is gone");
  }

  /** Gives the lease up, so that another one can lead at once. */
  async resign(): Promise<void> {
    this.end("it was given up");
    try {
      await this.setup.gateway.revoke(this.setup.lease);
    } catch (error) {
      // It ends by itself.
      if (error instanceof Refused) throw error;
    }
  }
}
