/**
 * A worker's side of the cluster: it registers with its masters, sends heartbeats for ever, and keeps the
 * last layout in its data directory, from which it starts without any master. With -volumes and no master,
 * the workers find each other (static-peers.ts).
 *
 * Invariants: a layout is on disk before anybody here hears of it; its epoch only rises; the voting flag is
 * only raised for a store that the layout's maker knew under this URL, or when the owner of the data says
 * that it has synchronised.
 */

import type { RequestSigner } from "../../auth/signature.ts";
import { type ClusterState, readClusterFile, writeClusterFile } from "../layout/cluster-file.ts";
import { checked, type Layout, Placement } from "../layout/layout.ts";
import { NodeHttp } from "../peers/node-http.ts";
import {
  HEARTBEAT_MS,
  type Heartbeat,
  type HeartbeatAnswer,
  type Liveness,
  type MemberDocument,
  type Progress,
} from "./messages.ts";
import { Peers } from "./static-peers.ts";

const ASK_MS = 3000;
/** Longest pause between two tries while a master does not answer. */
const BACKOFF_MS_MAX = 3000;
/** Pause while there is no layout: until then nothing can be served. */
const EAGER_MS = 250;
/** Heartbeats of many workers spread out: each pause is longer or shorter by up to this share. */
const JITTER = 0.1;

export interface MembershipLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
}

export interface MembershipOptions {
  /** The data directory. */
  directory: string;
  /** This worker's public URL: its id. */
  url: string;
  region: string;
  /** Name of the machine. */
  host: string;
  /** Identity of its store, 32 hex digits. */
  store: string;
  /** Empty: those that the data directory knows, if any. */
  masters: readonly string[];
  /** Static workers, when there is no master. */
  volumes: readonly string[];
  replicas: number;
  /** What heartbeats say of the load. */
  load: () => { keys: number; bytes: number };
  /** Whether the store holds nothing at all, not even traces of deleted keys. */
  isEmpty: () => boolean;
  signer: RequestSigner | null;
  /** Authorities to trust for https, in PEM. */
  ca: string | undefined;
  log: MembershipLog;
  /** Shorter in tests. */
  heartbeatMs?: number;
}

export type LayoutListener = (layout: Layout, placement: Placement) => void;

export class Membership {
  /** The worker's id in the layout. */
  readonly url: string;
  private readonly options: MembershipOptions;
  private readonly heartbeatMs: number;
  private state: ClusterState;
  private placed: Placement | null = null;
  private readonly masters: MasterLink[];
  private readonly peers: Peers | null;
  private progress: Progress | null = null;
  private suspect: ReadonlySet<string> = new Set();
  private down: ReadonlySet<string> = new Set();
  private readonly observed = new Map<string, Liveness>();
  private readonly layoutListeners: LayoutListener[] = [];
  private readonly stateListeners: (() => void)[] = [];
  private refused: string | null = null;

  /**
   * Reads what the data directory knows; nothing is sent before `start`. Throws an Error with a sentence for
   * a person.
   */
  constructor(options: MembershipOptions) {
    this.options = options;
    this.url = options.url;
    this.heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS;
    const kept = readClusterFile(options.directory);
    if (kept !== null && kept.store !== options.store)
      throw new Error(
        `${options.directory}/CLUSTER belongs to another store than the one beside it; remove it, and the worker synchronises anew`,
      );
    if (kept !== null && kept.layout !== null && kept.url !== options.url)
      throw new Error(
        `this data directory belongs to ${kept.url} in its cluster, not to ${options.url}: start it with -public-url ${kept.url}`,
      );
    const masters = options.masters.length > 0 ? [...options.masters] : (kept?.masters ?? []);
    const fresh: ClusterState = {
      url: options.url,
      store: options.store,
      masters,
      voting: false,
      layout: null,
      birth: {},
    };
    this.state = kept ?? fresh;
    const isSame = kept !== null && kept.url === options.url && kept.masters.join() === masters.join();
    if (!isSame) this.keep({ ...this.state, url: options.url, masters });
    this.masters = masters.map(
      (master, rank) => new MasterLink(this, master, rank, options, this.heartbeatMs),
    );
    this.peers =
      masters.length > 0 || options.volumes.length === 0 ? null : new Peers(this, options, this.heartbeatMs);
  }

  /** Begins to register, or to look for the others. */
  start(): void {
    for (const link of this.masters) link.start();
    this.peers?.start();
  }

  async close(): Promise<void> {
    await Promise.all([...this.masters.map((link) => link.close()), this.peers?.close()]);
  }

  get layout(): Layout | null {
    return this.state.layout;
  }

