import type { Ballot } from "../../format/record.ts";
import type { KeyBytes, Upload, WriteDone, WriteHead } from "../../shards/arena/write.ts";
import type { CatalogAnswer, CatalogQuestion } from "../../shards/catalog/messages.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { VaultError } from "../../util/errors.ts";
import { hashKey } from "../../util/hash.ts";
import type { BallotSource } from "../clock/ballots.ts";
import type { ClusterTime } from "../clock/cluster-time.ts";
import { Coordinator } from "../coordinator/coordinator.ts";
import { isChangesFrame } from "../feed/feed-wire.ts";
import { NodeFeeds } from "../feed/node-feeds.ts";
import { FEATURE_ENDS, FEATURE_FIELDS, FEATURE_RECENT, featuresOf } from "../layout/features.ts";
import { bitOf, type Placement, type ReplicaGroup } from "../layout/groups.ts";
import { isNamedIn } from "../layout/layout.ts";
import type { ClusterList } from "../list/cluster-list.ts";
import { createClusterList } from "../list/create.ts";
import { ReplicaList } from "../list/replica-list.ts";
import type { PeerClient } from "../peers/peer-client.ts";
import type { AnswerRoom, PeerHandler, PeerSink, PeerSource } from "../peers/peer-handler.ts";
import type { ClusterKey, Payload, Proposal } from "../register/ports.ts";
import type { ReadResult } from "../register/requests.ts";
import { clusterKey } from "../replica/cluster-key.ts";
import { LocalReplica } from "../replica/local-replica.ts";
import { NodePort } from "../replica/node-port.ts";
import { PeerFrames } from "../replica/peer-frames.ts";
import type { Service } from "../service/service.ts";
import { isHandOn } from "../wire/hand-on.ts";
import { isListFrame, votesOf } from "../wire/list-wire.ts";
import { isRepairFrame } from "../wire/repair-wire.ts";
import type { RemoteValue, StoredValue } from "../wire/values.ts";
import type { ClusterAccess, Consistency, ReadAnswer, RemoteStream } from "./access.ts";
import { LargeValues } from "./large-values.ts";
import { ClusterUploads } from "./uploads.ts";
import { type ClientLoad, ClusterWrites, OPERATIONS_MAX } from "./writes.ts";

/** A peer's distance until its first round trip is known, in ms. */
const DISTANCE_UNKNOWN_MS = 1000;

/** What a node needs to know of its cluster. */
export interface ClusterView {
  readonly placement: Placement | null;
  readonly voting: boolean;
  /** Whether this node may speak for its store: nobody knows a later life of it. */
  readonly isProven: boolean;
}

export interface ClusterNodeSetup {
  /** This node's id: its public URL. */
  self: string;
  /** The node whose store the vault is, when that is not this one: see cluster/fronts/front-node.ts. */
  home?: string;
  region: string;
  consistency: Consistency;
  vault: LocalVault;
  view: ClusterView;
  ballots: BallotSource;
  time: ClusterTime;
  /** The way to another node; null: it is none of the cluster's. */
  peerOf: (node: string) => PeerClient | null;
  /** Somebody has a layout of this epoch, which is newer than ours. */
  newerLayout: (epoch: number) => void;
  /** A record is decided and these replicas, as far as known, do not hold it. */
  missed: (key: ClusterKey, proposal: Proposal, nodes: readonly string[]) => void;
  /** The own record of a key is damaged. The key's bytes are only valid during the call. */
  damaged: (key: ClusterKey) => void;
  /** Whether this replica, a new owner in a move, must not vote for a partition yet. */
  mustWait: (partition: number) => boolean;
  /** An operation of a client is over. */
  seen: Service["seen"];
  /** What other nodes ask for repair. */
  repairFrame: PeerHandler["frame"];
  /** Something that an operator should know. */
  warn: (message: string) => void;
}

export class ClusterNode implements ClusterAccess {
  readonly region: string;
  readonly consistency: Consistency;
  readonly replica: LocalReplica;
  /** The own replica as other nodes reach it. */
  private readonly frames: PeerFrames;
  readonly coordinator: Coordinator;
  readonly port: NodePort;
  private readonly setup: ClusterNodeSetup;
  private readonly home: string;
  private readonly replicaList: ReplicaList;
  private readonly lists: ClusterList;
  readonly feeds: NodeFeeds;
  readonly writes: ClusterWrites;
  private readonly large: LargeValues;
  private readonly load: ClientLoad = { operations: 0, begun: 0 };
  private readonly uploads: ClusterUploads;

