/**
 * Batches that have a name, since what is in them must not be done twice: writes and changes that another
 * node hands on. A request may come twice all the same, as through a proxy that tries again. The second one
 * gets the answer of the first, now or when there is one.
 */

/** How long they are remembered, if there is room. With a key a request passes once anyway (replay.ts). */
const KEPT_MS = 60_000;
/** Bytes of the answers that are remembered, with what an entry takes beside them. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;
const ENTRY_BYTES = 200;

interface Entry {
  sinceMs: number;
  /** null: it is being made. */
  answer: Uint8Array | null;
  waiting: ((answer: Uint8Array) => void)[];
}

export class NamedBatches {
  /** By name, in order of time. */
  private readonly entries = new Map<string, Entry>();
  private readonly now: () => number;
  private bytes = 0;

  /** @param now milliseconds on a clock that only goes forward */
  constructor(now: () => number = () => performance.now()) {
    this.now = now;
  }

  /** Whether a batch comes for the first time; otherwise `reply` gets what the first one was answered. */
  begins(name: string, reply: (answer: Uint8Array) => void): boolean {
    const known = this.entries.get(name);
    if (known === undefined) {
      this.makeRoom();
      this.bytes += ENTRY_BYTES + name.length;
      this.entries.set(name, { sinceMs: this.now(), answer: null, waiting: [] });
      return true;
    }
    if (known.answer === null) known.waiting.push(reply);
    else reply(known.answer);
    return false;
  }

  ended(name: string, answer: Uint8Array): void {
    const entry = this.entries.get(name);
    if (entry === undefined) return;
    entry.answer = answer;
    this.bytes += answer.length;
    for (const reply of entry.waiting.splice(0)) reply(answer);
  }

  private makeRoom(): void {
    const nowMs = this.now();
    for (const [name, { sinceMs, answer }] of this.entries) {
      if (nowMs - sinceMs < KEPT_MS && this.bytes + ENTRY_BYTES <= KEPT_BYTES_MAX) return;
      this.entries.delete(name);
      this.bytes -= ENTRY_BYTES + name.length + (answer?.length ?? 0);
    }
  }
}
