/**
 * Anti-entropy: compares the digests of each partition with those of every other replica, in rounds in the
 * background, reads the leaves that differ, and takes over what the other one has newer, at its same ballot.
 * Every node does so for itself, so both directions are covered. Whether a value is marked as ended makes no
 * difference here: each replica marks its own by itself.
 *
 * What is younger than SETTLE_MS is left alone: it is probably still on its way. A record that the own
 * replica refuses for long, because of a promise whose write never came, is settled by a full round.
 */

import type { Ballot } from "../../format/record.ts";
import { ballotMillis, compareOptionalBallots } from "../../format/version.ts";
import { differingLeaves } from "../../rules/digest.ts";
import type { ScannedKey } from "../../shards/housekeeping/partition-scan.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import type { Coordinator } from "../coordinator/coordinator.ts";
import type { Placement, ReplicaGroup } from "../layout/groups.ts";
import { collectTombstone } from "../register/tombstones.ts";
import { clusterKey } from "../replica/cluster-key.ts";
import type { PartitionList, RepairPort } from "../replica/repair-port.ts";
import { digestWindows } from "../sync/digest-windows.ts";
import type { RepairPace } from "../sync/pacer.ts";
import { type CollectionAges, isCollectable } from "./collection.ts";

/** Records younger than this are not compared. */
const SETTLE_MS = 1500;
/** A record that is refused and older than this is settled. */
const STUCK_MS = 10_000;
const SLICE_KEYS = 64;
const SLICE_BYTES = 2 * 1024 * 1024;

export interface AntiEntropySetup {
  self: string;
  vault: LocalVault;
  port: RepairPort;
  coordinator: Coordinator;
  /** null: nothing can be compared now. */
  placement: () => Placement | null;
  distance: (node: string) => number;
  pace: RepairPace;
  ages: CollectionAges;
  now: () => number;
}

export interface AntiEntropyStatus {
  rounds: number;
  /** When the last round ended, in ms since 1970; 0: none yet. */
  lastRoundAt: number;
  lastRoundMs: number;
  /** Partitions in which, in the last round, this node or another lacked something. */
  differingPartitions: number;
  /** Records that this node has taken over. */
  repaired: number;
  /** In the last round every other replica was compared, and nobody lacked anything. */
  converged: boolean;
}

/** What a round has met. */
interface Round {
  differing: Set<number>;
  /** Nodes that could not be compared. */
  missing: number;
  /** Records that this node took over. */
  taken: number;
}

export class AntiEntropy {
  readonly status: AntiEntropyStatus = {
    ...{ rounds: 0, lastRoundAt: 0, lastRoundMs: 0, differingPartitions: 0, repaired: 0 },
    converged: false,
  };
  private readonly setup: AntiEntropySetup;
  private stopped = false;

  constructor(setup: AntiEntropySetup) {
    this.setup = setup;
  }

  stop(): void {
    this.stopped = true;
  }

  /** Compares everything once. Answers whether something was taken over, so that another look is worth it. */
  async round(): Promise<boolean> {
    const { setup, status } = this;
    const placement = setup.placement();
    if (placement === null) {
      status.converged = false;
      return false;
    }
    const beganMs = performance.now();
    const round: Round = { differing: new Set(), missing: 0, taken: 0 };
    for (const { id } of placement.layout.nodes) {
      if (id === setup.self || this.stopped) continue;
      if (setup.distance(id) === Number.POSITIVE_INFINITY) {
        round.missing++;
        continue;
      }
      try {
        await this.compare(placement, id, round);
      } catch {
        // It went away, or has another layout: the next round will tell.
        round.missing++;
      }
    }
    status.rounds++;
    status.lastRoundAt = setup.now();
    status.lastRoundMs = Math.round(performance.now() - beganMs);
    status.differingPartitions = round.differing.size;
    status.converged = round.differing.size === 0 && round.missing === 0;
    return round.taken > 0;
  }

