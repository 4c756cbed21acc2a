/**
 * A master as a witness: what it makes of the life in a heartbeat. It is asked when too few of the other
 * nodes can tell whether a store is the newest (standing.ts).
 */
import { isForeign, isNamedIn, type Layout } from "../layout/layout.ts";
import { decodeMarks, type Life } from "./life.ts";
import type { Known, Lives } from "./lives.ts";

export interface Witnessed {
  /** What is known of the store, apart from this life. */
  known?: Known;
  /** Why the process must not serve any more: a later one was here. */
  fenced?: string;
  /** Why nothing that it says counts: it is of another cluster. */
  foreign?: string;
}

/** Remembers the life of a member, and answers what was known of its store before. */
export function witness(
  lives: Lives,
  layout: Layout | null,
  life: Life | null,
  report: { url: string; marks?: string },
  isMember: boolean,
): Witnessed {
  if (life === null || life.url !== report.url) return {};
  const own = layout?.cluster;
  if (isForeign(own, life.cluster))
    return {
      foreign: `foreign: ${life.url} belongs to the cluster ${life.cluster}; its master keeps the layout of another one, ${own}`,
    };
  if (!isMember) return {};
  const isNewest = lives.admit(life, (url) => isNamedIn(layout, url));
  const known = lives.knownOf(life);
  if (!isNewest) return { known, fenced: lives.refusalOf(life, "to the master") };
  const marks = report.marks === undefined ? null : decodeMarks(report.marks);
  if (marks !== null) lives.hear(life, marks);
  return { known };
}
