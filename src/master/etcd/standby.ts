/** A master that does not lead: it says who does, and takes reports so that workers know that it is there. */
import type { HeartbeatAnswer } from "../../cluster/membership/messages.ts";
import { documentOf, type Figure, familiesOf } from "../../server/status/figure.ts";
import { PROCESS_FIGURES, type ProcessFigures, readProcess } from "../../server/status/process-figures.ts";
import { prometheusText } from "../../util/prometheus.ts";
import { NotLeading, type Office } from "../registry/office.ts";

const MS_PER_SECOND = 1000;

/** Nobody hears of a layout here, nor of who is there: that is the leader's. */
const ANSWER: HeartbeatAnswer = Object.freeze({
  ...{ success: true as const, epoch: 0, store: null, leads: false },
  ...{ suspect: [], down: [] },
});

export interface StandbySetup {
  version: string;
  /** The registry, for people. */
  registry: string;
  /** The document of "/". */
  root: object;
  /** Milliseconds on a clock that only goes forward. */
  now: () => number;
}

interface StandbySource extends ProcessFigures {
  standby: Standby;
  version: string;
  registry: string;
  uptimeSeconds: number;
}

/** They have the names of a leader's (master/figures.ts), which has more. */
const STANDBY_FIGURES: readonly Figure<StandbySource>[] = [
  { health: "status", value: ({ standby }) => (standby.trouble === null ? "healthy" : "degraded") },
  { health: "reason", value: ({ standby }) => standby.trouble ?? undefined },
  { health: "role", value: () => "master" },
  {
    health: "epoch",
    value: ({ standby }) => standby.epoch,
    metric: {
      ...{ name: "minivault_layout_epoch", kind: "gauge", help: "Number of the layout." },
      samples: ({ standby }) => standby.epoch,
    },
  },
  {
    health: "standby",
    value: () => true,
    metric: {
      ...{ name: "minivault_standby", kind: "gauge", help: "Whether another master keeps the layout." },
      samples: () => 1,
    },
  },
  { health: "leader", value: ({ standby }) => standby.leader },
  { health: "registry", value: ({ registry }) => registry },
  {
    health: "version",
    value: ({ version }) => version,
    metric: {
      ...{ name: "minivault_build_info", kind: "gauge", help: "Always 1; what runs is in the labels." },
      samples: ({ version }) => [{ labels: { version, role: "master" }, value: 1 }],
    },
  },
  { health: "uptimeSeconds", value: ({ uptimeSeconds }) => uptimeSeconds },
  {
    metric: {
      ...{ name: "minivault_serves", kind: "gauge", help: "Whether it can keep what it has to." },
      samples: ({ standby }) => Number(standby.trouble === null),
    },
  },
  ...PROCESS_FIGURES,
];

export class Standby implements Office {
  /** Who leads; null: nobody, or nobody knows. */
  leader: string | null = null;
  /** Of the layout that the registry has. */
  epoch = 0;
  /** Why it could not lead; null: it could. */
  trouble: string | null = null;
  private readonly setup: StandbySetup;
  private readonly startedMs: number;

  constructor(setup: StandbySetup) {
    this.setup = setup;
    this.startedMs = setup.now();
  }

  document(path: string): object {
    if (path === "/") return this.setup.root;
    if (path === "/health") return documentOf(STANDBY_FIGURES, this.source(), "health");
    throw new NotLeading(this.leader);
  }

  metrics(): string {
    return prometheusText(familiesOf(STANDBY_FIGURES, this.source()));
  }

  hear(): HeartbeatAnswer {
    return ANSWER;
  }

  command(): object {
    throw new NotLeading(this.leader);
  }

  settled(): null {
    return null;
  }

  private source(): StandbySource {
    const { version, registry, now } = this.setup;
    const uptimeSeconds = Math.floor((now() - this.startedMs) / MS_PER_SECOND);
    return { standby: this, ...{ version, registry, uptimeSeconds }, ...readProcess() };
  }
}
