/** What a master does at the moment: a leader's work, or a standby's. Each request asks for it. */
import type { Heartbeat, HeartbeatAnswer } from "../../cluster/membership/messages.ts";

export interface Office {
  /** A document of a GET, by its path. Throws NotLeading. */
  document(path: string): object;
  metrics(): string;
  /** Takes a report. "full": there is no room for one more worker. */
  hear(report: Heartbeat): HeartbeatAnswer | "full";
  /** Does what the body of POST /layout asks for, and answers the layout then. Throws NotLeading. */
  command(body: string): object;
  /**
   * When what was said so far is kept, and may be told; null: it is. Rejects where it is not, and never will
   * be.
   */
  settled(): Promise<void> | null;
}

/** Only the master that leads can do this. */
export class NotLeading extends Error {
  /** @param leader its URL; null: nobody leads, or nobody knows */
  constructor(leader: string | null) {
    super(
      leader === null
        ? "this master stands by, and none leads just now: try again soon"
        : `this master stands by: ${leader} leads; ask that one, or give all masters in -master`,
    );
  }
}
