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
import { compareOptionalBallots } from "../../format/version.ts";
import type { RegisterState } from "../../rules/register.ts";
import type { ScannedKey } from "../../shards/housekeeping/partition-scan.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { PARTITIONS } from "../../util/hash.ts";
import { Recurring } from "../../util/recurring.ts";
import type { Coordinator } from "../coordinator/coordinator.ts";
import { bitOf, type Placement, type ReplicaGroup } from "../layout/layout.ts";
import type { ClusterKey } from "../register/ports.ts";
import { clusterKey, keyBytes } from "../replica/cluster-key.ts";
import type { PartitionList, RepairPort } from "../replica/repair-port.ts";
import { DIGEST_PARTITIONS_MAX } from "../wire/repair-wire.ts";
import type { PartitionDropper } from "./dropper.ts";
import type { RepairPace } from "./pacer.ts";
import {
  areMoveSources,
  areRejoinSources,
  mayRejoin,
  mergeFloors,
  mergeForMove,
  mergeForRejoin,
  wasCollected,
} from "./rejoin.ts";

/** Partitions at once. */
const PARTITIONS_AT_ONCE = 8;
/** Keys of a partition at once, and bytes of their values. */
const SLICE_KEYS = 128;
const SLICE_BYTES = 2 * 1024 * 1024;
const RETRY_MS = 500;
/** A partition that changes again and again is begun anew so many times before it is reported. */
const ROUNDS_MAX = 8;
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

export interface SyncSetup {
  self: string;
  vault: LocalVault;
  port: RepairPort;
  coordinator: Coordinator;
  membership: SyncMembership;
  dropper: PartitionDropper;
  distance: (node: string) => number;
  pace: RepairPace;
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

type Kind = "rejoin" | "move";

/** The layout has changed: all begins anew. */
class LayoutChanged extends Error {}

export class Synchroniser {
  readonly status: SyncStatus = { state: "none", done: 0, total: 0, keys: 0, problem: null };
  private readonly setup: SyncSetup;
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

  private begin(kind: Kind, placement: Placement, partitions: number[]): void {
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
        if (kind === "rejoin") {
          setup.dropper.setClear(epoch);
          setup.membership.setVoting(true);
        }
        this.finishedEpoch = epoch;
        this.floorless.clear();
        setup.membership.reportProgress(epoch, partitions.length, partitions.length);
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

  private async run(kind: Kind, placement: Placement, partitions: number[]): Promise<void> {
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
        await this.retried(epoch, () => this.partition(kind, group));
        status.done++;
        if (status.done % REPORT_PARTITIONS === 0 && status.done < status.total)
          setup.membership.reportProgress(epoch, status.done, status.total);
      }
    };
    await Promise.all(Array.from({ length: PARTITIONS_AT_ONCE }, line));
  }

  /** Tries until it works; throws only when the layout has changed, or at the end. */
  private async retried(epoch: number, work: () => Promise<void>): Promise<void> {
    for (;;) {
      if (this.stopped || this.setup.membership.placement?.layout.epoch !== epoch)
        throw new LayoutChanged("the layout has changed");
      try {
        await work();
        return;
      } catch (error) {
        this.status.problem = (error as Error).message;
      }
      await sleep(RETRY_MS);
    }
  }

  /** What is left of gained partitions from an earlier time goes, before this replica votes for them. */
  private async clear(placement: Placement): Promise<void> {
    const { dropper } = this.setup;
    const { epoch } = placement.layout;
    if (dropper.isClear(epoch)) return;
    for (const partition of this.gained(placement)) await dropper.drop(partition, () => true);
    dropper.setClear(epoch);
  }

