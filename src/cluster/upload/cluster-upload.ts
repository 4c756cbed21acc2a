/**
 * A large value on its way into the cluster: streamed to all replicas of its key at the same time, then
 * written as one operation.
 *
 *   client ─► stored form ─┬► own shard's upload ─┐
 *                          ├► stream to a peer  ──┤─► all bytes at a majority ─► accept ─► answer
 *                          └► stream to a peer  ──┘
 *
 * A majority sets the pace: a replica that fails, or lags behind one for longer than `lagMs`, is left behind
 * and gets the value later, by repair. Nothing that a client could read exists before the accept.
 */

import { failedWrite, type Upload, type WriteDone } from "../../shards/arena/write.ts";
import type { LocalUpload } from "../../shards/upload/upload.ts";
import { copyOf } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { StoredCutter } from "../../value/stored.ts";
import { hasMajorityOf, type ReplicaGroup } from "../layout/groups.ts";
import { type Branch, LocalBranch, PeerBranch, Stall } from "./upload-branches.ts";

/**
 * Without a majority that can go on, a replica that takes nothing for so long, in seconds, is left behind.
 */
const STALL_LOOKS = 10;
/** The same once all was sent: what a replica still does with it is not seen from here. */
const END_STALL_LOOKS = 20;
/**
 * How far a replica may lag behind a majority of them: half of the time that the upload has taken, within
 * these bounds. What is left behind gets the whole value later, by repair.
 */
const LAG_MS_MIN = 200;
const LAG_MS_MAX = 2000;

export interface ClusterUploadSetup {
  group: ReplicaGroup;
  json: boolean;
  /** This node's own upload, or null: it is no replica of the key. */
  local: { node: string; upload: LocalUpload; keep: () => void } | null;
  /** Sends a stream to a peer; resolves when the peer has all of it. The signal breaks it off. */
  send: (node: string, body: AsyncIterable<Uint8Array>, signal: AbortSignal) => Promise<unknown>;
  /** All bytes are at these nodes: writes. */
  write: (staged: ReadonlySet<string>, valueBytes: number, done: WriteDone) => void;
  /** Called once, when the upload is over. */
  release: () => void;
}

export class ClusterUpload implements Upload {
  onDrain: () => void = () => {};
  onFail: WriteDone = () => {};
  private readonly setup: ClusterUploadSetup;
  private readonly branches: Branch[] = [];
  private readonly cutter: StoredCutter | null;
  private valueBytes = 0;
  private paused = false;
  private over = false;
  /** Looks while the client is paused. */
  private readonly stall: Stall;
  /** Runs while only a minority holds the upload up. */
  private lag: NodeJS.Timeout | undefined;
  private readonly beganMs = performance.now();

  constructor(setup: ClusterUploadSetup) {
    this.setup = setup;
    const { local, group, json } = setup;
    const changed = () => this.changed();
    for (const node of group.nodes)
      this.branches.push(
        node === local?.node
          ? new LocalBranch(node, local.upload, local.keep, changed)
          : new PeerBranch(node, setup.send, changed),
      );
    this.cutter = json ? new StoredCutter() : null;
    this.stall = new Stall(
      () => this.branches.filter(({ failed, isReady }) => !failed && !isReady),
      (branches) => this.leave(branches),
    );
  }

  write(bytes: Uint8Array): boolean {
    if (this.over) return true;
    const problem = this.cutter?.feed(bytes, this.keep) ?? null;
    if (this.cutter === null) this.keep(bytes);
    if (problem !== null) this.failLater(problem.error, problem.detail);
    this.paused = !this.over && !this.isReady;
    if (this.paused) {
      this.stall.begin(STALL_LOOKS);
      this.watchLag();
    }
    return !this.paused;
  }

  private readonly keep = (bytes: Uint8Array): void => this.spread(copyOf(bytes));

  /** @param bytes must not change any more */
  private spread(bytes: Uint8Array): void {
    this.valueBytes += bytes.length;
    for (const branch of this.branches) if (!branch.failed) branch.write(bytes);
  }

  /** Bytes that were handed on. */
  get movedBytes(): number {
    return this.valueBytes;
  }

