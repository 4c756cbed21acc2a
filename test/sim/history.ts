/**
 * One history: a few clients work on one key of a cluster in bad weather, everything they see is recorded, and the checker judges it.
 */

import type { ReplicaGroup } from "../../src/cluster/layout/groups.ts";
import { TOMBSTONE } from "../../src/cluster/register/ports.ts";
import type {
  Change,
  ReadResult,
  RegisterResult,
  RegisterWrite,
} from "../../src/cluster/register/requests.ts";
import { NAME_BYTES, REQUEST_BYTES } from "../../src/format/fields/recent.ts";
import type { Ballot } from "../../src/format/record.ts";
import { compareOptionalBallots } from "../../src/format/version.ts";
import { hasEnded } from "../../src/rules/expiry.ts";
import { Random } from "../random.ts";
import {
  groupOf,
  KEY,
  type Mutation,
  type SimNode,
  type SimPayload,
  type Weather,
  World,
} from "./cluster.ts";
import { abandonMove, collect, crash, foldPromise, repair, restart, startMove } from "./faults.ts";
import { describe, type End, isLinearizable, type Recorded } from "./linearizability.ts";

/** Layouts of the histories without a move, and moves: nodes, then the groups by epoch. */
const STABLE: readonly (readonly ReplicaGroup[])[] = [
  [groupOf(1, "abc")],
  [groupOf(1, "abc")],
  [groupOf(1, "abc")],
  [groupOf(1, "abcde")],
  [groupOf(1, "ab")],
];
const MOVES: readonly (readonly ReplicaGroup[])[] = [
  "abc>bcd",
  "abc>cde",
  "abc>def",
  "abc>abcde",
  "abcde>abc",
].map((move) => {
  const [before, after] = move.split(">");
  return [groupOf(1, before), groupOf(2, after, before), groupOf(3, after)];
});
/** Moves that are given up: nothing ends them but that. */
const ABANDONED: readonly (readonly ReplicaGroup[])[] = ["abc>bcd", "abc>cde", "abcde>abc", "ab>cd"].map(
  (move) => {
    const [before, after] = move.split(">");
    return [groupOf(1, before), groupOf(2, after, before), groupOf(3, before)];
  },
);
/**
 * Recoveries without two of five: who is left is a majority of those before, so nothing may be lost, though no majority of them alone need have it all.
 */
const RECOVERIES: readonly (readonly ReplicaGroup[])[] = ["abc", "abf", "cfg"].map((after) => [
  groupOf(1, "abcde"),
  { ...groupOf(2, after, "abc"), recovers: true },
  groupOf(3, after),
]);
const CLIENTS = 3;
const OPERATIONS_PER_CLIENT = 5;
const REST_MS = 20_000;
const AHEAD_MS = 3_600_000;
/** How far clocks are off: a little, or in some histories with ends by this. */
const SKEW_MS = 200;
const SKEW_MS_MAX = 60_000;
const SWEEPS_MAX = 12;
/** How often a write is sent again that nobody knows anything of. */
const RETRIES_MAX = 4;
/** Of plain PUTs, those of values that were streamed before. */
const STAGED_SHARE = 0.2;
/** Far more than any history needs: beyond it something runs in circles. */
const EVENTS_MAX = 200_000;

/** Which of the faults a history has; drawn for each, or asked for by a test. */
export type Fault =
  | "loss"
  | "duplicates"
  | "slow"
  | "cuts"
  | "crashes"
  | "wipe"
  | "pauses"
  | "clocks"
  | "move"
  | "collect"
  | "abandon"
  | "recovery"
  | "ends"
  | "once";
const FAULTS: readonly Fault[] = [
  "loss",
  "duplicates",
  "slow",
  "cuts",
  "crashes",
  "wipe",
  "pauses",
  "clocks",
  "move",
  "collect",
  "abandon",
  "recovery",
  "ends",
  "once",
];
/** Of these a history has one at most, and not often. */
const RARE: readonly Fault[] = ["wipe", "move", "abandon", "recovery"];

