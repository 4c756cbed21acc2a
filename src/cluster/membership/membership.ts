/**
 * A worker's side of the cluster: it registers with its masters (masters.ts), sends heartbeats for ever, and
 * keeps the last layout (member-state.ts), from which it starts without any master. With -volumes and no
 * master, workers find each other (static-peers.ts). Who it is, and whether others count: cluster/identity.
 */
import { encodeLife, encodeMarks, type Marks } from "../identity/life.ts";
import { type Known, Lives } from "../identity/lives.ts";
import { OwnLife } from "../identity/own-life.ts";
import { Senders } from "../identity/senders.ts";
import { checked } from "../layout/check.ts";
import type { Placement } from "../layout/groups.ts";
import type { Layout } from "../layout/layout.ts";
import { Namesake } from "../link/namesake.ts";
import { Masters } from "./masters.ts";
import { MemberState } from "./member-state.ts";
import {
  HEARTBEAT_MS,
  type Heartbeat,
  type HeartbeatAnswer,
  type Liveness,
  type MemberDocument,
  type Progress,
} from "./messages.ts";
import { NodeStates } from "./node-states.ts";
import type { LayoutListener, MembershipOptions } from "./options.ts";
import { Tries } from "./reach.ts";
import { StaticPeers } from "./static-peers.ts";

export type { MembershipLog, MembershipOptions } from "./options.ts";

export class Membership {
  /** The worker's id in the layout. */
  readonly url: string;
  private readonly options: MembershipOptions;
  private readonly state: MemberState;
  private readonly own: OwnLife;
  private readonly senders: Senders;
  private readonly states = new NodeStates();
  private readonly masters: Masters;
  private readonly peers: StaticPeers | null;
  private readonly tries: Tries;
  private readonly namesake: Namesake;
  /** What it remembers of the other nodes. */
  readonly lives: Lives;
  private progress: Progress | null = null;
  private refused: string | null = null;

  /**
   * Reads what the data directory knows; nothing is sent before `start`. Throws an Error with a sentence for
   * a person.
   */
  constructor(options: MembershipOptions) {
    const { url, directory, volumes, log } = options;
    this.options = options;
    this.url = url;
    const alert = (reason: string) => this.senders.alert(reason);
    this.state = new MemberState(options, alert, () => this.own.prove());
    this.lives = new Lives(directory, (message) => log.warn({}, message));
    this.own = this.createOwnLife();
    this.senders = new Senders({
      ...{ url, own: this.own, lives: this.lives, log },
      layout: () => this.state.layout,
      incarnation: () => this.state.incarnation,
    });
    this.masters = this.createMasters();
    this.state.onLayout(() => this.masters.hurry());
    this.tries = new Tries(options, () => this.masters.hurry());
    this.namesake = new Namesake({ ...options, store: this.state.member });
    const isStatic = this.state.masters.length === 0 && volumes.length > 0;
    this.peers = isStatic ? new StaticPeers(this, options) : null;
  }

  private createOwnLife(): OwnLife {
    const { run, openedEnds, hello, log, proofWaitMs } = this.options;
    const isReached = () => this.namesake.isOwn();
    const onProven = () => this.masters.hurry();
    return new OwnLife({ store: this.state, run, openedEnds, hello, log, proofWaitMs, isReached, onProven });
  }

  private createMasters(): Masters {
    const { signer, tls, log, heartbeatMs = HEARTBEAT_MS } = this.options;
    return new Masters(this.state.masters, {
      ...{ signer, tls, log, heartbeatMs },
      heartbeat: (rank) => this.heartbeat(rank),
      heard: (answer, { rank, life = "" }) => this.hearMaster(answer, rank, life),
      hasLayout: () => this.state.layout !== null,
    });
  }

  /** One more master has invited this worker. In order of names the first one makes the layouts. */
  async addMaster(url: string): Promise<void> {
    if (this.state.masters.includes(url)) return;
    const masters = [...this.state.masters, url].sort();
    this.state.setMasters(masters);
    await this.masters.add(url, masters);
  }

  /** Begins to register, or to look for the others. */
  start(): void {
    this.own.start(this.isMember);
    const begin = (): void => {
      this.masters.start();
      this.peers?.start();
    };
    if (this.isMember) begin();
    else void this.namesake.whenGone(begin);
  }

  async close(): Promise<void> {
    this.own.close();
    this.namesake.close();
    await Promise.all([this.masters.close(), this.peers?.close(), this.lives.close()]);
  }

  // ---- who it is, and who the others are ------------------------------------------------------------------

  /** See Senders. */
  hear(from: string, marks: string | null): string | null {
    return this.senders.hear(from, marks);
  }

  answerHello(from: string): Known {
    return this.senders.answerHello(from);
  }

  heardBack(from: string): boolean {
    return this.senders.heardBack(from);
  }

  wasRefused(life: string, reason: string): void {
    this.senders.wasRefused(life, reason);
  }

  saysItVotes(url: string): boolean {
    return this.senders.saysItVotes(url);
  }

  /** This life, as other nodes are told of it. */
  get lifeAsText(): string {
    return this.own.asText;
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
    return this.own.isProven;
  }

