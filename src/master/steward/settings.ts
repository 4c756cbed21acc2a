/**
 * What the nodes were started with beside what the layout says: another -region of a worker, or another
 * -replicas of the master, is a change of the layout, with a move like any other.
 */
import type { Change } from "../../cluster/layout/changes.ts";
import type { Layout } from "../../cluster/layout/layout.ts";
import type { NodeRow } from "../registry/registry.ts";

export class SettingsWatch {
  private readonly replicas: number | null;
  /** Which other region a member wants, and since when, by URL. */
  private readonly wishes = new Map<string, { region: string; sinceMs: number }>();

  /** @param replicas null: none were asked for, those of the layout are right */
  constructor(replicas: number | null) {
    this.replicas = replicas;
  }

  /**
   * The change that makes the layout what is wanted; null: it is. A wish counts once it has stayed the same
   * for a while, so that workers that are restarted one after the other move once.
   */
  wanted(
    nowMs: number,
    layout: Layout,
    rowOf: (url: string) => NodeRow | null,
    settleMs: number,
  ): Change | null {
    const regions: Record<string, string> = {};
    let isSettled = true;
    for (const { url, region } of layout.nodes) {
      const row = rowOf(url);
      if (row?.state !== "up" || row.region === region) {
        this.wishes.delete(url);
        continue;
      }
      const before = this.wishes.get(url);
      const sinceMs = before?.region === row.region ? before.sinceMs : nowMs;
      this.wishes.set(url, { region: row.region, sinceMs });
      if (nowMs - sinceMs < settleMs) isSettled = false;
      regions[url] = row.region;
    }
    const replicas = this.replicas === layout.replicas ? null : this.replicas;
    if (!isSettled || (replicas === null && Object.keys(regions).length === 0)) return null;
    return { kind: "adjust", regions, replicas };
  }
}
