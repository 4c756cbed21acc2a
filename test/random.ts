/**
 * Random numbers of tests: every random test prints its seed and takes one from SEED.
 */

export interface Diagnostic {
  diagnostic(message: string): void;
}

/** The seed from the environment, or a new one; printed in the test's output. */
export function randomSeed(t: Diagnostic): number {
  const seed =
    process.env.SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(process.env.SEED);
  t.diagnostic(`SEED=${seed}`);
  return seed;
}

/** Mulberry32 (Tommy Ettinger): small, fast, good enough to choose test inputs. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** A signed 32-bit number. */
  word(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) | 0;
  }

  /** A whole number from 0 to `bound` - 1. */
  below(bound: number): number {
    return (this.word() >>> 0) % bound;
  }

  bytes(count: number): Buffer {
    const bytes = Buffer.allocUnsafe(count);
    for (let i = 0; i < count; i++) bytes[i] = this.word();
    return bytes;
  }
}
