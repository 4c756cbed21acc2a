/**
 * A cluster of the shipped protocol code (src/cluster, src/rules/register.ts) with one key, on a fake network, fake disks and fake clocks. All that
 * happens follows from the seed.
 *
 * A replica persists before it answers; a crash loses only what is not on its disk, and the operations that it coordinates.
 */

import { BallotSource } from "../../src/cluster/clock/ballots.ts";
import { ClusterTime } from "../../src/cluster/clock/cluster-time.ts";
import { Coordinator } from "../../src/cluster/coordinator/coordinator.ts";
import { FEATURE_DECIDED } from "../../src/cluster/layout/features.ts";
import { bitOf, countOf, hasMajority, type ReplicaGroup } from "../../src/cluster/layout/groups.ts";
import {
  type AcceptAnswer,
  type ClusterKey,
  endMark,
  type Held,
  LOST,
  type LookAnswer,
  type Lost,
  type Payload,
  type PrepareAnswer,
  type Proposal,
  type RecallAnswer,
  type Refused,
  type ReplicaPort,
  TOMBSTONE,
  UNAVAILABLE,
} from "../../src/cluster/register/ports.ts";
import {
  ALL_RULES,
  type CoordinatorSetup,
  type OperationRules,
} from "../../src/cluster/register/requests.ts";
import { isOldTombstone } from "../../src/cluster/register/tombstones.ts";
import type { SourceState } from "../../src/cluster/sync/rejoin.ts";
import type { Ballot } from "../../src/format/record.ts";
import { compareBallots, isFromSecondClock } from "../../src/format/version.ts";
import { hasEnded } from "../../src/rules/expiry.ts";
import {
  ALREADY,
  confirmsTombstone,
  existsIn,
  floorWithout,
  holdsTombstone,
  isAhead,
  judgeAccept,
  judgePrepare,
  NO,
  obstacleOf,
  type RegisterState,
  type Verdict,
  YES,
} from "../../src/rules/register.ts";
import { prefixOf } from "../../src/util/hash-prefix.ts";
import type { Random } from "../random.ts";
import { EventQueue, type SimEvent } from "./events.ts";
import type { End, Recorded } from "./linearizability.ts";

export const KEY: ClusterKey = { bytes: new Uint8Array([107]), hashA: 0 };
/** What the clocks show at the start of a history. */
const BIRTH_MS = 1_700_000_000_000;
const PULSE_MS = 1000;
/** After this a port says "lost". */
const REQUEST_MS = 1000;

/** A value is the number of the operation that wrote it. */
export interface SimPayload extends Payload {
  readonly value: number;
  /** The operation that gave it its version; another one where it was only touched. */
  readonly version: number;
  /** When its life ends, in ms since 1970; 0: never. */
  readonly end: number;
  /** Recent operations that its record remembers. */
  readonly recent?: Uint8Array | null;
}

/** How bad the network is, and what else may happen, in one history. */
export interface Weather {
  latencyMs: number;
  jitterMs: number;
  /** Probabilities for each message. */
  loss: number;
  duplicate: number;
  slow: number;
  /** Longest extra delay of a slow message. */
  slowMs: number;
  /** Peers know at once that a crashed node is down. */
  detectsCrashes: boolean;
  /** Probability that a replica crashes just after a yes. */
  fragile: number;
  /** All clocks are hours ahead when the first records are written, and right soon after. */
  startsAhead?: boolean;
  /** Every other node runs the program from before FEATURE_DECIDED. */
  hasOlder?: boolean;
  /** Each node takes its own clock for the time of the cluster. */
  ownClocks?: boolean;
  /** The clocks for ends are up to a minute apart, not only 400 ms. */
  farClocks?: boolean;
  /** Replicas mark what has ended by themselves at most so often, in all; else sometimes. */
  sweeps?: number;
}

