/**
 * The table of a master's figures: /health and /_metrics are made from it. Workers are told apart by their
 * URL.
 */
import { FLAG, orNull, TEXT } from "../server/describe/shapes.ts";
import type { Figure, Metric } from "../server/status/figure.ts";
import { PROCESS_FIGURES, type ProcessFigures } from "../server/status/process-figures.ts";
import type { Sample } from "../util/prometheus.ts";
import type { NodeRow } from "./registry/registry.ts";
import type { Steward } from "./steward/steward.ts";

/** What a master's figures are read from. */
export interface MasterSource extends ProcessFigures {
  workers: readonly NodeRow[];
  steward: Steward;
  version: string;
  nowMs: number;
  startedMs: number;
  /** Why it can keep nothing; null: it can. */
  trouble: string | null;
  /** What it shares with other masters, of which it leads; null: nothing. */
  shared: { registry: string; url: string } | null;
}

type Read = (from: MasterSource) => number | readonly Sample[];

const MS_PER_SECOND = 1000;
const LIVENESS = ["up", "suspect", "down"] as const;

const gauge = (name: string, help: string, samples: Read): { metric: Metric<MasterSource> } => ({
  metric: { name: `minivault_${name}`, kind: "gauge", help, samples },
});

/** A figure of each worker; null: nothing is known of it. */
const ofWorkers = (name: string, help: string, value: (worker: NodeRow) => number | null) =>
  gauge(`worker_${name}`, help, ({ workers }) =>
    workers.flatMap((worker) => {
      const known = value(worker);
      return known === null ? [] : [{ labels: { worker: worker.url, region: worker.region }, value: known }];
    }),
  );

/** A number that a worker reports of what it holds. */
function loadOf({ load }: NodeRow, name: "keys" | "bytes"): number | null {
  const value = (load as Record<string, unknown> | null)?.[name];
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** Why not all is well with what it is there for: keeping layouts, which workers can work by. */
function reasonOf({ trouble, steward }: MasterSource): string | null {
  return trouble ?? steward.problem;
}

function countOf(workers: readonly NodeRow[], state: NodeRow["state"]): number {
  return workers.filter((worker) => worker.state === state).length;
}

export const MASTER_FIGURES: readonly Figure<MasterSource>[] = [
  // 200 all the same: what is known is answered, and a restart would bring no worker back.
  { health: "status", value: (from) => (reasonOf(from) === null ? "healthy" : "degraded"), schema: TEXT },
  { health: "reason", value: (from) => reasonOf(from) ?? undefined, schema: TEXT },
  { health: "role", value: () => "master", schema: TEXT },
  { health: "nodes", value: ({ workers }) => workers.length },
  {
    health: "up",
    value: ({ workers }) => countOf(workers, "up"),
    ...gauge("workers", "Workers that the master knows, by what it hears of them.", ({ workers }) =>
      LIVENESS.map((state) => ({ labels: { state }, value: countOf(workers, state) })),
    ),
  },
  {
    health: "epoch",
    value: ({ steward }) => steward.layout?.epoch ?? 0,
    ...gauge("layout_epoch", "Number of the layout.", ({ steward }) => steward.layout?.epoch ?? 0),
  },
  {
    health: "moving",
    value: ({ steward }) => steward.layout?.previous != null,
    schema: FLAG,
    ...gauge("layout_moving", "Whether data moves to a new layout.", ({ steward }) =>
      Number(steward.layout?.previous != null),
    ),
  },
  {
    health: "standby",
    value: ({ steward, nowMs }) => steward.isStandby(nowMs),
    schema: FLAG,
    ...gauge("standby", "Whether another master keeps the layout.", ({ steward, nowMs }) =>
      Number(steward.isStandby(nowMs)),
    ),
  },
  { health: "leader", value: ({ shared }) => shared?.url, schema: orNull(TEXT) },
  { health: "registry", value: ({ shared }) => shared?.registry, schema: TEXT },
  { health: "problem", value: ({ steward }) => steward.problem ?? undefined, schema: TEXT },
  {
    health: "version",
    value: ({ version }) => version,
    schema: TEXT,
    ...gauge("build_info", "Always 1; what runs is in the labels.", ({ version }) => [
      { labels: { version, role: "master" }, value: 1 },
    ]),
  },
  {
    health: "uptimeSeconds",
    value: ({ nowMs, startedMs }) => Math.floor((nowMs - startedMs) / MS_PER_SECOND),
  },
  gauge("serves", "Whether its disk takes what it has to keep.", ({ trouble }) => Number(trouble === null)),
  gauge("waiting_changes", "Changes of the layout that wait.", ({ steward }) => steward.queue.length),
  gauge(
    "stuck_partitions",
    "Partitions that have no majority of their copies.",
    ({ steward, nowMs }) => steward.absence(nowMs).stuck,
  ),
  gauge("move_partitions", "Partitions that the move under way takes over.", ({ steward, nowMs }) => {
    return steward.move(nowMs)?.total ?? 0;
  }),
  gauge("moved_partitions", "Partitions that it has taken over.", ({ steward, nowMs }) => {
    return steward.move(nowMs)?.done ?? 0;
  }),
  ofWorkers("up", "Whether the worker reports.", ({ state }) => Number(state === "up")),
  ofWorkers("silent_seconds", "Time since it reported.", ({ silentMs }) =>
    silentMs === null ? null : silentMs / MS_PER_SECOND,
  ),
  ofWorkers("voting", "Whether it votes: 0 while its copy is not whole.", ({ voting }) => Number(voting)),
  ofWorkers("keys", "Keys that it holds copies of.", (worker) => loadOf(worker, "keys")),
  ofWorkers("live_bytes", "Bytes of the records that count.", (worker) => loadOf(worker, "bytes")),
  ...PROCESS_FIGURES,
];
