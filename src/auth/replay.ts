/**
 * Remembers which signed requests were seen, so that none is taken twice. A nonce is (sender, sequence): a
 * random name for each start of a process, and a number that it counts up. So each sender needs one sliding
 * bitmap, whatever its rate (the anti-replay window of IPsec, RFC 4303 section 3.4.3, with the block-wise
 * clearing of RFC 6479), where a set of random nonces would grow with every request.
 *
 * Invariants: what is not surely new is refused, also when it is merely too old for the bitmap or when there
 * is no room for another sender; a sender is forgotten only after every signature of its that was taken is
 * too old by the clock.
 */

/** How far a sender's sequence may run ahead of a request that is still on its way. */
export const REPLAY_WINDOW_REQUESTS = 16 * 1024;
/** Senders known at once: 2 KiB each. */
const REPLAY_SENDERS_MAX = 4096;

const WORD_BITS = 32;
/** One word more than the window: the word that is being filled is never the one that is being cleared. */
const WORDS = REPLAY_WINDOW_REQUESTS / WORD_BITS + 1;

interface Sender {
  highest: number;
  /** Bit `sequence % (WORDS * WORD_BITS)`, in words. */
  bits: Uint32Array;
  /** When a request of it was last taken. */
  takenMs: number;
}

export type ReplayVerdict = "new" | "seen" | "old" | "full";

export class ReplayGuard {
  private readonly senders = new Map<string, Sender>();
  private readonly forgetMs: number;
  private readonly sendersMax: number;

  /** @param forgetMs time after which a signature that was taken cannot hold any more */
  constructor(forgetMs: number, sendersMax = REPLAY_SENDERS_MAX) {
    this.forgetMs = forgetMs;
    this.sendersMax = sendersMax;
  }

  /** Senders remembered. */
  get size(): number {
    return this.senders.size;
  }

  /**
   * Takes a nonce; only "new" lets the request pass. To be called only once its signature holds, so that
   * strangers cannot fill the table.
   * @param nowMs a clock that only goes forward
   */
  take(sender: string, sequence: number, nowMs: number): ReplayVerdict {
    let known = this.senders.get(sender);
    if (known === undefined) {
      if (this.senders.size >= this.sendersMax) this.forget(nowMs);
      if (this.senders.size >= this.sendersMax) return "full";
      known = { highest: sequence, bits: new Uint32Array(WORDS), takenMs: nowMs };
      this.senders.set(sender, known);
    }
    const verdict = mark(known, sequence);
    if (verdict === "new") known.takenMs = nowMs;
    return verdict;
  }

  private forget(nowMs: number): void {
    for (const [name, sender] of this.senders)
      if (nowMs - sender.takenMs > this.forgetMs) this.senders.delete(name);
  }
}

function mark(sender: Sender, sequence: number): ReplayVerdict {
  const word = Math.floor(sequence / WORD_BITS);
  if (sequence > sender.highest) {
    const highestWord = Math.floor(sender.highest / WORD_BITS);
    const cleared = Math.min(word - highestWord, WORDS);
    for (let step = 1; step <= cleared; step++) sender.bits[(highestWord + step) % WORDS] = 0;
    sender.highest = sequence;
  } else if (sender.highest - sequence >= REPLAY_WINDOW_REQUESTS) {
    return "old";
  }
  const bit = 1 << (sequence % WORD_BITS);
  if ((sender.bits[word % WORDS] & bit) !== 0) return "seen";
  sender.bits[word % WORDS] |= bit;
  return "new";
}