export interface Outcome {
  linearizable: boolean;
  history: Recorded[];
  /** Operations of clients, and how they ended. */
  operations: number;
  unknown: number;
  noQuorum: number;
  /** The final reads that found a quorum, of those tried. */
  finalReads: number;
  finalReadsAnswered: number;
  moved: boolean;
}

/** What many histories came to. */
export interface Summary {
  histories: number;
  bad: number;
  operations: number;
  unknown: number;
  noQuorum: number;
  moves: number;
  finalReads: number;
  finalReadsAnswered: number;
  badSeeds: number[];
  /** The first bad history, for people. */
  firstBad: string;
}

/** Runs the histories of the seeds from `first` on, each of them with these faults. */
export function runHistories(first: number, count: number, always: readonly Fault[] = []): Summary {
  const summary: Summary = {
    histories: 0,
    bad: 0,
    operations: 0,
    unknown: 0,
    noQuorum: 0,
    moves: 0,
    finalReads: 0,
    finalReadsAnswered: 0,
    badSeeds: [],
    firstBad: "",
  };
  for (let seed = first; seed < first + count; seed++) {
    const outcome = runHistory(seed, {}, always);
    summary.histories++;
    summary.operations += outcome.operations;
    summary.unknown += outcome.unknown;
    summary.noQuorum += outcome.noQuorum;
    summary.moves += outcome.moved ? 1 : 0;
    summary.finalReads += outcome.finalReads;
    summary.finalReadsAnswered += outcome.finalReadsAnswered;
    if (outcome.linearizable) continue;
    summary.bad++;
    summary.badSeeds.push(seed);
    if (summary.firstBad === "") summary.firstBad = `seed ${seed}:\n${describe(outcome.history)}`;
  }
  return summary;
}

interface Version {
  id: number;
  ballot: Ballot;
}

/** Runs the history of a seed. */
export function runHistory(
  seed: number,
  mutation: Mutation = {},
  always: readonly Fault[] = [],
  fixed: Partial<Weather> = {},
  sometimes: readonly Fault[] = FAULTS,
): Outcome {
  const random = new Random(seed);
  const below = (bound: number): number => random.below(bound);
  const chance = (): number => (random.word() >>> 0) / 0x100000000;
  const faults = new Set<Fault>(always);
  for (const fault of sometimes) if (chance() < (RARE.includes(fault) ? 0.12 : 0.3)) faults.add(fault);
  // What is remembered is so for minutes: no clock may jump by hours.
  if (faults.has("once")) faults.delete(always.includes("clocks") ? "once" : "clocks");
  const ends = faults.has("ends");
  // Most of what can go wrong with an end is met by who was away for long.
  if (ends && chance() < 0.5) faults.add("pauses");
  const groups = groupsOf(faults, below);
  const names = new Set(groups.flatMap((group) => group.nodes));
  const latencyMs = 0.5 + chance() * chance() * 40;
  const weather: Weather = {
    latencyMs,
    jitterMs: chance() * 2 * latencyMs,
    loss: faults.has("loss") ? chance() * 0.25 : 0,
    duplicate: faults.has("duplicates") ? chance() * 0.4 : 0,
    slow: faults.has("slow") ? chance() * 0.3 : 0,
    slowMs: [50, 500, 3000, 20_000][below(4)],
    detectsCrashes: chance() < 0.5,
    fragile: (faults.has("crashes") || faults.has("wipe")) && chance() < 0.5 ? 0.15 : 0,
    startsAhead: faults.has("clocks") && chance() < 0.4,
    ownClocks: ends && chance() < 0.5,
    farClocks: ends && chance() < 0.3,
    hasOlder: chance() < 0.2,
    ...fixed,
  };
  const pulses = faults.has("clocks") || ((ends || faults.has("once")) && !weather.ownClocks);
  const world = new World(random, weather, groups, names.size, mutation, pulses);
  const { queue, nodes } = world;
  for (const node of nodes) node.clockOffsetMs = below(2 * SKEW_MS + 1) - SKEW_MS;
  if (weather.farClocks)
    for (const node of nodes) {
      const offMs = (chance() * 2 - 1) * SKEW_MS_MAX;
      if (weather.ownClocks) node.endOffsetMs = offMs;
      else node.clockOffsetMs += offMs;
    }
  if (weather.startsAhead) {
    for (const node of nodes) node.clockOffsetMs += AHEAD_MS;
    queue.after(chance() * 200, () => {
      for (const node of nodes) node.clockOffsetMs -= AHEAD_MS;
    });
  }
  // A replica that rejoins waits long; the clients must still be at work then.
  const thinkMs = [0, 50, 300][below(3)] + 2 * latencyMs;
  const spanMs = OPERATIONS_PER_CLIENT * (thinkMs / 2 + 4 * latencyMs);
  plan(world, faults, spanMs);

  const about = { thinkMs, rests: faults.has("wipe"), lifeMs: ends ? spanMs : 0, once: faults.has("once") };
  const clients = new Clients(world, about);
  clients.start();
  let events = 0;
  const run = (until: () => boolean): void => {
    while (!until() && queue.step())
      if (++events > EVENTS_MAX) throw new Error(`history ${seed} does not end`);
  };
  run(() => clients.working === 0);
  // The end: the network is well, all nodes are up, and what is there is read at each of two nodes.
  world.heal();
  for (const node of nodes) {
    node.pausedUntil = 0;
    restart(world, node);
  }
  let calm = false;
  queue.after(200 + chance() * 2000, () => {
    calm = true;
  });
  run(() => calm);
  clients.finalReads();
  run(() => clients.working === 0);
  world.busy = false;
  return clients.outcome();
}

