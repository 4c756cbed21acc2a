/**
 * Masters that share a registry in etcd, as processes: killed, paused for longer than their lease, and cut off from etcd, each while a
 * layout moves. There is one layout of each epoch whoever tells of it, every order that was taken is carried out, and workers serve on.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../native-bench/processes.ts";
import { call } from "../rest/client.ts";
import {
  builtProgram,
  healthStatus,
  launch,
  type Program,
  removeFolder,
  temporaryFolder,
} from "../rest/server.ts";
import {
  createLink,
  digestOf,
  documentOf,
  type Etcd,
  historyOf,
  type Link,
  startEtcd,
  withoutEtcd,
} from "./etcd-server.ts";

const WAIT_MS_MAX = 240_000;
const PREFIX = "tests/masters";

async function until<Result>(what: string, look: () => Promise<Result | null | false>): Promise<Result> {
  const deadline = performance.now() + WAIT_MS_MAX;
  for (;;) {
    const result = await look().catch(() => null);
    if (result !== null && result !== false) return result;
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(50);
  }
}

/** Waits until a node listens. */
async function serves(port: number): Promise<void> {
  await until(`${port} listens`, async () => (await healthStatus(port)) !== 0);
}

interface Master {
  port: number;
  url: string;
  link: Link;
  program: Program | null;
  start(): Promise<void>;
}

/** What anybody was told of layouts: digests by epoch. */
class Layouts {
  private readonly told = new Map<number, Map<string, string>>();

  note(layout: { epoch: number } | null, by: string): void {
    if (layout === null) return;
    const digests = this.told.get(layout.epoch) ?? new Map<string, string>();
    digests.set(digestOf(layout), by);
    this.told.set(layout.epoch, digests);
  }

  check(): void {
    for (const [epoch, digests] of this.told)
      assert.equal(digests.size, 1, `one layout of epoch ${epoch}: ${[...digests].join("; ")}`);
  }

  get epochs(): number[] {
    return [...this.told.keys()].sort((a, b) => a - b);
  }
}

class Stage {
  readonly folder = temporaryFolder();
  readonly layouts = new Layouts();
  readonly masters: Master[] = [];
  readonly workers = new Map<number, Program>();
  etcd: Etcd = null as unknown as Etcd;
  private isOver = false;
  private watching: Promise<unknown> = Promise.resolve();

  async begin(masters: number): Promise<void> {
    await builtProgram();
    this.etcd = await startEtcd();
    for (let number = 0; number < masters; number++)
      this.masters.push(await this.createMaster(await freePort()));
    await Promise.all(this.masters.map((master) => master.start()));
    this.watching = this.watch();
  }

  private async createMaster(port: number): Promise<Master> {
    const link = await createLink(this.etcd.port);
    const master: Master = {
      ...{ port, url: `http://localhost:${port}`, link, program: null },
      start: async () => {
        const words = ["-mode", "master", "-port", String(port), "-host", "127.0.0.1"];
        const registry = `etcd://127.0.0.1:${link.port}/${PREFIX}`;
        master.program = await launch([
          ...words,
          "-data",
          path.join(this.folder, `m${port}`),
          "-registry",
          registry,
        ]);
        await serves(port);
      },
    };
    return master;
  }

  async addWorker(): Promise<number> {
    const port = await freePort();
    const masters = this.masters.map(({ url }) => url).join();
    const words = ["-port", String(port), "-host", "127.0.0.1", "-threads", "1", "-sync", "os"];
    this.workers.set(
      port,
      await launch([...words, "-data", path.join(this.folder, `w${port}`), "-master", masters]),
    );
    await serves(port);
    return port;
  }

  /** The master that leads, as it says itself. */
  async leader(): Promise<Master> {
    return until("a master leads", async () => {
      for (const master of this.masters) {
        const health = await ask(master.port, "/health").catch(() => null);
        if (health?.standby === false) return master;
      }
      return null;
    });
  }

  /** The master that leads and knows of so many workers: each reports to whichever leads. */
  async leaderOf(workers: number): Promise<Master> {
    return until(`a master leads ${workers} workers`, async () => {
      const master = await this.leader();
      const { nodes } = await ask(master.port, "/nodes");
      return nodes.length >= workers && master;
    });
  }

