/**
 * What a worker knows of its cluster and keeps in the CLUSTER file: who it is there, its masters, the layout,
 * and whether its data is whole, so that it may vote.
 *
 * Invariants: a layout is on disk before anybody here hears of it; its epoch only rises; the voting flag is
 * only raised for a store that the layout's maker knew under this URL, for who is left in a recovery, or when
 * the owner of the data says that it has synchronised; it falls with a layout by which the data is not whole.
 */
import { checked } from "../layout/check.ts";
import {
  type ClusterState,
  newClusterState,
  readOwnClusterFile,
  writeClusterFile,
} from "../layout/cluster-file.ts";
import { Placement } from "../layout/groups.ts";
import { changedMasters, notInForce } from "../layout/in-force.ts";
import { isForeign, type Layout } from "../layout/layout.ts";
import { isWholeBy } from "../layout/wholeness.ts";
import type { LayoutListener, MembershipOptions } from "./options.ts";

const ANOTHER_STORE =
  "the cluster knows another store under this URL, so this one has lost its data: it does not vote until it has synchronised";
const NOT_WHOLE =
  "the cluster counts on data that this directory is not known to have, as if it were an old copy: it does not vote until it has synchronised";

export class MemberState {
  /** The worker's id in the layout. */
  readonly url: string;
  private readonly options: MembershipOptions;
  private readonly alert: (reason: string) => void;
  private readonly born: () => void;
  private state: ClusterState;
  private placed: Placement | null = null;
  private readonly listeners: LayoutListener[] = [];
  /** Of what is not in force. */
  private said: string[] = [];

  /**
   * Reads what the data directory knows, and counts this start. Throws an Error with a sentence for a person.
   * @param alert a layout of another cluster was offered
   * @param born the first layout of all makes this worker a member: called before it is taken
   */
  constructor(options: MembershipOptions, alert: (reason: string) => void, born: () => void) {
    this.options = options;
    this.alert = alert;
    this.born = born;
    this.url = options.url;
    const kept = readOwnClusterFile(options);
    const masters = options.masters.length > 0 ? [...options.masters] : (kept?.masters ?? []);
    this.state = kept ?? newClusterState(options.url, options.store, masters);
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

  /** The move of that epoch is finished here. On disk when it returns. */
  setFinished(epoch: number): void {
    if (epoch > this.state.finished) this.keep({ ...this.state, finished: epoch });
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
    const placement = new Placement(layout);
    const isKept = this.state.voting && this.isWholeBy(placement);
    if (this.state.voting && !isKept) this.options.log.warn({ epoch: layout.epoch }, NOT_WHOLE);
    this.adopt(placement, isKept || this.isLeftIn(layout), this.state.birth);
    return true;
  }

  /** Takes a layout from its maker, who knows `store` under this worker's URL. */
  takeFromMaker(layout: Layout, store: string | null, birth: Record<string, string>): void {
    if (this.refusesForeign(layout) || layout.epoch <= (this.state.layout?.epoch ?? 0)) return;
    const isNamed = layout.nodes.some((node) => node.url === this.url);
    const isKept = this.isMember ? this.state.voting : store === this.state.member;
    // Whoever is there at the birth of a cluster has all that there is, unless that was long ago.
    const isBirth = isNamed && !this.isMember && layout.epoch === 1;
    const placement = new Placement(layout);
    const isWhole = isBirth || this.isWholeBy(placement);
    const voting = this.isLeftIn(layout) || (isNamed && isKept && isWhole);
    if (isNamed && !voting)
      this.options.log.warn({ store: this.state.member, known: store }, isKept ? NOT_WHOLE : ANOTHER_STORE);
    if (isBirth) this.born();
    this.adopt(placement, voting, birth);
  }

  /** The region that holds, and the numbers of copies and partitions. */
  get inForce(): { region: string; replicas: number | null; partitions: number | null } {
    const { layout } = this.state;
    const own = layout?.nodes.find((node) => node.url === this.url);
    const { replicas = null, partitions = null } = layout ?? {};
    return { region: own?.region ?? this.options.region, replicas, partitions };
  }

  /** Whether what is whole here is so by another layout. */
  private isWholeBy(later: Placement): boolean {
    const { layout, finished } = this.state;
    return isWholeBy(this.placement, finished === layout?.epoch, later, this.url);
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

  private adopt(placement: Placement, voting: boolean, birth: Record<string, string>): void {
    const { layout } = placement;
    this.keep({ ...this.state, layout, voting, birth });
    this.placed = placement;
    const { epoch, nodes, previous } = layout;
    this.options.log.info({ epoch, nodes: nodes.length, moving: previous !== null, voting }, "a new layout");
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