/** The layouts of a history, by its rarest fault. */
function groupsOf(faults: Set<Fault>, below: (bound: number) => number): readonly ReplicaGroup[] {
  const change = (["recovery", "abandon", "move"] as const).find((fault) => faults.has(fault));
  for (const fault of ["recovery", "abandon", "move"] as const) if (fault !== change) faults.delete(fault);
  // An emptied disk beside two that are gone would be a loss, not a fault to live through.
  if (change === "recovery") faults.delete("wipe");
  const choice =
    change === "recovery"
      ? RECOVERIES
      : change === "abandon"
        ? ABANDONED
        : change === "move"
          ? MOVES
          : STABLE;
  return choice[below(choice.length)];
}

/** Enters the faults of a history into its queue. */
function plan(world: World, faults: ReadonlySet<Fault>, spanMs: number): void {
  const { queue, nodes, random } = world;
  const any = (): SimNode => nodes[random.below(nodes.length)];
  const sometimes = (most: number, run: () => void): void => {
    for (let count = 1 + random.below(most); count > 0; count--)
      queue.at(world.chance() * spanMs, () => {
        if (!world.calm) run();
      });
  };
  if (faults.has("cuts"))
    sometimes(6, () => {
      const [from, to] = [any(), any()];
      const ms = world.chance() * spanMs * 0.6;
      world.cut(from.index, to.index, ms);
      if (world.chance() < 0.5) world.cut(to.index, from.index, ms);
    });
  const crashes = faults.has("crashes");
  const shortMs = world.weather.latencyMs;
  // Never a second one without data before the first has its data again: that would be a loss, not a fault to live through.
  const wipe = (node: SimNode): boolean =>
    faults.has("wipe") && nodes.every((each) => each.voting || each === node);
  if (crashes) sometimes(3, () => crash(world, any(), world.chance() * spanMs * 0.4, false));
  if (faults.has("wipe"))
    sometimes(3, () => {
      const node = any();
      if (wipe(node)) crash(world, node, world.chance() * 20, true);
    });
  let left = 12;
  world.onFragile = (node) => {
    const wiped = wipe(node) && (!crashes || world.chance() < 0.5);
    if ((crashes || wiped) && left-- > 0) crash(world, node, world.chance() * shortMs, wiped);
  };
  if (faults.has("pauses"))
    sometimes(2, () => {
      any().pausedUntil = queue.now + world.chance() * (world.chance() < 0.3 ? 9000 : spanMs * 0.5);
    });
  if (faults.has("clocks"))
    sometimes(3, () => {
      const jump = [200, 5000, 120_000, 8 * 3600_000][random.below(4)];
      const stepMs = (world.chance() * 2 - 1) * jump;
      if (world.chance() < 0.7) any().clockOffsetMs += stepMs;
      else for (const node of nodes) node.clockOffsetMs += stepMs;
    });
  if (faults.has("move")) queue.at(world.chance() * spanMs * 0.5, () => startMove(world));
  if (faults.has("abandon"))
    queue.at(world.chance() * spanMs * 0.5, () => {
      startMove(world, false);
      queue.after(world.chance() * spanMs, () => abandonMove(world));
    });
  if (faults.has("recovery"))
    queue.at(world.chance() * spanMs * 0.5, () => {
      for (const node of nodes.slice(3, 5)) node.lose();
      queue.after(world.chance() * spanMs * 0.2, () => startMove(world));
    });
  if (faults.has("collect")) {
    let tries = 60;
    const again = (): void => {
      if (world.calm || tries-- === 0) return;
      collect(any());
      queue.after(world.chance() * world.chance() * spanMs * 0.2, again);
    };
    queue.after(0, again);
    sometimes(3, () => foldPromise(any()));
  }
  const sweeps = world.weather.sweeps ?? (world.chance() < 0.7 ? SWEEPS_MAX : 0);
  if (faults.has("ends") && sweeps > 0) sometimes(sweeps, () => any().sweep());
  if (world.chance() < 0.4) sometimes(8, () => repair(any(), any()));
}