  constructor(setup: ClusterNodeSetup) {
    this.setup = setup;
    this.home = setup.home ?? setup.self;
    this.region = setup.region;
    this.consistency = setup.consistency;
    const { self, vault, view, ballots, time, peerOf, newerLayout, seen, warn } = setup;
    const epoch = (): number => view.placement?.layout.epoch ?? 0;
    const votes = (): Uint8Array => this.votesNow();
    const votesFor = (key: ClusterKey): boolean => this.votesFor(key);
    const clusterMillis = (): number => time.now();
    const isReady = (): boolean => this.isReady;
    const features = (): number => this.features;
    const placement = (): Placement | null => (this.isReady ? view.placement : null);
    const groupOf = (key: ClusterKey): ReplicaGroup => this.groupOf(key);
    const distance = (node: string): number => this.distance(node);
    this.replica = new LocalReplica({
      ...{ self, vault, epoch, votesFor, clusterMillis, damaged: setup.damaged, behind: newerLayout },
      observe: (ballot) => ballots.observe(ballot),
      fetch: (key, value, upload) => this.large.fetch(key, value, upload),
    });
    const { replica } = this;
    this.frames = new PeerFrames(replica, vault);
    this.large = new LargeValues(setup, replica);
    this.replicaList = new ReplicaList({ catalog: vault.catalog, epoch, votes });
    this.lists = createClusterList({
      ...{ self, peerOf, newerLayout, placement, replica: this.replicaList, clusterMillis },
      read: (key, consistency, done) => this.read(key, consistency, done),
    });
    this.feeds = new NodeFeeds({
      ...{ self, vault, peerOf, newerLayout, placement, epoch, votes, clusterMillis, warn },
      read: (key, done) => this.read(key, "quorum", done),
    });
    this.port = new NodePort({
      ...{ self, local: replica, peerOf },
      relay: (node, key, epoch, proposal, reply) => this.large.relay(node, key, epoch, proposal, reply),
      isOutside: (key) => !this.groupOf(key).nodes.includes(self),
    });
    this.coordinator = new Coordinator({
      ...{ port: this.port, ballots, groupOf, distance, clusterMillis, features, missed: setup.missed },
      now: () => performance.now(),
      // Where nothing ends, frames carry no times either, which older programs would not know.
      knowsTime: () => this.keepsEnds && time.wasAgreed,
      random: Math.random,
      after: (ms, callback) => setTimeout(callback, ms),
      cancel: (timer) => clearTimeout(timer as NodeJS.Timeout | undefined),
      staleEpoch: newerLayout,
    });
    const { coordinator, load } = this;
    this.writes = new ClusterWrites({
      self,
      ...{ time, ballots, peerOf, coordinator, load, isReady, features, groupOf, distance, seen },
    });
    const { writes } = this;
    this.uploads = new ClusterUploads({ self, vault, replica, writes, peerOf, isReady, groupOf });
  }

  /**
   * Whether it may serve clients: there is a layout to work by, and it is in it. Only of members others make
   * sure that no copy of the directory draws the same ballots.
   */
  get isReady(): boolean {
    const { placement, isProven } = this.setup.view;
    return placement !== null && isProven && isNamedIn(placement.layout, this.home);
  }

  /** The level that all members know. */
  private get features(): number {
    return featuresOf(this.setup.view.placement?.layout ?? null);
  }

  /** Whether all members know values with fields. */
  get keepsFields(): boolean {
    return this.features >= FEATURE_FIELDS;
  }

  /** Whether all members know values that end. */
  get keepsEnds(): boolean {
    return this.features >= FEATURE_ENDS;
  }

  /** Whether all members know keys that remember operations. */
  get remembers(): boolean {
    return this.features >= FEATURE_RECENT;
  }

  /** Cluster time, in ms since 1970. */
  now(): number {
    return this.setup.time.now();
  }

  /** Operations of clients that are under way. */
  get pending(): number {
    return this.load.operations;
  }

  /** Operations of clients so far. */
  get begun(): number {
    return this.load.begun;
  }