/** Parts that a test takes out to see that the checker notices. Production has none of these. */
export interface Mutation {
  rules?: Partial<OperationRules>;
  /** In place of `judgeAccept`. */
  judgeAccept?: (
    world: World,
    state: RegisterState | null,
    floor: Ballot | null,
    proposal: Proposal,
  ) => Verdict;
  promisesNotPersisted?: boolean;
  collectAtMajority?: boolean;
  noFloor?: boolean;
  oneMajorityDuringMove?: boolean;
  /** A majority of those that are left is enough while the cluster recovers. */
  recoversByMajority?: boolean;
  rejoinAtOnce?: boolean;
  /** Replicas do not tell which records conditional writes were told of. */
  forgetsWhoWasShown?: boolean;
  /** A replica that has restarted since says all the same what it took of an operation. */
  recallsAlways?: boolean;
  /** In place of the second clock: one more than what is there. */
  oneMoreThanHighest?: boolean;
  /** Whoever asks is told "absent" by the clock of the node that was asked. */
  endsByOwnClock?: boolean;
  /** An end is marked by a tombstone with a new ballot. */
  endsAtHigherBallot?: boolean;
  /** A mark is taken whatever was promised. */
  marksUnderPromises?: boolean;
  /** A replica that holds the value without the mark confirms the mark. */
  collectsUnmarked?: boolean;
  /** A node that has not heard the others takes its own clock for the time. */
  marksAtOnce?: boolean;
  /** Replicas take records of who has not asked, though they forget what is remembered. */
  takesUnprepared?: boolean;
  /** A replica that synchronises takes the highest record, whatever others remember. */
  mergesWithoutMemory?: boolean;
}

export class World {
  readonly queue = new EventQueue();
  readonly random: Random;
  readonly weather: Weather;
  readonly mutation: Mutation;
  /** By epoch, from 1 on. */
  readonly groups: readonly ReplicaGroup[];
  /** The same, whatever a mutation makes of the majorities. */
  readonly trueGroups: readonly ReplicaGroup[];
  readonly nodes: SimNode[] = [];
  /** The move under way ends when all have synchronised; else it is going to be given up. */
  moveEnds = true;
  /** Until when messages from one node to another are dropped: [from * nodes + to]. */
  private readonly cutUntil: Float64Array;
  /** When a version first changed without its value, by operation. */
  readonly rewrittenAt = new Map<number, number>();
  private readonly accepted: { ballot: Ballot; operation: number }[] = [];
  /** The epoch that the master gives to those who ask. */
  epoch = 1;
  nextStore = 1;
  /** Nodes read each other's clocks. */
  readonly pulses: boolean;
  /** Clients are at work: while they are, so are the pulses. */
  busy = true;
  /** No more faults: the end of a history. */
  calm = false;
  /** Set by whoever runs the history: a fragile replica crashes. */
  onFragile: (node: SimNode) => void = () => {};
  /** Blind writes, by operation. */
  readonly blind = new Set<number>();

  constructor(
    random: Random,
    weather: Weather,
    groups: readonly ReplicaGroup[],
    nodes: number,
    mutation: Mutation,
    pulses = false,
  ) {
    this.pulses = pulses;
    this.random = random;
    this.weather = weather;
    this.mutation = mutation;
    this.trueGroups = groups;
    this.groups = groups.map((group) => ({
      ...group,
      ...(mutation.oneMajorityDuringMove ? { previous: group.current } : {}),
      ...(mutation.recoversByMajority && group.recovers ? { recovers: false } : {}),
    }));
    this.cutUntil = new Float64Array(nodes * nodes);
    for (let index = 0; index < nodes; index++) this.nodes.push(new SimNode(this, index));
  }

  /** 0 ≤ x < 1. */
  chance(): number {
    return (this.random.word() >>> 0) / 0x100000000;
  }

  node(name: string): SimNode {
    return this.nodes[name.charCodeAt(0) - 97];
  }

  cut(from: number, to: number, ms: number): void {
    this.cutUntil[from * this.nodes.length + to] = this.queue.now + ms;
  }

  heal(): void {
    this.calm = true;
    this.cutUntil.fill(0);
  }

  private delay(): number {
    const { weather } = this;
    const slow = !this.calm && weather.slow > 0 && this.chance() < weather.slow;
    return weather.latencyMs + this.chance() * weather.jitterMs + (slow ? this.chance() * weather.slowMs : 0);
  }

  /** Sends one message: `arrive` runs on `to`, never, once or twice. */
  send(from: SimNode, to: SimNode, arrive: () => void): void {
    const { weather, queue } = this;
    let copies = 1;
    if (!this.calm) {
      if (this.cutUntil[from.index * this.nodes.length + to.index] > queue.now) return;
      if (weather.loss > 0 && this.chance() < weather.loss) return;
      if (weather.duplicate > 0 && this.chance() < weather.duplicate) copies = 2;
    }
    for (; copies > 0; copies--) queue.after(this.delay(), () => to.whenRunning(arrive));
  }