class Clients {
  working = 0;
  private lastId = 0;
  private readonly world: World;
  private readonly thinkMs: number;
  /** Sometimes rests for long: a replica that rejoins waits, and the clients must still be at work then. */
  private readonly rests: boolean;
  /** Values live no longer than about this; 0: for ever. */
  private readonly lifeMs: number;
  /** Some writes are sent again until somebody tells what became of them. */
  private readonly once: boolean;
  private readonly history: Recorded[] = [];
  /** Versions that clients have seen lately. */
  private readonly versions: Version[] = [];
  private operations = 0;
  private unknown = 0;
  private noQuorum = 0;
  private tried = 0;
  private answeredReads = 0;

  constructor(world: World, about: { thinkMs: number; rests: boolean; lifeMs: number; once: boolean }) {
    this.world = world;
    this.rests = about.rests;
    this.lifeMs = about.lifeMs;
    this.thinkMs = about.thinkMs;
    this.once = about.once;
  }

  start(): void {
    for (let client = 0; client < CLIENTS; client++) {
      this.working++;
      this.think(OPERATIONS_PER_CLIENT, null);
    }
  }

  finalReads(): void {
    const serving = this.world.nodes.filter((node) => node.isMember() && !node.isLost);
    for (const node of [serving[0], serving[serving.length - 1]]) {
      this.working++;
      this.tried++;
      this.read(node, () => {
        this.working--;
      });
    }
  }

  outcome(): Outcome {
    const { world, history } = this;
    for (const operation of history)
      operation.rewritten = world.rewrittenAt.get(operation.expected) ?? Infinity;
    const kept = history.filter((operation) => operation.kind !== "get" || operation.outcome === "done");
    return {
      linearizable: isLinearizable(kept),
      history: kept,
      operations: this.operations,
      unknown: this.unknown,
      noQuorum: this.noQuorum,
      finalReads: this.tried,
      finalReadsAnswered: this.answeredReads,
      moved: world.epoch === 3,
    };
  }

  private think(left: number, own: Version | null): void {
    const { world } = this;
    if (left === 0) {
      this.working--;
      return;
    }
    const rests = this.rests && world.chance() < 0.2;
    world.queue.after(world.chance() * (rests ? REST_MS : this.thinkMs), () => {
      const alive = world.nodes.filter((node) => node.alive && node.pausedUntil <= world.queue.now);
      if (alive.length === 0) {
        this.think(left - 1, own);
        return;
      }
      const node = alive[world.random.below(alive.length)];
      this.act(node, own, (version) => this.think(left - 1, version ?? own));
    });
  }

