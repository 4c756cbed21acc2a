/**
 * A master's place among those that share a registry: it stands by, looks who leads, and tries to lead when
 * nobody does. Each term begins with what etcd has, and everything that was made of it is forgotten with its
 * end: nothing of an earlier term is ever gone on with.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Recurring } from "../../util/recurring.ts";
import type { MasterStore } from "../layout/store.ts";
import type { Office } from "../registry/office.ts";
import { Campaign, type CampaignSetup, type Term, type Won } from "./campaign.ts";
import { EtcdStore, readKept } from "./etcd-store.ts";
import { type RegistryMemory, WrongRegistry } from "./memory.ts";
import type { Standby } from "./standby.ts";

/** Between two looks at who leads. */
const LOOK_MS = 1000;
/** Masters that look at the same moment would all try: each pause is shorter by up to this share. */
const JITTER = 0.3;
/** Between two renewals, however little is left of a lease. */
const RENEW_MS_MIN = 100;

/** The work of a leader. */
export interface Leadership {
  office: Office;
  /** Does whatever is due. */
  tick(): void;
  close(): Promise<void>;
}

export interface SeatSetup extends CampaignSetup {
  /** The registry, for messages. */
  name: string;
  memory: RegistryMemory;
  standby: Standby;
  /**
   * Begins the work. Throws an Error with a sentence for a person.
   * @param cluster that this master belongs to; null: none yet
   */
  lead: (store: MasterStore, cluster: string | null) => Leadership;
  lookMs?: number;
  log: {
    info(fields: object, text: string): void;
    warn(fields: object, text: string): void;
    error(fields: object, text: string): void;
  };
}

export class Seat {
  private readonly setup: SeatSetup;
  private readonly campaign: Campaign;
  private readonly looks: Recurring;
  private held: { term: Term; work: Leadership } | null = null;
  /** The revision of the state that was looked at last. */
  private seen: string | null = null;
  private readonly stopping = new AbortController();
  private running: Promise<void> | null = null;

  constructor(setup: SeatSetup) {
    const { log, name: registry, standby } = setup;
    this.setup = setup;
    this.campaign = new Campaign(setup);
    this.looks = new Recurring(
      (reason) => {
        standby.trouble = reason;
        log.error(
          { registry, reason },
          "the registry is out of reach: no layout changes, and workers serve on",
        );
      },
      () => log.info({ registry }, "the registry can be reached again"),
    );
  }

  /** What this master does now. */
  get office(): Office {
    return this.inOffice?.office ?? this.setup.standby;
  }

  /** Looks for the first time. Throws WrongRegistry: this master must not be there at all. */
  async start(): Promise<void> {
    try {
      await this.step();
    } catch (error) {
      if (error instanceof WrongRegistry) throw error;
      this.failed(error as Error);
    }
    this.running = this.run();
  }

  /** Does whatever is due. To be called a few times a second. */
  tick(): void {
    this.inOffice?.tick();
  }

  /** Gives the lead up, when what is under way is kept. */
  async close(): Promise<void> {
    this.stopping.abort();
    await this.running;
    await this.leave();
    await this.setup.gateway.close();
  }

  private get inOffice(): Leadership | null {
    return this.held === null || this.held.term.isOver ? null : this.held.work;
  }

  private async run(): Promise<void> {
    while (!this.stopping.signal.aborted) {
      const lookMs = (this.setup.lookMs ?? LOOK_MS) * (1 - JITTER * Math.random());
      await this.pause(this.held === null ? lookMs : Math.max(RENEW_MS_MIN, this.held.term.pauseMs));
      if (this.stopping.signal.aborted) return;
      try {
        await this.step();
      } catch (error) {
        this.failed(error as Error);
      }
    }
  }

  /** One look, or one renewal. */
  private async step(): Promise<void> {
    if (this.held === null) await this.look();
    else await this.keep(this.held.term);
    this.setup.standby.trouble = null;
    this.looks.passed();
  }

  private failed(error: Error): void {
    this.looks.failed(error.message);
    if (this.held === null) this.setup.standby.leader = null;
  }

  private async look(): Promise<void> {
    const { standby, memory, keys } = this.setup;
    const { leader, state, isSeen } = await this.campaign.look(this.seen);
    standby.leader = leader?.url ?? null;
    if (!isSeen || state === null) {
      const known = readKept(keys, state);
      memory.check(known);
      standby.epoch = known?.layout?.epoch ?? 0;
      this.seen = state?.modRevision ?? null;
    }
    // Its own name of an earlier term goes with that one's lease.
    if (leader !== null) return;
    const won = await this.campaign.win();
    if (won !== null) await this.begin(won);
  }

  private async begin(won: Won): Promise<void> {
    const { gateway, keys, name, memory, lead, url, log } = this.setup;
    try {
      const store = new EtcdStore({ gateway, keys, name, won, onKept: (cluster) => this.remember(cluster) });
      const state = store.read();
      memory.check(state);
      const own = state === null ? memory.own() : null;
      if (own !== null) await this.takeOver(store, own);
      const work = lead(store, memory.cluster);
      this.held = { term: won.term, work };
      log.info({ registry: name, term: won.term.revision, url: url() }, "this master leads");
    } catch (error) {
      await won.term.resign();
      throw error;
    }
  }

  private async takeOver(
    store: EtcdStore,
    own: NonNullable<ReturnType<RegistryMemory["own"]>>,
  ): Promise<void> {
    const { memory, name, log } = this.setup;
    await store.takeOver(own.state, own.lives);
    memory.remember(own.state.layout?.cluster ?? null);
    memory.putAside();
    log.info(
      { registry: name, epoch: own.state.layout?.epoch ?? 0 },
      "the registry was empty, and has what this master had on its own disk now",
    );
  }

  private async keep(term: Term): Promise<void> {
    let failure: unknown = null;
    try {
      if (!term.isOver) await term.renew();
    } catch (error) {
      failure = error;
    }
    if (term.isOver) await this.leave();
    if (failure !== null) throw failure;
  }

  /** The term is over: what was made of it is forgotten. */
  private async leave(): Promise<void> {
    const { held } = this;
    if (held === null) return;
    const { log, name: registry, standby } = this.setup;
    const { reason } = held.term;
    if (reason !== null) log.warn({ registry, reason }, "this master leads no more, and stands by");
    await held.work.close();
    this.held = null;
    this.seen = null;
    standby.leader = null;
    await held.term.resign();
  }

  private async pause(ms: number): Promise<void> {
    await sleep(ms, null, { signal: this.stopping.signal }).catch(() => {});
  }

  /** The cluster that the leader has made or learned, as soon as it is kept. */
  private remember(cluster: string | null): void {
    try {
      this.setup.memory.remember(cluster);
    } catch (error) {
      // The registry has it, too.
      this.setup.log.warn({ reason: (error as Error).message }, "the cluster's name could not be kept here");
    }
  }
}