  private async compare(placement: Placement, node: string, round: Round): Promise<void> {
    const { setup } = this;
    const shared = ({ nodes }: ReplicaGroup) => nodes.includes(node) && nodes.includes(setup.self);
    const both = placement
      .partitionsOf(setup.self)
      .filter((partition) => placement.groups[partition].nodes.includes(node));
    for (const window of digestWindows(both, placement.layout.partitions)) {
      if (this.stopped) return;
      const theirs = await setup.port.digests(node, window, placement);
      for (const [index, { votes, digest }] of theirs.entries()) {
        const group = placement.groups[window[0] + index];
        if (!shared(group)) continue;
        const own = setup.vault.replica.digests(group.prefix);
        if (!votes || own === null || digest === null)
          throw new Error(`${node} or this node has no digests yet`);
        const leaves = differingLeaves(own, digest);
        if (leaves !== 0) await this.reconcile(group, node, leaves, round);
        if (setup.placement() !== placement) throw new Error("the layout has changed");
      }
    }
  }

  private async reconcile(group: ReplicaGroup, node: string, leaves: number, round: Round): Promise<void> {
    const { port, self, pace, now } = this.setup;
    const { partition } = group;
    let sliceMs = performance.now();
    const theirs = await port.list(node, group, leaves);
    const own = await port.list(self, group, leaves);
    const isYoung = (key: ScannedKey) => key.ballot === null || isWithin(key.ballot, SETTLE_MS, now());
    for (const [name, { ballot }] of own.keys) {
      const other = theirs.keys.get(name);
      // The other one takes it over itself.
      if (
        compareOptionalBallots(ballot, other?.ballot ?? null) > 0 &&
        !isYoung(own.keys.get(name) as ScannedKey)
      )
        round.differing.add(partition);
    }
    let slice: Promise<void>[] = [];
    let sliceBytes = 0;
    const flush = async (): Promise<void> => {
      await Promise.all(slice);
      slice = [];
      sliceBytes = 0;
      await pace.rest(performance.now() - sliceMs, theirs.busy);
      sliceMs = performance.now();
    };
    for (const [name, key] of theirs.keys) {
      const held = own.keys.get(name) ?? null;
      if (compareOptionalBallots(key.ballot, held?.ballot ?? null) <= 0 || isYoung(key)) continue;
      round.differing.add(partition);
      slice.push(this.take(group, theirs, key, own, round));
      sliceBytes += Math.min(key.valueBytes, SLICE_BYTES);
      if (slice.length >= SLICE_KEYS || sliceBytes >= SLICE_BYTES) await flush();
    }
    await flush();
  }

  private async take(
    group: ReplicaGroup,
    theirs: PartitionList,
    held: ScannedKey,
    own: PartitionList,
    round: Round,
  ): Promise<void> {
    const { port, self, coordinator, now, ages } = this.setup;
    const { ballot, tombstone } = held;
    const key = clusterKey(held.key);
    const record = await port.record(key, [theirs.node], group.epoch, held);
    if (record === null || record === "unknown" || ballot === null) return;
    const answer = await port.deliver(self, key, group.epoch, record);
    if (answer.kind === "yes") {
      round.taken++;
      this.status.repaired++;
      return;
    }
    // The own record remembers what this one does not: whoever writes it again asks first.
    const isUnprepared = answer.kind === "refused" && answer.reason === "unprepared";
    if (answer.kind !== "no" && !isUnprepared) return;
    const isUnderFloor = tombstone && compareOptionalBallots(ballot, own.floor) <= 0;
    // The other one has perhaps not heard that all had confirmed. A younger one was never collected: the
    // floor rose for another key, or for an old promise, before this one came.
    if (isUnderFloor && isCollectable(held, now(), ages))
      await new Promise<void>((resolve) => collectTombstone(port, group, key, held, () => resolve()));
    else if (!isWithin(ballot, STUCK_MS, now()))
      await new Promise<void>((resolve) => {
        // The promise may be far above what the others would draw.
        coordinator.settle(key, () => resolve(), answer.kind === "no" ? answer.higher : null);
      });
  }
}

/**
 * Whether a ballot was drawn so shortly ago. One from the future was not: it comes from a wrong clock, or
 * follows one that did (src/cluster/clock/ballots.ts). Waiting for its time would leave the key unrepaired.
 */
function isWithin(ballot: Ballot, ms: number, nowMs: number): boolean {
  return Math.abs(nowMs - ballotMillis(ballot)) < ms;
}
