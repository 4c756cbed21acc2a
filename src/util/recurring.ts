/**
 * Something that is tried again and again: that it fails is said once, until the reason changes or it is
 * over. A disk that takes nothing would otherwise fill the log with one sentence.
 */
export class Recurring {
  /** Why it fails now, for a person; null: it does not. */
  reason: string | null = null;
  private readonly failing: (reason: string) => void;
  private readonly over: () => void;

  constructor(failing: (reason: string) => void, over: () => void = () => {}) {
    this.failing = failing;
    this.over = over;
  }

  failed(reason: string): void {
    const isNews = reason !== this.reason;
    this.reason = reason;
    if (isNews) this.failing(reason);
  }

  passed(): void {
    if (this.reason === null) return;
    this.reason = null;
    this.over();
  }
}