  /** Gives an order to whichever leads, until it is taken: as the commands do, one that was not taken is given again. */
  async order(command: object): Promise<void> {
    await until(`an order is taken: ${JSON.stringify(command)}`, async () => {
      for (const { port } of this.masters) {
        const reply = await call(port, "POST", "/layout", { body: JSON.stringify(command) }).catch(
          () => null,
        );
        // It was taken before, and the answer was lost.
        if (reply?.status === 200 || (reply?.status === 409 && /not (in|part)|already|leav/.test(reply.text)))
          return true;
      }
      return false;
    });
  }

  /** Waits until the layout is stable, with these workers. */
  async settled(ports: Iterable<number>): Promise<void> {
    const expected = [...ports].map((port) => `http://localhost:${port}`).sort();
    await until(`the layout has ${expected}`, async () => {
      const { port } = await this.leader();
      const { layout } = await ask(port, "/layout");
      // biome-ignore lint/suspicious/noExplicitAny: a document
      const urls = layout?.nodes.map((node: any) => node.url).sort();
      return layout?.previous === null && urls?.join() === expected.join();
    });
  }

  /** Notes what all nodes tell of layouts, all the time. */
  private async watch(): Promise<void> {
    while (!this.isOver) {
      for (const { port, url } of this.masters)
        await ask(port, "/layout").then(
          (answer) => this.layouts.note(answer.layout ?? null, url),
          () => {},
        );
      for (const port of this.workers.keys())
        await ask(port, "/_peer/layout").then(
          (answer) => this.layouts.note(answer.layout, `worker ${port}`),
          () => {},
        );
      await sleep(100);
    }
  }

  /** Ends the watch, and judges what was told together with all that etcd has ever had. */
  async judge(): Promise<void> {
    this.isOver = true;
    await this.watching;
    const states = (await historyOf(this.etcd, `${PREFIX}/state`)).map((value) =>
      documentOf(value as string),
    );
    let epoch = 0;
    for (const { layout } of states) {
      if (layout === null) continue;
      assert.ok(layout.epoch === epoch || layout.epoch === epoch + 1, `${layout.epoch} comes after ${epoch}`);
      epoch = layout.epoch;
      this.layouts.note(layout, "etcd");
    }
    this.layouts.check();
    // Nobody was told what etcd never had.
    assert.equal(this.layouts.epochs.at(-1), epoch);
  }

  async end(): Promise<void> {
    this.isOver = true;
    await this.watching;
    const programs = [...this.masters.map(({ program }) => program), ...this.workers.values()];
    for (const program of programs) {
      program?.child.kill("SIGKILL");
      await program?.ended;
    }
    for (const { link } of this.masters) link.close();
    await this.etcd?.stop();
    removeFolder(this.folder);
  }
}

// biome-ignore lint/suspicious/noExplicitAny: documents of any form
async function ask(port: number, target: string): Promise<any> {
  return (await call(port, "GET", target, { agent: false })).json();
}

/** Writes one key after the other at all workers in turn, each until it is taken. */
class Client {
  private readonly written: string[] = [];
  private isOver = false;
  private readonly writing: Promise<void>;

  constructor(ports: () => number[]) {
    this.writing = this.run(ports);
  }

  private async run(ports: () => number[]): Promise<void> {
    for (let number = 0; !this.isOver; number++) {
      const key = `/written/${number}`;
      await until(`${key} is written`, async () => {
        const all = ports();
        const reply = await call(all[number % all.length], "PUT", key, {
          body: JSON.stringify({ value: number }),
        });
        return reply.status < 300;
      });
      this.written.push(key);
      await sleep(50);
    }
  }

  get count(): number {
    return this.written.length;
  }

  /** More writes are taken from now on. */
  async goesOn(): Promise<void> {
    const before = this.count;
    await until("workers take writes", async () => this.count > before + 2);
  }

  async end(): Promise<readonly string[]> {
    this.isOver = true;
    await this.writing;
    return this.written;
  }
}

