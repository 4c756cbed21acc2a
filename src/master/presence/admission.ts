/**
 * Who of those that report here can be reached by others: a worker that sends heartbeats may have a public
 * URL that leads nowhere or to somebody else, or a certificate that nobody trusts. It owns nothing before the
 * master and one more node, a voter where there is one, have reached it under that URL.
 */

/** How the master names itself among those who have tried. */
export const MASTER = "the master";
/** Longest reason that is kept. */
const REASON_CHARACTERS_MAX = 300;
/** Workers that are known to have been tried: whoever reports may name some, and a standby forgets nobody. */
const CANDIDATES_MAX = 1024;

interface Candidate {
  store: string;
  /** By who has tried: what went wrong, or null. */
  tried: Map<string, string | null>;
}

export class Admission {
  private readonly candidates = new Map<string, Candidate>();
  private readonly warn: (fields: object, text: string) => void;

  constructor(warn: (fields: object, text: string) => void) {
    this.warn = warn;
  }

  /** Somebody has tried to reach a worker with this store. */
  note(url: string, store: string, by: string, problem: string | null): void {
    let candidate = this.candidates.get(url);
    if (candidate === undefined && this.candidates.size >= CANDIDATES_MAX) return;
    if (candidate?.store !== store) {
      candidate = { store, tried: new Map() };
      this.candidates.set(url, candidate);
    }
    const before = candidate.tried.get(by);
    // What was reached once stays so: it is asked no more.
    if (before === null) return;
    const reason = problem?.slice(0, REASON_CHARACTERS_MAX) ?? null;
    candidate.tried.set(by, reason);
    if (reason !== null && reason !== before)
      this.warn(
        { url, by, reason },
        "a worker cannot be reached under its public URL, so it is not taken in",
      );
  }

  /** Whether somebody has still to try, or to try again. */
  lacks(url: string, store: string, by: string): boolean {
    const candidate = this.candidates.get(url);
    return candidate?.store !== store || candidate.tried.get(by) !== null;
  }

  /** Whether enough have reached it. `others`: whose word counts beside the master's, if there are any. */
  isReached(url: string, store: string, others: readonly string[]): boolean {
    const wanted = others.filter((other) => other !== url);
    const isAny = wanted.length === 0 || wanted.some((other) => !this.lacks(url, store, other));
    return isAny && !this.lacks(url, store, MASTER);
  }

  /** Why a worker that is not reached is not, for a person; null: nobody has failed yet. */
  problem(url: string, store: string): string | null {
    const candidate = this.candidates.get(url);
    if (candidate?.store !== store) return null;
    const reasons = [...candidate.tried].filter(([, reason]) => reason !== null);
    if (reasons.length === 0) return null;
    const shown = reasons.slice(0, 3).map(([by, reason]) => `${by}: ${reason}`);
    return `it cannot be reached under its public URL (${shown.join("; ")})`;
  }

  /** Forgets who is none any more. */
  keepOnly(urls: ReadonlySet<string>): void {
    for (const url of this.candidates.keys()) if (!urls.has(url)) this.candidates.delete(url);
  }
}
