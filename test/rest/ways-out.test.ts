/**
 * Ways out, with real processes: a majority that is gone for good, and a worker that dies while it joins.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { after, test } from "node:test";
import { freePort } from "../../native-bench/processes.ts";
import { call } from "./client.ts";
import { FakeWorker } from "./fake-worker.ts";
import { launch, type Program, removeFolder, runProgram, temporaryFolder, waitUntil } from "./server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));

const KEYS = 40;

// biome-ignore lint/suspicious/noExplicitAny: documents of any form
type Document = any;

/** A master and workers of a test. */
class Stage {
  readonly programs = new Map<string, Program>();
  readonly ports = new Map<string, number>();
  private readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  url(worker: string): string {
    return `http://localhost:${this.ports.get(worker)}`;
  }

  async start(worker: string, ...words: string[]): Promise<Program> {
    const port = this.ports.get(worker) ?? (await freePort());
    this.ports.set(worker, port);
    const place = [
      "-host",
      "127.0.0.1",
      "-port",
      String(port),
      "-data",
      path.join(folder, this.name, worker),
    ];
    const program = await launch([...place, ...words]);
    this.programs.set(worker, program);
    return program;
  }

  startMaster(...words: string[]): Promise<Program> {
    return this.start("master", "-mode", "master", ...words);
  }

  startWorker(worker: string): Promise<Program> {
    return this.start(worker, "-master", this.url("master"));
  }

  async kill(...workers: string[]): Promise<void> {
    for (const worker of workers) this.programs.get(worker)?.child.kill("SIGKILL");
    await Promise.all(workers.map((worker) => this.programs.get(worker)?.ended));
  }

  async ask(worker: string, target: string): Promise<Document> {
    return call(this.ports.get(worker) as number, "GET", target).then(
      (reply) => JSON.parse(reply.body.toString()),
      () => null,
    );
  }

  async layout(): Promise<Document> {
    return (await this.ask("master", "/layout"))?.layout;
  }

  /** Names of the workers of the layout, when nothing moves; else nothing. */
  async members(): Promise<string> {
    const layout = await this.layout();
    if (layout == null || layout.previous !== null) return "";
    const urls = layout.nodes.map(({ url }: { url: string }) => url);
    return [...this.ports.keys()].filter((worker) => urls.includes(this.url(worker))).join(" ");
  }

  status(worker: string, method: "GET" | "PUT", target: string, body?: string): Promise<number> {
    const options = body === undefined ? {} : { body };
    return call(this.ports.get(worker) as number, method, target, options).then(
      (reply) => reply.status,
      () => 0,
    );
  }

  command(...words: string[]): ReturnType<typeof runProgram> {
    return runProgram([...words, "-master", this.url("master")]);
  }
}