describe("masters in etcd", withoutEtcd, () => {
  const stage = new Stage();
  after(() => stage.end());

  test("killed, paused beyond the lease, and cut off, while the layout moves", async () => {
    await stage.begin(3);
    const first = await Promise.all([stage.addWorker(), stage.addWorker(), stage.addWorker()]);
    await stage.settled(first);
    const client = new Client(() => first);
    await client.goesOn();

    // Killed: a worker joins.
    const joined = await stage.addWorker();
    const killed = await stage.leaderOf(4);
    killed.program?.child.kill("SIGKILL");
    await killed.program?.ended;
    await client.goesOn();
    await stage.settled([...first, joined]);
    assert.notEqual(await stage.leader(), killed);
    await killed.start();
    await until("who comes back knows who leads", async () => {
      return (await ask(killed.port, "/health")).leader === (await stage.leader()).url;
    });

    // Paused: an order is taken, and then the leader stands still for longer than its lease.
    const paused = await stage.leader();
    await stage.order({ drain: `http://localhost:${joined}` });
    paused.program?.child.kill("SIGSTOP");
    const others = stage.masters.filter((master) => master !== paused);
    await until("another one leads", async () => {
      for (const master of others) if ((await ask(master.port, "/health")).standby === false) return master;
      return null;
    });
    await client.goesOn();
    paused.program?.child.kill("SIGCONT");
    // Whatever it is asked first: its term is over. (On a slow machine it may have been elected anew; then the layout is not of that epoch.)
    const reply = await call(paused.port, "POST", "/layout", {
      body: JSON.stringify({ abandon: 1_000_000 }),
    });
    assert.ok(["not_leading", "conflict"].includes(reply.json().code), reply.text);
    await until("it says that it leads no more", async () =>
      /leads no more/.test(paused.program?.output() ?? ""),
    );
    await until("it knows who leads", async () => {
      return (await ask(paused.port, "/health")).leader === (await stage.leader()).url;
    });
    await stage.settled(first);
    stage.workers.get(joined)?.child.kill("SIGKILL");
    stage.workers.delete(joined);

    // Cut off from etcd: it says so, stands by, and another one goes on.
    const second = await stage.addWorker();
    const cut = await stage.leaderOf(4);
    cut.link.cut();
    await until("it stands by", async () => (await ask(cut.port, "/health")).standby === true);
    await until("it says why", async () =>
      /etcd does not answer/.test((await ask(cut.port, "/health")).reason),
    );
    await client.goesOn();
    await stage.settled([...first, second]);
    cut.link.heal();
    await until("it takes part again", async () => (await ask(cut.port, "/health")).status === "healthy");

    // All masters away: nothing of it matters to clients.
    for (const { program: master } of stage.masters) {
      master?.child.kill("SIGKILL");
      await master?.ended;
    }
    await client.goesOn();
    const written = await client.end();
    for (const [index, key] of written.entries()) {
      const found = await call(first[index % first.length], "GET", key);
      assert.deepEqual([found.status, found.json().value], [200, index], key);
    }
    await stage.judge();
  });

  test("a prefix that is emptied: the layout is learned from a worker, and no second cluster begins", async () => {
    const { etcd, masters } = stage;
    const [{ port }] = masters;
    const [known] = stage.workers.keys();
    // The masters may have ended before they told anybody of their last step: a worker gives back what it was told.
    const { layout: told } = await ask(known, "/_peer/layout");
    const [name, end] = [`${PREFIX}/`, `${PREFIX}0`].map((key) => Buffer.from(key).toString("base64"));
    await etcd.ask("kv/deleterange", { key: name, range_end: end });
    for (const program of stage.workers.values()) {
      program.child.kill("SIGKILL");
      await program.ended;
    }
    assert.ok(existsSync(path.join(stage.folder, `m${port}/master/REGISTRY`)));
    await masters[0].start();
    const [stranger] = [await stage.addWorker()];
    await until("it says why there is no cluster", async () => {
      return /makes no second one/.test((await ask(port, "/health")).problem);
    });
    assert.equal((await ask(port, "/health")).epoch, 0);
    const data = path.join(stage.folder, `w${known}`);
    const words = [
      "-port",
      String(known),
      "-host",
      "127.0.0.1",
      "-threads",
      "1",
      "-sync",
      "os",
      "-data",
      data,
    ];
    stage.workers.set(known, await launch([...words, "-master", masters.map(({ url }) => url).join()]));
    await until("the layout is back", async () => (await ask(port, "/health")).epoch >= told.epoch);
    const { layout } = await ask(port, "/layout");
    assert.equal(layout.cluster, told.cluster);
    assert.ok(stranger !== known);
  });
});
