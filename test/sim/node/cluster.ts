/**
 * A cluster of shipped nodes in one process: workers as src/app/cluster-part.ts puts them together, and a master as src/master/keeper.ts is,
 * over a simulated network, simulated disks and clocks. Nothing of them knows that it is simulated.
 */

import { ClusterPart } from "../../../src/app/cluster-part.ts";
import { ChangeError } from "../../../src/cluster/layout/changes.ts";
import { readClusterFile } from "../../../src/cluster/layout/cluster-file.ts";
import { PeerTls } from "../../../src/cluster/link/peer-tls.ts";
import type { Config } from "../../../src/config/config.ts";
import { Keeper } from "../../../src/master/keeper.ts";
import { FileStore } from "../../../src/master/layout/store.ts";
import { createMasterRoutes } from "../../../src/master/routes.ts";
import type { Logger } from "../../../src/platform/log.ts";
import { type FrontContext, InFlight } from "../../../src/server/http/context.ts";
import { createPeerRoutes } from "../../../src/server/peers/peer-routes.ts";
import { type FolderCopy, ROOT, SimFiles } from "./files.ts";
import { SimNetwork, type Weather } from "./network.ts";
import { type Machine, SimProcess, type Simulation } from "./simulation.ts";
import { type OnAccepted, SimDisk, SimVault } from "./vault.ts";

const MASTER_URL = "http://m:1";
const TICK_MS = 100;
/** Age of tombstones that are collected: short, so that only the other rules keep them safe. */
const TOMBSTONE_AGE_MS = 4000;

/** What a worker's log has said: for people, and for what must never be said. */
export interface Said {
  atMs: number;
  who: string;
  text: string;
}

/** A worker: its machine, its disk and, while it runs, its process. */
export class SimWorker implements Machine {
  readonly url: string;
  readonly folder: string;
  readonly disk: SimDisk;
  /** That it is started with. */
  region = "here";
  clockOffsetMs = 0;
  process: SimProcess | null = null;
  part: ClusterPart | null = null;
  vault: SimVault | null = null;
  /** Its disk as it was before it was a member; null: nobody has made a copy then. */
  fresh: WorkerCopy | null = null;
  /** It is never to come back. */
  isGone = false;

  /** @param name of the machine; `url`: what it answers under, which may be another's */
  constructor(simulation: Simulation, name: string, url = `http://${name}:1`) {
    this.url = url;
    this.folder = `${ROOT}/${name}`;
    this.disk = new SimDisk(simulation);
  }

  /** Whether its front would answer clients. */
  get isReady(): boolean {
    return this.process?.alive === true && this.part?.facts()?.ready === true;
  }
}

export class SimCluster {
  readonly simulation: Simulation;
  readonly files: SimFiles;
  readonly network: SimNetwork;
  readonly workers: SimWorker[] = [];
  /** Processes that others have taken the place of. */
  readonly zombies: SimWorker[] = [];
  readonly said: Said[] = [];
  /** Told of each record that a replica takes. */
  onAccepted: OnAccepted = () => {};
  /** That the next master is started with. */
  replicas: number;
  private readonly bornWith: number;
  private readonly partitions: number | null;
  private readonly masterMachine: Machine = { clockOffsetMs: 0 };
  private masterProcess: SimProcess | null = null;
  keeper: Keeper | null = null;

  constructor(simulation: Simulation, weather: Weather, replicas: number, partitions: number | null = null) {
    this.simulation = simulation;
    this.replicas = this.bornWith = replicas;
    this.partitions = partitions;
    this.files = new SimFiles(simulation);
    this.network = new SimNetwork(simulation, weather);
  }

  install(): void {
    this.simulation.install();
    this.files.install();
    this.network.install();
    process.env.MINIVAULT_TEST_TOMBSTONE_AGE_MS = String(TOMBSTONE_AGE_MS);
  }

  addWorker(name: string): SimWorker {
    const worker = new SimWorker(this.simulation, name);
    this.workers.push(worker);
    return worker;
  }

  // ---- workers -------------------------------------------------------------------------------------------------------------------

  start(worker: SimWorker): void {
    if (worker.isGone || worker.process !== null) return;
    const process = new SimProcess(worker.url, worker);
    worker.process = process;
    this.simulation.after(process, 0, () => {
      const vault = new SimVault(this.simulation, process, worker.disk, (...told) =>
        this.onAccepted(...told),
      );
      const part = new ClusterPart(this.configOf(worker), vault.asLocalVault, this.log(worker.url));
      const context = { inFlight: new InFlight(), stopping: false, log: this.log(worker.url) };
      // Nobody hands changes in place on here.
      const routes = { handler: part.handler, verifier: null, takeChange: () => {} };
      const handlers = createPeerRoutes(context as unknown as FrontContext, routes);
      this.network.hosts.set(worker.url, { process, handlers });
      worker.vault = vault;
      worker.part = part;
      part.begin(worker.url, readClusterFile(worker.folder, worker.disk.node));
      if (worker.fresh === null && part.membership?.layout == null) worker.fresh = this.copyOf(worker);
    });
  }

