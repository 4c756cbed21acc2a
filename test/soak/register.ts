/**
 * What one client knows of a key, or of a counter, that nobody else writes: what was acknowledged, and writes whose outcome nobody told, which
 * may have happened, may happen later, or never. What is read has to be one of these. Pure: times are given.
 */

/** An end of life is told by the nodes' clock, with this much of doubt. */
export const CLOCK_MS_MAX = 2000;
/**
 * So long after it was sent a write may still happen: a process stands still for seconds, and nothing in a node waits longer than its own
 * deadlines. One that is older than a later acknowledged write by so much has happened before it, or never.
 */
export const LATE_MS_MAX = 120_000;

interface State {
  /** null: no value. */
  value: string | null;
  /** It ends not before the first, and not after the second. */
  endsFromMs: number;
  endsToMs: number;
}

interface Loose extends State {
  sentMs: number;
}

const ABSENT: State = { value: null, endsFromMs: Infinity, endsToMs: Infinity };

export class Register {
  private certain = ABSENT;
  private loose: Loose[] = [];

  /** @param ttlMs null: it lives for ever */
  acknowledged(value: string | null, sentMs: number, answeredMs: number, ttlMs: number | null = null): void {
    this.certain = stateOf(value, sentMs, answeredMs, ttlMs);
    this.loose = this.loose.filter((one) => sentMs - one.sentMs < LATE_MS_MAX);
  }

  /** Nobody knows whether it was written, or will be. */
  unknown(value: string | null, sentMs: number, ttlMs: number | null = null): void {
    this.loose.push({ ...stateOf(value, sentMs, Infinity, ttlMs), sentMs });
  }

  /** Takes what was read, and answers what is wrong with it, or null. */
  read(value: string | null, askedMs: number, answeredMs: number): string | null {
    const { certain } = this;
    if (value === null) {
      const isOver = ({ value, endsFromMs }: State): boolean =>
        value === null || answeredMs >= endsFromMs - CLOCK_MS_MAX;
      // What has come to its end was seen to have: it may not come back.
      const isKnown = isOver(certain) || this.take(isOver);
      this.certain = ABSENT;
      return isKnown ? null : `nothing is there in place of ${certain.value}`;
    }
    const isIt = (state: State): boolean => state.value === value && askedMs <= state.endsToMs + CLOCK_MS_MAX;
    if (isIt(certain)) return null;
    const found = this.loose.find(isIt);
    if (found !== undefined && this.take(isIt)) {
      this.certain = found;
      return null;
    }
    const over = certain.value === value ? ", which has ended" : "";
    return `${value}${over} is there in place of ${certain.value ?? "nothing"}`;
  }

  /** A write happens once: one that was seen is not loose any more. */
  private take(is: (state: State) => boolean): boolean {
    const at = this.loose.findIndex(is);
    if (at >= 0) this.loose.splice(at, 1);
    return at >= 0;
  }
}

function stateOf(value: string | null, sentMs: number, answeredMs: number, ttlMs: number | null): State {
  if (ttlMs === null) return { value, endsFromMs: Infinity, endsToMs: Infinity };
  return { value, endsFromMs: sentMs + ttlMs, endsToMs: answeredMs + ttlMs };
}

/** A counter that is only ever increased by one. */
export class Counter {
  private certain = 0;
  private loose = 0;

  /** Answers what is wrong with what the increment made, or null. */
  acknowledged(value: number): string | null {
    this.certain++;
    return this.read(value);
  }

  unknown(): void {
    this.loose++;
  }

  read(value: number): string | null {
    const { certain, loose } = this;
    const more = value - certain;
    this.certain = value;
    this.loose = Math.max(0, loose - Math.max(0, more));
    return more >= 0 && more <= loose ? null : `it counts ${value}, not ${certain} to ${certain + loose}`;
  }
}
