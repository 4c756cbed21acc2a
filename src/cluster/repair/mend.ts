/**
 * Bringing one record to where it is missing: to the own replica, which has found its own one damaged, or to
 * another node that has missed it.
 */
import type { Ballot } from "../../format/record.ts";
import { nameOf } from "../../util/bytes.ts";
import type { Coordinator } from "../coordinator/coordinator.ts";
import type { Placement, ReplicaGroup } from "../layout/groups.ts";
import type { ClusterKey } from "../register/ports.ts";
import { clusterKey } from "../replica/cluster-key.ts";
import type { RepairPort } from "../replica/repair-port.ts";
import type { HintOutcome } from "./hint-queue.ts";

/** Damaged keys that wait for repair. */
const DAMAGED_MAX = 10_000;

export interface MendingSetup {
  self: string;
  port: RepairPort;
  node: {
    readonly coordinator: Coordinator;
    groupOf(key: ClusterKey): ReplicaGroup;
    /** Round-trip time to a node in ms; Infinity: not to be reached. */
    distance(node: string): number;
  };
  placement: () => Placement | null;
}

export class Mending {
  private readonly setup: MendingSetup;
  private readonly damaged = new Map<string, Uint8Array>();
  private running = false;
  private stopped = false;
  /** Damaged records of this replica that were replaced since the start of the process. */
  mended = 0;

  constructor(setup: MendingSetup) {
    this.setup = setup;
  }

  /** The own record of a key is damaged. The key is copied. */
  add(key: Uint8Array): void {
    if (this.damaged.size < DAMAGED_MAX) this.damaged.set(nameOf(key), Uint8Array.from(key));
  }

  /** Damaged keys that wait. */
  get waiting(): number {
    return this.damaged.size;
  }

  /** Whether there is something to do. */
  get isDue(): boolean {
    return !this.running && this.damaged.size > 0;
  }

  stop(): void {
    this.stopped = true;
  }

  /** Mends what waits. */
  async round(): Promise<void> {
    this.running = true;
    try {
      for (const [name, bytes] of this.damaged) {
        if (this.stopped) return;
        if (await this.mendKey(clusterKey(bytes))) this.mended++;
        this.damaged.delete(name);
      }
    } finally {
      this.running = false;
    }
  }

  /**
   * What this replica had promised or taken is lost, so the others settle the key first: after that nothing
   * older can be decided any more, and what they hold then may take the place of what is damaged.
   */
  private async mendKey(key: ClusterKey): Promise<boolean> {
    const { node, port, self } = this.setup;
    const ballot = await new Promise<Ballot | null>((resolve) => {
      node.coordinator.settle(key, (result) => resolve(result.ballot));
    });
    if (ballot === null) return false;
    const group = node.groupOf(key);
    const rank = { ballot, ended: false };
    const record = await port.record(key, this.holders(group.nodes, self), group.epoch, rank);
    if (record === null || record === "unknown") return false;
    return (await port.take(key, group.epoch, record)).kind === "yes";
  }

  /** Brings a record that another node has missed to it, unless it has it, or a newer one. */
  async deliver(node: string, bytes: Uint8Array, ballot: Ballot): Promise<HintOutcome> {
    const { port } = this.setup;
    const placement = this.setup.placement();
    if (placement === null) return "later";
    const key = clusterKey(bytes);
    const group = placement.groupOf(key.hashA);
    if (!group.nodes.includes(node)) return "done";
    const rank = { ballot, ended: false };
    const record = await port.record(key, this.holders(group.nodes, node), group.epoch, rank);
    if (record === "unknown") return "later";
    if (record === null) return "done";
    const answer = await port.deliver(node, key, group.epoch, record);
    const isUnprepared = answer.kind === "refused" && answer.reason === "unprepared";
    return answer.kind === "yes" || answer.kind === "no" || isUnprepared ? "done" : "later";
  }

  /** Replicas that may have a record, nearest first. */
  private holders(nodes: readonly string[], except: string): string[] {
    const { node } = this.setup;
    return nodes.filter((other) => other !== except).sort((a, b) => node.distance(a) - node.distance(b));
  }
}
