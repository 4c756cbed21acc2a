/**
 * What a worker knows of its cluster and keeps in the CLUSTER file: who it is there, its masters, the layout,
 * and whether its data is whole, so that it may vote.
 *
 * Invariants: a layout is on disk before anybody here hears of it; its epoch only rises; the voting flag is
 * only raised for a store that the layout's maker knew under this URL, for who is left in a recovery, or when
 * the owner of the data says that it has synchronised.
 */
import { randomBytes } from "node:crypto";
import { checked } from "../layout/check.ts";
import { type ClusterState, readClusterFile, writeClusterFile } from "../layout/cluster-file.ts";
import { Placement } from "../layout/groups.ts";
import { changedMasters, notInForce } from "../layout/in-force.ts";
import { isForeign, isNamedIn, type Layout } from "../layout/layout.ts";
import type { LayoutListener, MembershipOptions } from "./options.ts";

export class MemberState {
  /** The worker's id in the layout. */
  readonly url: string;
  private readonly options: MembershipOptions;
  private readonly alert: (reason: string) => void;
  private state: ClusterState;
  private placed: Placement | null = null;
  private readonly listeners: LayoutListener[] = [];
  /** Of what is not in force. */
  private said: string[] = [];

  /**
   * Reads what the data directory knows, and counts this start. Throws an Error with a sentence for a person.
   * @param alert a layout of another cluster was offered
   */
  constructor(options: MembershipOptions, alert: (reason: string) => void) {
    this.options = options;
    this.alert = alert;
    this.url = options.url;
    const kept = readKept(options);
    const masters = options.masters.length > 0 ? [...options.masters] : (kept?.masters ?? []);
    this.state = kept ?? newcomer(options, masters);
    const incarnation = Math.max(this.state.incarnation + 1, options.starts);
    const state = { ...this.state, url: options.url, masters, incarnation };
    const isSame = kept !== null && kept.url === options.url && kept.masters.join() === masters.join();
    const changed = changedMasters(options, kept?.masters ?? null);
    if (changed !== null) options.log.warn({}, changed);
    if (state.layout !== null) this.sayWhatIsNotInForce(state.layout);
    // STORE has counted this start durably, and a full disk must not keep a node from starting.
    if (isSame && incarnation === options.starts) this.state = state;
    else this.keep(state);
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

  /** Whether its data is whole, as far as it is known. */
  get isWhole(): boolean {
    return this.state.voting;
  }

  /** Its identity in the cluster, its number in ballots, and which start of it this is. */
  get member(): string {
    return this.state.member;
  }

  get number(): number {
    return this.state.number;
  }

  get incarnation(): number {
    return this.state.incarnation;
  }

  get masters(): readonly string[] {
    return this.state.masters;
  }

  /** Stores of the nodes at the birth of the layout, by URL. */
  get birth(): Record<string, string> {
    return this.state.birth;
  }

  get isMember(): boolean {
    return this.state.layout?.nodes.some((node) => node.url === this.url) ?? false;
  }

  /** Is called with every new layout, after it is on disk. */
  onLayout(listener: LayoutListener): void {
    this.listeners.push(listener);
  }

  /** The data has been synchronised from the others (or is doubted: false). On disk when it returns. */
  setWhole(voting: boolean): void {
    if (voting !== this.state.voting) this.keep({ ...this.state, voting });
  }

  /** Another life had this incarnation: from now on it is above it, durably. */
  raiseIncarnation(above: number): void {
    this.keep({ ...this.state, incarnation: above + 1 });
  }

  setMasters(masters: string[]): void {
    this.keep({ ...this.state, masters });
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

  /** The region that holds, and the numbers of copies and partitions. */
  get inForce(): { region: string; replicas: number | null; partitions: number | null } {
    const { layout } = this.state;
    const own = layout?.nodes.find((node) => node.url === this.url);
    const { replicas = null, partitions = null } = layout ?? {};
    return { region: own?.region ?? this.options.region, replicas, partitions };
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

  private adopt(layout: Layout, voting: boolean, birth: Record<string, string>): void {
    this.keep({ ...this.state, layout, voting, birth });
    const { epoch, nodes, previous } = layout;
    this.options.log.info({ epoch, nodes: nodes.length, moving: previous !== null, voting }, "a new layout");
    const placement = this.placement as Placement;
    for (const listener of this.listeners) listener(layout, placement);
    this.sayWhatIsNotInForce(layout);
  }

  /** Each thing once, until it changes. */
  private sayWhatIsNotInForce(layout: Layout): void {
    const sentences = notInForce(this.options, this.state.masters, layout);
    for (const sentence of sentences) if (!this.said.includes(sentence)) this.options.log.warn({}, sentence);
    this.said = sentences;
  }

  private keep(state: ClusterState): void {
    writeClusterFile(this.options.directory, state);
    this.state = state;
  }
}

/** What the data directory knows, if that is of this store and of this URL. Null: nothing. */
function readKept({ directory, store, storeNode, url }: MembershipOptions): ClusterState | null {
  const kept = readClusterFile(directory, storeNode);
  if (kept !== null && kept.store !== store)
    throw new Error(
      `${directory}/CLUSTER belongs to another store than the one beside it; remove it, and the worker synchronises anew`,
    );
  // Who never was a member under that URL, such as one that nobody could reach, may have another.
  if (kept !== null && kept.url !== url && isNamedIn(kept.layout, kept.url))
    throw new Error(
      `this data directory belongs to ${kept.url} in its cluster, not to ${url}: start it with -public-url ${kept.url}`,
    );
  return kept;
}

function newcomer({ url, store }: MembershipOptions, masters: string[]): ClusterState {
  const member = randomBytes(16).toString("hex");
  const number = randomBytes(4).readUInt32LE(0);
  return { url, store, member, number, incarnation: 0, masters, voting: false, layout: null, birth: {} };
}
