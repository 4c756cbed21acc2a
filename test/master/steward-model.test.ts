/**
 * The master's judgement under everything that operators, workers and its own disk may do to it, in any order: nothing but a refusal is
 * ever thrown, what it decides is a layout, and once all are there again the cluster comes to rest with everybody in it who may be.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { encodeLife } from "../../src/cluster/identity/life.ts";
import { ChangeError } from "../../src/cluster/layout/changes.ts";
import { checked } from "../../src/cluster/layout/check.ts";
import { FEATURES } from "../../src/cluster/layout/features.ts";
import { type Layout, layoutDigest } from "../../src/cluster/layout/layout.ts";
import { DOWN_MS, type Heartbeat, type Tried } from "../../src/cluster/membership/messages.ts";
import type { MasterState } from "../../src/master/layout/state.ts";
import type { Orders } from "../../src/master/steward/orders.ts";
import { SETTLE_MS, type Steward } from "../../src/master/steward/steward.ts";
import { loadHash } from "../../src/util/hash.ts";
import { Random, randomSeed } from "../random.ts";
import { openSteward, type StewardFlags, storeOf, urlOf } from "./stage.ts";

const RUNS = Number(process.env.RUNS ?? 12);
const STEPS = 60;
const NAMES = [..."abcdefg"];
const TICK_MS = 250;
/** The cluster is at rest within this time once all are there. */
const REST_MS_MAX = 240_000;
/** After so long an operator gives a move up that does not end. */
const MOVE_MS_MAX = 60_000;
/** Of a master that removes dead workers. */
const REMOVE_MS = 20_000;

before(loadHash);

/** A worker as a master sees it. */
class ModelWorker {
  isUp = false;
  layout: Layout | null = null;
  /** It holds what the layout wants it to. */
  isWhole = true;
  /** Others do not reach it. */
  isCut = false;
  isEmpty = true;
  refused: string | null = null;
  private life = 0;
  private tried: Tried[] = [];

  /** That it is started with. */
  region: string;

  constructor(readonly name: string) {
    this.region = name;
  }

  get url(): string {
    return urlOf(this.name);
  }

  get store(): string {
    return storeOf(this.name, this.life);
  }

  get isMember(): boolean {
    return this.layout?.nodes.some(({ url }) => url === this.url) ?? false;
  }

  get votes(): boolean {
    return this.isMember && this.isWhole;
  }

  wipe(): void {
    this.life++;
    this.layout = null;
    this.isEmpty = true;
    this.isWhole = false;
    this.tried = [];
  }

  /** One heartbeat and its answer. @param isDone it has synchronised what a move wants of it */
  beat(master: Master, isDone: boolean): void {
    const { url, store, layout, votes } = this;
    const epoch = layout?.epoch ?? 0;
    if (isDone && this.isMember) this.isWhole = true;
    if (this.isMember) this.isEmpty = false;
    const moving = layout != null && layout.previous !== null;
    const progress = moving ? { epoch, done: isDone ? 5 : 2, total: 5 } : null;
    const who = { store, incarnation: 1 + this.life, session: "0123456789abcdef", votes, url };
    const about = { cluster: layout?.cluster ?? null, epoch, layout: layout && layoutDigest(layout) };
    const report: Heartbeat = {
      ...{ url, region: this.region, host: this.name, store, epoch, empty: this.isEmpty },
      ...{ voting: votes, rank: 0, progress, features: FEATURES, load: null },
      ...{ life: encodeLife({ ...about, ...who }), tried: this.tried },
    };
    const heard = master.steward.hear(master.nowMs, report);
    assert.ok(heard !== "full");
    const { layout: newer, candidates = [], refused } = heard.answer;
    this.refused = refused ?? null;
    this.tried = candidates.map((one) => ({ ...one, problem: master.problemOf(one.url) }));
    if (newer !== undefined && newer.epoch > epoch) this.layout = checked(newer);
  }
}