  /** Which nodes hold what, by the layout; null without one. */
  get placement(): Placement | null {
    if (this.state.layout === null) return null;
    if (this.placed?.layout !== this.state.layout) this.placed = new Placement(this.state.layout);
    return this.placed;
  }

  /** Whether this replica may vote. If not, it has to synchronise first, and then call `setVoting`. */
  get voting(): boolean {
    return this.state.voting;
  }

  get isMember(): boolean {
    return this.state.layout?.nodes.some((node) => node.url === this.url) ?? false;
  }

  get masterUrls(): readonly string[] {
    return this.state.masters;
  }

  /** Why requests of clients cannot be answered as far as this module knows, or null. */
  get problem(): string | null {
    if (this.isMember) return null;
    if (this.refused !== null) return `the master does not take this worker in: ${this.refused}`;
    if (this.state.layout !== null) return "this worker is not part of the cluster's layout (yet)";
    return this.peers === null
      ? "no layout yet: waiting for the master"
      : "no layout yet: waiting for the other workers of -volumes";
  }

  /** Is called with every new layout, after it is on disk. */
  onLayout(listener: LayoutListener): void {
    this.layoutListeners.push(listener);
  }

  /** Is called when the state of a node may have changed. */
  onStates(listener: () => void): void {
    this.stateListeners.push(listener);
  }

  /** The state of a node: as this worker sees it, else as the master says. */
  stateOf(url: string): Liveness {
    if (url === this.url) return "up";
    const own = this.observed.get(url);
    if (own !== undefined) return own;
    if (this.down.has(url)) return "down";
    return this.suspect.has(url) ? "suspect" : "up";
  }

  /** What this worker itself has seen of a node; null: nothing any more. */
  observe(url: string, state: Liveness | null): void {
    if ((this.observed.get(url) ?? null) === state) return;
    if (state === null) this.observed.delete(url);
    else this.observed.set(url, state);
    this.statesChanged();
  }

  /** Nodes that are up, this one included. */
  nodesUp(): number {
    const nodes = this.state.layout?.nodes ?? [];
    const others = nodes.filter((node) => node.url !== this.url && this.stateOf(node.url) === "up");
    return 1 + others.length;
  }

  /** How far this worker is with the partitions that it synchronises in the move of that epoch. */
  reportProgress(epoch: number, done: number, total: number): void {
    this.progress = { epoch, done, total };
    if (done >= total) for (const link of this.masters) link.hurry();
  }

  /** All of them are synchronised. */
  reportSynced(epoch: number): void {
    this.reportProgress(epoch, 0, 0);
  }

  /** The data has been synchronised from the others (or is doubted: false). On disk when it returns. */
  setVoting(voting: boolean): void {
    if (voting !== this.state.voting) this.keep({ ...this.state, voting });
  }

  /**
   * Takes a layout that another node knows. One that makes this worker a member is the master's matter, who
   * knows whether its store is the right one. Answers whether it was newer.
   */
  takeLayout(value: unknown): boolean {
    const layout = checked(value);
    if (layout.epoch <= (this.state.layout?.epoch ?? 0)) return false;
    if (!this.isMember && layout.nodes.some((node) => node.url === this.url)) return false;
    this.adopt(layout, this.state.voting, this.state.birth);
    return true;
  }

  /** Takes a layout from its maker, who knows `store` under this worker's URL. */
  takeFromMaker(layout: Layout, store: string | null, birth: Record<string, string>): void {
    if (layout.epoch <= (this.state.layout?.epoch ?? 0)) return;
    const isNamed = layout.nodes.some((node) => node.url === this.url);
    const voting = isNamed && (this.isMember ? this.state.voting : store === this.options.store);
    if (isNamed && !voting)
      this.options.log.warn(
        { store: this.options.store, known: store },
        "the cluster knows another store under this URL, so this one has lost its data: it does not vote until it has synchronised",
      );
    this.adopt(layout, voting, birth);
  }

  /** What this worker says of itself to a master. */
  heartbeat(rank: number): Heartbeat {
    const { url, region, host, store, load, isEmpty } = this.options;
    const epoch = this.state.layout?.epoch ?? 0;
    const progress = this.progress?.epoch === epoch ? this.progress : null;
    return {
      url,
      region,
      host,
      store,
      epoch,
      empty: isEmpty(),
      voting: this.voting,
      rank,
      progress,
      load: load(),
    };
  }

  /** And to other nodes. */
  document(): MemberDocument {
    const { url, region, host, store, isEmpty } = this.options;
    const { layout, voting, birth } = this.state;
    const epoch = layout?.epoch ?? 0;
    const volumes = this.peers?.urls ?? null;
    return {
      success: true,
      url,
      region,
      host,
      store,
      epoch,
      empty: isEmpty(),
      voting,
      layout,
      birth,
      volumes,
    };
  }

