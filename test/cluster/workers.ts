/**
 * A cluster of real processes: a master and workers, every worker behind a proxy with a link of its own from each other node, so that each
 * link can be made bad in each direction.
 *
 * The workers' public URLs are their proxies; each node connects from an address of its own (127.0.0.11, …), by which the proxies tell
 * them apart. Clients go to the workers directly.
 */
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../native-bench/processes.ts";
import { call } from "../rest/client.ts";
import { builtProgram, launch, type Program, removeFolder, temporaryFolder } from "../rest/server.ts";
import { clockEnvironment, setClock } from "../wall-clock.ts";
import { createNodeProxy, type LinkControls, type NodeProxy } from "./proxy.ts";

const START_MS_MAX = 120_000;
const STOP_MS_MAX = 60_000;

export interface WorkerOptions {
  region?: string;
  flags?: string[];
  /** Its program file; the one in dist/ when left out. */
  program?: string;
}

export interface Worker {
  readonly number: number;
  /** Where clients reach it. */
  readonly port: number;
  /** All ports where clients reach it: that one, and with `fronts` that of its other threads. */
  readonly doors: readonly number[];
  /** Its name in the cluster. */
  readonly url: string;
  readonly data: string;
  readonly pid: number;
  log(): string;
  /** The link that the other node uses to reach this one. */
  linkFrom(other: Worker): LinkControls;
  kill(signal?: NodeJS.Signals): Promise<void>;
  signal(signal: NodeJS.Signals): void;
  /** With another program file than before, where one is given; null: the one in dist/. */
  start(program?: string | null): Promise<void>;
  /** Sets its wall clock so far ahead, or behind; for clusters with `clocks`. It sees that within a moment: wait for what follows. */
  setClock(offMs: number): void;
  readonly isRunning: boolean;
  /** Starts another process of this node, with its name and flags, on a copy of its directory; clients go to the earlier one. */
  startTwin(data: string): Promise<Program>;
  /** Its machine goes down and comes up: to be called while it does not run. */
  reboot(): void;
}

export interface Cluster {
  readonly workers: readonly Worker[];
  readonly masterPort: number;
  killMaster(): Promise<void>;
  signalMaster(signal: NodeJS.Signals): void;
  masterLog(): string;
  startMaster(program?: string | null): Promise<void>;
  /** Starts one more worker. */
  add(options?: WorkerOptions): Promise<Worker>;
  /** Ends a worker that has left the cluster, and forgets it. */
  retire(worker: Worker): Promise<void>;
  /** Waits until all these workers (all, when left out) answer a read of the cluster. */
  ready(workers?: readonly Worker[]): Promise<void>;
  dispose(): Promise<void>;
}

export interface ClusterOptions {
  workers: number;
  /** Program file of all; the one in dist/ when left out. */
  program?: string;
  /** For all workers. */
  flags?: string[];
  /** That the cluster is born with; the program's own number when left out. */
  partitions?: number;
  /** Regions in turn. */
  regions?: string[];
  env?: Record<string, string>;
  /** The shared key of all. */
  key?: string;
  /** What clients send; the key, when left out. */
  token?: string;
  /** Workers whose wall clocks can be set. */
  clocks?: boolean;
  /** Front threads of each worker; 1 when left out. */
  fronts?: number;
  /** Without proxies between the nodes: for measurements. */
  direct?: boolean;
}

function addressOf(number: number): string {
  return `127.0.0.${11 + number}`;
}

/** Starts a master and workers and waits until they serve. */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  await builtProgram();
  const folder = temporaryFolder();
  const masterPort = await freePort();
  const env = { ...options.env, ...(options.key === undefined ? {} : { MINIVAULT_AUTH: options.key }) };
  const secret = options.token ?? options.key;
  const headers: Record<string, string> = secret === undefined ? {} : { Authorization: `Bearer ${secret}` };
  let master: Program | null = null;
  let masterProgram = options.program ?? null;
  const startMaster = async (program: string | null = masterProgram): Promise<void> => {
    masterProgram = program;
    const flags = ["-mode", "master", "-port", String(masterPort), "-host", "127.0.0.1"];
    if (options.partitions !== undefined) flags.push("-partitions", String(options.partitions));
    master = await launch([...flags, "-data", path.join(folder, "master")], {
      env,
      ...(program === null ? {} : { program }),
    });
  };
  const workers: RealWorker[] = [];
  let started = 0;
  const add = async (own: WorkerOptions = {}): Promise<Worker> => {
    const number = started++;
    const port = await freePort();
    const frontPort = (options.fronts ?? 1) > 1 ? await freePort() : null;
    const proxy =
      options.direct === true ? null : await createNodeProxy({ target: { host: "127.0.0.1", port } });
    const region = own.region ?? options.regions?.[number % options.regions.length] ?? `region-${number}`;
    const worker = new RealWorker(
      number,
      port,
      proxy,
      path.join(folder, `worker-${number}`),
      [
        ...["-master", `http://127.0.0.1:${masterPort}`, "-region", region],
        ...(frontPort === null ? [] : ["-fronts", String(options.fronts), "-front-port", String(frontPort)]),
        ...(options.flags ?? []),
        ...(own.flags ?? []),
      ],
      env,
      options.clocks === true ? folder : null,
      own.program ?? options.program ?? null,
      frontPort,
    );
    workers.push(worker);
    await worker.start();
    return worker;
  };
  const cluster: Cluster = {
    workers,
    masterPort,
    startMaster,
    signalMaster: (signal) => void master?.child.kill(signal),
    masterLog: () => master?.output() ?? "",
    async killMaster() {
      master?.child.kill("SIGKILL");
      await master?.ended;
    },
    add,
    async retire(worker) {
      const [gone] = workers.splice(workers.indexOf(worker as RealWorker), 1);
      await gone.dispose();
    },
    async ready(some = workers) {
      const deadline = performance.now() + START_MS_MAX;
      for (const [worker, port] of some.flatMap((worker) =>
        worker.doors.map((door) => [worker, door] as const),
      ))
        for (;;) {
          const status = await call(port, "GET", "/_kv/is-it-ready", { headers }).then(
            (reply) => reply.status,
            () => 0,
          );
          if (status === 404) break;
          if (performance.now() > deadline)
            throw new Error(
              `worker ${worker.number} answers ${status} after ${START_MS_MAX} ms:\n${worker.log()}`,
            );
          await sleep(50);
        }
    },
    async dispose() {
      await Promise.all(workers.map((worker) => worker.dispose()));
      await this.killMaster();
      removeFolder(folder);
    },
  };
  try {
    await startMaster();
    await Promise.all(
      Array.from({ length: options.workers }, () => 0).map(async (_, index) => {
        // One after the other, so that their numbers are in order; they need not wait for each other's start.
        await sleep(index * 5);
        await add();
      }),
    );
    await cluster.ready();
  } catch (error) {
    await cluster.dispose();
    throw error;
  }
  return cluster;
}