/** A master, its disk and its workers. */
class Master {
  nowMs = 0;
  readonly workers = NAMES.map((name) => new ModelWorker(name));
  disk: MasterState | null = null;
  /** That it is started with. */
  flags: StewardFlags = { replicas: null, removeMs: 0, partitions: null };
  steward = this.start();
  private movingSinceMs = 0;
  private seenEpoch = 0;

  private start(): Steward {
    const { steward } = openSteward([], structuredClone(this.disk), this.flags, {
      nowMs: this.nowMs,
      save: (state) => {
        this.disk = structuredClone(state);
        if (state.layout !== null) checked(structuredClone(state.layout));
      },
      warn() {},
    });
    return steward;
  }

  restart(disk: MasterState | null): void {
    this.disk = structuredClone(disk);
    this.steward = this.start();
  }

  problemOf(url: string): string | null {
    const worker = this.workers.find((one) => one.url === url);
    return worker?.isUp && !worker.isCut ? null : "ECONNREFUSED";
  }

  /** @param isDone whether a worker has synchronised by now */
  pass(ms: number, isDone: () => boolean): void {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; this.nowMs += TICK_MS) {
      if (this.nowMs % 1000 === 0)
        for (const worker of this.workers) if (worker.isUp) worker.beat(this, isDone());
      const { steward, nowMs } = this;
      steward.tick(nowMs);
      for (const one of steward.untried(nowMs)) steward.tried({ ...one, problem: this.problemOf(one.url) });
      this.learn();
    }
  }

  private learn(): void {
    const { steward, nowMs } = this;
    const worker = this.workers.find(({ url }) => url === steward.newerAt(nowMs)[0]);
    if (worker === undefined) return;
    const { url, name, region, store, layout, votes } = worker;
    const document = { url, region, host: name, store, epoch: layout?.epoch ?? 0, layout };
    const rest = { success: true as const, empty: worker.isEmpty, voting: votes, birth: {}, volumes: null };
    steward.learn(nowMs, { ...document, ...rest });
  }

  /** What an operator asks for; a refusal is the operator's matter. */
  order(give: (orders: Orders, epoch: number) => void): void {
    try {
      give(this.steward.orders, this.steward.layout?.epoch ?? 0);
    } catch (error) {
      if (!(error instanceof ChangeError)) throw error;
    }
  }

  /** What the docs tell an operator to do where a cluster does not come to rest. */
  operate(): void {
    const { layout } = this.steward;
    if (layout?.previous == null || layout.epoch !== this.seenEpoch) this.movingSinceMs = this.nowMs;
    this.seenEpoch = layout?.epoch ?? 0;
    const { missing, stuck } = this.steward.absence(this.nowMs);
    // Who is to take another's place and may not: it is stopped, and what waits for it is withdrawn.
    const refused = this.workers.find(
      ({ url, refused }) =>
        refused !== null &&
        this.steward.queue.some((change) => change.kind === "replace" && change.node.url === url),
    );
    if (refused !== undefined) refused.isUp = false;
    this.order((orders, epoch) => {
      if (stuck > 0) orders.recover(this.nowMs, epoch, missing);
      else if (refused !== undefined) orders.remove(this.nowMs, refused.url);
      else if (this.nowMs - this.movingSinceMs > MOVE_MS_MAX) {
        orders.abandon(this.nowMs, epoch);
        // Only a master that is started anew wants again what an operator has given up.
        this.restart(this.disk);
      }
    });
  }

  /** What is not at rest, for a person; null: all is. */
  get unrest(): string | null {
    const { steward, workers } = this;
    const { layout, queue } = steward;
    if (layout === null) return "there is no layout";
    if (layout.previous !== null || queue.length > 0) return `${queue.length} changes wait, or one moves`;
    if (layout.replicas !== (this.flags.replicas ?? layout.replicas)) return "there are not as many copies";
    for (const worker of workers.filter(({ isUp }) => isUp)) {
      const { name, region, refused } = worker;
      if (!steward.isMember(worker.url)) {
        if (refused === null) return `${name} is neither taken in nor told why`;
      } else if (worker.layout === null || layoutDigest(worker.layout) !== layoutDigest(checked(layout)))
        return `${name} has another layout`;
      else if (layout.nodes.some((node) => node.url === worker.url && node.region !== region))
        return `${name} is in another region`;
    }
    return null;
  }
}