  /** A request and its answer; `reply` is called once, with LOST when no answer comes in time. */
  request<Answer>(
    from: SimNode,
    to: SimNode,
    handle: () => Answer,
    reply: (answer: Answer | Lost | Refused) => void,
  ): void {
    const { life } = from;
    if (from === to) {
      // The own shard thread: a hop, but no network.
      this.queue.after(0.1, () => {
        if (from.life === life) from.whenRunning(() => reply(handle()));
      });
      return;
    }
    if (!to.alive && this.weather.detectsCrashes) {
      this.queue.after(0.1, () => {
        if (from.life === life) reply(UNAVAILABLE);
      });
      return;
    }
    new Call(this, from, to, handle, reply).send();
  }

  /** The latest time by which any node has judged. */
  private judgedMillis = 0;
  /** All ends that were asked for. */
  private readonly ends = new Map<number, End>();

  /** An operation asks for an end, at a moment or soon after that: no two of them are the same. */
  end(owner: number, millis: number): End {
    let own = Math.ceil(millis);
    while (this.ends.has(own)) own++;
    // Somebody's clock may be beyond it already.
    const end = { millis: own, owner, reachedAt: own <= this.judgedMillis ? this.queue.now : Infinity };
    this.ends.set(own, end);
    return end;
  }

  /** Who has asked for an end; 0: it is none. */
  ownerOf(end: number): number {
    return this.ends.get(end)?.owner ?? 0;
  }

  /** A node that knows the time judges by it. */
  noteTime(millis: number): void {
    this.judgedMillis = Math.max(this.judgedMillis, millis);
    for (const end of this.ends.values())
      if (end.reachedAt === Infinity && end.millis <= millis) end.reachedAt = this.queue.now;
  }

  /** Notes an accepted record: a ballot is used for one value ever, and a value may get a second version. */
  noteAccepted(operation: number, ballot: Ballot): void {
    for (const { ballot: known, operation: owner } of this.accepted)
      if (compareBallots(known, ballot) === 0) {
        if (owner === operation) return;
        throw new Error(`one ballot is used for operations ${owner} and ${operation}`);
      }
    if (!this.rewrittenAt.has(operation) && this.accepted.some((each) => each.operation === operation))
      this.rewrittenAt.set(operation, this.queue.now);
    this.accepted.push({ ballot, operation });
  }
}

/** One request over the network, and its answer. */
class Call<Answer> {
  private readonly life: number;
  private readonly timeout: SimEvent;
  private answered = false;
  private handled = false;

  constructor(
    private readonly world: World,
    private readonly from: SimNode,
    private readonly to: SimNode,
    private readonly handle: () => Answer,
    private readonly reply: (answer: Answer | Lost | Refused) => void,
  ) {
    this.life = from.life;
    this.timeout = world.queue.after(REQUEST_MS, () => from.whenRunning(() => this.answer(LOST)));
  }

  send(): void {
    this.world.send(this.from, this.to, () => this.arrive());
  }

  private arrive(): void {
    const { world, from, to } = this;
    const value = this.handle();
    // A copy has its effect, but only the first delivery is answered (see ReplicaPort).
    if (!this.handled) world.send(to, from, () => this.answer(value));
    this.handled = true;
    const { fragile } = world.weather;
    if (fragile > 0 && !world.calm && world.chance() < fragile && isYes(value)) world.onFragile(to);
  }

  private answer(value: Answer | Lost): void {
    if (this.answered || this.from.life !== this.life) return;
    this.answered = true;
    this.world.queue.cancel(this.timeout);
    this.reply(value);
  }
}

/** A node's replicas, as its coordinator sees them. */
class SimPort implements ReplicaPort {
  constructor(private readonly node: SimNode) {}

  prepare(
    name: string,
    _: ClusterKey,
    epoch: number,
    ballot: Ballot,
    reply: (answer: PrepareAnswer) => void,
  ): void {
    const { node } = this;
    const to = node.world.node(name);
    node.world.request<PrepareAnswer>(node, to, () => to.prepare(epoch, ballot, node.isOlder), reply);
  }

