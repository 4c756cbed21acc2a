/** What the parts of one front share. */

import type { ClusterAccess } from "../../cluster/node/access.ts";
import type { KeyBytes } from "../../shards/arena/write.ts";
import type { Vault } from "../../shards/vault/vault.ts";
import type { Meter } from "../status/stats.ts";
import type { Pacer } from "./pace.ts";

/** The slice of a pino logger that the front uses. */
export interface FrontLog {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Requests that are not answered yet, for a graceful stop. */
export class InFlight {
  count = 0;
  /** Called whenever the last one is answered. */
  readonly onIdle: (() => void)[] = [];

  enter(): void {
    this.count++;
  }

  leave(): void {
    this.count--;
    if (this.count === 0) for (const call of this.onIdle) call();
  }
}

export interface FrontContext {
  readonly vault: Vault;
  /** null: a single node. */
  readonly cluster: ClusterAccess | null;
  readonly log: FrontLog;
  readonly meter: Meter;
  readonly pacer: Pacer;
  readonly inFlight: InFlight;
  readonly maxValueBytes: number;
  /** Scratch of the request at hand; no one keeps it across an event. */
  readonly key: KeyBytes;
  stopping: boolean;
}
