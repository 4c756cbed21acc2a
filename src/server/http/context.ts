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
  /** Called whenever the last one is answered. */
  readonly onIdle: (() => void)[] = [];
  private readonly counted: Float64Array;

  /** @param counted one number, where others see it */
  constructor(counted: Float64Array = new Float64Array(1)) {
    this.counted = counted;
  }

  get count(): number {
    return this.counted[0];
  }

  enter(): void {
    this.counted[0]++;
  }

  leave(): void {
    this.counted[0]--;
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
