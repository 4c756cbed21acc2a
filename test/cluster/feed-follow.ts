/**
 * Clients that keep a copy of a cluster's keys by its feed of changes, each at some node, while nodes are killed and links cut; they are killed
 * themselves, and go on at another node from the place that they had written down. At rest each copy is the list.
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../random.ts";
import { call } from "../rest/client.ts";
import { waitUntil } from "../rest/server.ts";
import { move } from "./chaos.ts";
import { startCluster, type Worker } from "./workers.ts";

interface ListedKey {
  key: string;
  etag: string;
  ttl?: number;
}

/** How long it may take until all is told, once there is no more trouble. */
const REST_MS_MAX = 60_000;

/** Longest life of a value that ends. */
const TTL_MS_MAX = 2000;
/** How long a node whose disk was lost may take until it votes again. */
const REJOIN_MS_MAX = 180_000;

interface Told {
  event: string;
  key: string;
  etag: string;
}

type Reply = Awaited<ReturnType<typeof call>>;

/** What was refused last, for the message of what does not end. */
let lastRefusal = "";

/** Null: nobody answers, or it says "try again". */
async function ask(port: number, path: string): Promise<Reply | null> {
  const reply = await call(port, "GET", path, { agent: false }).catch((error: Error) => error.message);
  if (typeof reply === "object" && reply.status < 500) return reply;
  lastRefusal = `${path.slice(0, 40)} at ${port}: ${typeof reply === "string" ? reply : reply.text}`;
  return null;
}

class Follower {
  map = new Map<string, string>();
  private place: string | null = null;
  private kept: { map: Map<string, string>; place: string } | null = null;
  worker: Worker;
  resets = 0;
  told = 0;
  private readonly random: Random;
  private readonly workers: readonly Worker[];

  constructor(random: Random, workers: readonly Worker[]) {
    this.random = random;
    this.workers = workers;
    this.worker = workers[random.below(workers.length)];
  }

  /** True: there was nothing more. */
  async step(wait = ""): Promise<boolean> {
    const { port } = this.worker;
    if (this.place === null) {
      const now = await ask(port, "/f/?changes");
      const list = now === null ? null : await listOf(port);
      if (now === null || list === null) this.move();
      else {
        this.map = list;
        this.place = now.json().place;
      }
      return false;
    }
    const reply = await ask(
      port,
      `/f/?changes&limit=${1 + this.random.below(50)}${wait}&since=${this.place}`,
    );
    if (reply === null) {
      this.move();
      return false;
    }
    if (reply.status === 410) {
      this.place = null;
      this.resets++;
      return false;
    }
    assert.equal(reply.status, 200, reply.text);
    const { changes, place, more } = reply.json() as { changes: Told[]; place: string; more: boolean };
    for (const { event, key, etag } of changes) {
      this.told++;
      if (event === "put") this.map.set(key, etag);
      else this.map.delete(key);
    }
    this.place = place;
    if (this.random.below(3) === 0) this.kept = { map: new Map(this.map), place };
    return changes.length === 0 && !more;
  }

  move(): void {
    this.worker = this.workers[this.random.below(this.workers.length)];
  }

  kill(): void {
    this.map = new Map(this.kept?.map ?? []);
    this.place = this.kept?.place ?? null;
    this.move();
  }
}

/** Null: nobody can tell now, or some of the values are about to end. */
export async function listOf(port: number, isAtRest = false): Promise<Map<string, string> | null> {
  const found = new Map<string, string>();
  for (let cursor: string | null = ""; cursor !== null; ) {
    const reply = await ask(port, `/f/?list${cursor === "" ? "" : `&cursor=${cursor}`}`);
    if (reply === null) return null;
    assert.equal(reply.status, 200, reply.text);
    const page = reply.json() as { keys: ListedKey[]; cursor: string | null };
    for (const { key, etag, ttl } of page.keys) {
      if (isAtRest && ttl !== undefined) return null;
      found.set(key, etag);
    }
    ({ cursor } = page);
  }
  return found;
}

async function doesVote({ port }: Worker): Promise<boolean> {
  const health = await call(port, "GET", "/health", { agent: false }).catch(() => null);
  return health !== null && health.json().cluster?.voting === true;
}

