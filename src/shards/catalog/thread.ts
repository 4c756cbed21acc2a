/**
 * Starting and ending the catalog thread.
 */
import path from "node:path";
import { MessageChannel, type MessagePort } from "node:worker_threads";
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import type { ShardMemory } from "../../engine/state/memory.ts";
import { addonDirectory } from "../../platform/addon.ts";
import type { BellEnd } from "../arena/bell.ts";
import { OwnThread } from "../thread/own-thread.ts";
import { CatalogClient } from "./client.ts";
import { CATALOG_FIGURE, CATALOG_FIGURES_BYTES, type CatalogTask } from "./messages.ts";

export interface CatalogThreadSetup {
  dataDirectory: string;
  store: StoreIdentity;
  memories: ShardMemory[];
  /** Fronts; this thread reads with the number after theirs. */
  fronts: number;
  /** By which the shards' threads wake it. */
  bell: BellEnd[];
  readOnly: boolean;
  warn: (message: string) => void;
}

/** What /_stats says of the catalog. */
export type CatalogStats = { state: "building" | "ready" | "blind"; diskFull: boolean } & Record<
  Exclude<keyof typeof CATALOG_FIGURE, "state" | "diskFull">,
  number
>;

const STATES = ["building", "ready", "blind"] as const;

/** The figures in their memory, in the form of /_stats. */
export function readCatalogFigures(memory: SharedArrayBuffer): CatalogStats {
  const figures = new Float64Array(memory);
  const numbers = Object.entries(CATALOG_FIGURE).map(([name, at]) => [name, figures[at]]);
  return {
    ...Object.fromEntries(numbers),
    state: STATES[figures[CATALOG_FIGURE.state]],
    diskFull: figures[CATALOG_FIGURE.diskFull] !== 0,
  };
}

export class CatalogThread {
  /** Of this front, the first. */
  readonly client: CatalogClient;
  /** Ends for the other fronts, to be transferred to their threads. */
  readonly others: readonly MessagePort[];
  readonly figures: SharedArrayBuffer = new SharedArrayBuffer(CATALOG_FIGURES_BYTES);
  private readonly setup: CatalogThreadSetup;
  private readonly thread: OwnThread<CatalogTask, null>;
  private readonly channels: MessagePort[] = [];
  private readonly prepared: Promise<unknown>;
  /** Why it cannot work; what else that stops is said by the shards' threads. */
  private problem: Error | null = null;
  private isDead = false;

  constructor(setup: CatalogThreadSetup) {
    this.setup = setup;
    const ends: MessagePort[] = [];
    for (let front = 0; front < setup.fronts; front++) {
      const { port1, port2 } = new MessageChannel();
      ends.push(port1);
      this.channels.push(port2);
    }
    this.client = new CatalogClient(ends[0], setup.warn);
    this.others = ends.slice(1);
    this.thread = new OwnThread(path.join(__dirname, "handler.ts"), (error) => this.die(error));
    this.prepared = this.thread
      .run({ kind: "prepare-catalog", addonDirectory: addonDirectory() })
      .catch((error: Error) => {
        this.problem = error;
      });
  }

  /** Begins to work; the shards must be open. Where that fails the node goes on without lists. */
  async open(): Promise<void> {
    const { dataDirectory, store, memories, fronts, readOnly, bell } = this.setup;
    const { channels, figures } = this;
    const task: CatalogTask = {
      kind: "open-catalog",
      dataDirectory,
      store,
      memories,
      reader: fronts,
      readOnly,
      channels,
      bell,
      figures,
    };
    await this.prepared;
    if (this.problem !== null) this.die(this.problem);
    else
      await this.thread
        .run(task, [...channels, ...bell.map(({ port }) => port)])
        .catch((error: Error) => this.die(error));
  }

  /** The node goes on without lists. */
  private die(error: Error): void {
    if (this.isDead) return;
    this.isDead = true;
    this.setup.warn(`the catalog of keys has failed, lists are refused until a restart: ${error.message}`);
    this.client.fail();
  }

  /** The shards must be closed already. */
  async close(): Promise<void> {
    this.client.close();
    await this.prepared;
    if (!this.isDead && this.problem === null) await this.thread.run({ kind: "close-catalog" });
    this.isDead = true;
    await this.thread.destroy();
  }
}
