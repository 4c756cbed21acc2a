/**
 * Taking one partition over from a majority of its other replicas: the floor, then key by key, with bounded
 * memory (the lists of the partition and the values of a few keys). The rules are those of rejoin.ts.
 */
import type { Ballot } from "../../format/record.ts";
import { ballotMillis, compareOptionalBallots, higherBallot } from "../../format/version.ts";
import { compareRanks, type Rank, type RegisterState } from "../../rules/register.ts";
import type { ScannedKey } from "../../shards/housekeeping/partition-scan.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { indexPartitionOfPrefix } from "../../util/hash-prefix.ts";
import type { Coordinator } from "../coordinator/coordinator.ts";
import { bitOf, type ReplicaGroup } from "../layout/groups.ts";
import { type ClusterKey, endMark, TOMBSTONE } from "../register/ports.ts";
import { clusterKey, keyBytes } from "../replica/cluster-key.ts";
import type { PartitionList, RepairPort } from "../replica/repair-port.ts";
import type { RepairPace } from "./pacer.ts";
import {
  areMoveSources,
  areRejoinSources,
  mergeFloors,
  mergeForMove,
  mergeForRejoin,
  wasCollected,
} from "./rejoin.ts";

/** Keys of a partition at once, and bytes of their values. */
const SLICE_KEYS = 128;
const SLICE_BYTES = 2 * 1024 * 1024;
/** A partition that changes again and again is begun anew so many times before it is reported. */
const ROUNDS_MAX = 8;

/** rejoin: a replica that does not know what it had. move: a new owner. */
export type Kind = "rejoin" | "move";

export interface TakeOverSetup {
  self: string;
  vault: LocalVault;
  port: RepairPort;
  coordinator: Coordinator;
  /** Round-trip time to a node in ms; Infinity: not to be reached. */
  distance: (node: string) => number;
  pace: RepairPace;
}

export class TakeOver {
  private readonly setup: TakeOverSetup;
  private readonly onKey: () => void;

  /** @param onKey called for each key that was taken over */
  constructor(setup: TakeOverSetup, onKey: () => void) {
    this.setup = setup;
    this.onKey = onKey;
  }

  /** Raises the floor of a partition in the own replica, unless it is that high already. */
  async raiseFloor({ prefix }: ReplicaGroup, floor: Ballot | null): Promise<void> {
    const { replica } = this.setup.vault;
    const partition = indexPartitionOfPrefix(prefix);
    if (floor === null || compareOptionalBallots(floor, replica.floorOf(partition)) <= 0) return;
    await new Promise<void>((resolve, reject) => {
      replica.raiseFloor(partition, floor, (error) =>
        error === null ? resolve() : reject(new Error(`the floor could not be written: ${error}`)),
      );
    });
  }

  /** Takes a partition over; it is begun anew when something changes under way. */
  async partition(kind: Kind, group: ReplicaGroup): Promise<void> {
    for (let round = 0; round < ROUNDS_MAX; round++) if (await this.attempt(kind, group)) return;
    throw new Error(`partition ${group.partition} keeps changing`);
  }

  /** False: something has changed under way, or had to be settled first. */
  private async attempt(kind: Kind, group: ReplicaGroup): Promise<boolean> {
    const { setup } = this;
    const sources = await this.sources(kind, group);
    const own = await setup.port.listHere(group.prefix);
    const floor = mergeFloors([own.floor, ...sources.map((source) => source.floor)]);
    await this.raiseFloor(group, floor);
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
      const answers = await Promise.allSettled(asked.map((node) => port.list(node, group)));
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
    const merge = kind === "move" ? mergeForMove(own, states) : mergeForRejoin(own, states);
    if (!("from" in merge)) {
      if (merge.kind !== "settle") return null;
      const promises = [own, ...states.map(({ state }) => state)].map((state) => state?.promised ?? null);
      return { bytes: 0, run: () => this.settle(key(), mergeFloors([floor, ...promises])) };
    }
    const promised: Ballot | null = "promised" in merge ? (merge.promised as Ballot | null) : null;
    const state = merge.from < 0 ? null : (states[merge.from].state as ScannedKey);
    const isNewer = state !== null && (own === null || compareRanks(state, own) > 0);
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
      run: () => this.take(key(), group, from, state, needed),
    };
  }

  private async take(
    key: ClusterKey,
    group: ReplicaGroup,
    from: string | null,
    rank: Rank | null,
    promised: Ballot | null,
  ): Promise<boolean> {
    const { port, self, vault } = this.setup;
    if (from !== null && rank !== null) {
      const others = group.nodes.filter((node) => node !== self && node !== from);
      const record = await port.record(key, [from, ...others], group.epoch, rank);
      if (record === "unknown") throw new Error("a record could not be read");
      // Replaced by nothing: its tombstone was collected meanwhile.
      if (record === null) return false;
      const answer = await port.take(key, group.epoch, record);
      if (answer.kind === "no") return false;
      if (answer.kind !== "yes")
        throw new Error(`a record could not be stored: ${answer.kind === "lost" ? "lost" : answer.reason}`);
      this.onKey();
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

  /** @param above all promises that are known: below one of them the key would have to be settled again */
  private settle(key: ClusterKey, above: Ballot | null): Promise<boolean> {
    return new Promise((resolve) => {
      this.setup.coordinator.settle(key, () => resolve(false), above);
    });
  }

  /** A key that all others have collected: a value from before goes as well. */
  private async forget(key: ClusterKey, epoch: number, own: RegisterState, floor: Ballot): Promise<boolean> {
    const { port, vault } = this.setup;
    // Nor may a promise of its own stand above what buries the value.
    const above = higherBallot(floor, own.promised) as Ballot;
    if (!own.tombstone) {
      const { operationLow, operationHigh } = own;
      // The floor may be of a mark (b⁺), whose ballot is that of a value: a tombstone would be a second
      // record of that ballot. A mark ranks above all that the floor keeps out. (A directory that has none
      // is of a cluster without.)
      const payload = vault.keepsEnds ? endMark(ballotMillis(above)) : TOMBSTONE;
      await port.take(key, epoch, { ballot: above, payload, operationLow, operationHigh });
    }
    const ballot = own.tombstone ? (own.ballot as Ballot) : above;
    const ended = own.tombstone ? own.ended : vault.keepsEnds;
    return new Promise((resolve) => {
      vault.replica.dropTombstone(keyBytes(key), ballot, ended, (error, dropped) =>
        resolve(error === null && dropped),
      );
    });
  }
}
