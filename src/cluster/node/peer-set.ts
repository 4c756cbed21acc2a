/**
 * The clients to all other nodes of the layout: made when a layout names a node, closed when none does any
 * more.
 */
import type { RequestSigner } from "../../auth/signature.ts";
import type { ClusterTime } from "../clock/cluster-time.ts";
import { encodeMarks, targetFrom } from "../identity/life.ts";
import { type Known, NOTHING_KNOWN, readKnown } from "../identity/lives.ts";
import { PEER_HELLO_PATH, PEER_LAYOUT_PATH } from "../link/paths.ts";
import type { PeerTls } from "../link/peer-tls.ts";
import type { Membership, MembershipLog } from "../membership/membership.ts";
import { readMember } from "../membership/messages.ts";
import { PeerClient } from "../peers/peer-client.ts";

/** How often what was seen of the nodes is told to the membership. */
const OBSERVE_MS = 500;
/** While a node is down, another reason for it is logged no sooner than this. */
const SAY_AGAIN_MS = 60_000;
/** A newer layout is asked for at most this often. */
const LAYOUT_MS = 200;
const LAYOUT_ASK_MS = 2000;
const HELLO_ASK_MS = 2000;

/** Who the clients are of, and what they tell of the nodes. */
export type PeerMembership = Pick<
  Membership,
  | "url"
  | "layout"
  | "lifeAsText"
  | "marks"
  | "onLayout"
  | "observe"
  | "heardBack"
  | "wasRefused"
  | "saysItVotes"
  | "takeLayout"
>;

export interface PeerSetOptions {
  membership: PeerMembership;
  log: MembershipLog;
  signer: RequestSigner | null;
  tls: PeerTls;
  /** Is told of the other nodes' clocks. */
  time: ClusterTime;
  /** Own address that connections come from; undefined: the system chooses. */
  localAddress: string | undefined;
  /**
   * Of a front thread beside the main one: the node that it belongs to, and where that is reached when it is
   * not by its URL. It is asked as the others are, but is told nothing of itself, and its clock is the own
   * one. Left out: of the node itself.
   */
  home?: { readonly url: string; readonly address: string | undefined };
}

export class PeerSet {
  private readonly options: PeerSetOptions;
  private readonly clients = new Map<string, PeerClient>();
  /** Why nodes that are down are, as it was logged. */
  private readonly unreachable = new Map<string, { reason: string; saidMs: number }>();
  private readonly timer: NodeJS.Timeout;
  private askedMs = Number.NEGATIVE_INFINITY;
  private closed = false;

  constructor(options: PeerSetOptions) {
    this.options = options;
    const { membership } = options;
    membership.onLayout(() => this.follow());
    this.follow();
    this.timer = setInterval(() => this.observe(), OBSERVE_MS);
    this.timer.unref();
  }

  /** The client to a node, or null: not one of the layout's. */
  get(node: string): PeerClient | null {
    return this.clients.get(node) ?? null;
  }

  /** Why a node does not count for what clients ask, for a person; null: it does. */
  hindrance(node: string): string | null {
    const peer = this.clients.get(node);
    if (peer === undefined) return "no way to it is known";
    if (peer.state === "down") return peer.lastFailure === "" ? "down" : peer.lastFailure;
    if (this.options.membership.saysItVotes(node)) return null;
    return "it does not vote, since its data is not whole";
  }

  /** All of them, by node. */
  all(): ReadonlyMap<string, PeerClient> {
    return this.clients;
  }

  private follow(): void {
    const { membership, time } = this.options;
    const { layout } = membership;
    if (layout === null || this.closed) return;
    const wanted = new Set([...layout.nodes, ...(layout.previous?.nodes ?? [])].map((node) => node.url));
    wanted.delete(membership.url);
    for (const [node, client] of this.clients) {
      if (wanted.has(node)) continue;
      this.clients.delete(node);
      this.unreachable.delete(node);
      time.forget(node);
      membership.observe(node, null);
      void client.close();
    }
    for (const url of wanted) if (!this.clients.has(url)) this.clients.set(url, this.clientTo(url));
  }

  private clientTo(url: string): PeerClient {
    const { membership, signer, tls, localAddress, time, home } = this.options;
    if (url === home?.url) {
      const { address } = home;
      return new PeerClient({ url, sign: signer, tls, ...(address === undefined ? {} : { address }) });
    }
    return new PeerClient({
      url,
      sign: signer,
      tls,
      onClock: (millis, roundTripMs) => time.heard(url, millis, roundTripMs),
      identity: {
        life: () => membership.lifeAsText,
        marks: () => encodeMarks(membership.marks),
        counts: (life) => membership.heardBack(life),
        refused: (life, reason) => membership.wasRefused(life, reason),
      },
      ...(localAddress === undefined ? {} : { localAddress }),
    });
  }

  private observe(): void {
    const { membership, log } = this.options;
    for (const [node, client] of this.clients) {
      membership.observe(node, client.state);
      const reason = client.state === "down" ? client.lastFailure : null;
      const before = this.unreachable.get(node) ?? null;
      if (client.state === "suspect" || reason === (before?.reason ?? null)) continue;
      const nowMs = performance.now();
      if (reason !== null && before !== null && nowMs - before.saidMs < SAY_AGAIN_MS) continue;
      if (reason === null) {
        this.unreachable.delete(node);
        log.info({ node }, "another node is reached again");
      } else {
        this.unreachable.set(node, { reason, saidMs: nowMs });
        log.warn({ node, reason }, "another node cannot be reached");
      }
    }
  }

  /** Asks a node what it knows of the own store. Rejects when it does not say. */
  async hello(node: string): Promise<Known> {
    const client = this.clients.get(node);
    if (client === undefined) throw new Error(`${node} is not a node of the cluster`);
    const target = targetFrom(PEER_HELLO_PATH, this.options.membership.lifeAsText);
    const { status, body } = await client.request("GET", target, null, HELLO_ASK_MS);
    // A program from before there were hellos knows nothing, and its layout the path.
    if (status === 404) return NOTHING_KNOWN;
    if (status !== 200) throw new Error(`status ${status}`);
    return readKnown(JSON.parse(body.toString()).known);
  }

  /** Somebody has a layout of this epoch: asks all nodes for it, since the master may be away. */
  seekLayout(epoch: number): void {
    const nowMs = performance.now();
    const { membership } = this.options;
    if (epoch <= (membership.layout?.epoch ?? 0) || nowMs - this.askedMs < LAYOUT_MS) return;
    this.askedMs = nowMs;
    for (const client of this.clients.values())
      client
        .request("GET", PEER_LAYOUT_PATH, null, LAYOUT_ASK_MS)
        .then(({ status, body }) => {
          if (status !== 200 || this.closed) return;
          const { layout } = readMember(body.toString());
          if (layout !== null) membership.takeLayout(layout);
        })
        .catch(() => {
          // Another node, or the master, will tell.
        });
  }

  async close(): Promise<void> {
    this.closed = true;
    clearInterval(this.timer);
    await Promise.all([...this.clients.values()].map((client) => client.close()));
  }
}
