/**
 * What the nodes were started with beside what the layout says: another -region of a worker, or another
 * -replicas of the master, is a change of the layout, with a move like any other.
 */
import type { Change } from "../../cluster/layout/changes.ts";
import type { Layout } from "../../cluster/layout/layout.ts";
import type { NodeRow } from "../registry/registry.ts";

type Adjustment = Change & { kind: "adjust" };

export class SettingsWatch {
  private readonly replicas: number | null;
  /** Which other region a member wants, and since when, by URL. */
  private readonly wishes = new Map<string, { region: string; sinceMs: number }>();
  /** Regions, by URL, and a number of copies that an operator has given up: they are not wanted again. */
  private readonly declined = new Map<string, string>();
  private declinedReplicas: number | null = null;

  /** @param replicas null: none were asked for, those of the layout are right */
  constructor(replicas: number | null) {
    this.replicas = replicas;
  }

  /** An operator has given up these regions, by URL, and this number of copies (null: none). */
  decline({ regions, replicas }: Omit<Adjustment, "kind">): void {
    for (const [url, region] of Object.entries(regions)) this.declined.set(url, region);
    this.declinedReplicas = replicas ?? this.declinedReplicas;
  }

  /** The same of a move that was for them. */
  declineMove(layout: Layout, before: Layout): void {
    const regions = new Map(before.nodes.map(({ url, region }) => [url, region]));
    const changed = layout.nodes.filter(({ url, region }) => (regions.get(url) ?? region) !== region);
    this.decline({
      regions: Object.fromEntries(changed.map(({ url, region }) => [url, region])),
      replicas: layout.replicas === before.replicas ? null : layout.replicas,
    });
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
        if (row?.state === "up") this.declined.delete(url);
        continue;
      }
      if (this.declined.get(url) === row.region) continue;
      this.declined.delete(url);
      const before = this.wishes.get(url);
      const sinceMs = before?.region === row.region ? before.sinceMs : nowMs;
      this.wishes.set(url, { region: row.region, sinceMs });
      if (nowMs - sinceMs < settleMs) isSettled = false;
      regions[url] = row.region;
    }
    const isRight = this.replicas === layout.replicas || this.replicas === this.declinedReplicas;
    const replicas = isRight ? null : this.replicas;
    if (!isSettled || (replicas === null && Object.keys(regions).length === 0)) return null;
    return { kind: "adjust", regions, replicas };
  }
}
