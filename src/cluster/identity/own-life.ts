/**
 * This run of the process over its store, as others are told of it, and whether it may speak for that store:
 * a store that was in a cluster first asks the others whether it is the newest (standing.ts), and a process
 * that a later one has replaced is fenced for good. Except where it is the one that is reached under its
 * URL, and what has replaced it had another store: what that had sent before may only have come late. Then
 * it begins a new life, and synchronises.
 */
import { randomBytes } from "node:crypto";
import type { Placement } from "../layout/groups.ts";
import { isNamedIn, type Layout, layoutDigest } from "../layout/layout.ts";
import { encodeLife, type Life, type Marks } from "./life.ts";
import { type Known, REPLACED } from "./lives.ts";
import type { RunFile } from "./run-file.ts";
import { PROOF_WAIT_MS, Standing } from "./standing.ts";

/** How often a process that another store has replaced looks who is reached under its URL. */
const LOOK_MS = 2000;
/** Of two that are reached in turns none would ever come to anything: a new life begins no more often. */
const NEW_LIFE_MS = 5 * 60_000;

/** What is on disk of this node's place in its cluster. */
export interface OwnStore {
  readonly url: string;
  readonly layout: Layout | null;
  readonly placement: Placement | null;
  /** Its identity in the cluster, and which start of it this is. */
  readonly member: string;
  readonly incarnation: number;
  /** Whether its data is whole, as far as it is known. */
  readonly isWhole: boolean;
  setWhole(isWhole: boolean): void;
  raiseIncarnation(above: number): void;
}

export interface OwnLifeSetup {
  store: OwnStore;
  /** How the last run ended, and where this one is noted. */
  run: RunFile;
  /** Where the log of each shard ended when it was opened. */
  openedEnds: Marks;
  /** Asks another node what it knows of the own store. */
  hello: (node: string) => Promise<Known>;
  log: {
    info(fields: object, text: string): void;
    warn(fields: object, text: string): void;
    error(fields: object, text: string): void;
  };
  /** It may vote from now on, as far as its data is whole. */
  onProven: () => void;
  /** Whether a process with this store answers under the node's URL. */
  isReached: () => Promise<boolean>;
  /** Shorter in tests. */
  proofWaitMs: number | undefined;
}

export class OwnLife {
  private readonly setup: OwnLifeSetup;
  private session = drawSession();
  /** Whether nobody knows more of this store than it has itself; until then it does not vote. */
  private proven = false;
  /** Whether the others have said so: of one that was no member when it started they were not asked. */
  private hasAsked = false;
  private standing: Standing | null = null;
  private masterKnows: Known | null = null;
  /** Why this process must not serve any more, or null. */
  private fencedBy: string | null = null;
  private looking: NodeJS.Timeout | undefined;
  private isClosed = false;
  private newLifeMs = Number.NEGATIVE_INFINITY;
  private text: { of: Layout | null; votes: boolean; incarnation: number; text: string } | null = null;
  private digest: { of: Layout; text: string } | null = null;

  constructor(setup: OwnLifeSetup) {
    this.setup = setup;
  }

  /** Begins to find out whether the store is the newest. @param isMember others may know more of it */
  start(isMember: boolean): void {
    // A store that was in no cluster yet has nobody who could know more of it.
    if (isMember) this.prove();
    else {
      this.setup.run.begin();
      this.proven = true;
    }
  }

  close(): void {
    this.standing?.close();
    clearTimeout(this.looking);
    this.isClosed = true;
  }

  /** Asks the others whether the store is the newest; until they have said so it does not vote. */
  prove(): void {
    this.proven = false;
    this.standing?.close();
    const { store, openedEnds, hello, run, log, onProven, proofWaitMs } = this.setup;
    this.standing = new Standing({
      self: store.url,
      placement: () => store.placement,
      life: () => this.life(),
      ends: openedEnds,
      hello,
      master: () => this.masterKnows,
      raise: (above) => store.raiseIncarnation(above),
      demote: () => store.setWhole(false),
      doubt: run.doubt,
      settle: () => run.begin(),
      proven: () => {
        this.proven = this.hasAsked = true;
        onProven();
      },
      info: (fields, text) => log.info(fields, text),
      warn: (fields, text) => log.warn(fields, text),
      ...(proofWaitMs === undefined ? {} : { waitMs: proofWaitMs }),
    });
  }

