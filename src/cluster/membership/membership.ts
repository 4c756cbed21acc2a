/**
 * A worker's side of the cluster: it registers with its masters, sends heartbeats for ever, and keeps the
 * last layout in its data directory, from which it starts without any master. With -volumes and no master,
 * the workers find each other (static-peers.ts).
 *
 * Invariants: a layout is on disk before anybody here hears of it; its epoch only rises; the voting flag is
 * only raised for a store that the layout's maker knew under this URL, or when the owner of the data says
 * that it has synchronised.
 */

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { RequestSigner } from "../../auth/signature.ts";
import { VaultError } from "../../util/errors.ts";
import { decodeLife, decodeMarks, encodeLife, encodeMarks, type Life, type Marks } from "../identity/life.ts";
import { type Known, Lives, readKnown } from "../identity/lives.ts";
import type { RunFile } from "../identity/run-file.ts";
import { PROOF_WAIT_MS, Standing } from "../identity/standing.ts";
import { type ClusterState, readClusterFile, writeClusterFile } from "../layout/cluster-file.ts";
import { changedMasters, notInForce } from "../layout/in-force.ts";
import { checked, isForeign, type Layout, layoutDigest, Placement } from "../layout/layout.ts";
import { NodeHttp } from "../link/node-http.ts";
import type { PeerTls } from "../link/peer-tls.ts";
import {
  HEARTBEAT_MS,
  type Heartbeat,
  type HeartbeatAnswer,
  type Liveness,
  type MemberDocument,
  type Progress,
} from "./messages.ts";
import { Tries } from "./reach.ts";
import { Peers } from "./static-peers.ts";

const ASK_MS = 3000;
/** Longest pause between two tries while a master does not answer. */
const BACKOFF_MS_MAX = 3000;
/** A master that does not answer is not waited for longer, before another one takes its place. */
const HANDOVER_MS_MAX = 20_000;
/** Pause while there is no layout: until then nothing can be served. */
const EAGER_MS = 250;
/** Heartbeats of many workers spread out: each pause is longer or shorter by up to this share. */
const JITTER = 0.1;

export interface MembershipLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

export interface MembershipOptions {
  /** The data directory. */
  directory: string;
  /** This worker's public URL: its id. */
  url: string;
  region: string;
  /** Name of the machine. */
  host: string;
  /** Identity of its store, 32 hex digits, its node number, and how often it was started. */
  store: string;
  storeNode: number;
  starts: number;
  /** Where the log of each shard ended when it was opened, and up to where it is answered by now. */
  openedEnds: Marks;
  answeredEnds: () => Marks;
  /** How the last run ended, and where this one is noted. */
  run: RunFile;
  /** Asks another node what it knows of this one's store. */
  hello: (node: string) => Promise<Known>;
  /** Empty: those that the data directory knows, if any. */
  masters: readonly string[];
  /** Static workers, when there is no master. */
  volumes: readonly string[];
  replicas: number;
  /** They were asked for; null: only preset. */
  wantedReplicas: number | null;
  /** The highest feature level that this program can do with its data directory. */
  features: number;
  /** What heartbeats say of the load. */
  load: () => { keys: number; bytes: number };
  /** Whether the store holds nothing at all, not even traces of deleted keys. */
  isEmpty: () => boolean;
  signer: RequestSigner | null;
  /** For https. */
  tls: PeerTls;
  log: MembershipLog;
  /** Shorter in tests. */
  heartbeatMs?: number;
  proofWaitMs?: number;
}