  /** Ends a worker's process, as kill -9 does or, with the power, the machine's end. */
  crash(worker: SimWorker, isPowerLoss = false): void {
    if (worker.process === null) return;
    worker.process.alive = false;
    worker.process = null;
    worker.part = null;
    worker.vault = null;
    worker.disk.crash(this.simulation);
    if (isPowerLoss) this.files.losePower(worker.folder);
  }

  /** A new, empty disk in a worker that does not run. */
  wipe(worker: SimWorker): void {
    this.files.remove(worker.folder);
    Object.assign(worker.disk, new SimDisk(this.simulation));
  }

  copyOf(worker: SimWorker): WorkerCopy {
    return { disk: worker.disk.copy(), files: this.files.copy(worker.folder) };
  }

  /** Puts an older copy of its disk into a worker that does not run. */
  putBack(worker: SimWorker, { disk, files }: WorkerCopy): void {
    worker.disk.putBack(disk);
    this.files.putBack(worker.folder, files);
  }

  /**
   * A copy of a machine takes its place while the first one stands still, as with a snapshot of a virtual machine; the first one goes on
   * after a while and does not know. Answers the new one, which is to be started.
   */
  takePlace(worker: SimWorker, standsStillMs: number): SimWorker {
    const process = worker.process as SimProcess;
    process.pausedUntilMs = this.simulation.now + standsStillMs;
    const twin = new SimWorker(this.simulation, `twin${this.zombies.length}`, worker.url);
    const { disk, files } = this.copyOf(worker);
    const moved = [...files].map(
      ([name, bytes]) => [twin.folder + name.slice(worker.folder.length), bytes] as const,
    );
    this.putBack(twin, { disk, files: new Map(moved) });
    twin.clockOffsetMs = worker.clockOffsetMs;
    this.workers[this.workers.indexOf(worker)] = twin;
    this.zombies.push(worker);
    return twin;
  }

  private configOf({ url, folder, region }: SimWorker): Config {
    return {
      ...{ mode: "worker", port: 1, host: "simulated", publicUrl: url, masters: [MASTER_URL], volumes: [] },
      ...{ dataDirectory: folder, removeAfterMs: 0, peerAddress: null, region },
      ...{ replicas: this.bornWith, isReplicasGiven: false, partitions: null },
      ...{ consistency: "quorum", sync: "always" },
      ...{ auth: null, clusterKeys: [], allowInvite: true, tls: null, tlsCa: null },
    } as unknown as Config;
  }

  // ---- the master -------------------------------------------------------------------------------------------------------------------

  startMaster(): void {
    if (this.masterProcess !== null) return;
    const { simulation } = this;
    const process = new SimProcess(MASTER_URL, this.masterMachine);
    this.masterProcess = process;
    simulation.after(process, 0, () => {
      const keeper = new Keeper({
        ...{
          store: new FileStore(`${ROOT}/m`),
          volumes: this.workers.slice(0, 3).map(({ url }) => url),
          replicas: this.replicas,
          partitions: this.partitions,
        },
        ...{
          isReplicasGiven: this.replicas !== this.bornWith,
          removeAfterMs: 0,
          times: {},
          version: "simulated",
        },
        ...{ signer: null, tls: new PeerTls(null, null) },
        url: () => MASTER_URL,
        now: () => performance.now(),
        log: this.log(MASTER_URL),
      });
      const handlers = createMasterRoutes({
        ...{ access: null, metrics: "off", version: "simulated", verifier: null },
        office: () => keeper.office,
        onFailed: (error) => {
          throw error;
        },
      });
      this.network.hosts.set(MASTER_URL, { process, handlers });
      this.keeper = keeper;
      setInterval(() => keeper.tick(), TICK_MS);
    });
  }

  crashMaster(isWiped = false): void {
    if (this.masterProcess === null) return;
    this.masterProcess.alive = false;
    this.masterProcess = null;
    this.keeper = null;
    if (isWiped) this.files.remove(`${ROOT}/m`);
  }

  copyOfMaster(): FolderCopy {
    return this.files.copy(`${ROOT}/m`);
  }

  /** Puts an older copy of its disk into a master that does not run. */
  putMasterBack(copy: FolderCopy): void {
    this.files.putBack(`${ROOT}/m`, copy);
  }

  /** Gives an order to the master, as an operator would; what it refuses is the operator's matter. */
  order(give: (keeper: Keeper) => void): void {
    const { keeper, masterProcess } = this;
    if (keeper === null || masterProcess === null) return;
    this.simulation.after(masterProcess, 0, () => {
      try {
        give(keeper);
      } catch (error) {
        if (!(error instanceof ChangeError)) throw error;
        const text = `refused: ${error.message}`;
        if (this.said.at(-1)?.text !== `info ${text}`) this.log(MASTER_URL).info(text);
      }
    });
  }

  get masterUrl(): string {
    return MASTER_URL;
  }

  private log(who: string): Logger {
    const say = (level: string) => (fields: unknown, text?: string) => {
      const words = typeof fields === "string" ? fields : `${text} ${JSON.stringify(fields)}`;
      this.said.push({ atMs: Math.round(this.simulation.now), who, text: `${level} ${words}` });
    };
    return { info: say("info"), warn: say("warn"), error: say("error") } as unknown as Logger;
  }
}

/** A worker's disk as it was at some time. */
export interface WorkerCopy {
  disk: ReturnType<SimDisk["copy"]>;
  files: FolderCopy;
}
