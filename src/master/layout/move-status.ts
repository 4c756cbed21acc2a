/** What the layout makes of the workers, for a person: who comes and goes, and how far a move is. */
import type { Registry } from "../registry/registry.ts";
import type { Decisions } from "./decisions.ts";

export interface MoveWorker {
  url: string;
  /** Partitions to synchronise, and how many are. */
  total: number;
  done: number;
}

export interface MoveStatus {
  epoch: number;
  joining: string[];
  leaving: string[];
  workers: MoveWorker[];
  total: number;
  done: number;
}

/** Progress of the move under way, or null. */
export function moveStatus(nowMs: number, decisions: Decisions, registry: Registry): MoveStatus | null {
  const { layout } = decisions;
  if (layout?.previous == null) return null;
  const { placement, synchronised } = decisions;
  const workers = placement.awaited().map((url) => {
    const total = placement.mustSynchronise(url).length;
    const progress = registry.find(nowMs, url)?.progress;
    const reported =
      progress?.epoch === layout.epoch && progress.total > 0 ? progress.done / progress.total : 0;
    const done = synchronised.has(url) ? total : Math.min(total, Math.floor(reported * total));
    return { url, total, done };
  });
  const sum = (figure: (worker: MoveWorker) => number) => workers.reduce((all, one) => all + figure(one), 0);
  return {
    epoch: layout.epoch,
    joining: layout.nodes.filter(({ url }) => decisions.isJoining(url)).map(({ url }) => url),
    leaving: layout.nodes.filter(({ state }) => state === "draining").map(({ url }) => url),
    workers,
    total: sum(({ total }) => total),
    done: sum(({ done }) => done),
  };
}

/** What the worker is to the layout; null: nothing. */
export function memberState(
  url: string,
  decisions: Decisions,
): "active" | "joining" | "leaving" | "waiting" | null {
  const node = decisions.layout?.nodes.find((member) => member.url === url);
  if (node === undefined) return decisions.isPlanned(url) ? "waiting" : null;
  if (node.state === "draining") return "leaving";
  return decisions.isJoining(url) ? "joining" : "active";
}

/** The region that the layout has for a worker; null: it has none. */
export function regionOf(url: string, { layout }: Decisions): string | null {
  return layout?.nodes.find((member) => member.url === url)?.region ?? null;
}

/** Partitions of which the worker holds a copy. */
export function copiesOf(url: string, decisions: Decisions): number {
  return decisions.layout === null ? 0 : decisions.placement.partitionsOf(url).length;
}