  /** One operation; `next` gets the version that the client knows afterwards. */
  private act(node: SimNode, own: Version | null, next: (version: Version | null) => void): void {
    const { world, versions } = this;
    const draw = world.random.below(100);
    const seen =
      own !== null && world.chance() < 0.6 ? own : versions[world.random.below(versions.length || 1)];
    this.operations++;
    if (this.lifeMs > 0 && world.chance() < 0.2) this.write(node, draw < 40 ? "keep" : "touch", null, next);
    else if (draw < 28) this.read(node, next);
    else if (draw < 56) this.write(node, "put", null, next);
    else if (draw < 68) this.write(node, "post", null, next);
    else if (draw < 80) this.write(node, "delete", null, next);
    else if (seen === undefined) this.write(node, "post", null, next);
    else this.write(node, draw < 94 ? "replaceIf" : "deleteIf", seen, next);
  }

  /** Most values end, soon or late, by the clock of the node that is asked to write them. */
  private endFor(node: SimNode, id: number): End | null {
    const { world, lifeMs } = this;
    if (lifeMs === 0 || world.chance() < 0.3) return null;
    return world.end(id, node.clock() + 1 + world.chance() * world.chance() * lifeMs);
  }

  private record(kind: Recorded["kind"], expected: number): Recorded {
    const recorded: Recorded = {
      id: ++this.lastId,
      kind,
      called: this.world.queue.now,
      answered: Infinity,
      outcome: "unknown",
      value: 0,
      expected,
      rewritten: Infinity,
      existed: null,
    };
    this.history.push(recorded);
    return recorded;
  }

  /** Takes an answer, once: from the coordinator, or null when its node crashes first. */
  private first<Result>(node: SimNode, take: (result: Result | null) => void): (result: Result) => void {
    let over = false;
    const finish = (result: Result | null): void => {
      if (over) return;
      over = true;
      node.orphaned.delete(crashed);
      take(result);
    };
    const crashed = (): void => finish(null);
    node.orphaned.add(crashed);
    return finish;
  }

  private read(node: SimNode, next: (version: Version | null) => void): void {
    const recorded = this.record("get", 0);
    const { world } = this;
    node.judged.add(recorded);
    node.coordinator.read(
      KEY,
      this.first<ReadResult>(node, (result) => {
        const { outcome, payload, ballot } = result ?? { outcome: "no_quorum", payload: null, ballot: null };
        node.judged.delete(recorded);
        if (outcome === "no_quorum") {
          this.noQuorum++;
          next(null);
          return;
        }
        recorded.answered = world.queue.now;
        recorded.outcome = "done";
        this.answeredReads += this.tried > 0 ? 1 : 0;
        const end = (payload as SimPayload | null)?.end ?? 0;
        const isGone = world.mutation.endsByOwnClock === true && hasEnded(end, node.clock());
        if (isGone) world.noteTime(node.clock());
        if (outcome === "absent" || isGone) {
          next(null);
          return;
        }
        recorded.value = (payload as SimPayload).value;
        recorded.version = (payload as SimPayload).version;
        recorded.endOwner = world.ownerOf(end);
        const version = { id: recorded.version, ballot: ballot as Ballot };
        this.versions.push(version);
        next(version);
      }),
    );
  }

  private write(
    node: SimNode,
    kind: Exclude<Recorded["kind"], "get">,
    version: Version | null,
    next: (version: Version | null) => void,
  ): void {
    const recorded = this.record(kind, version?.id ?? 0);
    const { id } = recorded;
    const deletes = kind === "delete" || kind === "deleteIf";
    if (kind === "put" || kind === "delete") this.world.blind.add(id);
    if (!deletes && kind !== "keep") recorded.end = this.endFor(node, id);
    const end = recorded.end?.millis ?? 0;
    const request: RegisterWrite = {
      key: KEY,
      payload: deletes ? TOMBSTONE : payloadOf(id, end),
      operationLow: id,
      operationHigh: 0,
      change: changeOf(kind, id, end),
      condition: conditionOf(kind, version),
      only: this.once && this.world.chance() < 0.6 ? { once: onceOf(id), again: (there) => there } : null,
    };
    // A large value: it is at the replicas already.
    const staged = kind === "put" && request.only == null && this.world.chance() < STAGED_SHARE;
    this.send(node, { ...request, staged }, request.only == null ? 0 : RETRIES_MAX, false, recorded, next);
  }