  /** Whether the own replica may vote for the partition of these replicas. */
  votes(group: ReplicaGroup): boolean {
    const { view, self, mustWait } = this.setup;
    return view.voting && group.nodes.includes(self) && !mustWait(group.partition);
  }

  /** Whether it may vote for a key. */
  votesFor(key: ClusterKey): boolean {
    return this.setup.view.placement !== null && this.votes(this.groupOf(key));
  }

  /** For which partitions it may vote, a bit each. */
  private votesNow(): Uint8Array {
    const { placement } = this.setup.view;
    if (placement === null) return votesOf(0, []);
    const { groups, layout } = placement;
    const voted = placement.partitionsOf(this.setup.self).filter((one) => this.votes(groups[one]));
    return votesOf(layout.partitions, voted);
  }

  /** The replicas of a key, by the newest layout that this node knows. */
  groupOf({ hashA }: ClusterKey): ReplicaGroup {
    const { placement } = this.setup.view;
    if (placement === null) throw new VaultError("unavailable", "this node has no layout of its cluster yet");
    return placement.groupOf(hashA);
  }

  /** Round trip to a node in ms; Infinity: it cannot be reached now. */
  distance(node: string): number {
    const { self, peerOf } = this.setup;
    if (node === self) return 0;
    const peer = peerOf(node);
    if (peer === null || peer.state === "down") return Number.POSITIVE_INFINITY;
    return peer.roundTripMs === 0 ? DISTANCE_UNKNOWN_MS : peer.roundTripMs;
  }

  mayAnswer(key: KeyBytes): boolean {
    const { view } = this.setup;
    if (!view.voting || view.placement === null) return false;
    const group = view.placement.groupOf(hashKey(key.bytes, key.length, 0));
    // A new owner may not have the key yet.
    return (group.previous & bitOf(group, this.home)) !== 0;
  }

  read(bytes: Uint8Array, consistency: Consistency, done: (answer: ReadAnswer) => void): void {
    if (!this.isReady || this.load.operations >= OPERATIONS_MAX) {
      done({ state: "unavailable" });
      return;
    }
    const key = clusterKey(bytes);
    this.load.operations++;
    this.load.begun++;
    const answer = (result: {
      outcome: ReadResult["outcome"];
      ballot: Ballot | null;
      payload: Payload | null;
      replicas: number;
    }) => {
      this.load.operations--;
      const { outcome, ballot, payload, replicas } = result;
      if (consistency === "quorum") this.setup.seen("read", key, outcome);
      if (outcome === "found") {
        // A look may have told of the value without sending it.
        done({ state: "found", value: payload as StoredValue, ballot: ballot as Ballot, replicas });
      } else done(outcome === "absent" ? { state: "absent", ballot, replicas } : { state: "unavailable" });
    };
    if (consistency === "quorum") this.coordinator.read(key, answer);
    // What that replica does not have is absent there: it may be behind, as with what it does have.
    else this.coordinator.readOne(key, answer);
  }

  list(question: CatalogQuestion, consistency: Consistency): Promise<CatalogAnswer> {
    return this.lists.ask(question, consistency);
  }

  isHere(value: RemoteValue): boolean {
    return value.node === this.home;
  }

  async open(key: Uint8Array, value: RemoteValue, start: number, end: number): Promise<RemoteStream> {
    return (await this.large.download(key, value, start, end)).body;
  }

  submit(head: WriteHead, body: Uint8Array, done: WriteDone): boolean {
    return this.writes.submit(head, body, done);
  }

  upload(head: WriteHead): Upload | null {
    return this.uploads.begin(head);
  }

  frame(bytes: Uint8Array, reply: (answer: Uint8Array) => void, room: AnswerRoom): void {
    if (isRepairFrame(bytes)) this.setup.repairFrame(bytes, reply, room);
    else if (isHandOn(bytes)) this.writes.handedOn(bytes, reply);
    else if (isListFrame(bytes)) this.replicaList.frame(bytes, reply, room);
    else if (isChangesFrame(bytes)) this.feeds.frame(bytes, reply, room);
    else this.frames.frame(bytes, reply, room);
  }

  openSink(head: Uint8Array): PeerSink {
    return this.frames.openSink(head);
  }

  openSource(head: Uint8Array): PeerSource {
    return this.frames.openSource(head);
  }
}
