/**
 * A front thread's own coordinator on a node of a cluster.
 *
 * It is a coordinator as on another machine. Its ballots have a number of their own, drawn at each start as a
 * store's is at its birth, so no ballot is given twice, and a replica that is asked whether an operation was
 * shown to others tells the fronts of one node apart (replica/accept-log.ts). It holds no replica: the node's
 * own one is asked as the others are, over HTTP at the node's own port, by the main thread, which alone has
 * what must be one in a node: votes, staged values, the memory of accepts, that of signed requests, and the
 * membership. So nothing that is safe depends on which front serves; what a front knows too late makes its
 * requests be refused.
 *
 * The store is read directly only where any copy will do (`consistency=one`).
 */
import { randomBytes } from "node:crypto";
import type { RequestSigner } from "../../auth/signature.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { BallotSource } from "../clock/ballots.ts";
import { ClusterTime } from "../clock/cluster-time.ts";
import { Placement } from "../layout/groups.ts";
import type { PeerTls } from "../link/peer-tls.ts";
import type { LayoutListener } from "../membership/options.ts";
import type { Consistency } from "../node/access.ts";
import { ClusterNode, type ClusterView } from "../node/cluster-node.ts";
import { type PeerMembership, PeerSet } from "../node/peer-set.ts";
import type { ClusterFacts } from "../repair/status.ts";
import { Service } from "../service/service.ts";
import type { FrontWord, Home, HomeFigures, HomeNews, HomeState } from "./messages.ts";

/** Lives of other nodes whose judgement is remembered: of each node one, and a few that come and go. */
const JUDGED_MAX = 4096;

export interface FrontNodeSetup {
  home: Home;
  /** Where the node itself is reached from here, when that is not its URL. */
  homeAddress: string | undefined;
  /** The number of this front. */
  front: number;
  region: string;
  consistency: Consistency;
  vault: LocalVault;
  signer: RequestSigner | null;
  tls: PeerTls;
  localAddress: string | undefined;
  /** To the main thread. */
  say: (word: FrontWord) => void;
  warn: (message: string) => void;
}

export class FrontNode implements ClusterView {
  readonly node: ClusterNode;
  private readonly setup: FrontNodeSetup;
  private state: HomeState;
  private figures: HomeFigures;
  /** By the newest layout that it knows; null: it knows none. */
  placement: Placement | null = null;
  private readonly listeners: LayoutListener[] = [];
  /** What the main thread last said of other nodes' lives. */
  private readonly judged = new Map<string, boolean>();
  private readonly peers: PeerSet;
  private readonly service: Service;

  constructor(setup: FrontNodeSetup) {
    const { home, signer, tls, localAddress } = setup;
    this.setup = setup;
    this.state = home.state;
    this.figures = home.figures;
    this.place();
    const time = new ClusterTime({
      wall: Date.now,
      steady: () => performance.now(),
      nodes: () => this.state.layout?.nodes.length ?? 1,
    });
    this.peers = new PeerSet({
      ...{ membership: this.membership(), time, signer, tls, localAddress },
      log: SILENT,
      home: { url: home.url, address: setup.homeAddress },
    });
    this.node = this.createNode(time);
    this.service = this.createService();
  }

  /** What the clients to other nodes ask of who they are of. */
  private membership(): PeerMembership {
    const { say } = this.setup;
    const state = (): HomeState => this.state;
    return {
      // It is none of the layout's nodes: all of them are others.
      url: "",
      get layout() {
        return state().layout;
      },
      get lifeAsText() {
        return state().life;
      },
      // The main thread tells how far the store's log was answered, and what was seen of the nodes.
      marks: [],
      observe: () => {},
      onLayout: (listener) => this.listeners.push(listener),
      heardBack: (life) => this.counts(life),
      wasRefused: (life, reason) => say({ kind: "refused", life, reason }),
      saysItVotes: () => true,
      takeLayout: () => false,
    };
  }

  private createNode(time: ClusterTime): ClusterNode {
    const { home, front, vault, region, consistency, say, warn } = this.setup;
    const ballots = new BallotSource({
      node: ballotNumber(home.number),
      incarnation: home.incarnation,
      now: () => time.now(),
      // For progress only: what replicas have seen is told with their noes.
      ceilingMillis: 0,
      persistCeiling: () => {},
    });
    return new ClusterNode({
      // No node's id.
      self: `${home.url}#${front}`,
      home: home.url,
      ...{ region, consistency, vault, ballots, time },
      view: this,
      peerOf: (other) => this.peers.get(other),
      newerLayout: (epoch) => say({ kind: "newer", epoch }),
      seen: (...outcome) => this.service.seen(...outcome),
      missed: (key, proposal, nodes) => say({ kind: "missed", key, proposal, nodes }),
      // Nobody asks this one for a replica.
      damaged: () => {},
      mustWait: () => true,
      repairFrame: () => {},
      warn,
    });
  }

  private createService(): Service {
    const { url } = this.setup.home;
    return new Service({
      self: url,
      placement: () => this.placement,
      votes: () => this.state.voting && this.peers.hindrance(url) === null,
      hindrance: (other) => this.peers.hindrance(other),
      read: (key, done) => this.node.coordinator.read(key, done),
      settle: (key, done) => this.node.coordinator.settle(key, done),
      now: () => performance.now(),
    });
  }

  /** What the main thread says. */
  hear(news: HomeNews): void {
    if (news.kind === "figures") this.figures = news.figures;
    else if (news.kind === "judged") {
      if (this.judged.size >= JUDGED_MAX) this.judged.clear();
      this.judged.set(news.life, news.counts);
    } else {
      const isNew = news.state.layout?.epoch !== this.state.layout?.epoch;
      this.state = news.state;
      if (!isNew) return;
      this.place();
      const { layout } = this.state;
      if (layout !== null && this.placement !== null)
        for (const listener of this.listeners) listener(layout, this.placement);
    }
  }

  private place(): void {
    const { layout } = this.state;
    this.placement = layout === null ? null : new Placement(layout);
  }

  /**
   * Whether it counts who has answered a pulse: by what the main thread has said of that life, which is asked
   * again each time. One that nobody has judged yet counts until the next pulse.
   */
  private counts(life: string): boolean {
    this.setup.say({ kind: "heard", life });
    return this.judged.get(life) ?? true;
  }

  /** Whether the node's replica votes. */
  get voting(): boolean {
    return this.state.voting;
  }

  /** Whether the node may speak for its store. */
  get isProven(): boolean {
    return this.state.isProven;
  }

  /** The node's public URL. */
  get url(): string {
    return this.setup.home.url;
  }

  get nodesUp(): number {
    return this.state.nodesUp;
  }

  /** What `/health` and `/_stats` say of the cluster. */
  facts(): ClusterFacts {
    const { unready: reason } = this.state;
    const ready = this.node.isReady && reason === null;
    return { ready, reason, unable: this.service.problem, ...this.figures };
  }

  async close(): Promise<void> {
    this.service.close();
    await this.peers.close();
  }
}

/** The main thread says what is to be said of other nodes. */
const SILENT = { info: () => {}, warn: () => {}, error: () => {} };

/** A number for ballots that is not the node's own. */
function ballotNumber(own: number): number {
  const number = randomBytes(4).readUInt32LE(0);
  return number === own ? ballotNumber(own) : number;
}
