/**
 * Ends of life on the own replica. Its shards mark what has ended, in bounded steps, up to the time that they
 * are told here: cluster time, once a majority's clocks were heard, and while the replica votes. So most ends
 * are marked by each replica for itself, without a word between nodes.
 *
 * A shard cannot mark under a promise above the value: somebody may be about to build on it. Mostly a write
 * follows soon. Where none does, the key is settled by a full round. (That the others tell it as ended does
 * not help: they agree without this replica, and it would keep the value for good.)
 */
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { nameOf } from "../../util/bytes.ts";
import type { Coordinator } from "../coordinator/coordinator.ts";
import { clusterKey } from "../replica/cluster-key.ts";

/** How long what cannot be marked is left alone. */
export const SETTLE_MS = 10_000;
/** Between two questions to the shards. */
const ASK_MS = 1000;
/** What the shards have not met for so long is not stuck any more. */
const GONE_MS = 3 * ASK_MS;
/** Keys of one answer of a shard, and keys that wait. */
const KEYS_MAX = 256;
const WAITING_MAX = 4096;
/** Keys that are settled at once. */
const WINDOW = 16;

export interface EndsSetup {
  vault: { replica: Pick<LocalVault["replica"], "setEndTime" | "overdue"> };
  coordinator: Pick<Coordinator, "settle">;
  /** Up to when the own shards may mark, in ms since 1970; 0: not at all. */
  endMillis: () => number;
  /** Monotonic milliseconds. */
  now: () => number;
}

export class Ends {
  private readonly setup: EndsSetup;
  /** Keys that could not be marked, as latin1, with when that was first met and last. */
  private readonly waiting = new Map<string, { key: Uint8Array; sinceMs: number; metMs: number }>();
  private readonly underWay = new Set<string>();
  private nextAskMs = 0;
  private asking = false;
  /** Keys that were settled by a round since the start of the process. */
  settled = 0;

  constructor(setup: EndsSetup) {
    this.setup = setup;
  }

  /** To be called some times a second. */
  tick(): void {
    const { vault, endMillis, now } = this.setup;
    const millis = endMillis();
    vault.replica.setEndTime(millis);
    const nowMs = now();
    if (millis === 0 || this.asking || nowMs < this.nextAskMs) return;
    this.asking = true;
    this.nextAskMs = nowMs + ASK_MS;
    vault.replica.overdue(KEYS_MAX, (keys) => {
      this.asking = false;
      this.take(keys);
    });
  }

  /** The own shards mark nothing any more. */
  stop(): void {
    this.setup.vault.replica.setEndTime(0);
    this.waiting.clear();
  }

  private take(keys: readonly Uint8Array[]): void {
    const nowMs = this.setup.now();
    for (const key of keys) {
      const name = nameOf(key);
      const known = this.waiting.get(name);
      if (known !== undefined) known.metMs = nowMs;
      else if (this.waiting.size < WAITING_MAX)
        this.waiting.set(name, { key: Uint8Array.from(key), sinceMs: nowMs, metMs: nowMs });
    }
    for (const [name, { key, sinceMs, metMs }] of this.waiting) {
      // The shard meets it again and again while it is so.
      if (nowMs - metMs > GONE_MS) this.waiting.delete(name);
      else if (nowMs - sinceMs >= SETTLE_MS && this.underWay.size < WINDOW) this.settle(name, key);
    }
  }

  private settle(name: string, key: Uint8Array): void {
    this.waiting.delete(name);
    this.underWay.add(name);
    this.setup.coordinator.settle(clusterKey(key), ({ outcome }) => {
      this.underWay.delete(name);
      if (outcome === "absent") this.settled++;
    });
  }
}
