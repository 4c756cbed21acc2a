/** What a master says of itself and of the cluster: the documents of its GETs. */
import { OPENAPI_PATH } from "../server/operations/worker.ts";
import { documentOf, familiesOf } from "../server/status/figure.ts";
import { readProcess } from "../server/status/process-figures.ts";
import { prometheusText } from "../util/prometheus.ts";
import { MASTER_FIGURES, type MasterSource } from "./figures.ts";
import { copiesOf, memberState, regionOf } from "./layout/move-status.ts";
import type { NodeRow, Registry } from "./registry/registry.ts";
import type { Steward } from "./steward/steward.ts";

export interface DocumentsSource {
  registry: Registry;
  steward: Steward;
  version: string;
  /** Milliseconds on a clock that only goes forward. */
  now: () => number;
  /** What keeps the master from changing anything, for a person; null: nothing. */
  trouble: () => string | null;
  /** The registry that it shares with other masters, and its own URL; null: its state is its own. */
  shared: () => { registry: string; url: string } | null;
}

/** The document of "/". */
export function rootDocument(version: string): object {
  return {
    ...{ name: "minivault", version, role: "master" },
    ...{ nodes: "/nodes", layout: "/layout", health: "/health", openapi: OPENAPI_PATH },
  };
}

export class MasterDocuments {
  private readonly from: DocumentsSource;
  private readonly startedMs: number;
  /** By path. */
  readonly paths: Readonly<Record<string, () => object>> = {
    "/": () => rootDocument(this.from.version),
    "/health": () => documentOf(MASTER_FIGURES, this.source(), "health"),
    "/nodes": () => this.nodes(),
    "/layout": () => this.layout(),
  };

  constructor(from: DocumentsSource) {
    this.from = from;
    this.startedMs = from.now();
  }

  metrics(): string {
    return prometheusText(familiesOf(MASTER_FIGURES, this.source()));
  }

  layout(): object {
    const { steward, now } = this.from;
    return {
      success: true,
      epoch: steward.layout?.epoch ?? 0,
      layout: steward.layout,
      move: steward.move(now()),
      waiting: steward.queue,
      hindrance: steward.upkeep.hindrance,
      absence: steward.absence(now()),
    };
  }

  private nodes(): object {
    const { registry, steward, now } = this.from;
    return {
      success: true,
      epoch: steward.layout?.epoch ?? 0,
      replicas: steward.layout?.replicas ?? null,
      partitions: steward.layout?.partitions ?? null,
      nodes: registry.list(now()).map((row) => this.node(row)),
    };
  }

  private node(row: NodeRow): object {
    const { steward, now } = this.from;
    const { decisions } = steward;
    const { url, region, host, store, epoch, voting, load, state, silentMs, static: isStatic } = row;
    const inForce = regionOf(url, decisions) ?? region;
    const refused = state === "up" ? steward.refusal(now(), row) : null;
    return {
      ...{ url, region: inForce, host, state, silentMs, static: isStatic },
      ...{ member: memberState(url, decisions), copies: copiesOf(url, decisions) },
      ...{ epoch, voting, store, load },
      ...(inForce === region ? {} : { wantedRegion: region }),
      ...(refused === null ? {} : { refused }),
    };
  }

  private source(): MasterSource {
    const { registry, steward, version, now, trouble, shared } = this.from;
    const nowMs = now();
    return {
      workers: registry.list(nowMs),
      ...{ steward, version, nowMs, startedMs: this.startedMs, trouble: trouble(), shared: shared() },
      ...readProcess(),
    };
  }
}