export interface FollowResult {
  told: number;
  resets: number;
  kills: number;
  moves: number;
}

/** What happens beside kills and cut links. */
export interface Trouble {
  /** Workers also join and are drained, one after the other. */
  moves?: boolean;
  /** Once, a worker comes back with an empty disk. */
  loss?: boolean;
}

/** One cluster, `rounds` rounds of trouble. Throws what is wrong. */
export async function followCluster(
  random: Random,
  rounds: number,
  { moves = false, loss = false }: Trouble = {},
): Promise<FollowResult> {
  const cluster = await startCluster({ workers: 3 });
  const { workers } = cluster;
  let over = false;
  let kills = 0;
  let moved = 0;
  const followers = workers.map(() => new Follower(random, workers));
  const writing = Promise.all(
    [0, 1, 2, 3].map(async () => {
      while (!over) {
        const { port } = workers[random.below(workers.length)];
        const key = `/f/${random.below(60)}`;
        const isDelete = random.below(4) === 0;
        const ttl = random.below(6) === 0 ? `?ttl=${1 + random.below(TTL_MS_MAX)}ms` : "";
        await call(port, isDelete ? "DELETE" : "PUT", isDelete ? key : `${key}${ttl}`, {
          agent: false,
          ...(isDelete ? {} : { body: `${random.below(1e6)}` }),
        }).catch(() => null);
        await sleep(random.below(10));
      }
    }),
  );
  const following = Promise.all(
    followers.map(async (follower) => {
      while (!over) {
        await follower.step(random.below(2) === 0 ? "&wait=200ms" : "");
        if (random.below(12) === 0) follower.kill();
        await sleep(random.below(20));
      }
    }),
  );
  try {
    for (let round = 0; round < rounds; round++) {
      const worker = workers[random.below(3)];
      await sleep(200 + random.below(800));
      if (moves && round % 2 === 0) {
        moved++;
        const moving = await move(cluster, workers.length === 3 ? "add" : "drain");
        await moving();
      } else if (loss && round === rounds >> 1) {
        await worker.kill("SIGKILL");
        rmSync(worker.data, { recursive: true });
        await worker.start();
        await waitUntil("it votes again", () => doesVote(worker), REJOIN_MS_MAX);
      } else if (random.below(2) === 0) {
        kills++;
        await worker.kill(random.below(2) === 0 ? "SIGKILL" : "SIGTERM");
        await sleep(random.below(1500));
        await worker.start();
      } else {
        const links = workers.filter((other) => other !== worker).map((other) => worker.linkFrom(other));
        for (const link of links) link.stall();
        await sleep(random.below(1500));
        for (const link of links) link.heal();
      }
    }
    over = true;
    await Promise.all([writing, following]);
    await cluster.ready();
    const untilMs = performance.now() + REST_MS_MAX;
    const again = async (what: string): Promise<void> => {
      const logs = (): string => workers.map((worker) => worker.log()).join("\n");
      assert.ok(performance.now() < untilMs, `${what}; ${lastRefusal}\n${logs()}`);
      await sleep(50);
    };
    for (const follower of followers)
      while (!(await follower.step())) await again("a follower does not come to an end");
    let list = await listOf(workers[0].port, true);
    for (; list === null; list = await listOf(workers[0].port, true)) await again("no list comes");
    // What was under way may be decided late: then it is told, and listed.
    const expected = list;
    for (const follower of followers) {
      for (;;) {
        const isSame =
          follower.map.size === expected.size &&
          [...expected].every(([key, etag]) => follower.map.get(key) === etag);
        if (isSame) break;
        if (performance.now() > untilMs)
          assert.deepEqual(new Map([...follower.map].sort()), new Map([...expected].sort()));
        await follower.step("&wait=500ms");
      }
    }
    const sum = (figure: (follower: Follower) => number): number =>
      followers.reduce((total, follower) => total + figure(follower), 0);
    return { told: sum(({ told }) => told), resets: sum(({ resets }) => resets), kills, moves: moved };
  } finally {
    over = true;
    await Promise.all([writing, following]).catch(() => {});
    await cluster.dispose();
  }
}
