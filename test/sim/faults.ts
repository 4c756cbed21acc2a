/**
 * What the cluster does in a history besides its clients' operations: crashes and restarts, synchronisation of replicas that do not vote and of new owners,
 * the steps of a move, collection of tombstones. The decisions are the shipped functions of src/cluster.
 */
import { bitOf, type ReplicaGroup } from "../../src/cluster/layout/groups.ts";
import type { Proposal } from "../../src/cluster/register/ports.ts";
import { collectTombstone } from "../../src/cluster/register/tombstones.ts";
import {
  areMoveSources,
  areRejoinSources,
  mayRejoin,
  mergeFloors,
  mergeForMove,
  mergeForRejoin,
  type SourceState,
} from "../../src/cluster/sync/rejoin.ts";
import type { RegisterState } from "../../src/rules/register.ts";
import { REJOIN_WAIT_MS } from "../../src/util/limits.ts";
import { EMPTY, KEY, type SimNode, type World } from "./cluster.ts";

const SYNC_RETRY_MS = 300;
/** Age of tombstones that are collected: short, so that only the other rules keep them safe. */
const AGE_MS = 20;

type Told = SourceState & { record: Proposal | null };

/** Crashes a node and restarts it after a while, perhaps with an empty disk. */
export function crash(world: World, node: SimNode, downMs: number, wiped: boolean): void {
  if (!node.alive) return;
  node.crash();
  if (wiped) node.wipe();
  world.queue.after(downMs, () => restart(world, node));
}

export function restart(world: World, node: SimNode): void {
  if (node.alive || node.isLost) return;
  node.boot();
  const { life } = node;
  // It asks the master, sooner or later, which layout holds.
  world.queue.after(world.chance() * 200, () => {
    if (node.life === life) node.setEpoch(world.epoch);
  });
  if (!node.voting) later(world, node, world.mutation.rejoinAtOnce ? 1 : REJOIN_WAIT_MS + 1, rejoin);
  if (world.epoch === 2) later(world, node, SYNC_RETRY_MS, synchronise);
}

/** Runs a step of repair on a node after a while, if it has not crashed by then. */
function later(world: World, node: SimNode, ms: number, step: (world: World, node: SimNode) => void): void {
  const { life } = node;
  world.queue.after(ms, () => {
    if (node.life === life) node.whenRunning(() => step(world, node));
  });
}

/** Asks all replicas what they hold; `done` gets the answers of those that vote, and who gave them (bits). */
function ask(
  world: World,
  node: SimNode,
  group: ReplicaGroup,
  done: (told: Told[], sources: number) => void,
): void {
  const told: Told[] = [];
  let sources = 0;
  let waiting = group.nodes.length;
  for (const name of group.nodes) {
    const to = world.node(name);
    if (world.mutation.rejoinAtOnce && to.alive) {
      // As fast as can be: what a wait would let pass is still on its way.
      const answer = to.tell(group.epoch);
      if (answer !== null) {
        told.push(answer);
        sources |= bitOf(group, name);
      }
      if (--waiting === 0) done(told, sources);
      continue;
    }
    world.request<Told | null>(
      node,
      to,
      () => to.tell(group.epoch),
      (answer) => {
        if (answer !== null && "floor" in answer) {
          told.push(answer);
          sources |= bitOf(group, name);
        }
        if (--waiting === 0) done(told, sources);
      },
    );
  }
}