/** Copies the directory of a running worker, which stands still meanwhile: as kill -9 would leave it. */
export async function copyAtOneMoment(worker: Worker, directory: string): Promise<void> {
  worker.signal("SIGSTOP");
  try {
    // A thread ends its call of the system first.
    while (!isStopped(worker.pid)) await sleep(1);
    cpSync(worker.data, directory, { recursive: true });
  } finally {
    worker.signal("SIGCONT");
  }
}

/** Whether all threads of a process stand still, or it is gone. */
function isStopped(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((thread) =>
      /\) [TZX] /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, "latin1")),
    );
  } catch {
    return true;
  }
}

class RealWorker implements Worker {
  readonly number: number;
  readonly port: number;
  readonly doors: readonly number[];
  readonly url: string;
  readonly data: string;
  private readonly proxy: NodeProxy | null;
  private readonly flags: string[];
  private readonly env: Record<string, string>;
  /** The file that says how far its clock is off. */
  private readonly clock: string | null;
  /** The file that names its machine's boot. */
  private readonly boot: string;
  private boots = 0;
  /** null: the one in dist/. */
  private file: string | null;
  private program: Program | null = null;
  private logs = "";

  constructor(
    number: number,
    port: number,
    proxy: NodeProxy | null,
    data: string,
    flags: string[],
    env: Record<string, string>,
    clockFolder: string | null,
    file: string | null,
    frontPort: number | null,
  ) {
    this.file = file;
    this.number = number;
    this.port = port;
    this.doors = frontPort === null ? [port] : [port, frontPort];
    this.proxy = proxy;
    this.url = `http://127.0.0.1:${proxy?.port ?? port}`;
    this.data = data;
    this.flags = flags;
    this.clock = clockFolder === null ? null : path.join(clockFolder, `clock-${number}`);
    this.boot = `${data}.boot`;
    this.reboot();
    if (this.clock === null || clockFolder === null) this.env = env;
    else this.env = { ...env, ...clockEnvironment(clockFolder, this.clock) };
  }

  setClock(offMs: number): void {
    if (this.clock === null) throw new Error("the clocks of this cluster cannot be set");
    setClock(this.clock, offMs);
  }

  reboot(): void {
    writeFileSync(this.boot, `boot-${this.boots++}\n`);
  }

  get pid(): number {
    return this.program?.child.pid ?? 0;
  }

  get isRunning(): boolean {
    const child = this.program?.child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  log(): string {
    return this.logs + (this.program?.output() ?? "");
  }

  linkFrom(other: Worker): LinkControls {
    if (this.proxy === null) throw new Error("this cluster has no proxies");
    return this.proxy.from(addressOf(other.number));
  }

  async start(file: string | null = this.file): Promise<void> {
    this.file = file;
    if (this.program !== null) this.logs += this.program.output();
    this.program = await this.launch(this.port, this.data);
    const deadline = performance.now() + START_MS_MAX;
    while (!this.program.output().includes("listening on")) {
      if (!this.isRunning || performance.now() > deadline)
        throw new Error(`worker ${this.number} did not start:\n${this.log()}`);
      await sleep(20);
    }
  }

  async startTwin(data: string): Promise<Program> {
    // The other one has the port of the fronts.
    return this.launch(await freePort(), data, this.doors.length > 1 ? ["-front-port", "0"] : []);
  }

  private launch(port: number, data: string, flags: readonly string[] = []): Promise<Program> {
    const address = ["-port", String(port), "-host", "127.0.0.1", "-public-url", this.url];
    return launch([...address, "-data", data, ...this.flags, ...flags], {
      env: {
        ...(this.proxy === null ? {} : { MINIVAULT_PEER_ADDRESS: addressOf(this.number) }),
        MINIVAULT_TEST_BOOT_FILE: this.boot,
        ...this.env,
      },
      ...(this.file === null ? {} : { program: this.file }),
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.program?.child.kill(signal);
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (this.program === null) return;
    const { child, ended } = this.program;
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
    if (this.isRunning) child.kill(signal);
    await ended;
    clearTimeout(timer);
  }

  async dispose(): Promise<void> {
    await this.kill();
    await this.proxy?.close();
  }
}