/** How a refusal begins: of a process that a later one has replaced, and of another cluster. */
const FENCED = "fenced:";
const FOREIGN = "foreign:";
/** Senders whose words are remembered as judged. */
const HEARD_MAX = 4096;

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
  private readonly tries: Tries;
  private progress: Progress | null = null;
  private suspect: ReadonlySet<string> = new Set();
  private down: ReadonlySet<string> = new Set();
  private readonly observed = new Map<string, Liveness>();
  /** What each node said last of its vote. */
  private readonly voters = new Map<string, boolean>();
  private readonly layoutListeners: LayoutListener[] = [];
  private readonly stateListeners: (() => void)[] = [];
  private refused: string | null = null;
  /** Of what is not in force. */
  private said: string[] = [];
  /** What it remembers of the other nodes. */
  readonly lives: Lives;
  private readonly session = randomBytes(8).toString("hex");
  /** Whether nobody knows more of this store than it has itself; until then it does not vote. */
  private proven = false;
  private standing: Standing | null = null;
  private masterKnows: Known | null = null;
  /** Why this process must not serve any more, or null. */
  private fencedBy: string | null = null;
  private foreign: string | null = null;
  private heard = { generation: -1, layout: null as Layout | null, lives: new Map<string, Life>() };
  private lifeText: { of: Layout | null; votes: boolean; incarnation: number; text: string } | null = null;

  /**
   * Reads what the data directory knows; nothing is sent before `start`. Throws an Error with a sentence for
   * a person.
   */
  constructor(options: MembershipOptions) {
    this.options = options;
    this.url = options.url;
    this.heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS;
    const kept = readClusterFile(options.directory, options.storeNode);
    if (kept !== null && kept.store !== options.store)
      throw new Error(
        `${options.directory}/CLUSTER belongs to another store than the one beside it; remove it, and the worker synchronises anew`,
      );
    // Who never was a member under that URL, such as one that nobody could reach, may have another.
    if (kept !== null && kept.url !== options.url && isNamedIn(kept.layout, kept.url))
      throw new Error(
        `this data directory belongs to ${kept.url} in its cluster, not to ${options.url}: start it with -public-url ${kept.url}`,
      );
    const masters = options.masters.length > 0 ? [...options.masters] : (kept?.masters ?? []);
    const fresh: ClusterState = {
      url: options.url,
      store: options.store,
      member: randomBytes(16).toString("hex"),
      number: randomBytes(4).readUInt32LE(0),
      incarnation: 0,
      masters,
      voting: false,
      layout: null,
      birth: {},
    };
    this.state = kept ?? fresh;
    const incarnation = Math.max(this.state.incarnation + 1, options.starts);
    const state = { ...this.state, url: options.url, masters, incarnation };
    const isSame = kept !== null && kept.url === options.url && kept.masters.join() === masters.join();
    const changed = changedMasters(options, kept?.masters ?? null);
    if (changed !== null) options.log.warn({}, changed);
    if (state.layout !== null) this.sayWhatIsNotInForce(state.layout);
    // STORE has counted this start durably, and a full disk must not keep a node from starting.
    if (isSame && incarnation === options.starts) this.state = state;
    else this.keep(state);
    this.lives = new Lives(options.directory, (message) => options.log.warn({}, message));
    this.masters = masters.map(
      (master, rank) => new MasterLink(this, master, rank, options, this.heartbeatMs),
    );
    this.tries = new Tries(options, () => {
      for (const link of this.masters) link.hurry();
    });
    this.peers =
      masters.length > 0 || options.volumes.length === 0 ? null : new Peers(this, options, this.heartbeatMs);
  }

  /**
   * One more master has invited this worker. In order of names the first one makes the layouts: who is not
   * first any more has to know that before the new one hears of this worker, or both might begin a cluster.
   */
  async addMaster(url: string): Promise<void> {
    if (this.state.masters.includes(url)) return;
    const masters = [...this.state.masters, url].sort();
    this.keep({ ...this.state, masters });
    const link = new MasterLink(this, url, masters.indexOf(url), this.options, this.heartbeatMs);
    const told = this.masters.map((other) => other.setRank(masters.indexOf(other.url)));
    this.masters.push(link);
    if (masters[0] === url)
      await Promise.race([Promise.all(told), sleep(HANDOVER_MS_MAX, null, { ref: false })]);
    link.start();
  }

  /** Begins to register, or to look for the others. */
  start(): void {
    // A store that was in no cluster yet has nobody who could know more of it.
    if (!this.isMember) {
      this.options.run.begin();
      this.proven = true;
    } else this.prove();
    for (const link of this.masters) link.start();
    this.peers?.start();
  }

  async close(): Promise<void> {
    this.standing?.close();
    await Promise.all([...this.masters.map((link) => link.close()), this.peers?.close(), this.lives.close()]);
  }

  private prove(): void {
    const { openedEnds, hello, run, log, proofWaitMs } = this.options;
    this.standing = new Standing({
      self: this.url,
      placement: () => this.placement,
      life: () => this.life(),
      ends: openedEnds,
      hello,
      master: () => this.masterKnows,
      raise: (above) => this.keep({ ...this.state, incarnation: above + 1 }),
      demote: () => this.setVoting(false),
      doubt: run.doubt,
      settle: () => run.begin(),
      proven: () => {
        this.proven = true;
        for (const link of this.masters) link.hurry();
      },
      info: (fields, text) => log.info(fields, text),
      warn: (fields, text) => log.warn(fields, text),
      ...(proofWaitMs === undefined ? {} : { waitMs: proofWaitMs }),
    });
  }

  /** Whoever refuses requests of this node says why; `life` is what the request carried. */
  wasRefused(life: string, reason: string): void {
    if (reason.startsWith(FOREIGN)) this.alert(reason);
    // While it finds out who it is, and right after, requests are on their way that carry what it was before.
    const isOwn = decodeLife(life)?.incarnation === this.state.incarnation;
    if (reason.startsWith(FENCED) && isOwn && this.isProven) this.fence(reason);
  }

  /**
   * Takes what every request between nodes carries: who sends it and, with a pulse, how far its log was
   * answered. Answers why the request is not taken, or null.
   * @throws VaultError when a new life cannot be put on disk
   */
  hear(from: string, marks: string | null): string | null {
    const { layout } = this.state;
    if (this.heard.generation !== this.lives.generation || this.heard.layout !== layout)
      this.heard = { generation: this.lives.generation, layout, lives: new Map() };
    let life = this.heard.lives.get(from) ?? null;
    if (life === null) {
      life = decodeLife(from);
      if (life === null) return "the sender does not say who it is in a form that this node knows";
      const refusal = this.hearLife(life);
      if (refusal !== null) return refusal;
      if (this.heard.lives.size < HEARD_MAX) this.heard.lives.set(from, life);
    }
    const places = marks === null ? null : decodeMarks(marks);
    if (places !== null) this.lives.hear(life, places);
    return null;
  }

  /**
   * A node that starts asks what is known of its store. Its life is admitted, where it is a later one.
   * @throws VaultError when it is of another cluster
   */
  answerHello(from: string): Known {
    const life = decodeLife(from);
    if (life === null) throw new VaultError("bad_request", "a hello says whose it is");
    const refusal = this.hearLife(life);
    if (refusal?.startsWith(FOREIGN)) throw new VaultError("conflict", refusal);
    // A store that is empty or old has lost what it remembered, too; and nobody takes anything over from one
    // that may lack what it acknowledged.
    const isDoubtful = !this.proven && this.options.run.doubt !== null;
    return { ...this.lives.knownOf(life), forgetful: !this.state.voting || isDoubtful };
  }

  /** A node that answers a pulse says who it is: false when that does not count. */
  heardBack(from: string): boolean {
    const life = decodeLife(from);
    if (life === null) return true;
    this.voters.set(life.url, life.votes);
    if (!isForeign(this.state.layout?.cluster, life.cluster)) return !this.lives.isFenced(life);
    this.alert(`${life.url} belongs to another cluster (${life.cluster})`);
    return false;
  }

  /** Whether a node says that it votes. */
  saysItVotes(url: string): boolean {
    return this.voters.get(url) ?? true;
  }

  /** This life, as other nodes are told of it. */
  life(): Life {
    const { layout, member, incarnation } = this.state;
    return {
      cluster: layout?.cluster ?? null,
      epoch: layout?.epoch ?? 0,
      layout: layout === null ? null : layoutDigest(layout),
      ...{ store: member, incarnation, session: this.session, votes: this.voting, url: this.url },
    };
  }

  /** The same as text. */
  get lifeAsText(): string {
    const { layout, incarnation } = this.state;
    const votes = this.voting;
    const known = this.lifeText;
    if (known !== null && known.of === layout && known.votes === votes && known.incarnation === incarnation)
      return known.text;
    const text = encodeLife(this.life());
    this.lifeText = { of: layout, votes, incarnation, text };
    return text;
  }

  /** Up to where the own log is answered, for others to remember. */
  get marks(): Marks {
    return this.options.answeredEnds();
  }

  /** The node's number and incarnation in ballots. */
  get number(): number {
    return this.state.number;
  }

  get incarnation(): number {
    return this.state.incarnation;
  }

  /** Whether this node may speak for its store: nobody knows a later life of it. */
  get isProven(): boolean {
    return this.proven && this.fencedBy === null;
  }

  /** A later life of this node was met, or a node of another cluster: `reason` is for a person. */
  fence(reason: string): void {
    if (this.fencedBy !== null) return;
    this.fencedBy = reason;
    this.options.log.error(
      { reason },
      "fenced: another process serves as this node now; this one has stopped to vote and to serve. End it, or the other one",
    );
    this.statesChanged();
  }

  /** Why this node serves nobody though it knows its layout, or null. */
  get unready(): string | null {
    if (this.fencedBy !== null) return `another process serves as this node now: ${this.fencedBy}`;
    if (this.layout === null || !this.isMember) return this.problem;
    if (this.proven) return null;
    return `this node asks the others whether its data directory is the newest; after ${PROOF_WAIT_MS / 1000} s it serves without their answers`;
  }

  /** What must not be and is, for a person: it is fenced, or met another cluster; null: nothing. */
  get alarm(): string | null {
    return this.fencedBy ?? this.foreign;
  }

  /**
   * Judges who sends a request between nodes, and remembers it. Answers why nothing of it is taken, or null.
   * @throws VaultError when a new life cannot be put on disk
   */
  hearLife(life: Life): string | null {
    const { layout } = this.state;
    if (isForeign(layout?.cluster, life.cluster)) {
      const reason = `${life.url} belongs to another cluster (${life.cluster}; this one is ${layout?.cluster})`;
      this.alert(reason);
      return `${FOREIGN} ${this.url} belongs to another cluster`;
    }
    if (layout !== null && life.epoch === layout.epoch && life.layout !== null)
      if (life.layout !== this.ownDigest(layout)) {
        this.alert(`${life.url} has another layout under the number ${layout.epoch}`);
        return `${FOREIGN} ${this.url} has another layout under the number ${layout.epoch}`;
      }
    if (!this.isKnown(life.url)) return null;
    return this.admitted(life) ? null : `${FENCED} a later start of ${life.url} is known at ${this.url}`;
  }

  private admitted(life: Life): boolean {
    try {
      return this.lives.admit(life);
    } catch (error) {
      // Nothing of the request was done.
      throw new VaultError(
        "unavailable",
        `a start of ${life.url} cannot be noted: ${(error as Error).message}`,
      );
    }
  }

  private digest: { of: Layout; text: string } | null = null;

  private ownDigest(layout: Layout): string {
    if (this.digest?.of !== layout) this.digest = { of: layout, text: layoutDigest(layout) };
    return this.digest.text;
  }

  private isKnown(url: string): boolean {
    return isNamedIn(this.state.layout, url);
  }

  /** Something that must not be: said once, and shown from then on. */
  private alert(reason: string): void {
    if (this.foreign === reason) return;
    this.foreign = reason;
    this.options.log.error({ reason }, "what a node says does not count here");
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
    return this.state.voting && this.isProven;
  }

  /** Whether its data is not whole, as far as it is known: it has to synchronise. */
  get mustSynchronise(): boolean {
    return !this.state.voting && this.isProven;
  }

  get isMember(): boolean {
    return this.state.layout?.nodes.some((node) => node.url === this.url) ?? false;
  }

  get masterUrls(): readonly string[] {
    return this.state.masters;
  }

  /** Why requests of clients cannot be answered as far as this module knows, or null. */
  get problem(): string | null {
    if (this.fencedBy !== null) return this.fencedBy;
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
    // What it said last is wanted when it comes back.
    if (state !== "up") this.lives.flush();
    if (state === null) this.voters.delete(url);
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
    if (this.refusesForeign(layout) || layout.epoch <= (this.state.layout?.epoch ?? 0)) return false;
    if (!this.isMember && layout.nodes.some((node) => node.url === this.url)) return false;
    this.adopt(layout, this.state.voting || this.isLeftIn(layout), this.state.birth);
    return true;
  }

  /** Takes a layout from its maker, who knows `store` under this worker's URL. */
  takeFromMaker(layout: Layout, store: string | null, birth: Record<string, string>): void {
    if (this.refusesForeign(layout) || layout.epoch <= (this.state.layout?.epoch ?? 0)) return;
    const isNamed = layout.nodes.some((node) => node.url === this.url);
    const isKept = this.isMember ? this.state.voting : store === this.state.member;
    const voting = this.isLeftIn(layout) || (isNamed && isKept);
    if (isNamed && !voting)
      this.options.log.warn(
        { store: this.state.member, known: store },
        "the cluster knows another store under this URL, so this one has lost its data: it does not vote until it has synchronised",
      );
    this.adopt(layout, voting, birth);
  }

  /** The cluster recovers, and this node is one of those that are left: what it has is what there is. */
  private isLeftIn(layout: Layout): boolean {
    const isLeft = layout.lost !== undefined && this.isMember;
    return isLeft && layout.nodes.some((node) => node.url === this.url);
  }

  private refusesForeign(layout: Layout): boolean {
    if (!isForeign(this.state.layout?.cluster, layout.cluster)) return false;
    this.alert(
      `a layout of another cluster (${layout.cluster}) was offered; this node belongs to ${this.state.layout?.cluster}`,
    );
    return true;
  }

  /** What this worker says of itself to a master. */
  heartbeat(rank: number): Heartbeat {
    const { url, region, host, features, load, isEmpty } = this.options;
    const store = this.state.member;
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
      features,
      load: load(),
      life: encodeLife(this.life()),
      marks: encodeMarks(this.marks),
      tried: this.tries.results,
    };
  }

  /** And to other nodes. */
  document(): MemberDocument {
    const { url, region, host, features, isEmpty } = this.options;
    const { layout, birth, member: store } = this.state;
    const { voting } = this;
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
      features,
      layout,
      birth,
      volumes,
    };
  }

  /** What a master answered. */
  hearMaster(answer: HeartbeatAnswer, rank: number, life: string): void {
    if (answer.foreign !== undefined) this.alert(answer.foreign);
    if (answer.known !== undefined) this.masterKnows = answer.known;
    if (answer.fenced !== undefined) this.wasRefused(life, answer.fenced);
    if (answer.layout !== undefined)
      this.takeFromMaker(checked(answer.layout), answer.store, this.state.birth);
    if (rank !== 0) return;
    this.tries.ask(answer.candidates ?? []);
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
    this.sayWhatIsNotInForce(layout);
  }

  /** Each thing once, until it changes. */
  private sayWhatIsNotInForce(layout: Layout): void {
    const sentences = notInForce(this.options, this.state.masters, layout);
    for (const sentence of sentences) if (!this.said.includes(sentence)) this.options.log.warn({}, sentence);
    this.said = sentences;
  }

  /** What holds, whatever the node was started with. */
  get inForce(): object {
    const { layout } = this.state;
    const own = layout?.nodes.find((node) => node.url === this.url);
    return {
      region: own?.region ?? this.options.region,
      replicas: layout?.replicas ?? null,
      masters: this.masters.map(({ url, isAnswering }) => ({ url, answers: isAnswering })),
    };
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
  private rank: number;
  private toldRank: (() => void) | null = null;
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
    { signer, tls, log }: MembershipOptions,
    heartbeatMs: number,
  ) {
    this.membership = membership;
    this.http = new NodeHttp({ url, signer, tls, connections: 1, repeatable: true });
    this.rank = rank;
    this.log = log;
    this.heartbeatMs = heartbeatMs;
    this.pauseMs = heartbeatMs;
  }

  get url(): string {
    return this.http.url;
  }

  get isAnswering(): boolean {
    return this.answers === true;
  }

  start(): void {
    if (!this.closed) void this.beat();
  }

  /** Its place among the masters. Resolves once it has been told, and has answered. */
  setRank(rank: number): Promise<void> {
    this.rank = rank;
    this.hurry();
    return new Promise((resolve) => {
      this.toldRank = resolve;
    });
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
    const heartbeat = this.membership.heartbeat(this.rank);
    const body = Buffer.from(JSON.stringify(heartbeat));
    const path = this.answers === true ? "/heartbeat" : "/register";
    let failure: string | null = null;
    try {
      const answer = await this.http.request("POST", path, body, ASK_MS);
      if (answer.status !== 200) failure = `status ${answer.status}: ${answer.body.toString().trim()}`;
      else {
        this.membership.hearMaster(readAnswer(answer.body.toString()), heartbeat.rank, heartbeat.life ?? "");
        if (heartbeat.rank === this.rank) this.toldRank?.();
      }
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
  if (answer.candidates !== undefined && !Array.isArray(answer.candidates))
    throw new Error("it names candidates that are none");
  if (answer.known !== undefined) readKnown(answer.known);
  return answer;
}

function isNamedIn(layout: Layout | null, url: string): boolean {
  const nodes = [...(layout?.nodes ?? []), ...(layout?.previous?.nodes ?? [])];
  return nodes.some((node) => node.url === url);
}

function sameItems(set: ReadonlySet<string>, list: readonly string[]): boolean {
  return set.size === list.length && list.every((item) => set.has(item));
}