  /** @param maybe an earlier try may have had its effect */
  private send(
    node: SimNode,
    request: RegisterWrite,
    retries: number,
    maybe: boolean,
    recorded: Recorded,
    next: (version: Version | null) => void,
  ): void {
    const { world } = this;
    const { id } = recorded;
    const deletes = recorded.kind === "delete" || recorded.kind === "deleteIf";
    node.judged.add(recorded);
    node.coordinator.write(
      request,
      this.first<RegisterResult>(node, (result) => {
        node.judged.delete(recorded);
        const isUnknown = result === null || result.outcome === "unknown_outcome";
        if (retries > 0 && (isUnknown || result.outcome === "no_quorum")) {
          const again = (): void => {
            const alive = world.nodes.filter((each) => each.alive && each.pausedUntil <= world.queue.now);
            if (alive.length === 0) world.queue.after(100, again);
            else {
              const other = alive[world.random.below(alive.length)];
              this.send(other, request, retries - 1, maybe || isUnknown, recorded, next);
            }
          };
          world.queue.after(world.chance() * (this.thinkMs + 20), again);
          return;
        }
        if (isUnknown) this.unknown++;
        else if (result.outcome === "no_quorum") {
          this.noQuorum++;
          if (!maybe) this.history.splice(this.history.indexOf(recorded), 1);
        } else {
          recorded.answered = this.world.queue.now;
          recorded.outcome = result.outcome === "done" ? "done" : "refused";
          if (recorded.outcome === "done" && result.certain) recorded.existed = result.existed;
        }
        const written = result?.outcome === "done" && !deletes;
        const known = written ? { id, ballot: (result as RegisterResult).ballot as Ballot } : null;
        if (known !== null) this.versions.push(known);
        next(known);
      }),
    );
  }
}

/** What a write is known by: its number. */
function onceOf(id: number): Uint8Array {
  const once = new Uint8Array(NAME_BYTES + REQUEST_BYTES);
  new DataView(once.buffer).setUint32(0, id);
  return once;
}

function payloadOf(id: number, end = 0): SimPayload {
  return { tombstone: false, value: id, version: id, end };
}

function changeOf(kind: Recorded["kind"], id: number, end: number): Change | null {
  if (kind === "keep") return { kind, make: (kept) => payloadOf(id, kept) };
  if (kind !== "touch") return null;
  return { kind, make: (payload) => ({ ...(payload as SimPayload), version: id, end }) };
}

function conditionOf(kind: Recorded["kind"], version: Version | null): RegisterWrite["condition"] {
  if (kind === "post") return (exists) => (exists ? "exists" : null);
  if (kind === "keep") return () => null;
  if (kind === "touch") return (exists) => (exists ? null : "not_found");
  if (version === null) return null;
  return (exists, there) =>
    exists && compareOptionalBallots(there, version.ballot) === 0 ? null : "precondition_failed";
}

/**
 * Three nodes create one key at nearly the same time, on a network without faults.
 * @param tripMs how long a message takes, about
 * @param staged as a large value, whatever is there
 */
export function race(
  seed: number,
  tripMs = 1,
  staged = false,
): { done: number; exists: number; no_quorum: number; unsure: number } {
  const random = new Random(seed);
  const still = { loss: 0, duplicate: 0, slow: 0, slowMs: 0, fragile: 0, detectsCrashes: true };
  const world = new World(
    random,
    { ...still, latencyMs: tripMs, jitterMs: tripMs },
    [groupOf(1, "abc")],
    3,
    {},
  );
  const count = { done: 0, exists: 0, no_quorum: 0, unsure: 0 };
  let left = world.nodes.length;
  world.nodes.forEach((node, index) => {
    const id = index + 1;
    const request: RegisterWrite = {
      key: KEY,
      payload: payloadOf(id),
      operationLow: id,
      operationHigh: 0,
      staged,
      condition: staged ? null : (exists) => (exists ? "exists" : null),
    };
    world.queue.after(world.chance() * 0.5 * tripMs, () =>
      node.coordinator.write(request, ({ outcome }) => {
        left--;
        if (outcome === "done" || outcome === "exists" || outcome === "no_quorum") count[outcome]++;
        else count.unsure++;
      }),
    );
  });
  while (left > 0 && world.queue.step());
  return count;
}
