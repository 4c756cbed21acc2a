/**
 * A master that leads, without its sockets: what it knows, what it answers (its office), and what it does
 * by itself. Where it keeps that is passed in, and the time; whoever has a network to give it calls `tick`.
 */
import type { RequestSigner } from "../auth/signature.ts";
import { Lives } from "../cluster/identity/lives.ts";
import type { PeerTls } from "../cluster/link/peer-tls.ts";
import { reasonOf } from "../platform/system-error.ts";
import { Recurring } from "../util/recurring.ts";
import { parseCommand } from "./commands.ts";
import { MasterDocuments } from "./documents.ts";
import { type MasterState, NotKept } from "./layout/state.ts";
import type { MasterStore } from "./layout/store.ts";
import { Outreach } from "./outreach.ts";
import type { Office } from "./registry/office.ts";
import { REGISTRY_TIMES, Registry, type RegistryTimes } from "./registry/registry.ts";
import { SETTLE_MS, STATIC_WAIT_MS, Steward, type StewardTimes } from "./steward/steward.ts";

const CANNOT_WRITE = "the master cannot write to its disk, so nothing new counts";
const CANNOT_LOOK = "the layout could not be looked after";

export type MasterTimes = RegistryTimes & StewardTimes;

export interface KeeperLog {
  info(fields: object | string, text?: string): void;
  warn(fields: object | string, text?: string): void;
  error(fields: object | string, text?: string): void;
}

export interface KeeperSetup {
  store: MasterStore;
  /**
   * Where it shares its registry with others, which have elected it: the registry, and the cluster that it is
   * known to belong to, or null; left out: its state is its own.
   */
  elected?: { registry: string; cluster: string | null };
  version: string;
  /** Workers of -volumes. */
  volumes: readonly string[];
  /** Of the first layout. */
  replicas: number;
  isReplicasGiven: boolean;
  partitions: number | null;
  removeAfterMs: number;
  times: Partial<MasterTimes>;
  signer: RequestSigner | null;
  tls: PeerTls;
  /** This master's own URL, once it is known. */
  url: () => string;
  /** Milliseconds on a clock that only goes forward. */
  now: () => number;
  log: KeeperLog;
}

export class Keeper {
  readonly steward: Steward;
  readonly office: Office;
  /** How many workers it knew already. */
  readonly known: number;
  private readonly setup: KeeperSetup;
  private readonly registry: Registry;
  private readonly lives: Lives;
  private readonly outreach: Outreach;
  private readonly disk: Recurring;
  private readonly chores: Recurring;

  /** Reads what is kept. Throws an Error with a sentence for a person. */
  constructor(setup: KeeperSetup) {
    const { store, volumes, times, log, now } = setup;
    this.setup = setup;
    const state = store.read();
    this.known = state?.nodes.length ?? 0;
    this.disk = new Recurring(
      (reason) => log.error({ folder: store.name, reason }, CANNOT_WRITE),
      () => log.info("the master writes to its disk again"),
    );
    this.chores = new Recurring((reason) => log.error({ reason }, CANNOT_LOOK));
    this.lives = new Lives(store.lives, (message) => log.warn(message));
    const isMember = (url: string): boolean => this.steward.isMember(url);
    this.registry = new Registry(volumes, { ...REGISTRY_TIMES, ...times }, isMember);
    this.steward = this.createSteward(state);
    this.registry.restore(now(), state?.nodes ?? []);
    this.office = this.createOffice();
    const { signer, tls } = setup;
    this.outreach = new Outreach({ steward: this.steward, url: setup.url, signer, tls, now, log });
  }

  private createSteward(state: MasterState | null): Steward {
    const { volumes, replicas, isReplicasGiven, partitions, times, elected, log } = this.setup;
    const { removeAfterMs: removeMs } = this.setup;
    return new Steward({
      ...{ registry: this.registry, state, lives: this.lives, log },
      ...{ staticUrls: volumes, replicas, isReplicasGiven, partitions },
      ...{ isElected: elected !== undefined, cluster: elected?.cluster ?? null },
      save: (document) => this.save(document),
      times: { settleMs: SETTLE_MS, staticWaitMs: STATIC_WAIT_MS, removeMs, ...times },
    });
  }

  private createOffice(): Office {
    const { registry, steward } = this;
    const { version, now, store, elected, url, log } = this.setup;
    const documents = new MasterDocuments({
      ...{ registry, steward, version, now },
      trouble: () => this.trouble,
      shared: () => (elected === undefined ? null : { registry: elected.registry, url: url() }),
    });
    return {
      document: (path) => documents.paths[path](),
      metrics: () => documents.metrics(),
      hear: (report) => {
        const heard = steward.hear(now(), report);
        if (heard === "full") return heard;
        if (heard.isNew) log.info({ url: report.url, region: report.region }, "a worker is there");
        return heard.answer;
      },
      command: (body) => {
        parseCommand(body)(steward.orders, now());
        return documents.layout();
      },
      settled: () => store.settled(),
    };
  }

  /** What keeps it from its work, for a person; null: nothing. */
  private get trouble(): string | null {
    if (this.disk.reason !== null) return `${CANNOT_WRITE}: ${this.disk.reason}`;
    return this.chores.reason === null ? this.outreach.problem : `${CANNOT_LOOK}: ${this.chores.reason}`;
  }

  /** Does whatever is due. To be called a few times a second. */
  tick(): void {
    try {
      this.steward.tick(this.setup.now());
      // It says what is decided, too.
      if (this.setup.store.settled() === null) this.outreach.tick();
      this.chores.passed();
    } catch (error) {
      // Nothing has changed, and the next tick tries again.
      if (!(error instanceof NotKept)) this.chores.failed((error as Error).message);
    }
  }

  async close(): Promise<void> {
    await this.outreach.close();
    await this.lives.close();
  }

  private save(document: MasterState): void {
    try {
      this.setup.store.save(document);
    } catch (error) {
      if (error instanceof NotKept) throw error;
      this.disk.failed(reasonOf(error));
      throw new NotKept(`${CANNOT_WRITE}: ${this.disk.reason}`);
    }
    this.disk.passed();
  }
}