  accept(
    name: string,
    _: ClusterKey,
    epoch: number,
    proposal: Proposal,
    reply: (answer: AcceptAnswer) => void,
  ): void {
    const { node } = this;
    const to = node.world.node(name);
    const asked = node.world.mutation.endsAtHigherBallot ? this.asTombstone(proposal) : proposal;
    node.world.request<AcceptAnswer>(node, to, () => to.accept(epoch, asked), reply);
  }

  private readonly tombstones = new Map<Proposal, Proposal>();

  /** A mutation: in place of a mark a tombstone that is above all that this node has seen. */
  private asTombstone(proposal: Proposal): Proposal {
    if (proposal.payload.ended !== true) return proposal;
    const known = this.tombstones.get(proposal);
    if (known !== undefined) return known;
    const ballot = this.node.ballots.next(proposal.ballot);
    const instead = { ...proposal, ballot, payload: TOMBSTONE };
    this.tombstones.set(proposal, instead);
    return instead;
  }

  look(name: string, _: ClusterKey, epoch: number, reply: (answer: LookAnswer) => void): void {
    const { node } = this;
    const to = node.world.node(name);
    // The own record is read at once, and its value with it.
    if (to === node) reply(to.look(epoch, true));
    else node.world.request<LookAnswer>(node, to, () => to.look(epoch, false), reply);
  }

  recall(
    name: string,
    _: ClusterKey,
    epoch: number,
    { operationLow }: { readonly operationLow: number },
    asker: number,
    ageMs: number,
    reply: (answer: RecallAnswer) => void,
  ): void {
    const { node } = this;
    const to = node.world.node(name);
    node.world.request<RecallAnswer>(node, to, () => to.recall(epoch, operationLow, asker, ageMs), reply);
  }

  read(name: string, _: ClusterKey, epoch: number, reply: (answer: LookAnswer) => void): void {
    const { node } = this;
    const to = node.world.node(name);
    node.world.request<LookAnswer>(node, to, () => to.look(epoch, true), reply);
  }
}

/** What a node's coordinator runs on, for one life of the node. */
class SimSetup implements CoordinatorSetup {
  readonly port: ReplicaPort;
  private readonly life: number;

  constructor(
    private readonly node: SimNode,
    readonly ballots: BallotSource,
  ) {
    this.port = new SimPort(node);
    this.life = node.life;
  }

  groupOf(): ReplicaGroup {
    return this.node.group();
  }

  distance(name: string): number {
    const { node } = this;
    const to = node.world.node(name);
    if (to === node) return 0;
    if (node.world.weather.detectsCrashes && !to.alive) return Infinity;
    return 1 + ((to.index - node.index + 8) % 8);
  }

  now(): number {
    return this.node.world.queue.now;
  }

  clusterMillis(): number {
    return this.node.endMillis();
  }

  knowsTime(): boolean {
    return this.node.knowsTime();
  }

  features(): number {
    return this.node.world.weather.hasOlder === true ? FEATURE_DECIDED - 1 : FEATURE_DECIDED;
  }

  random(): number {
    return this.node.world.chance();
  }

  after(ms: number, callback: () => void): SimEvent {
    return this.node.world.queue.after(ms, () => {
      if (this.node.life === this.life) this.node.whenRunning(callback);
    });
  }

  cancel(timer: unknown): void {
    this.node.world.queue.cancel(timer as SimEvent);
  }

  staleEpoch(epoch: number): void {
    this.node.hear(epoch);
  }

  missed(_: ClusterKey, proposal: Proposal, names: readonly string[]): void {
    this.node.hint(proposal, names);
  }
}

/** What the record of a proposal remembers. */
function recentIn({ payload, recent }: Proposal): Uint8Array | null {
  return recent === undefined ? (payload.recent ?? null) : recent;
}

function isYes(answer: unknown): boolean {
  return (answer as { kind?: string } | null)?.kind === "yes";
}

