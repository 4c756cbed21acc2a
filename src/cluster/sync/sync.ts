/**
 * Synchronisation: a new owner in a move, or a replica that lost its data, takes its partitions over from a
 * majority of the others. The rules are those of rejoin.ts; this is their execution, partition by partition,
 * paced and with bounded memory (the lists of a few partitions and the values of a few keys).
 *
 * A partition is begun anew when something changes under way; all of it is when the layout changes. What is
 * held already is not fetched again, so beginning anew is cheap.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Ballot } from "../../format/record.ts";
import { Recurring } from "../../util/recurring.ts";
import { bitOf, type Placement } from "../layout/groups.ts";
import { digestWindows } from "./digest-windows.ts";
import { neighbours, type PartitionDropper } from "./dropper.ts";
import { areMoveSources, mayRejoin, mergeFloors } from "./rejoin.ts";
import { type Kind, TakeOver, type TakeOverSetup } from "./take-over.ts";

/** Partitions at once. */
const PARTITIONS_AT_ONCE = 8;
const RETRY_MS = 500;
/** Progress is reported after so many partitions. */
const REPORT_PARTITIONS = 16;

/** What synchronisation needs of the membership. */
export interface SyncMembership {
  readonly placement: Placement | null;
  readonly voting: boolean;
  /** It does not vote, and only synchronising can change that. */
  readonly mustSynchronise: boolean;
  setVoting(voting: boolean): void;
  reportProgress(epoch: number, done: number, total: number): void;
}

export interface SyncSetup extends TakeOverSetup {
  membership: SyncMembership;
  dropper: PartitionDropper;
  info: (fields: object, text: string) => void;
  warn: (fields: object, text: string) => void;
}

export interface SyncStatus {
  /** waiting: for the time after which lost votes do not count any more. */
  state: "none" | "waiting" | "rejoin" | "move";
  done: number;
  total: number;
  /** Keys taken over since the start of the process. */
  keys: number;
  /** What hinders it, for a person. */
  problem: string | null;
}

/** The layout has changed: all begins anew. */
class LayoutChanged extends Error {}

export class Synchroniser {
  readonly status: SyncStatus = { state: "none", done: 0, total: 0, keys: 0, problem: null };
  private readonly setup: SyncSetup;
  private readonly takeOver: TakeOver;
  private readonly startedMs = performance.now();
  private running: Promise<void> | null = null;
  private finishedEpoch = 0;
  private stopped = false;
  /** Gained partitions for which the floor is not known yet. */
  private floorless = new Set<number>();
  private gatedEpoch = 0;

  private readonly trouble = new Recurring((reason) =>
    this.setup.warn({ reason }, "synchronisation begins anew"),
  );

  constructor(setup: SyncSetup) {
    this.setup = setup;
    this.takeOver = new TakeOver(setup, () => this.status.keys++);
    this.followLayout();
  }

  /** A new owner must know the floor before it votes. */
  mustWait(partition: number): boolean {
    return this.floorless.has(partition);
  }

  /** Whether the own replica is not whole: it does not vote, or a move is not finished here. */
  get isSynchronising(): boolean {
    const { membership, self } = this.setup;
    if (!membership.voting) return true;
    const { placement } = membership;
    if (placement === null || placement.layout.previous === null) return false;
    return this.finishedEpoch !== placement.layout.epoch && placement.mustSynchronise(self).length > 0;
  }

  /** To be called at once with each new layout. */
  followLayout(): void {
    const { placement } = this.setup.membership;
    if (placement === null || placement.layout.epoch === this.gatedEpoch) return;
    this.gatedEpoch = placement.layout.epoch;
    this.floorless = new Set(placement.layout.previous === null ? [] : this.gained(placement));
    this.tick();
  }

  private gained(placement: Placement): number[] {
    const { self } = this.setup;
    return placement.mustSynchronise(self).filter((partition) => {
      const group = placement.groups[partition];
      return (group.previous & bitOf(group, self)) === 0;
    });
  }

  /** Looks whether there is something to do, now and then. */
  tick(): void {
    const { membership, self } = this.setup;
    const { placement } = membership;
    if (this.running !== null || this.stopped || placement === null) return;
    if (!membership.voting) {
      if (!membership.mustSynchronise) return;
      const partitions = placement.partitionsOf(self);
      if (partitions.length === 0) return;
      if (mayRejoin(this.startedMs, performance.now())) this.begin("rejoin", placement, partitions);
      else this.status.state = "waiting";
    } else if (placement.layout.previous !== null && this.finishedEpoch !== placement.layout.epoch) {
      const partitions = placement.mustSynchronise(self);
      if (partitions.length > 0) this.begin("move", placement, partitions);
      else this.finishedEpoch = placement.layout.epoch;
    }
  }

  async close(): Promise<void> {
    this.stopped = true;
    await this.running;
  }

