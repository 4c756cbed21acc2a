/**
 * What the master makes of members that are not there: which partitions have no majority left, and when a
 * move that waits for a dead worker is given up. No timers; the time is passed in.
 */
import { PROOF_WAIT_MS } from "../../cluster/identity/standing.ts";
import type { Placement } from "../../cluster/layout/groups.ts";
import type { Layout } from "../../cluster/layout/layout.ts";
import { holdersOf, type Losses, lossesWithout } from "../../cluster/layout/recovery.ts";
import { DOWN_MS } from "../../cluster/membership/messages.ts";
import type { NodeRow } from "../registry/registry.ts";

/** Holders of data that are not there, or do not vote, and what that means. */
export interface Absence {
  /** Down, or never heard of. */
  missing: string[];
  /** Not heard of yet by a master that has just started: nobody knows whether they are there. */
  unheard: string[];
  /** There, but they have to synchronise first, which they cannot where too few others vote. */
  idle: string[];
  /** Partitions that have too few copies left, with those that are missing, and with the idle ones too. */
  losses: Losses;
  stuck: number;
  /** Partitions that have too few that vote just now: a move that began could not end. */
  shaky: number;
}

/** A member that does not vote counts as one that cannot after so long: it asks the others first. */
const IDLE_MS = PROOF_WAIT_MS + 15_000;

export const NO_ABSENCE: Absence = Object.freeze({
  missing: [],
  unheard: [],
  idle: [],
  losses: Object.freeze({ gone: 0, doubtful: 0 }),
  stuck: 0,
  shaky: 0,
});

export class AbsenceWatch {
  private readonly rowOf: (nowMs: number, url: string) => NodeRow | null;
  /** When this master began to hear of workers. */
  private startedMs: number | null = null;
  private known: { layout: Layout; names: string; absence: Absence } | null = null;
  /** Who is missing or does not vote, as it was looked at last. */
  unable: readonly string[] = [];
  private foreseen: { change: object; names: string; shaky: number } | null = null;
  /** Since when a member does not vote, by URL. */
  private readonly idleSince = new Map<string, number>();
  /** Since when a worker that a move waits for is not up, by URL. */
  private readonly silentSince = new Map<string, number>();

  constructor(rowOf: (nowMs: number, url: string) => NodeRow | null) {
    this.rowOf = rowOf;
  }

  /** The members that are not there. Of those never heard of it is known after a while only. */
  look(nowMs: number, layout: Layout): Absence {
    this.startedMs ??= nowMs;
    const isNew = nowMs - this.startedMs < DOWN_MS;
    const missing: string[] = [];
    const unheard: string[] = [];
    const mute: string[] = [];
    for (const id of holdersOf(layout)) {
      const row = this.rowOf(nowMs, id);
      if (row === null || row.silentMs === null) {
        (isNew ? unheard : missing).push(id);
      } else if (row.state === "down") missing.push(id);
      else if (row.voting || row.epoch === 0) this.idleSince.delete(id);
      else mute.push(id);
    }
    const idle = mute.filter((id) => nowMs - this.sinceWhenIdle(nowMs, id) >= IDLE_MS);
    this.unable = [...missing, ...mute];
    const absence = this.weigh(layout, missing, idle, mute);
    return unheard.length === 0 ? absence : { ...absence, unheard };
  }

  /** What it means that these are missing or do not vote. */
  private weigh(layout: Layout, missing: string[], idle: string[], mute: string[]): Absence {
    if (missing.length === 0 && mute.length === 0) return NO_ABSENCE;
    const names = `${missing} ${idle} ${mute}`;
    if (this.known?.layout === layout && this.known.names === names) return this.known.absence;
    const losses = lossesWithout(layout, new Set(missing));
    const all = idle.length === 0 ? losses : lossesWithout(layout, new Set([...missing, ...idle]));
    const now = mute.length === idle.length ? all : lossesWithout(layout, new Set([...missing, ...mute]));
    const absence = {
      ...{ missing, unheard: [], idle, losses },
      stuck: all.gone + all.doubtful,
      shaky: now.gone + now.doubtful,
    };
    this.known = { layout, names, absence };
    return absence;
  }

  /**
   * Partitions that would have too few of those that vote just now if the layout became that of `next`: a
   * move there could not end.
   * @param change what `next` is made of, to know it again
   */
  shakyAfter(nowMs: number, layout: Layout, change: object, next: () => Layout): number {
    this.look(nowMs, layout);
    const { unable } = this;
    if (unable.length === 0) return 0;
    const names = `${layout.epoch} ${unable}`;
    if (this.foreseen?.change === change && this.foreseen.names === names) return this.foreseen.shaky;
    const { gone, doubtful } = lossesWithout({ ...next(), previous: null }, new Set(unable));
    this.foreseen = { change, names, shaky: gone + doubtful };
    return this.foreseen.shaky;
  }

  private sinceWhenIdle(nowMs: number, id: string): number {
    const sinceMs = this.idleSince.get(id) ?? nowMs;
    this.idleSince.set(id, sinceMs);
    return sinceMs;
  }

  /**
   * The worker because of which a move is given up: it has to synchronise, and has not been up for so long.
   * Null: there is none, or most of the others are not there either, so that it is rather this master who is
   * cut off.
   */
  hopeless(
    nowMs: number,
    placement: Placement,
    synchronised: ReadonlySet<string>,
    waitMs: number,
  ): string | null {
    const { layout } = placement;
    const isUp = (url: string) => this.rowOf(nowMs, url)?.state === "up";
    const awaited = placement.awaited().filter((url) => !synchronised.has(url) && !isUp(url));
    for (const url of this.silentSince.keys()) if (!awaited.includes(url)) this.silentSince.delete(url);
    for (const url of awaited) if (!this.silentSince.has(url)) this.silentSince.set(url, nowMs);
    const before = layout.previous?.nodes ?? [];
    if (2 * before.filter(({ url }) => isUp(url)).length <= before.length) return null;
    return awaited.find((url) => nowMs - (this.silentSince.get(url) as number) >= waitMs) ?? null;
  }
}

/** What an operator is told of it; null: every partition has its majority. */
export function stuckText({ missing, idle, stuck }: Absence, layout: Layout | null): string | null {
  if (stuck === 0 || layout === null) return null;
  const down = missing.length === 0 ? "" : `${missing.join(", ")} cannot be reached; `;
  const empty = idle.length === 0 ? "" : `${idle.join(", ")} lost data and cannot synchronise; `;
  return `${stuck} of ${layout.partitions.toLocaleString("en-US")} partitions have no majority of their copies: ${down}${empty}bring back what can be; if it is gone for good, minivault recover makes a cluster of what is left`;
}
