/**
 * What a master asks of workers by itself, one request a worker at a time: workers of -volumes that do not
 * report are asked to register, workers that know a newer layout are asked for it until one has told it, and
 * one that wants to join is tried under its public URL.
 */

import type { RequestSigner } from "../auth/signature.ts";
import { NodeHttp } from "../cluster/link/node-http.ts";
import { PEER_LAYOUT_PATH } from "../cluster/link/paths.ts";
import type { PeerTls } from "../cluster/link/peer-tls.ts";
import { type Invitation, readMember } from "../cluster/membership/messages.ts";
import { Tries } from "../cluster/membership/reach.ts";
import { Recurring } from "../util/recurring.ts";
import type { Steward } from "./steward/steward.ts";

const ASK_MS = 3000;
/** Between two invitations of one worker: soon after it has started, and seldom while it is not there. */
const INVITE_MS = 250;
const INVITE_MS_MAX = 2000;
/** Invitations that are under way at once. */
const INVITES_MAX = 16;
/** Between two tries to learn a layout. */
const LEARN_MS = 500;
/** Workers that are named with the reason why their layout cannot be read. */
const REASONS_MAX = 3;

const CANNOT_READ = "workers know a newer layout, but it cannot be read";

export interface OutreachOptions {
  steward: Steward;
  /** This master's own URL. */
  url: () => string;
  signer: RequestSigner | null;
  /** For https. */
  tls: PeerTls;
  now: () => number;
  log: { info(fields: object, text: string): void; warn(fields: object, text: string): void };
}

interface Invited {
  nextMs: number;
  waitMs: number;
  /** What the worker answered last. */
  reason: string;
}

export class Outreach {
  private readonly options: OutreachOptions;
  private readonly invited = new Map<string, Invited>();
  private readonly tries: Tries;
  private readonly clients = new Map<string, NodeHttp>();
  private inviting = 0;
  private learning = false;
  private learnMs = 0;
  /** Whose turn it is of those that know a newer layout, and why it could not be read, by URL. */
  private learnTurn = 0;
  private readonly unread = new Map<string, string>();
  private readonly learned = new Recurring((reason) => this.options.log.warn({ reason }, CANNOT_READ));

  constructor(options: OutreachOptions) {
    this.options = options;
    this.tries = new Tries(options, () => {});
  }

  /** Sends what is due; called a few times a second. */
  tick(): void {
    const { steward, now } = this.options;
    const nowMs = now();
    for (const { url, withKeys } of steward.uninvited(nowMs)) {
      const known = this.invited.get(url) ?? { nextMs: 0, waitMs: INVITE_MS, reason: "" };
      this.invited.set(url, known);
      if (known.nextMs > nowMs || this.inviting >= INVITES_MAX) continue;
      known.nextMs = Number.POSITIVE_INFINITY;
      void this.invite(url, withKeys, known);
    }
    this.tries.ask(steward.untried(nowMs));
    for (const tried of this.tries.results) steward.tried(tried);
    const newer = steward.newerAt(nowMs);
    if (newer.length === 0) this.hasLearned();
    else if (!this.learning && nowMs >= this.learnMs) void this.learn(newer[this.learnTurn % newer.length]);
  }

  /** Why a newer layout is not learned, for a person; null: it is, or there is none. */
  get problem(): string | null {
    return this.learned.reason === null ? null : `${CANNOT_READ}: ${this.learned.reason}`;
  }

  async close(): Promise<void> {
    await Promise.all([...this.clients.values()].map((client) => client.close()));
  }

  private async invite(url: string, withKeys: boolean, known: Invited): Promise<void> {
    const { log, now } = this.options;
    this.inviting++;
    const cluster = this.options.steward.layout?.cluster ?? null;
    const invitation: Invitation = { master: this.options.url(), url, withKeys, cluster };
    try {
      const answer = await this.client(url).request("POST", PEER_LAYOUT_PATH, text({ invitation }), ASK_MS);
      const reason = answer.status === 200 ? "" : sentence(answer.body, answer.status);
      if (reason !== "" && reason !== known.reason)
        log.warn({ url, reason }, "a worker of -volumes does not come");
      known.reason = reason;
      known.waitMs = INVITE_MS_MAX;
    } catch {
      // Not there yet: the registry shows it as down.
      known.waitMs = Math.min(INVITE_MS_MAX, known.waitMs * 1.5);
    }
    this.inviting--;
    // It has to come within a heartbeat now, or be asked again.
    known.nextMs = now() + known.waitMs;
  }

  private async learn(url: string): Promise<void> {
    const { steward, now } = this.options;
    this.learning = true;
    try {
      const answer = await this.client(url).request("GET", PEER_LAYOUT_PATH, null, ASK_MS);
      if (answer.status !== 200) throw new Error(sentence(answer.body, answer.status));
      // What one says may be of another cluster; the next one may know better.
      if (steward.learn(now(), readMember(answer.body.toString()))) this.hasLearned();
      else this.learnTurn++;
    } catch (error) {
      this.learnTurn++;
      this.unread.set(url, (error as Error).message);
      const reasons = [...this.unread].sort().slice(0, REASONS_MAX);
      this.learned.failed(reasons.map(([name, reason]) => `${name}: ${reason}`).join("; "));
    }
    this.learnMs = now() + LEARN_MS;
    this.learning = false;
  }

  private hasLearned(): void {
    this.unread.clear();
    this.learned.passed();
  }

  private client(url: string): NodeHttp {
    let client = this.clients.get(url);
    if (client === undefined) {
      const { signer, tls } = this.options;
      client = new NodeHttp({ url, signer, tls, connections: 1, repeatable: true });
      this.clients.set(url, client);
    }
    return client;
  }
}

function text(document: object): Uint8Array {
  return Buffer.from(JSON.stringify(document));
}

/** The sentence of an error answer. */
function sentence(body: Buffer, status: number): string {
  try {
    return String(JSON.parse(body.toString()).error);
  } catch {
    return `status ${status}`;
  }
}
