/**
 * Whether this node can do what clients ask of it, for `/health`: one that cannot read or write for some
 * seconds says so, and why, and is well again as soon as it can.
 *
 * Two ways to know. Who can be reached and votes: where that is no majority of some partitions, no client is
 * needed to find out. And how operations end: when those of one kind fail, and none has succeeded for some
 * seconds. Then the last one's key is tried again and again, by an operation that changes nothing, so that it
 * is known when it works again although no client comes any more.
 */
import { copyOf } from "../../util/bytes.ts";
import { hasMajority, type Placement } from "../layout/groups.ts";
import type { Layout } from "../layout/layout.ts";
import type { ClusterKey, RefusalReason } from "../register/ports.ts";
import type { ReadResult, RegisterResult } from "../register/requests.ts";

/** What lasts for less is no trouble: a node that restarts, a link that is cut for a moment. */
export const UNABLE_MS = 3000;
/** How often it is looked, and how old an outcome may be before it is tried again. */
const LOOK_MS = 500;
const TRY_AGAIN_MS = 1000;
/** Nodes that are named in one sentence. */
const NAMES_MAX = 5;

export type Kind = "read" | "write";

export interface ServiceSetup {
  self: string;
  placement: () => Placement | null;
  /** Whether the own replica votes. */
  votes: () => boolean;
  /** Why another node cannot be counted on now; null: it can. */
  hindrance: (node: string) => string | null;
  read: (key: ClusterKey, done: (result: Pick<ReadResult, "outcome">) => void) => void;
  /** Writes what is there again. */
  settle: (key: ClusterKey, done: (result: Pick<ReadResult, "outcome">) => void) => void;
  /** Milliseconds on a clock that only goes forward. */
  now: () => number;
}

/** Operations of one kind that fail. */
interface Failing {
  sinceMs: number;
  /** When it was last seen. */
  seenMs: number;
  key: ClusterKey;
  detail: string;
  trying: boolean;
}

export class Service {
  private readonly setup: ServiceSetup;
  private readonly timer: NodeJS.Timeout;
  private readonly failing: Record<Kind, Failing | null> = { read: null, write: null };
  private lacking: { sinceMs: number; partitions: number; of: string } | null = null;

  constructor(setup: ServiceSetup) {
    this.setup = setup;
    this.timer = setInterval(() => this.look(), LOOK_MS);
    this.timer.unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** An operation of a client is over. */
  seen(
    kind: Kind,
    key: ClusterKey,
    outcome: ReadResult["outcome"] | RegisterResult["outcome"],
    reason: RefusalReason | null = null,
  ): void {
    if (outcome === "no_quorum" || outcome === "unknown_outcome")
      this.failed(kind, key, detailOf(outcome, reason));
    // That too many write one key says nothing of the others.
    else if (outcome !== "overloaded") this.failing[kind] = null;
  }

  private failed(kind: Kind, key: ClusterKey, detail: string): void {
    const seenMs = this.setup.now();
    const { sinceMs = seenMs, trying = false } = this.failing[kind] ?? {};
    // It outlives the operation, and may be a part of a whole batch.
    const own = { ...key, bytes: copyOf(key.bytes) };
    this.failing[kind] = { sinceMs, seenMs, key: own, detail, trying };
  }

  /** Looks who is there, and tries again what has failed. Called a few times a second. */
  look(): void {
    const { placement, now } = this.setup;
    const placed = placement();
    const partitions = placed === null ? 0 : this.withoutMajority(placed);
    if (placed === null || partitions === 0) this.lacking = null;
    else {
      const of = placed.layout.partitions.toLocaleString("en-US");
      this.lacking = { sinceMs: this.lacking?.sinceMs ?? now(), partitions, of };
    }
    for (const kind of ["read", "write"] as const) {
      const failing = this.failing[kind];
      if (failing !== null && !failing.trying && now() - failing.seenMs >= TRY_AGAIN_MS)
        this.tryAgain(kind, failing);
    }
  }

  private tryAgain(kind: Kind, failing: Failing): void {
    const { read, settle } = this.setup;
    failing.trying = true;
    const done = ({ outcome }: Pick<ReadResult, "outcome">): void => {
      const latest = this.failing[kind];
      if (outcome !== "no_quorum") this.failing[kind] = null;
      else if (latest !== null) {
        latest.seenMs = this.setup.now();
        latest.trying = false;
      }
    };
    if (kind === "read") read(failing.key, done);
    else settle(failing.key, done);
  }

  private withoutMajority({ groups, layout }: Placement): number {
    const { self, votes, hindrance } = this.setup;
    const counts = (id: string) => (id === self ? votes() : hindrance(id) === null);
    const lost = new Set(idsOf(layout).filter((id) => !counts(id)));
    if (lost.size === 0) return 0;
    let partitions = 0;
    for (const group of groups) {
      let set = 0;
      for (let index = 0; index < group.nodes.length; index++)
        if (!lost.has(group.nodes[index])) set |= 1 << index;
      if (!hasMajority(group, set)) partitions++;
    }
    return partitions;
  }

  /** What this node cannot do for clients, for a person; null: nothing is known to be wrong. */
  get problem(): string | null {
    const nowMs = this.setup.now();
    if (this.lacking !== null && nowMs - this.lacking.sinceMs >= UNABLE_MS)
      return `${this.lacking.partitions} of ${this.lacking.of} partitions can be neither read nor written: too few of their replicas can be reached and vote (${this.hindrances()})`;
    for (const kind of ["write", "read"] as const) {
      const failing = this.failing[kind];
      if (failing !== null && nowMs - failing.sinceMs >= UNABLE_MS)
        return `${kind}s through this node fail, for ${Math.floor((nowMs - failing.sinceMs) / 1000)} s now: ${failing.detail}`;
    }
    return null;
  }

  private hindrances(): string {
    const { self, votes, hindrance, placement } = this.setup;
    const { layout } = placement() as Placement;
    const reasons = votes() ? [] : ["this node does not vote"];
    for (const id of idsOf(layout)) {
      const why = id === self ? null : hindrance(id);
      if (why !== null) reasons.push(`${id}: ${why}`);
    }
    const more = reasons.length - NAMES_MAX;
    return `${reasons.slice(0, NAMES_MAX).join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
  }
}

/** All nodes that hold something. */
function idsOf({ nodes, previous }: Layout): string[] {
  return [...new Set([...nodes, ...(previous?.nodes ?? [])].map(({ id }) => id))];
}

function detailOf(outcome: "no_quorum" | "unknown_outcome", reason: RefusalReason | null): string {
  if (outcome === "unknown_outcome") return "too few replicas answer in time";
  if (reason === "full") return "the disks of too many replicas are full";
  if (reason === "ahead") return "this node's clock is too far ahead of what the others agree on";
  if (reason === "damaged") return "too many replicas hold damaged records";
  return "too few replicas answer";
}