  /**
   * What the master says that it knows of the store. A member asks the others, too (standing.ts); who is none
   * has only this to learn that its store is an old copy, and that it had this start before.
   */
  hearMaster(known: Known): void {
    this.masterKnows = known;
    const { store, log, onProven } = this.setup;
    if (isNamedIn(store.layout, store.url) || known.incarnation < store.incarnation) return;
    try {
      store.raiseIncarnation(known.incarnation);
    } catch (error) {
      log.warn({ reason: (error as Error).message }, "a new start cannot be noted on the disk");
      return;
    }
    log.warn(
      { start: store.incarnation },
      "this data directory is an old copy: the master knows of later starts, so this one counts as the next",
    );
    onProven();
  }

  /** This life, as other nodes are told of it. */
  life(): Life {
    const { layout, member, incarnation, url } = this.setup.store;
    return {
      cluster: layout?.cluster ?? null,
      epoch: layout?.epoch ?? 0,
      layout: layout === null ? null : this.digestOf(layout),
      ...{ store: member, incarnation, session: this.session, votes: this.votes, url },
    };
  }

  /** The same as text. */
  get asText(): string {
    const { layout, incarnation } = this.setup.store;
    const { votes, text: known } = this;
    if (known !== null && known.of === layout && known.votes === votes && known.incarnation === incarnation)
      return known.text;
    const text = encodeLife(this.life());
    this.text = { of: layout, votes, incarnation, text };
    return text;
  }

  /** Of the own layout, which is asked for with every request of another node. */
  digestOf(layout: Layout): string {
    if (this.digest?.of !== layout) this.digest = { of: layout, text: layoutDigest(layout) };
    return this.digest.text;
  }

  /** Whether this node may speak for its store: nobody knows a later life of it. */
  get isProven(): boolean {
    return this.proven && this.fencedBy === null;
  }

  /** Whether it may vote. */
  get votes(): boolean {
    return this.setup.store.isWhole && this.isProven;
  }

  /** Whether what it remembers of others may be less than it was. */
  get isForgetful(): boolean {
    // A store that is empty or old has lost what it remembered, too; and nobody takes anything over from one
    // that may lack what it acknowledged.
    const isDoubtful = !this.proven && this.setup.run.doubt !== null;
    return !this.setup.store.isWhole || isDoubtful;
  }

  /** A later life of this node was met: `reason` is for a person. */
  fence(reason: string): void {
    if (this.fencedBy !== null) return;
    // It came in as one that nobody knew, its data is not whole, and somebody knows it: they are asked, as at
    // the start of a member. What is whole may have a twin, which came later.
    const isOldCopy = !this.hasAsked && !this.setup.store.isWhole;
    if (isOldCopy && !reason.startsWith(REPLACED)) {
      this.prove();
      return;
    }
    this.fencedBy = reason;
    this.setup.log.error(
      { reason },
      "fenced: another process serves as this node now; this one has stopped to vote and to serve. End it, or the other one",
    );
    if (reason.startsWith(REPLACED)) this.lookSoon();
  }

  private lookSoon(): void {
    const waitMs = Math.max(LOOK_MS, this.newLifeMs + NEW_LIFE_MS - performance.now());
    this.looking = setTimeout(() => void this.look(), waitMs);
    this.looking.unref();
  }

  /** Begins a new life if it is this process that is reached under the node's URL. */
  private async look(): Promise<void> {
    const { log, onProven, isReached } = this.setup;
    const isHere = await isReached();
    if (this.isClosed) return;
    if (!isHere || !this.raiseLife()) {
      this.lookSoon();
      return;
    }
    const reason = this.fencedBy;
    this.session = drawSession();
    this.fencedBy = null;
    this.newLifeMs = performance.now();
    log.warn(
      { reason },
      "this process is the one that is reached under the node's URL: it goes on once it has synchronised",
    );
    onProven();
  }

  /** False: the disk does not take it now. */
  private raiseLife(): boolean {
    const { store } = this.setup;
    try {
      store.setWhole(false);
      store.raiseIncarnation(store.incarnation);
      return true;
    } catch {
      return false;
    }
  }

  /** Why this process must not serve any more, or null. */
  get fenced(): string | null {
    return this.fencedBy;
  }

  /** Why it does not speak for its store yet, or not any more; null: it does. */
  get unready(): string | null {
    if (this.fencedBy !== null) return `another process serves as this node now: ${this.fencedBy}`;
    if (this.proven) return null;
    return `this node asks the others whether its data directory is the newest; after ${PROOF_WAIT_MS / 1000} s it serves without their answers`;
  }
}

function drawSession(): string {
  return randomBytes(8).toString("hex");
}