test("recover: with a majority gone for good, what is left goes on with what it has, and grows again", async () => {
  const stage = new Stage("recover");
  try {
    for (const worker of ["a", "b", "c"]) stage.ports.set(worker, await freePort());
    await stage.startMaster("-volumes", ["a", "b", "c"].map((worker) => stage.url(worker)).join());
    for (const worker of ["a", "b", "c"]) await stage.startWorker(worker);
    await waitUntil("the layout", async () => (await stage.members()) === "a b c");
    for (let key = 0; key < KEYS; key++)
      await waitUntil("a write", async () => (await stage.status("a", "PUT", `/k${key}`, `v${key}`)) < 300);
    const early = await stage.command("recover", "-yes");
    assert.deepEqual(
      [early.status, /nothing has to be given up/.test(early.output)],
      [1, true],
      early.output,
    );

    await stage.kill("b", "c");
    await waitUntil(
      "the master notices",
      async () => (await stage.ask("master", "/layout")).absence.stuck === 1024,
    );
    await waitUntil("it says so", async () => {
      const { status, reason = "", problem } = await stage.ask("master", "/health");
      const isSaid = /no majority of their copies.*minivault recover/.test(reason);
      return isSaid && status === "degraded" && problem === reason;
    });
    assert.equal(
      await stage.status("master", "GET", "/health"),
      200,
      "nothing must end it because workers are away",
    );
    const { body: metrics } = await call(stage.ports.get("master") as number, "GET", "/_metrics");
    assert.match(metrics.toString(), /^minivault_stuck_partitions 1024$/m);
    await waitUntil("the one that is left says what it cannot do", async () => {
      const { status, reason = "" } = (await stage.ask("a", "/health")) ?? {};
      return (
        status === "unhealthy" && reason.includes(stage.url("b")) && /neither read nor written/.test(reason)
      );
    });
    assert.equal(await stage.status("a", "GET", "/health"), 503);
    const removed = await stage.command("remove", stage.url("c"));
    assert.deepEqual([removed.status, /minivault recover/.test(removed.output)], [1, true], removed.output);
    const asked = await stage.command("recover");
    assert.equal(asked.status, 1, "nobody has typed anything");
    assert.match(asked.output, /everything in 0 of 1,024 partitions/);
    assert.match(asked.output, /in 1024 of them the newest writes/);
    assert.match(asked.output, /nobody to ask here, -yes accepts it/);
    assert.equal(await stage.status("a", "GET", "/k0"), 503);

    const done = await stage.command("recover", "-yes");
    assert.equal(done.status, 0, done.output);
    assert.match(done.output, /goes on as epoch \d+ with http:\/\/localhost:\d+\n$/);
    await waitUntil("it serves", async () => (await stage.status("a", "GET", "/k0")) === 200);
    for (let key = 0; key < KEYS; key++) assert.equal(await stage.status("a", "GET", `/k${key}`), 200);
    assert.equal(await stage.status("a", "PUT", "/k0", "after"), 200);
    assert.equal(await stage.status("a", "GET", "/never"), 404);
    await waitUntil("it is well", async () => (await stage.status("a", "GET", "/health")) === 200);
    await waitUntil(
      "the master too",
      async () => (await stage.ask("master", "/health"))?.status === "healthy",
    );

    // A lost one that comes back has no say any more.
    await stage.startWorker("b");
    await waitUntil("it learns so", async () =>
      ((await stage.ask("master", "/nodes"))?.nodes ?? []).some(
        (node: Document) => node.url === stage.url("b") && /has left the cluster/.test(node.refused ?? ""),
      ),
    );
    assert.equal(await stage.members(), "a");
    const lost = await stage.ask("b", "/health");
    assert.deepEqual([lost.status, /has left the cluster/.test(lost.reason)], ["joining", true], lost.reason);
    await stage.startWorker("d");
    await waitUntil("a new one joins", async () => (await stage.members()) === "a d");
    await waitUntil(
      "it has the keys",
      async () => (await stage.status("d", "GET", "/k1?consistency=one")) === 200,
    );
    assert.equal((await call(stage.ports.get("d") as number, "GET", "/k0")).body.toString(), "after");
  } finally {
    await stage.kill(...stage.programs.keys());
  }
});

test("a worker that dies while it joins: its move is given up by itself; any other when somebody says so", async () => {
  const stage = new Stage("joiner");
  try {
    for (const worker of ["a", "b", "c"]) stage.ports.set(worker, await freePort());
    const volumes = ["a", "b", "c"].map((worker) => stage.url(worker)).join();
    await stage.startMaster("-volumes", volumes, "-remove-after", "1s");
    for (const worker of ["a", "b", "c"]) await stage.startWorker(worker);
    await waitUntil("the layout", async () => (await stage.members()) === "a b c");
    await waitUntil("a write", async () => (await stage.status("a", "PUT", "/k", "v")) < 300);
    const idle = await stage.command("abandon-move");
    assert.deepEqual([idle.status, idle.output], [1, "minivault abandon-move: nothing is moving\n"]);

    const joiner = await FakeWorker.start(stage.url("master"), "f");
    const heartbeats = setInterval(() => {
      if (!joiner.silent) joiner.beat().catch(() => {});
    }, 200);
    try {
      const moves = async () => (await stage.layout())?.previous != null;
      await waitUntil("a move", moves);
      joiner.silent = true;
      await waitUntil("the end of the move", async () => (await stage.members()) === "a b c");
      joiner.silent = false;
      await waitUntil("it comes again", moves);
      const given = await stage.command("abandon-move");
      assert.equal(given.status, 0, given.output);
      assert.match(given.output, /^the move of epoch 4 is given up; .* in force as epoch 5\n$/);
      assert.equal(await stage.members(), "a b c");
    } finally {
      clearInterval(heartbeats);
      joiner.close();
    }
    await stage.kill("c");
    for (const target of ["/k", "/other"]) {
      // Each has the new layout from the master, or from the other, a moment later.
      await waitUntil(
        "two of three are a majority again",
        async () => (await stage.status("a", "PUT", target, "w")) < 300,
      );
      await waitUntil("at each", async () => (await stage.status("b", "GET", target)) === 200);
    }
  } finally {
    await stage.kill(...stage.programs.keys());
  }
});
