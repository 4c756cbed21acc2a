/**
 * Whether the layout that this master has is the one that its workers follow. It need not be: its state may
 * have been put back from an older copy, on its disk or in etcd, and where there were two masters, each may
 * have made layouts. What such a one decides would have a number by which others know another layout.
 *
 * So a layout changes only once most of the nodes that hold its data have been heard of since this master's
 * start, and nobody knows a newer one. Who has another one under the same number does not count; where most
 * have, that one is taken over, as a newer one is. Otherwise it gets the next number, so that they learn it.
 */
import type { Life } from "../../cluster/identity/life.ts";
import { checked } from "../../cluster/layout/check.ts";
import { isNamedIn, type Layout, layoutDigest } from "../../cluster/layout/layout.ts";
import { holdersOf } from "../../cluster/layout/recovery.ts";
import type { Registry } from "../registry/registry.ts";

export class Newest {
  private readonly registry: Registry;
  /** Workers that follow this master's layout, or an earlier one. */
  private readonly followers = new Set<string>();
  /** Workers that have another one under a number, and that number. */
  private readonly others = new Set<string>();
  private othersEpoch = 0;
  private digest: { of: Layout; text: string } | null = null;

  constructor(registry: Registry) {
    this.registry = registry;
  }

  /** Hears of a worker. Answers whether what it says of the layout counts. */
  hear(url: string, epoch: number, life: Life | null, layout: Layout | null): boolean {
    this.followers.delete(url);
    this.others.delete(url);
    if (layout !== null && layout.epoch !== this.othersEpoch) {
      this.others.clear();
      this.othersEpoch = layout.epoch;
    }
    if (epoch > (layout?.epoch ?? 0)) return false;
    const other = life?.epoch === layout?.epoch ? (life?.layout ?? null) : null;
    const isSame = layout === null || other === null || other === this.digestOf(layout);
    if (!isSame) this.others.add(url);
    // Whoever else comes and goes for years is not remembered.
    else if (layout === null || isNamedIn(layout, url)) this.followers.add(url);
    return isSame;
  }

  /** Whether it may be changed. */
  isSure(nowMs: number, layout: Layout): boolean {
    return isMost(layout, this.followers) && this.newerAt(nowMs, layout).length === 0;
  }

  /** Why it may not, for a person; null: most just have not been heard of yet. */
  problem(layout: Layout): string | null {
    const others = this.othersOf(layout);
    if (others.size === 0) return null;
    const names = [...others].sort().join(", ");
    return `${names}: another layout is known there under the number ${layout.epoch}, so another master has made it, or this one has been put back from a copy; nothing changes while that is so`;
  }

  /** Workers whose layout is to be taken over, the newest first: any of them, if it can be asked. */
  newerAt(nowMs: number, layout: Layout | null): string[] {
    const epoch = layout?.epoch ?? 0;
    const newer = this.registry.list(nowMs).filter((row) => row.state === "up" && row.epoch > epoch);
    if (newer.length > 0) return newer.sort((a, b) => b.epoch - a.epoch).map(({ url }) => url);
    if (layout === null || !this.isReplaced(layout)) return [];
    return this.strays(nowMs, layout);
  }

  /** Workers that are there and have another one under its number. */
  strays(nowMs: number, layout: Layout): string[] {
    return [...this.othersOf(layout)].filter((url) => this.registry.find(nowMs, url)?.state === "up");
  }

  /** Whether most of those that hold its data have another one under its number. */
  isReplaced(layout: Layout): boolean {
    return isMost(layout, this.othersOf(layout));
  }

  /** Those that were heard of since the layout has its number. */
  private othersOf(layout: Layout): ReadonlySet<string> {
    return layout.epoch === this.othersEpoch ? this.others : NOBODY;
  }

  private digestOf(layout: Layout): string {
    // As a worker has it, who reads it from outside.
    if (this.digest?.of !== layout) this.digest = { of: layout, text: layoutDigest(checked(layout)) };
    return this.digest.text;
  }
}

const NOBODY: ReadonlySet<string> = new Set();

function isMost(layout: Layout, urls: ReadonlySet<string>): boolean {
  const holders = holdersOf(layout);
  return 2 * holders.filter((id) => urls.has(id)).length > holders.length;
}