  /** What a master answered. */
  hearMaster(answer: HeartbeatAnswer, rank: number): void {
    if (answer.layout !== undefined)
      this.takeFromMaker(checked(answer.layout), answer.store, this.state.birth);
    if (rank !== 0) return;
    const refused = answer.refused ?? null;
    if (refused !== null && refused !== this.refused)
      this.options.log.warn({ reason: refused }, "the master does not take this worker in");
    this.refused = refused;
    const isSame = sameItems(this.suspect, answer.suspect) && sameItems(this.down, answer.down);
    if (isSame) return;
    this.suspect = new Set(answer.suspect);
    this.down = new Set(answer.down);
    this.statesChanged();
  }

  private adopt(layout: Layout, voting: boolean, birth: Record<string, string>): void {
    this.keep({ ...this.state, layout, voting, birth });
    const { epoch, nodes, previous } = layout;
    this.options.log.info({ epoch, nodes: nodes.length, moving: previous !== null, voting }, "a new layout");
    const placement = this.placement as Placement;
    for (const listener of this.layoutListeners) listener(layout, placement);
    for (const link of this.masters) link.hurry();
  }

  private keep(state: ClusterState): void {
    writeClusterFile(this.options.directory, state);
    this.state = state;
  }

  private statesChanged(): void {
    for (const listener of this.stateListeners) listener();
  }
}

/** The heartbeats to one master. */
class MasterLink {
  private readonly membership: Membership;
  private readonly http: NodeHttp;
  private readonly rank: number;
  private readonly log: MembershipLog;
  private readonly heartbeatMs: number;
  private timer: NodeJS.Timeout | undefined;
  private asking = false;
  private hurried = false;
  private closed = false;
  /** null: not asked yet. */
  private answers: boolean | null = null;
  private pauseMs: number;

  constructor(
    membership: Membership,
    url: string,
    rank: number,
    { signer, ca, log }: MembershipOptions,
    heartbeatMs: number,
  ) {
    this.membership = membership;
    this.http = new NodeHttp({ url, signer, ca, connections: 1 });
    this.rank = rank;
    this.log = log;
    this.heartbeatMs = heartbeatMs;
    this.pauseMs = heartbeatMs;
  }

  start(): void {
    void this.beat();
  }

  /** Sends the next heartbeat at once. */
  hurry(): void {
    if (this.asking) this.hurried = true;
    else if (this.timer !== undefined) this.wait(0);
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    await this.http.close();
  }

  private async beat(): Promise<void> {
    this.asking = true;
    this.hurried = false;
    const body = Buffer.from(JSON.stringify(this.membership.heartbeat(this.rank)));
    const path = this.answers === true ? "/heartbeat" : "/register";
    let failure: string | null = null;
    try {
      const answer = await this.http.request("POST", path, body, ASK_MS);
      if (answer.status !== 200) failure = `status ${answer.status}: ${answer.body.toString().trim()}`;
      else this.membership.hearMaster(readAnswer(answer.body.toString()), this.rank);
    } catch (error) {
      failure = (error as Error).message;
    }
    this.asking = false;
    if (this.closed) return;
    const { layout } = this.membership;
    if (failure === null)
      this.pauseMs = layout === null ? Math.min(EAGER_MS, this.heartbeatMs) : this.heartbeatMs;
    else this.pauseMs = Math.min(BACKOFF_MS_MAX, this.pauseMs * 1.5);
    this.say(failure);
    this.wait(this.hurried ? 0 : this.pauseMs * (1 + JITTER * (2 * Math.random() - 1)));
  }

  private wait(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = undefined;
      void this.beat();
    }, ms);
  }

  /** Logs only that a master has come or gone. */
  private say(failure: string | null): void {
    const answers = failure === null;
    if (answers === this.answers) return;
    this.answers = answers;
    const master = this.http.url;
    if (answers) this.log.info({ master }, "registered with the master");
    else
      this.log.warn(
        { master, reason: failure },
        "the master does not answer: going on without it, and trying again",
      );
  }
}

function readAnswer(text: string): HeartbeatAnswer {
  const answer = JSON.parse(text) as HeartbeatAnswer;
  if (!Array.isArray(answer.suspect) || !Array.isArray(answer.down))
    throw new Error("it is no master of minivault, or of another release");
  return answer;
}

function sameItems(set: ReadonlySet<string>, list: readonly string[]): boolean {
  return set.size === list.length && list.every((item) => set.has(item));
}