  /** Why this node serves nobody though it knows its layout, or null. */
  get unready(): string | null {
    const isIn = this.layout !== null && this.isMember;
    return isIn || this.own.fenced !== null ? this.own.unready : this.problem;
  }

  /** What must not be and is, for a person: it is fenced, or met another cluster; null: nothing. */
  get alarm(): string | null {
    return this.own.fenced ?? this.senders.problem;
  }

  // ---- the layout, and the vote ---------------------------------------------------------------------------

  get layout(): Layout | null {
    return this.state.layout;
  }

  /** Which nodes hold what, by the layout; null without one. */
  get placement(): Placement | null {
    return this.state.placement;
  }

  get isMember(): boolean {
    return this.state.isMember;
  }

  get masterUrls(): readonly string[] {
    return this.state.masters;
  }

  /** Is called with every new layout, after it is on disk. */
  onLayout(listener: LayoutListener): void {
    this.state.onLayout(listener);
  }

  /** See MemberState. */
  takeLayout(value: unknown): boolean {
    return this.state.takeLayout(value);
  }

  takeFromMaker(layout: Layout, store: string | null, birth: Record<string, string>): void {
    this.state.takeFromMaker(layout, store, birth);
  }

  /** Whether this replica may vote. If not, it has to synchronise first, and then call `setVoting`. */
  get voting(): boolean {
    return this.own.votes;
  }

  /** Whether its data is not whole, as far as it is known: it has to synchronise. */
  get mustSynchronise(): boolean {
    return !this.state.isWhole && this.isProven;
  }

  /** The data has been synchronised from the others (or is doubted: false). On disk when it returns. */
  setVoting(voting: boolean): void {
    this.state.setWhole(voting);
  }

  /** How far it is with the partitions that it synchronises in a move; all: on disk when it returns. */
  reportProgress(epoch: number, done: number, total: number): void {
    // On disk before anybody hears of it: then the move may end.
    if (done >= total) this.state.setFinished(epoch);
    this.progress = { epoch, done, total };
    if (done >= total) this.masters.hurry();
  }

  // ---- who is there ---------------------------------------------------------------------------------------

  /** What this worker itself has seen of a node; null: nothing any more. */
  observe(url: string, state: Liveness | null): void {
    if (!this.states.observe(url, state)) return;
    // What it said last is wanted when it comes back.
    if (state !== "up") this.lives.flush();
    if (state === null) this.senders.forget(url);
  }

  /** Nodes that are up, this one included. */
  nodesUp(): number {
    const others = (this.layout?.nodes ?? []).filter(({ url }) => url !== this.url);
    return 1 + others.filter(({ url }) => this.states.of(url) === "up").length;
  }

  // ---- what it says of itself, and what masters answer ------------------------------------------------------

  /** Why requests of clients cannot be answered as far as this module knows, or null. */
  get problem(): string | null {
    if (this.own.fenced !== null) return this.own.fenced;
    if (this.isMember) return null;
    if (this.namesake.problem !== null) return this.namesake.problem;
    if (this.refused !== null) return `the master does not take this worker in: ${this.refused}`;
    if (this.layout !== null) return "this worker is not part of the cluster's layout (yet)";
    if (this.peers === null) return `no layout yet: ${this.masters.failures || "waiting for the master"}`;
    return `no layout yet: ${this.peers.reason || "waiting for the other workers of -volumes"}`;
  }

  /** What holds, whatever the node was started with. */
  get inForce(): object {
    return { ...this.state.inForce, masters: this.masters.states };
  }

  /** To other nodes. */
  document(): MemberDocument {
    const { layout, birth } = this.state;
    return { success: true, ...this.facts(), layout, birth, volumes: this.peers?.urls ?? null };
  }

  private heartbeat(rank: number): Heartbeat {
    const facts = this.facts();
    const progress = this.progress?.epoch === facts.epoch ? this.progress : null;
    return {
      ...facts,
      ...{ rank, progress, load: this.options.load() },
      ...{ life: encodeLife(this.own.life()), marks: encodeMarks(this.marks), tried: this.tries.results },
    };
  }

  private facts() {
    const { url, region, host, features, isEmpty } = this.options;
    const epoch = this.layout?.epoch ?? 0;
    const { member: store } = this.state;
    return { url, region, host, store, epoch, empty: isEmpty(), voting: this.voting, features };
  }

  private hearMaster(answer: HeartbeatAnswer, rank: number, life: string): void {
    if (answer.foreign !== undefined) this.senders.alert(answer.foreign);
    if (answer.known !== undefined) this.own.hearMaster(answer.known);
    if (answer.fenced !== undefined) this.senders.wasRefused(life, answer.fenced);
    const { layout, store, birth = this.state.birth } = answer;
    if (layout !== undefined) this.state.takeFromMaker(checked(layout), store, birth);
    if (!(answer.leads ?? rank === 0)) return;
    this.tries.ask(answer.candidates ?? []);
    const refused = answer.refused ?? null;
    if (refused !== null && refused !== this.refused)
      this.options.log.warn({ reason: refused }, "the master does not take this worker in");
    this.refused = refused;
    this.states.hear(answer.suspect, answer.down);
  }
}
