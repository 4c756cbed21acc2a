/**
 * Workers that find each other by -volumes, without a master. They all have the same list (each with itself
 * in it, in any order).
 *
 * The birth of the cluster: the first of the list, in alphabetic order, waits until all have answered, all
 * with an empty store and none with a layout; then it makes the layout, with everybody's region and store,
 * and the others take it from whoever has it. A worker whose store is not the one in that record has lost its
 * data since. So one missing worker delays the birth, and nothing after it; and no two workers can make
 * different layouts.
 *
 * Afterwards it goes on asking, to see who is there.
 */
import { commonFeatures, lackPartitions } from "../layout/features.ts";
import type { Layout, LayoutNode } from "../layout/layout.ts";
import { firstLayout } from "../layout/steps.ts";
import { NodeHttp } from "../link/node-http.ts";
import { PEER_LAYOUT_PATH } from "../link/paths.ts";
import {
  DOWN_MS,
  HEARTBEAT_MS,
  type Liveness,
  type MemberDocument,
  readMember,
  SUSPECT_MS,
} from "./messages.ts";
import type { MembershipOptions } from "./options.ts";

const ASK_MS = 2000;

/** The worker whose peers these are. */
export interface StaticMember {
  readonly layout: Layout | null;
  document(): MemberDocument;
  takeFromMaker(layout: Layout, store: string | null, birth: Record<string, string>): void;
  /** What it has seen of another. */
  observe(url: string, state: Liveness): void;
}

export class StaticPeers {
  /** All workers, this one included, in order. */
  readonly urls: string[];
  private readonly member: StaticMember;
  private readonly options: MembershipOptions;
  private readonly heartbeatMs: number;
  private readonly clients: NodeHttp[];
  private readonly heardMs = new Map<string, number>();
  /** Why those that did not answer did not. */
  private readonly failures = new Map<string, string>();
  private timer: NodeJS.Timeout | undefined;
  private closed = false;
  /** Why there is no layout yet, as far as a round has found out; "" before. */
  reason = "";

  constructor(member: StaticMember, options: MembershipOptions) {
    this.member = member;
    this.options = options;
    this.heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS;
    this.urls = [...new Set([...options.volumes, options.url])].sort();
    const others = this.urls.filter((url) => url !== options.url);
    this.clients = others.map(
      (url) => new NodeHttp({ url, signer: options.signer, tls: options.tls, connections: 1 }),
    );
  }

  start(): void {
    const now = performance.now();
    for (const url of this.urls) this.heardMs.set(url, now);
    void this.round();
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    await Promise.all(this.clients.map((client) => client.close()));
  }

  private async round(): Promise<void> {
    const documents = await Promise.all(this.clients.map((client) => this.ask(client)));
    if (this.closed) return;
    try {
      if (this.member.layout === null) this.beBorn(documents);
    } catch (error) {
      // Neither what others say of themselves nor a disk that takes nothing must end this one.
      this.say(`no layout can be made of what the workers say: ${(error as Error).message}`);
    }
    this.timer = setTimeout(() => void this.round(), this.heartbeatMs);
  }

  private async ask(client: NodeHttp): Promise<MemberDocument | null> {
    let document: MemberDocument | null = null;
    try {
      const answer = await client.request("GET", PEER_LAYOUT_PATH, null, ASK_MS);
      if (answer.status === 200) document = readMember(answer.body.toString());
      else this.say(`${client.url} answers with status ${answer.status}: is the key the same?`);
      this.failures.delete(client.url);
    } catch (error) {
      this.failures.set(client.url, (error as Error).message);
    }
    if (this.closed) return null;
    const now = performance.now();
    if (document !== null) this.heardMs.set(client.url, now);
    const silentMs = now - (this.heardMs.get(client.url) ?? now);
    const state = silentMs >= DOWN_MS ? "down" : silentMs >= SUSPECT_MS ? "suspect" : "up";
    this.member.observe(client.url, state);
    return document;
  }

  private beBorn(answers: (MemberDocument | null)[]): void {
    const { url, replicas, partitions, log } = this.options;
    const documents = answers.filter((document) => document !== null);
    const wise = documents
      .filter(({ layout }) => layout?.nodes.some((node) => node.url === url))
      .sort((a, b) => b.epoch - a.epoch)[0];
    if (wise?.layout) {
      this.member.takeFromMaker(wise.layout, wise.birth[url] ?? null, wise.birth);
      return;
    }
    const own = this.member.document();
    const all = [own, ...documents].sort((a, b) => (a.url < b.url ? -1 : 1));
    const obstacle =
      this.obstacle(answers, own) ?? (url === this.urls[0] ? lackPartitions(partitions, all) : null);
    if (obstacle !== null) {
      this.say(obstacle);
      return;
    }
    if (url !== this.urls[0]) return;
    const layout = firstLayout(all.map(nodeOf), replicas, commonFeatures(all), partitions);
    log.info({ workers: this.urls }, "all workers are there: making the first layout");
    const birth = Object.fromEntries(all.map((document) => [document.url, document.store]));
    this.member.takeFromMaker(layout, own.store, birth);
  }

  /** Why the cluster cannot begin with these answers, one for each other name of the list; null: it can. */
  private obstacle(answers: (MemberDocument | null)[], own: MemberDocument): string | null {
    const { url, isEmpty } = this.options;
    const missing = this.clients
      .filter((_, index) => answers[index] === null)
      .map(({ url: other }) => `${other} (${this.failures.get(other) ?? "it does not say who it is"})`);
    if (missing.length > 0)
      return `waiting for ${missing.join(", ")}: a cluster begins when all workers of -volumes are there`;
    const documents = answers.filter((document) => document !== null);
    const alias = documents.findIndex((document, index) => document.url !== this.clients[index].url);
    if (alias >= 0) {
      const name = documents[alias].url;
      const who = name === url ? `this worker itself, ${url}` : name;
      return `${this.clients[alias].url} leads to ${who}: -volumes names each worker once, by its -public-url`;
    }
    const stranger = documents.find((document) => document.volumes?.join() !== this.urls.join());
    if (stranger !== undefined) {
      const theirs = stranger.volumes?.join(", ") ?? "none";
      return `${stranger.url} has another list of workers: ${theirs}; here it is ${this.urls.join(", ")}`;
    }
    const holder = [own, ...documents].find((document) => !document.empty);
    if (holder !== undefined || !isEmpty())
      return `${holder?.url} holds keys already: a cluster of -volumes begins with empty data directories`;
    const twin = documents.find((document) => document.store === own.store);
    if (twin !== undefined)
      return `the data directory of ${twin.url} is a copy of this one: start one of them with an empty one`;
    return null;
  }

  /** Warns once of each thing. */
  private say(reason: string): void {
    if (reason === this.reason) return;
    this.reason = reason;
    this.options.log.warn({ reason }, "there is no layout yet");
  }
}

function nodeOf({ url, region, host }: MemberDocument): LayoutNode {
  return { id: url, url, region, host: host === "" ? new URL(url).hostname : host, state: "active" };
}