export class SimNode {
  readonly world: World;
  readonly index: number;
  readonly name: string;
  alive = true;
  /** Raised by each crash: what was under way before is gone. */
  life = 0;
  pausedUntil = 0;
  /** How far the wall clock is off. */
  clockOffsetMs = 0;
  startedAt = 0;
  // On disk:
  state: RegisterState | null = null;
  value = 0;
  version = 0;
  recent: Uint8Array | null = null;
  floor: Ballot | null = null;
  epoch = 1;
  voting = true;
  /** A new owner that has no floor yet. */
  needsFloor = false;
  /** In a move, until it has read the key from the old owners. */
  synchronising = false;
  private store = 0;
  private incarnation = 0;
  private ceilingMillis = 0;
  // In memory:
  time!: ClusterTime;
  ballots!: BallotSource;
  coordinator!: Coordinator;
  /** Accepts taken, by operation. */
  private readonly taken = new Map<number, { ballot: Ballot; epoch: number }[]>();
  /** Records that conditional writes were told of, and the numbers of their coordinators. */
  private readonly shown: { operation: number; node: number }[] = [];
  /** Called when the node crashes: its clients see a broken connection. */
  readonly orphaned = new Set<() => void>();

  constructor(world: World, index: number) {
    this.world = world;
    this.index = index;
    this.name = String.fromCharCode(97 + index);
    this.store = world.nextStore++;
    this.boot();
  }

  wall(): number {
    return BIRTH_MS + Math.floor(this.world.queue.now + this.clockOffsetMs);
  }

  group(): ReplicaGroup {
    return this.world.groups[this.epoch - 1];
  }

  /** Runs now, or when a pause (SIGSTOP) is over; not at all if the node has crashed by then. */
  whenRunning(run: () => void): void {
    const { queue } = this.world;
    const { life } = this;
    if (!this.alive) return;
    if (this.pausedUntil <= queue.now) run();
    else
      queue.at(this.pausedUntil, () => {
        if (this.life === life) this.whenRunning(run);
      });
  }

  boot(): void {
    const { world } = this;
    const { queue } = world;
    this.alive = true;
    this.incarnation++;
    this.startedAt = queue.now;
    this.time = new ClusterTime({
      wall: () => this.wall(),
      steady: () => queue.now,
      nodes: () => world.nodes.length,
    });
    if (world.pulses) this.pulse();
    this.ballots = new BallotSource({
      node: this.store,
      incarnation: this.incarnation,
      now: () => this.time.now(),
      ceilingMillis: this.ceilingMillis,
      persistCeiling: (millis) => {
        this.ceilingMillis = millis;
      },
    });
    if (world.mutation.oneMoreThanHighest) {
      const source = this.ballots;
      const next = source.next.bind(source);
      source.next = (above = null) => {
        const ballot = next(above);
        if (above === null || !isFromSecondClock(ballot)) return ballot;
        return { ...ballot, clockHigh: above.clockHigh, clockLow: above.clockLow + 1 };
      };
    }
    const { rules } = world.mutation;
    this.coordinator = new Coordinator(new SimSetup(this, this.ballots), {
      ...ALL_RULES,
      confirmFoundations: !this.isOlder,
      ...rules,
    });
  }

  /** Whether it runs the program from before FEATURE_DECIDED. */
  get isOlder(): boolean {
    return this.world.weather.hasOlder === true && this.index % 2 === 0;
  }

  /** Reads the clocks of the others, again and again. */
  private pulse(): void {
    const { world, life } = this;
    for (const other of world.nodes) {
      if (other === this) continue;
      const sentMs = world.queue.now;
      world.request<number>(
        this,
        other,
        () => other.wall(),
        (answer) => {
          if (typeof answer === "number") this.time.heard(other.name, answer, world.queue.now - sentMs);
        },
      );
    }
    world.queue.after(PULSE_MS, () => {
      if (this.life === life && world.busy) this.whenRunning(() => this.pulse());
    });
  }

  /** Operations of clients under way: each is told what the clock shows them. */
  readonly judged = new Set<Recorded>();
  /** How far its clock for ends is off, where each node has its own. */
  endOffsetMs = 0;

  /** Cluster time as this node has it, for ends. */
  clock(): number {
    return this.world.weather.ownClocks ? this.wall() + this.endOffsetMs : this.time.now();
  }

  /** Judges by that: the world notes it, and who is judged. */
  endMillis(): number {
    const { world } = this;
    const millis = world.mutation.endsByOwnClock ? 0 : this.clock();
    if (this.isTimeKnown()) world.noteTime(millis);
    this.tellJudged(millis);
    return millis;
  }

  private tellJudged(millis: number): void {
    for (const operation of this.judged)
      operation.clockMillis = Math.min(operation.clockMillis ?? Infinity, millis);
  }

  private isTimeKnown(): boolean {
    return this.world.weather.ownClocks === true || this.time.wasAgreed;
  }