test("steward: whatever is asked of it, in any order, the cluster comes to rest", (t) => {
  const first = randomSeed(t);
  let layouts = 0;
  for (let seed = first; seed < first + RUNS; seed++) {
    const master = new Master();
    try {
      run(master, new Random(seed));
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
    layouts += master.steward.layout?.epoch ?? 0;
  }
  t.diagnostic(`${RUNS} runs, ${layouts} epochs`);
  assert.ok(layouts > RUNS);
});

interface Scene {
  master: Master;
  worker: ModelWorker;
  other: ModelWorker;
  /** Of the master's disk as it was once. */
  copy: MasterState | null;
  number: number;
}

function run(master: Master, random: Random): void {
  const { workers } = master;
  for (const worker of workers.slice(0, 3)) worker.isUp = true;
  master.pass(SETTLE_MS + 6000, () => false);
  assert.equal(master.steward.layout?.epoch, 1);
  const copies = [master.disk];
  for (let step = 0; step < STEPS; step++) {
    const pick = <T>(list: readonly T[]): T => list[random.below(list.length)];
    const [worker, other] = [pick(workers), pick(workers)];
    pick(ACTS)({ master, worker, other, copy: pick(copies), number: random.below(10) });
    // A worker in three has done its part by the next heartbeat, where the links are good.
    const isDone = random.below(3) > 0 ? () => random.below(3) === 0 : () => false;
    master.pass(pick([TICK_MS, 1000, 3000, DOWN_MS + 2000]), isDone);
    if (random.below(4) === 0) copies.push(master.disk);
  }
  for (const worker of workers) Object.assign(worker, { isUp: true, isCut: false });
  master.restart(master.disk);
  const endMs = master.nowMs + REST_MS_MAX;
  do {
    master.pass(3000, () => true);
    if (master.unrest !== null) master.operate();
  } while (master.unrest !== null && master.nowMs < endMs);
  assert.equal(master.unrest, null);
}

/** What can happen, each as likely as it stands here. */
const ACTS: readonly ((scene: Scene) => void)[] = [
  ({ worker }) => Object.assign(worker, { isUp: true }),
  ({ worker }) => Object.assign(worker, { isUp: true }),
  ({ worker }) => Object.assign(worker, { isUp: false }),
  ({ worker }) => Object.assign(worker, { isCut: !worker.isCut }),
  ({ master, worker }) => {
    // Of several that are not whole at once nobody could tell what is lost.
    if (master.workers.every((one) => one.isWhole || !one.isMember)) worker.wipe();
  },
  ({ master, worker }) => master.order((orders) => orders.drain(master.nowMs, worker.url)),
  ({ master, worker }) => master.order((orders) => orders.remove(master.nowMs, worker.url)),
  ({ master, worker, other }) =>
    master.order((orders) => orders.replace(master.nowMs, worker.url, other.url)),
  ({ master, worker, other }) =>
    master.order((orders) => orders.replace(master.nowMs, worker.url, other.url)),
  ({ master }) => master.order((orders, epoch) => orders.abandon(master.nowMs, epoch)),
  ({ master }) => {
    const { missing } = master.steward.absence(master.nowMs);
    master.order((orders, epoch) => orders.recover(master.nowMs, epoch, missing));
  },
  ({ worker, other }) => Object.assign(worker, { region: other.region }),
  ({ master }) => master.restart(master.disk),
  ({ master, number }) => {
    master.flags = {
      partitions: null,
      replicas: [null, 1, 2, 3, 5][number % 5],
      removeMs: number % 2 === 0 ? 0 : REMOVE_MS,
    };
    master.restart(master.disk);
  },
  ({ master, copy }) => master.restart(copy),
];
