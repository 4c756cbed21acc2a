/** Which nodes are there: as this worker sees it, else as the master says. */
import type { Liveness } from "./messages.ts";

export class NodeStates {
  private suspect: ReadonlySet<string> = new Set();
  private down: ReadonlySet<string> = new Set();
  private readonly observed = new Map<string, Liveness>();

  of(url: string): Liveness {
    const own = this.observed.get(url);
    if (own !== undefined) return own;
    if (this.down.has(url)) return "down";
    return this.suspect.has(url) ? "suspect" : "up";
  }

  /** What this worker itself has seen of a node; null: nothing any more. Answers whether that is new. */
  observe(url: string, state: Liveness | null): boolean {
    if ((this.observed.get(url) ?? null) === state) return false;
    if (state === null) this.observed.delete(url);
    else this.observed.set(url, state);
    return true;
  }

  /** What the master says. */
  hear(suspect: readonly string[], down: readonly string[]): void {
    this.suspect = new Set(suspect);
    this.down = new Set(down);
  }
}