  knowsTime(): boolean {
    const known = this.isTimeKnown() || this.world.mutation.marksAtOnce === true;
    // To who does not know the time nothing has ended.
    if (!known) this.tellJudged(0);
    return known;
  }

  crash(): void {
    this.alive = false;
    this.life++;
    this.taken.clear();
    this.shown.length = 0;
    this.judged.clear();
    this.pausedUntil = 0;
    if (this.world.mutation.promisesNotPersisted && this.state !== null)
      this.state = this.state.ballot === null ? null : { ...this.state, promised: null };
    for (const orphan of [...this.orphaned]) orphan();
    this.orphaned.clear();
  }

  /** Gone for good. */
  isLost = false;

  lose(): void {
    this.isLost = true;
    if (this.alive) this.crash();
  }

  /** A new, empty disk. The layout comes from the master again. */
  wipe(): void {
    this.state = null;
    this.value = this.version = 0;
    this.recent = null;
    this.floor = null;
    this.voting = false;
    this.needsFloor = false;
    this.synchronising = false;
    this.store = this.world.nextStore++;
    this.incarnation = 0;
    this.ceilingMillis = 0;
    this.epoch = this.world.epoch;
    this.synchronising = this.mustSynchronise();
  }

  /** As `Placement.mustSynchronise` says for a partition; by the true sets, whatever a mutation made of them. */
  mustSynchronise(): boolean {
    const group = this.world.trueGroups[this.epoch - 1];
    const before = this.world.trueGroups[this.epoch - 2];
    if (group.recovers === true) return (group.current & bitOf(group, this.name)) !== 0;
    if (group.nodes.length === countOf(group.current) || before === undefined) return false;
    const bit = bitOf(group, this.name);
    const shrinks = before.nodes.length > countOf(group.current);
    return (group.current & bit) !== 0 && (shrinks || !before.nodes.includes(this.name));
  }

  // ---- layout ----------------------------------------------------------------------------------------------------------------------

  /** Learns of an epoch from another node: asks for the layout, which takes a moment. */
  hear(epoch: number): void {
    if (epoch <= this.epoch) return;
    const { life } = this;
    this.world.queue.after(5, () => {
      if (this.life === life) this.setEpoch(epoch);
    });
  }

  setEpoch(epoch: number): void {
    if (epoch <= this.epoch) return;
    const before = this.group().nodes.includes(this.name);
    this.epoch = epoch;
    const isMember = this.group().nodes.includes(this.name);
    if (isMember && !before) this.needsFloor = true;
    this.synchronising = this.mustSynchronise();
    if (!isMember) {
      this.state = null;
      this.floor = null;
      this.value = this.version = 0;
      this.recent = null;
    }
  }

  // ---- replica ---------------------------------------------------------------------------------------------------------------------

  /** What every request meets first. */
  private refusal(epoch: number): Refused | null {
    if (epoch < this.epoch) return { kind: "refused", reason: "stale_epoch", epoch: this.epoch };
    if (epoch > this.epoch) {
      const refused: Refused = { kind: "refused", reason: "behind_epoch", epoch: this.epoch };
      this.hear(epoch);
      return refused;
    }
    if (!this.voting || this.needsFloor || !this.group().nodes.includes(this.name))
      return { kind: "refused", reason: "not_voting", epoch: 0 };
    return null;
  }

  private no(): { kind: "no"; higher: Ballot } {
    return { kind: "no", higher: obstacleOf(this.state, this.floor) as Ballot };
  }

  prepare(epoch: number, ballot: Ballot, builds = false): PrepareAnswer {
    const refusal = this.refusal(epoch);
    if (refusal !== null) return refusal;
    if (this.isTooFarAhead(ballot)) return { kind: "refused", reason: "ahead", epoch: 0 };
    this.ballots.observe(ballot);
    if (judgePrepare(this.state, this.floor, ballot) === NO) return this.no();
    this.state = { ...(this.state ?? EMPTY), promised: ballot };
    if (builds && this.state.ballot !== null)
      this.shown.push({ operation: this.state.operationLow, node: ballot.node });
    return { kind: "yes", floor: this.state.ballot === null ? this.floor : null, ...this.held() };
  }