  private begin(kind: Kind, placement: Placement, partitions: readonly number[]): void {
    const { status, setup } = this;
    const { epoch } = placement.layout;
    const beganMs = performance.now();
    status.state = kind;
    status.done = 0;
    status.total = partitions.length;
    const keysBefore = status.keys;
    setup.info({ epoch, partitions: partitions.length, kind }, "synchronising from the other replicas");
    this.running = this.run(kind, placement, partitions)
      .then(() => {
        status.problem = null;
        this.trouble.passed();
        this.finishedEpoch = epoch;
        this.floorless.clear();
        setup.info(
          { epoch, keys: status.keys - keysBefore, ms: Math.round(performance.now() - beganMs) },
          "synchronised",
        );
      })
      .catch((error: unknown) => {
        if (!(error instanceof LayoutChanged)) this.trouble.failed((error as Error).message);
      })
      .finally(() => {
        this.running = null;
        status.state = "none";
        setTimeout(() => this.tick(), 0);
      });
  }

  private async run(kind: Kind, placement: Placement, partitions: readonly number[]): Promise<void> {
    const { status, setup } = this;
    const { epoch } = placement.layout;
    await setup.dropper.idle();
    if (kind === "move") {
      await this.retried(epoch, () => this.clear(placement));
      await this.retried(epoch, () => this.takeFloors(placement));
    }
    let next = 0;
    const line = async (): Promise<void> => {
      while (next < partitions.length) {
        const group = placement.groups[partitions[next++]];
        await this.retried(epoch, () => this.takeOver.partition(kind, group));
        status.done++;
        if (status.done % REPORT_PARTITIONS === 0 && status.done < status.total)
          setup.membership.reportProgress(epoch, status.done, status.total);
      }
    };
    await Promise.all(Array.from({ length: PARTITIONS_AT_ONCE }, line));
    await this.retried(epoch, async () => this.finish(kind, epoch, partitions.length));
  }

  /** Notes it durably, and says so. Throws what the disk says. */
  private finish(kind: Kind, epoch: number, total: number): void {
    const { dropper, membership } = this.setup;
    if (kind === "rejoin") {
      dropper.setClear(epoch);
      membership.setVoting(true);
    }
    membership.reportProgress(epoch, total, total);
  }

  /** Tries until it works; throws only when the layout has changed, or at the end. */
  private async retried(epoch: number, work: () => Promise<void>): Promise<void> {
    for (;;) {
      this.demand(epoch);
      try {
        await work();
      } catch (error) {
        this.status.problem = (error as Error).message;
        await sleep(RETRY_MS);
        continue;
      }
      // What was done by the layout before says nothing of what is to be done by this one.
      this.demand(epoch);
      return;
    }
  }

  private isOf(epoch: number): boolean {
    return !this.stopped && this.setup.membership.placement?.layout.epoch === epoch;
  }

  private demand(epoch: number): void {
    if (!this.isOf(epoch)) throw new LayoutChanged("the layout has changed");
  }

  /** What is left of gained partitions from an earlier time goes, before this replica votes for them. */
  private async clear(placement: Placement): Promise<void> {
    const { dropper } = this.setup;
    const { epoch } = placement.layout;
    if (dropper.isClear(epoch)) return;
    const gained = this.gained(placement).map((partition) => placement.groups[partition].prefix);
    for (const prefixes of neighbours(gained)) await dropper.drop(prefixes, () => this.isOf(epoch));
    this.demand(epoch);
    dropper.setClear(epoch);
  }

  /**
   * The floors of gained partitions, from a majority of the previous replicas, so that this replica may vote.
   */
  private async takeFloors(placement: Placement): Promise<void> {
    const { self, port, distance } = this.setup;
    const gained = new Set(this.gained(placement).filter((partition) => this.floorless.has(partition)));
    for (const wanted of digestWindows([...gained], placement.layout.partitions)) {
      const [first] = wanted;
      const nodes = new Set(wanted.flatMap((partition) => placement.groups[partition].nodes));
      const known = new Map<number, { set: number; floors: (Ballot | null)[] }>();
      await Promise.all(
        [...nodes].map(async (node) => {
          if (node === self || distance(node) === Number.POSITIVE_INFINITY) return;
          const answers = await port.digests(node, wanted, placement).catch(() => []);
          answers.forEach(({ votes, floor }, index) => {
            const partition = first + index;
            const bit = bitOf(placement.groups[partition], node);
            if (!votes || bit === 0 || !gained.has(partition)) return;
            const entry = known.get(partition) ?? { set: 0, floors: [] };
            entry.set |= bit;
            entry.floors.push(floor);
            known.set(partition, entry);
          });
        }),
      );
      for (const partition of wanted) {
        const entry = known.get(partition);
        if (entry === undefined || !areMoveSources(placement.groups[partition], entry.set))
          throw new Error(`partition ${partition}: too few of its replicas can be reached`);
        await this.takeOver.raiseFloor(placement.groups[partition], mergeFloors(entry.floors));
        // Those of another layout may have to wait for it, too, and for floors of others.
        this.demand(placement.layout.epoch);
        this.floorless.delete(partition);
      }
    }
  }
}
