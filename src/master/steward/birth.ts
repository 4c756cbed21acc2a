/**
 * The first layout: made of all workers of -volumes at once or, without any, of those that came within a
 * short time of each other. A worker with keys begins alone; the others then get their copies by a move.
 */
import { commonFeatures, lackPartitions } from "../../cluster/layout/features.ts";
import { firstLayout } from "../../cluster/layout/steps.ts";
import { type Decisions, nodeOf } from "../layout/decisions.ts";
import type { Applicants } from "../presence/applicants.ts";
import type { NodeRow } from "../registry/registry.ts";

export interface BirthSetup {
  decisions: Decisions;
  applicants: Applicants;
  staticUrls: readonly string[];
  /** This master belongs to a cluster already, whose layout is lost here; null: to none. */
  cluster: string | null;
  replicas: number;
  partitions: number | null;
  times: { settleMs: number; staticWaitMs: number };
  log: { info(fields: object, text: string): void };
}

/** Makes it, if its time has come. Answers what keeps it from being made, or null; undefined: nothing new. */
export function form(nowMs: number, setup: BirthSetup): string | null | undefined {
  const { decisions, applicants, replicas, partitions, log } = setup;
  const found = applicants.present(nowMs);
  // Somebody knows a layout: that one counts, it only has to be learned.
  const ready = applicants.ready(nowMs);
  if (found.some((row) => row.epoch > 0)) return undefined;
  if (setup.cluster !== null)
    return `nothing is known here of the layout of the cluster ${setup.cluster}, to which this master belongs, and it makes no second one: start one of its workers, from which the layout is learned`;
  if (ready.length === 0) {
    const problem = applicants.unreached(nowMs);
    return problem === null ? null : `no worker can be taken in: ${problem}`;
  }
  if (!isTime(nowMs, setup)) return undefined;
  const problem = tooFewKnown(setup) ?? applicants.tooManyHolders(nowMs) ?? lackPartitions(partitions, found);
  if (problem !== null) return problem;
  const holder = ready.find((row) => !row.empty);
  const first = holder === undefined ? ready : [holder];
  const layout = firstLayout(first.map(nodeOf), replicas, commonFeatures(found), partitions);
  decisions.begin(nowMs, { layout, queue: [] }, storesOf(first));
  log.info({ nodes: first.map((row) => row.url) }, "made the first layout");
  return null;
}

function isTime(nowMs: number, { applicants, staticUrls, times }: BirthSetup): boolean {
  const since = applicants.waitingSince;
  if (since === null) return false;
  if (staticUrls.length === 0) return nowMs - since.lastMs >= times.settleMs;
  return staticUrls.every((url) => applicants.isWaiting(url)) || nowMs - since.firstMs >= times.staticWaitMs;
}

/**
 * A master that lost its disk must not make a second cluster beside the first: its members are in -volumes,
 * and most of them have to be here, without a layout.
 */
function tooFewKnown({ applicants, staticUrls }: BirthSetup): string | null {
  const missing = staticUrls.filter((url) => !applicants.isWaiting(url));
  if (missing.length * 2 < staticUrls.length || staticUrls.length === 0) return null;
  return `most workers of -volumes have to be there before a cluster begins, since those that are away may belong to one; waiting for ${missing.join(", ")}`;
}

function storesOf(rows: readonly NodeRow[]): Record<string, string> {
  return Object.fromEntries(rows.map((row) => [row.url, row.store]));
}