  accept(epoch: number, proposal: Proposal): AcceptAnswer {
    const refusal = this.refusal(epoch);
    if (refusal !== null) return refusal;
    if (proposal.held !== true && this.isTooFarAhead(proposal.ballot))
      return { kind: "refused", reason: "ahead", epoch: 0 };
    this.ballots.observe(proposal.ballot);
    return this.hold(proposal);
  }

  private isTooFarAhead(ballot: Ballot): boolean {
    const record = this.state?.ballot ?? null;
    return isAhead(ballot, record ?? this.floor, this.time.now());
  }

  /** The rule of accept, for a replica that need not vote. */
  hold(proposal: Proposal): AcceptAnswer {
    const { world, state } = this;
    const ended = proposal.payload.ended === true;
    const bound = ended && world.mutation.marksUnderPromises && state ? { ...state, promised: null } : state;
    const verdict =
      world.mutation.judgeAccept?.(world, state, this.floor, proposal) ??
      judgeAccept(bound, this.floor, proposal.ballot, ended);
    if (verdict === NO) return this.no();
    if (
      verdict === YES &&
      this.recent !== null &&
      recentIn(proposal) === null &&
      !world.mutation.takesUnprepared
    )
      return { kind: "refused", reason: "unprepared", epoch: 0 };
    const already = verdict === ALREADY;
    const answer: AcceptAnswer = {
      kind: "yes",
      already,
      previous: already ? null : (state?.ballot ?? null),
      existed: !already && existsIn(state) && !hasEnded(state?.end ?? 0, proposal.atMillis ?? 0),
    };
    if (verdict === YES) {
      world.noteAccepted(proposal.operationLow, proposal.ballot);
      this.take(proposal, state?.promised ?? null);
    }
    return answer;
  }

  recall(epoch: number, operation: number, asker: number, ageMs: number): RecallAnswer {
    const refusal = this.refusal(epoch);
    if (refusal !== null) return refusal;
    const { mutation, queue } = this.world;
    const known = this.startedAt <= queue.now - ageMs || mutation.recallsAlways === true;
    const shown =
      mutation.forgetsWhoWasShown !== true &&
      this.shown.some((each) => each.operation === operation && each.node !== asker);
    const taken = this.taken.get(operation) ?? [];
    const certain = taken.every((each) => each.epoch === epoch);
    return { kind: "yes", known, shown, ballots: taken.map(({ ballot }) => ballot), certain };
  }

  take(proposal: Proposal, promised: Ballot | null): void {
    const { ballot, payload, operationLow, operationHigh } = proposal;
    const taken = this.taken.get(operationLow) ?? [];
    taken.push({ ballot, epoch: this.epoch });
    this.taken.set(operationLow, taken);
    const { tombstone, ended = false, end = 0 } = payload;
    this.recent = recentIn(proposal);
    const remembers = this.recent !== null && this.world.mutation.mergesWithoutMemory !== true;
    this.state = { promised, ballot, tombstone, ended, end, remembers, operationLow, operationHigh };
    const isValue = !payload.tombstone;
    this.value = isValue ? (payload as SimPayload).value : 0;
    this.version = isValue ? (payload as SimPayload).version : 0;
  }

  private held(): Held {
    const { ballot, tombstone, ended, end, operationLow, operationHigh } = this.state ?? EMPTY;
    return { ballot, tombstone, ended, end, operationLow, operationHigh, recent: this.recent };
  }

  private payload(): SimPayload | null {
    if (!existsIn(this.state)) return null;
    const { value, version, recent } = this;
    return { tombstone: false, value, version, end: (this.state as RegisterState).end, recent };
  }

  /** Marks its own value if that has ended, as each replica does by itself. */
  sweep(): void {
    const { state } = this;
    if (!this.alive || !this.voting || !this.isMember() || !existsIn(state) || !this.knowsTime()) return;
    const { ballot, end, operationLow, operationHigh } = state as RegisterState;
    if (ballot === null || !hasEnded(end, this.endMillis())) return;
    this.hold({ ballot, payload: endMark(end, this.recent), operationLow, operationHigh });
  }

  look(epoch: number, withPayload: boolean): LookAnswer {
    const refusal = this.refusal(epoch);
    if (refusal !== null) return refusal;
    return { kind: "yes", payload: withPayload ? this.payload() : null, ...this.held() };
  }