  /** Others need its place, since it is slow. */
  giveWay(): void {
    this.failLater("too_slow", "");
  }

  private get isReady(): boolean {
    return this.branches.every((branch) => branch.failed || branch.isReady);
  }

  private hasMajority(which: (branch: Branch) => boolean): boolean {
    const nodes = this.branches.filter((branch) => !branch.failed && which(branch));
    return hasMajorityOf(this.setup.group, new Set(nodes.map((branch) => branch.node)));
  }

  private get lagMs(): number {
    const takenMs = performance.now() - this.beganMs;
    return Math.min(LAG_MS_MAX, Math.max(LAG_MS_MIN, takenMs / 2));
  }

  /** The client is paused: not for long when it is only for a few. */
  private watchLag(): void {
    if (this.hasMajority((branch) => branch.isReady))
      this.lag ??= setTimeout(() => this.lagged(), this.lagMs);
  }

  /** Nobody is left behind while a majority waits: then it is the network or the machine that is slow. */
  private lagged(): void {
    this.lag = undefined;
    if (this.hasMajority((branch) => branch.isReady))
      this.leave(this.branches.filter(({ failed, isReady }) => !failed && !isReady));
  }

  private endWaiting(): void {
    this.stall.end();
    clearTimeout(this.lag);
    this.lag = undefined;
  }

  /** A branch can take more, or has failed. */
  private changed(): void {
    if (this.over) return;
    if (!this.hasMajority(() => true)) this.failLater("no_quorum", "");
    else if (this.paused && this.isReady) {
      this.paused = false;
      this.endWaiting();
      this.onDrain();
    } else if (this.paused) this.watchLag();
  }

  /** Goes on without some. */
  private leave(branches: readonly Branch[]): void {
    for (const branch of branches) {
      branch.failed = true;
      branch.abort();
    }
    this.changed();
  }

  private failLater(error: ErrorCode, detail: string): void {
    if (this.over) return;
    this.abort();
    setImmediate(() => this.onFail(failedWrite(error, detail)));
  }

  commit(done: WriteDone): void {
    if (this.over) return;
    const problem = this.cutter?.finish(this.keep) ?? null;
    if (problem !== null) {
      this.abort();
      setImmediate(() => done(failedWrite(problem.error, problem.detail)));
      return;
    }
    this.over = true;
    this.endWaiting();
    // Nobody knows how far it came.
    this.finish(done).catch((error: Error) => done(failedWrite("unknown_outcome", error.message)));
  }

  private async finish(done: WriteDone): Promise<void> {
    const { setup } = this;
    const staged = await this.staged();
    for (const branch of this.branches) if (!branch.failed && !staged.has(branch.node)) branch.abort();
    setup.release();
    if (hasMajorityOf(setup.group, staged)) setup.write(staged, this.valueBytes, done);
    else done(failedWrite("no_quorum", ""));
  }

  /** Who has everything, once those are all, or enough of them, or nothing more is to come. */
  private staged(): Promise<Set<string>> {
    return new Promise((resolve) => {
      const staged = new Set<string>();
      const open = () => this.branches.filter(({ failed, node }) => !failed && !staged.has(node));
      const end = (): void => {
        stall.end();
        clearTimeout(lag);
        // A copy: one that was left behind may still say that it has everything.
        resolve(new Set(staged));
      };
      let lag: NodeJS.Timeout | undefined;
      const look = (): void => {
        if (open().length === 0 || !this.hasMajority(() => true)) end();
        else if (hasMajorityOf(this.setup.group, staged)) lag ??= setTimeout(end, this.lagMs);
      };
      const stall = new Stall(open, (branches) => {
        for (const branch of branches) branch.failed = true;
        for (const branch of branches) branch.abort();
        look();
      });
      stall.begin(END_STALL_LOOKS);
      for (const branch of open())
        branch.end().then(
          () => {
            if (!branch.failed) staged.add(branch.node);
            look();
          },
          () => {
            branch.failed = true;
            look();
          },
        );
      look();
    });
  }

  abort(): void {
    if (this.over) return;
    this.over = true;
    this.endWaiting();
    for (const branch of this.branches) branch.abort();
    this.setup.release();
  }
}
