/**
 * Changes of the layout that wait for their turn: which one is next, why none is, and which one is in the way
 * of the others for good.
 */
import { advance, type Change, ChangeError, type Plan } from "../../cluster/layout/changes.ts";
import type { Layout } from "../../cluster/layout/layout.ts";
import { DOWN_MS } from "../../cluster/membership/messages.ts";
import type { Decisions } from "../layout/decisions.ts";
import type { Absence, AbsenceWatch } from "../presence/absence.ts";
import type { Applicants } from "../presence/applicants.ts";
import type { Registry } from "../registry/registry.ts";

export interface WaitingSetup {
  registry: Registry;
  decisions: Decisions;
  applicants: Applicants;
  absences: AbsenceWatch;
  absence: (nowMs: number) => Absence;
  /** How long a replacement waits for a worker that is not there. */
  waitMs: number;
  log: { warn(fields: object, text: string): void };
}

type Replacement = Change & { kind: "replace" };

export class Waiting {
  private readonly setup: WaitingSetup;
  private found: { reason: string; sinceMs: number } | null = null;
  /** Since when the new worker of a replacement is not there. */
  private readonly awaySince = new WeakMap<Change, number>();

  constructor(setup: WaitingSetup) {
    this.setup = setup;
  }

  /** Why nothing of what waits begins, for a person; null: it does, or nothing waits. */
  get hindrance(): string | null {
    return this.found?.reason ?? null;
  }

  /** The same, once it has been so for a while. */
  problem(nowMs: number): string | null {
    return this.found === null || nowMs - this.found.sinceMs < DOWN_MS ? null : this.found.reason;
  }

  /**
   * The plan with the change at its front that is to be next: the first one whose move could end, as those
   * vote who do now. Null: none could.
   */
  inOrder(nowMs: number, layout: Layout, plan: Plan): Plan | null {
    let first: string | null = null;
    if (layout.previous === null)
      for (const change of plan.queue) {
        const moved = { layout, queue: [change, ...plan.queue.filter((other) => other !== change)] };
        const reason = this.whyNot(nowMs, layout, moved);
        if (reason === null) return this.next(nowMs, null, moved);
        first ??= `${titleOf(change)} waits: ${reason}`;
      }
    return this.next(nowMs, first, first === null ? plan : null);
  }

  private next(nowMs: number, reason: string | null, plan: Plan | null): Plan | null {
    this.found = reason === null ? null : { reason, sinceMs: this.found?.sinceMs ?? nowMs };
    return plan;
  }

  /** Why the change at the front of the queue cannot begin yet, or null. */
  private whyNot(nowMs: number, layout: Layout, moved: Plan): string | null {
    const { absences, absence, decisions } = this.setup;
    const [change] = moved.queue;
    const next = () => advance(moved, decisions.placement, decisions.synchronised)?.layout ?? layout;
    try {
      const away = change.kind === "replace" ? this.whyAway(nowMs, change) : null;
      if (away !== null) {
        // One that has become impossible is not waited for.
        next();
        return away;
      }
      if (absence(nowMs).shaky > 0) return this.unableText();
      return absences.shakyAfter(nowMs, layout, change, next) === 0 ? null : this.unableText();
    } catch (error) {
      if (!(error instanceof ChangeError)) throw error;
      // It is let go of in its turn.
      return null;
    }
  }

  private unableText(): string {
    const names = this.setup.absences.unable.join(", ");
    return `its move could not end while these are down or do not vote: ${names}; bring them back, or take it back (minivault abandon-move)`;
  }

  /** Why a replacement's new worker cannot come in yet, or null. */
  private whyAway(nowMs: number, { node }: Replacement): string | null {
    const { registry, applicants } = this.setup;
    const row = registry.find(nowMs, node.url);
    if (row?.state !== "up") return `${node.url} is not up`;
    if (applicants.isReached(nowMs, row)) return null;
    const reason = applicants.unreachedText(row) ?? "nobody has reached it yet";
    return `${node.url}: ${reason}`;
  }

  /**
   * Whether others may come in although something waits: for its own worker only, or for one without which
   * its move could not end, and may never come back. With the newcomers it perhaps can.
   */
  get leavesRoom(): boolean {
    return this.setup.decisions.plan.queue.length === 0 || this.found !== null;
  }

  /** Takes a replacement off the queue whose new worker has not been there for too long. */
  letGo(nowMs: number): void {
    const { decisions, registry, waitMs, log } = this.setup;
    for (const change of decisions.plan.queue) {
      if (change.kind !== "replace") continue;
      const row = registry.find(nowMs, change.node.url);
      const isThere = row?.state === "up" && !decisions.hasLeft(row.url, row.store);
      const sinceMs = isThere ? nowMs : (this.awaySince.get(change) ?? nowMs);
      this.awaySince.set(change, sinceMs);
      if (nowMs - sinceMs < waitMs) continue;
      const fields = { url: change.url, by: change.node.url };
      log.warn(fields, "a replacement waits for a worker that is not there: it is given up");
      const { plan } = decisions;
      decisions.decide(nowMs, { ...plan, queue: plan.queue.filter((other) => other !== change) });
    }
  }
}

/** What a change is, for a person. */
function titleOf(change: Change): string {
  if (change.kind === "join") return `that ${change.nodes.map(({ url }) => url).join(", ")} joins`;
  if (change.kind === "leave") return `that ${change.url} leaves`;
  if (change.kind === "replace") return `that ${change.node.url} replaces ${change.url}`;
  return "a change of regions or copies";
}