  /**
   * The floors of gained partitions, from a majority of the previous replicas, so that this replica may vote.
   */
  private async takeFloors(placement: Placement): Promise<void> {
    const { self, port, distance } = this.setup;
    const gained = new Set(this.gained(placement).filter((partition) => this.floorless.has(partition)));
    for (let first = 0; first < PARTITIONS; first += DIGEST_PARTITIONS_MAX) {
      const wanted = [...gained].filter(
        (partition) => partition >= first && partition < first + DIGEST_PARTITIONS_MAX,
      );
      if (wanted.length === 0) continue;
      const nodes = new Set(wanted.flatMap((partition) => placement.groups[partition].nodes));
      const known = new Map<number, { set: number; floors: (Ballot | null)[] }>();
      await Promise.all(
        [...nodes].map(async (node) => {
          if (node === self || distance(node) === Number.POSITIVE_INFINITY) return;
          const answers = await port.digests(node, first, placement.layout.epoch).catch(() => []);
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
        await this.raiseFloor(partition, mergeFloors(entry.floors));
        this.floorless.delete(partition);
      }
    }
  }

  private async raiseFloor(partition: number, floor: Ballot | null): Promise<void> {
    const { replica } = this.setup.vault;
    if (floor === null || compareOptionalBallots(floor, replica.floorOf(partition)) <= 0) return;
    await new Promise<void>((resolve, reject) => {
      replica.raiseFloor(partition, floor, (error) =>
        error === null ? resolve() : reject(new Error(`the floor could not be written: ${error}`)),
      );
    });
  }

  private async partition(kind: Kind, group: ReplicaGroup): Promise<void> {
    for (let round = 0; round < ROUNDS_MAX; round++) if (await this.takeOver(kind, group)) return;
    throw new Error(`partition ${group.partition} keeps changing`);
  }

  /** Takes a partition over. False: something has changed under way, or had to be settled first. */
  private async takeOver(kind: Kind, group: ReplicaGroup): Promise<boolean> {
    const { setup } = this;
    const { partition, epoch } = group;
    const sources = await this.sources(kind, group);
    const own = await setup.port.list(setup.self, partition, epoch);
    const floor = mergeFloors([own.floor, ...sources.map((source) => source.floor)]);
    await this.raiseFloor(partition, floor);
    const names = new Set(sources.flatMap((source) => [...source.keys.keys()]));
    if (kind === "rejoin") for (const name of own.keys.keys()) names.add(name);
    let slice: Promise<boolean>[] = [];
    let sliceBytes = 0;
    let sliceMs = performance.now();
    let whole = true;
    const busy = sources.some((source) => source.busy);
    const flush = async (): Promise<void> => {
      if ((await Promise.all(slice)).includes(false)) whole = false;
      slice = [];
      sliceBytes = 0;
      await setup.pace.rest(performance.now() - sliceMs, busy);
      sliceMs = performance.now();
    };
    for (const name of names) {
      const work = this.key(kind, group, name, sources, own.keys.get(name) ?? null, floor);
      if (work === null) continue;
      await setup.pace.turn(busy);
      slice.push(work.run());
      sliceBytes += Math.min(work.bytes, SLICE_BYTES);
      if (slice.length >= SLICE_KEYS || sliceBytes >= SLICE_BYTES) await flush();
    }
    await flush();
    return whole;
  }

  /** Lists of enough other replicas. */
  private async sources(kind: Kind, group: ReplicaGroup): Promise<PartitionList[]> {
    const { self, distance, port } = this.setup;
    const selfBit = bitOf(group, self);
    const enough = (set: number) =>
      kind === "move" ? areMoveSources(group, set) : areRejoinSources(group, selfBit, set);
    const candidates = group.nodes
      .filter((node) => node !== self && distance(node) !== Number.POSITIVE_INFINITY)
      .filter((node) => kind === "rejoin" || (group.previous & bitOf(group, node)) !== 0)
      .sort((a, b) => distance(a) - distance(b));
    let set = kind === "move" ? group.previous & selfBit : 0;
    const lists: PartitionList[] = [];
    while (!enough(set)) {
      let hoped = set;
      const asked: string[] = [];
      while (!enough(hoped) && candidates.length > 0) {
        const node = candidates.shift() as string;
        asked.push(node);
        hoped |= bitOf(group, node);
      }
      if (!enough(hoped))
        throw new Error(`partition ${group.partition}: too few of its replicas can be reached`);
      const answers = await Promise.allSettled(
        asked.map((node) => port.list(node, group.partition, group.epoch)),
      );
      for (const answer of answers)
        if (answer.status === "fulfilled") {
          lists.push(answer.value);
          set |= bitOf(group, answer.value.node);
        }
    }
    return lists;
  }

  /** What is to be done about a key, or null: nothing. */
  private key(
    kind: Kind,
    group: ReplicaGroup,
    name: string,
    sources: readonly PartitionList[],
    own: ScannedKey | null,
    floor: Ballot | null,
  ): { bytes: number; run: () => Promise<boolean> } | null {
    const states = sources.map((source) => ({ state: source.keys.get(name) ?? null, floor: source.floor }));
    const key = () => clusterKey(Uint8Array.from(Buffer.from(name, "latin1")));
    if (kind === "rejoin" && own?.ballot != null && wasCollected(own, states, floor))
      return { bytes: 0, run: () => this.forget(key(), group.epoch, own, floor as Ballot) };
    const merge = kind === "move" ? mergeForMove(own, states) : mergeForRejoin(states);
    if (!("from" in merge))
      return merge.kind === "settle" ? { bytes: 0, run: () => this.settle(key()) } : null;
    const promised: Ballot | null = "promised" in merge ? (merge.promised as Ballot | null) : null;
    const state = merge.from < 0 ? null : (states[merge.from].state as ScannedKey);
    const isNewer = state !== null && compareOptionalBallots(state.ballot, own?.ballot ?? null) > 0;
    const held = isNewer ? (state?.ballot ?? null) : (own?.ballot ?? null);
    const needed =
      compareOptionalBallots(promised, held ?? floor) > 0 &&
      compareOptionalBallots(promised, own?.promised ?? null) > 0
        ? promised
        : null;
    if (!isNewer && needed === null) return null;
    const from = isNewer ? sources[merge.from].node : null;
    return {
      bytes: state?.valueBytes ?? 0,
      run: () => this.take(key(), group, from, held, needed),
    };
  }

  private async take(
    key: ClusterKey,
    group: ReplicaGroup,
    from: string | null,
    ballot: Ballot | null,
    promised: Ballot | null,
  ): Promise<boolean> {
    const { port, self, vault } = this.setup;
    if (from !== null) {
      const others = group.nodes.filter((node) => node !== self && node !== from);
      const record = await port.record(key, [from, ...others], group.epoch, ballot);
      if (record === "unknown") throw new Error("a record could not be read");
      // Replaced by nothing: its tombstone was collected meanwhile.
      if (record === null) return false;
      const answer = await port.take(key, group.epoch, record);
      if (answer.kind === "no") return false;
      if (answer.kind !== "yes")
        throw new Error(`a record could not be stored: ${answer.kind === "lost" ? "lost" : answer.reason}`);
      this.status.keys++;
    }
    if (promised !== null)
      await new Promise<void>((resolve, reject) => {
        const sent = vault.prepare(keyBytes(key), promised, ({ error, register }) => {
          const verdict = register?.verdict;
          if (error === null && (verdict === "yes" || verdict === "no")) resolve();
          else reject(new Error(`a promise could not be stored: ${error ?? verdict}`));
        });
        if (!sent) reject(new Error("the queue is full"));
      });
    return true;
  }

  private settle(key: ClusterKey): Promise<boolean> {
    return new Promise((resolve) => {
      this.setup.coordinator.settle(key, () => resolve(false));
    });
  }

  /** A key that all others have collected: a value from before goes as well. */
  private async forget(key: ClusterKey, epoch: number, own: RegisterState, floor: Ballot): Promise<boolean> {
    const { port, vault } = this.setup;
    if (!own.tombstone) {
      const { operationLow, operationHigh } = own;
      const payload = { tombstone: true };
      await port.take(key, epoch, { ballot: floor, payload, operationLow, operationHigh });
    }
    const ballot = own.tombstone ? (own.ballot as Ballot) : floor;
    return new Promise((resolve) => {
      vault.replica.dropTombstone(keyBytes(key), ballot, (error) => resolve(error === null));
    });
  }
}
