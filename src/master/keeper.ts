/**
 * A master without its sockets: what it knows, on disk before it tells it, what it answers, and what it does
 * by itself. The time is passed in; whoever has a network to give it calls `tick`.
 */
import type { RequestSigner, RequestVerifier } from "../auth/signature.ts";
import { Lives } from "../cluster/identity/lives.ts";
import type { PeerTls } from "../cluster/link/peer-tls.ts";
import { reasonOf } from "../platform/system-error.ts";
import type { Handlers } from "../server/http/http.ts";
import { Recurring } from "../util/recurring.ts";
import { type MasterState, NotKept, readState, writeState } from "./layout/state.ts";
import { Outreach } from "./outreach.ts";
import { REGISTRY_TIMES, Registry, type RegistryTimes } from "./registry/registry.ts";
import { createMasterRoutes, type MasterContext } from "./routes.ts";
import { SETTLE_MS, STATIC_WAIT_MS, Steward, type StewardTimes } from "./steward/steward.ts";

const CANNOT_WRITE = "the master cannot write to its disk, so nothing new counts";

export type MasterTimes = RegistryTimes & StewardTimes;

export interface KeeperLog {
  info(fields: object | string, text?: string): void;
  warn(fields: object | string, text?: string): void;
  error(fields: object | string, text?: string): void;
}

export interface KeeperSetup extends Pick<MasterContext, "access" | "metrics" | "version"> {
  /** Where its files are; it is locked by who calls. */
  folder: string;
  /** Workers of -volumes. */
  volumes: readonly string[];
  /** Of the first layout. */
  replicas: number;
  isReplicasGiven: boolean;
  removeAfterMs: number;
  times: Partial<MasterTimes>;
  verifier: RequestVerifier | null;
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
  readonly routes: Handlers;
  /** How many workers its disk knew. */
  readonly known: number;
  private readonly setup: KeeperSetup;
  private readonly registry: Registry;
  private readonly lives: Lives;
  private readonly outreach: Outreach;
  private readonly disk: Recurring;
  private readonly chores: Recurring;
  private readonly requests: Recurring;

  /** Reads what is on disk. Throws an Error with a sentence for a person. */
  constructor(setup: KeeperSetup) {
    const { folder, volumes, times, log, now } = setup;
    this.setup = setup;
    const state = readState(folder);
    this.known = state?.nodes.length ?? 0;
    this.disk = new Recurring(
      (reason) => log.error({ folder, reason }, CANNOT_WRITE),
      () => log.info("the master writes to its disk again"),
    );
    this.chores = new Recurring((reason) => log.error({ reason }, "the layout could not be looked after"));
    this.requests = new Recurring((stack) => log.error({ stack }, "a request failed"));
    this.lives = new Lives(folder, (message) => log.warn(message));
    const isMember = (url: string): boolean => this.steward.isMember(url);
    this.registry = new Registry(volumes, { ...REGISTRY_TIMES, ...times }, isMember);
    this.steward = this.createSteward(state);
    this.registry.restore(now(), state?.nodes ?? []);
    this.routes = this.createRoutes();
    const { signer, tls } = setup;
    this.outreach = new Outreach({ steward: this.steward, url: setup.url, signer, tls, now, log });
  }

  private createSteward(state: MasterState | null): Steward {
    const { volumes, replicas, isReplicasGiven, removeAfterMs: removeMs, times, log } = this.setup;
    return new Steward({
      ...{ registry: this.registry, state, lives: this.lives, log },
      ...{ staticUrls: volumes, replicas, isReplicasGiven },
      save: (document) => this.save(document),
      times: { settleMs: SETTLE_MS, staticWaitMs: STATIC_WAIT_MS, removeMs, ...times },
    });
  }

  private createRoutes(): Handlers {
    const { access, metrics, version, verifier, now, log } = this.setup;
    return createMasterRoutes({
      ...{ registry: this.registry, steward: this.steward },
      ...{ access, metrics, version, verifier, now },
      trouble: () => (this.disk.reason === null ? null : `${CANNOT_WRITE}: ${this.disk.reason}`),
      onFailed: (error) => this.failed(error),
      onNew: ({ url, region }) => log.info({ url, region }, "a worker is there"),
    });
  }

  /** A request was answered 500. */
  failed(error: unknown): void {
    this.requests.failed((error as Error).stack ?? String(error));
  }

  /** Does whatever is due. To be called a few times a second. */
  tick(): void {
    try {
      this.steward.tick(this.setup.now());
      this.outreach.tick();
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
      writeState(this.setup.folder, document);
    } catch (error) {
      this.disk.failed(reasonOf(error));
      throw new NotKept(`${CANNOT_WRITE}: ${this.disk.reason}`);
    }
    this.disk.passed();
  }
}