/** A replica without data synchronises and votes again. */
function rejoin(world: World, node: SimNode): void {
  if (node.voting) return;
  if (!world.mutation.rejoinAtOnce && !mayRejoin(node.startedAt, world.queue.now))
    throw new Error("a replica rejoins too early");
  const again = (): void => later(world, node, SYNC_RETRY_MS, rejoin);
  if (!node.isMember()) {
    again();
    return;
  }
  const group = node.group();
  ask(world, node, group, (told, sources) => {
    if (node.group() !== group || !areRejoinSources(group, bitOf(group, node.name), sources)) again();
    else {
      const merge = mergeForRejoin(null, told);
      if (merge.kind === "settle") node.coordinator.settle(KEY, again);
      else {
        node.floor = mergeFloors([node.floor, ...told.map((source) => source.floor)]);
        if (merge.from >= 0) node.take(told[merge.from].record as Proposal, merge.promised);
        else node.state = { ...EMPTY, promised: merge.promised };
        node.voting = true;
        node.needsFloor = false;
      }
    }
  });
}

/** Who has synchronised in the move under way. */
const synchronised = new WeakMap<World, Set<string>>();

/** The master begins the move from the layout of epoch 1 to that of epoch 3; `ends`: when all have synchronised. */
export function startMove(world: World, ends = true): void {
  world.epoch = 2;
  world.moveEnds = ends;
  synchronised.set(world, new Set());
  announce(world);
  for (const node of world.nodes) later(world, node, SYNC_RETRY_MS, synchronise);
}

/** The master gives the move up: the layout of epoch 3 is that of epoch 1. */
export function abandonMove(world: World): void {
  world.epoch = 3;
  announce(world);
}

function announce(world: World): void {
  const { epoch } = world;
  for (const node of world.nodes)
    world.queue.after(world.chance() * 400, () => {
      if (node.alive) node.setEpoch(epoch);
    });
}

/** A new owner reads the key from a majority of the old set: first only the floor, then the record. */
function synchronise(world: World, node: SimNode): void {
  const again = (): void => later(world, node, world.chance() * SYNC_RETRY_MS, synchronise);
  if (world.epoch !== 2) return;
  if (!node.voting || node.epoch !== 2) {
    again();
    return;
  }
  if (!node.synchronising) {
    report(world, node);
    return;
  }
  const group = node.group();
  // By the true sets, whatever a mutation made of the majorities.
  const { previous, recovers } = world.trueGroups[1];
  ask(world, node, group, (told, sources) => {
    const truth = { ...group, previous, ...(recovers === undefined ? {} : { recovers }) };
    if (node.epoch !== 2 || !areMoveSources(truth, sources)) {
      again();
      return;
    }
    node.floor = mergeFloors([node.floor, ...told.map((source) => source.floor)]);
    if (node.needsFloor) {
      node.needsFloor = false;
      again();
      return;
    }
    const merge = mergeForMove(node.state, told);
    if (merge.kind === "settle") {
      node.coordinator.settle(KEY, again);
      return;
    }
    if (merge.kind === "take") node.take(told[merge.from].record as Proposal, node.state?.promised ?? null);
    node.synchronising = false;
    report(world, node);
  });
}

/** Tells the master, which ends the move when all have told. */
function report(world: World, node: SimNode): void {
  const done = synchronised.get(world) as Set<string>;
  done.add(node.name);
  const { nodes } = world.groups[2];
  if (world.epoch !== 2 || !world.moveEnds || !nodes.every((name) => done.has(name))) return;
  world.epoch = 3;
  announce(world);
}

/** A node that holds an old tombstone tries to collect it. */
export function collect(node: SimNode): void {
  // What remembers recent operations is kept for longer than any history lasts.
  if (node.recent !== null) return;
  if (node.alive && node.voting && node.isMember() && node.holdsOldTombstone(AGE_MS))
    collectTombstone(node.collectPort(), node.group(), KEY, node.state as RegisterState, () => {});
}

/** A lone promise becomes part of the floor; at any age, as only progress may suffer from that. */
export function foldPromise(node: SimNode): void {
  if (node.state !== null && node.state.ballot === null && !node.synchronising) node.forget();
}

/** Anti-entropy: one replica sends what it holds to another. */
export function repair(from: SimNode, to: SimNode): void {
  const record = from.record();
  if (from.alive && from.voting && from.isMember() && record !== null) from.push(to, record);
}