  /** The record as something to send on. */
  record(): Proposal | null {
    const { state } = this;
    if (state === null || state.ballot === null) return null;
    const { ballot, operationLow, operationHigh } = state;
    const { recent } = this;
    const payload = state.ended ? endMark(state.end, recent) : (this.payload() ?? { ...TOMBSTONE, recent });
    return { ballot, payload, operationLow, operationHigh };
  }

  /** What a replica that synchronises is told; null: ask another time. */
  tell(epoch: number): (SourceState & { record: Proposal | null }) | null {
    if (this.refusal(epoch) !== null) return null;
    return { state: this.state, floor: this.floor, record: this.record() };
  }

  private confirm(epoch: number, tombstone: Ballot, ended: boolean): boolean {
    if (this.refusal(epoch) !== null || this.synchronising) return false;
    if (this.world.mutation.collectsUnmarked && this.state?.ballot != null)
      return compareBallots(this.state.ballot, tombstone) === 0;
    return confirmsTombstone(this.state, this.floor, tombstone, ended, Number.POSITIVE_INFINITY);
  }

  private collect(epoch: number, tombstone: Ballot, ended: boolean): void {
    if (this.refusal(epoch) === null && holdsTombstone(this.state, tombstone, ended)) this.forget();
  }

  /** Forgets a tombstone or a lone promise; the floor first. */
  forget(): void {
    if (!this.world.mutation.noFloor) this.floor = floorWithout(this.state as RegisterState, this.floor);
    this.state = null;
    this.recent = null;
  }

  /** The port of tombstone collection. */
  collectPort() {
    const { world } = this;
    let asked = 0;
    return {
      confirm: (
        name: string,
        _: ClusterKey,
        epoch: number,
        tombstone: Ballot,
        ended: boolean,
        reply: (confirmed: boolean) => void,
      ): void => {
        const to = world.node(name);
        // One of three is taken as confirmed without being asked.
        if (world.mutation.collectAtMajority && ++asked > 2) reply(true);
        else
          world.request(
            this,
            to,
            () => to.confirm(epoch, tombstone, ended),
            (answer) => reply(answer === true),
          );
      },
      collect: (name: string, _: ClusterKey, epoch: number, tombstone: Ballot, ended: boolean): void => {
        const to = world.node(name);
        if (to === this) this.collect(epoch, tombstone, ended);
        else world.send(this, to, () => to.collect(epoch, tombstone, ended));
      },
    };
  }

  // ---- repair ----------------------------------------------------------------------------------------------------------------------

  /** Hints: a decided record for those that missed it, some time later, by the layout of that time. */
  hint(proposal: Proposal, names: readonly string[]): void {
    const { world, life } = this;
    for (const name of names)
      world.queue.after(50 + world.chance() * 3000, () => {
        if (this.life === life) this.push(world.node(name), proposal);
      });
  }

  /** Sends a record to another replica, at its same ballot; the answer does not matter. */
  push(to: SimNode, proposal: Proposal): void {
    const { epoch } = this;
    if (to !== this && this.group().nodes.includes(to.name))
      this.world.send(this, to, () => void to.accept(epoch, proposal));
  }

  /** Whether the tombstone held has this age, by the node's own clock. */
  holdsOldTombstone(ageMs: number): boolean {
    const { state } = this;
    return state?.ballot != null && !existsIn(state) && isOldTombstone(state, this.wall(), ageMs);
  }

  isMember(): boolean {
    return this.group().nodes.includes(this.name);
  }
}

export const EMPTY: RegisterState = {
  promised: null,
  ballot: null,
  tombstone: false,
  ended: false,
  end: 0,
  operationLow: 0,
  operationHigh: 0,
};

/** A group by letters: current and previous replicas. */
export function groupOf(epoch: number, current: string, previous: string = current): ReplicaGroup {
  const nodes = [...new Set([...current, ...previous])];
  const set = (members: string): number =>
    [...members].reduce((sum, member) => sum | (1 << nodes.indexOf(member)), 0);
  const sets = { current: set(current), previous: set(previous) };
  return { epoch, partition: 0, prefix: prefixOf(0, 1024), nodes, ...sets };
}

/** Whether these nodes are enough to serve the key. */
export function canServe(world: World): boolean {
  const group = world.groups[world.epoch - 1];
  let set = 0;
  group.nodes.forEach((name, index) => {
    const node = world.node(name);
    if (node.alive && node.voting && !node.needsFloor) set |= 1 << index;
  });
  return hasMajority(group, set);
}
