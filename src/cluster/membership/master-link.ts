/** The heartbeats to one master, for ever: at once after something new, seldom while it does not answer. */
import { readKnown } from "../identity/lives.ts";
import { checkStores } from "../layout/check.ts";
import { demandMaster, ROLE_PATH } from "../link/master-role.ts";
import { NodeHttp, type NodeHttpOptions } from "../link/node-http.ts";
import type { Heartbeat, HeartbeatAnswer } from "./messages.ts";
import type { MembershipLog } from "./options.ts";

const ASK_MS = 3000;
/** Longest pause between two tries while a master does not answer. */
const BACKOFF_MS_MAX = 3000;
/** While a master does not answer, another reason for it is logged no sooner than this. */
const SAY_AGAIN_MS = 60_000;
/** Pause while there is no layout: until then nothing can be served. */
const EAGER_MS = 250;
/** Heartbeats of many workers spread out: each pause is longer or shorter by up to this share. */
const JITTER = 0.1;

export interface MasterLinkSetup extends Pick<NodeHttpOptions, "url" | "signer" | "tls"> {
  log: MembershipLog;
  heartbeatMs: number;
  /** What this worker says of itself. */
  heartbeat: (rank: number) => Heartbeat;
  /** What the master answers to that. Throws what is logged as its failure. */
  heard: (answer: HeartbeatAnswer, heartbeat: Heartbeat) => void;
  hasLayout: () => boolean;
}

export class MasterLink {
  private readonly setup: MasterLinkSetup;
  private readonly http: NodeHttp;
  private rank: number;
  private toldRank: (() => void) | null = null;
  private timer: NodeJS.Timeout | undefined;
  private asking = false;
  private hurried = false;
  private closed = false;
  /** null: not asked yet. */
  private answers: boolean | null = null;
  /** Why it does not answer; null: it does, or was not asked yet. */
  failure: string | null = null;
  private said = { failure: null as string | null, atMs: 0 };
  private pauseMs: number;

  /** @param rank its place among the masters: the first one makes the layouts */
  constructor(setup: MasterLinkSetup, rank: number) {
    const { url, signer, tls, heartbeatMs } = setup;
    this.setup = setup;
    this.http = new NodeHttp({ url, signer, tls, connections: 1, repeatable: true });
    this.rank = rank;
    this.pauseMs = heartbeatMs;
  }

  get url(): string {
    return this.http.url;
  }

  get isAnswering(): boolean {
    return this.answers === true;
  }

  start(): void {
    if (!this.closed) void this.beat();
  }

  /** Its place among the masters. Resolves once it has been told, and has answered. */
  setRank(rank: number): Promise<void> {
    this.rank = rank;
    this.hurry();
    return new Promise((resolve) => {
      this.toldRank = resolve;
    });
  }

  /** Sends the next heartbeat at once. */
  hurry(): void {
    if (this.asking) this.hurried = true;
    else if (this.timer !== undefined) this.wait(0);
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    await this.http.close();
  }

  private async beat(): Promise<void> {
    this.asking = true;
    this.hurried = false;
    const { heartbeatMs, hasLayout } = this.setup;
    const failure = await this.report(this.setup.heartbeat(this.rank));
    this.asking = false;
    if (this.closed) return;
    if (failure === null) this.pauseMs = hasLayout() ? heartbeatMs : Math.min(EAGER_MS, heartbeatMs);
    else this.pauseMs = Math.min(BACKOFF_MS_MAX, this.pauseMs * 1.5);
    this.say(failure);
    this.wait(this.hurried ? 0 : this.pauseMs * (1 + JITTER * (2 * Math.random() - 1)));
  }

  /** Answers what went wrong, or null. */
  private async report(heartbeat: Heartbeat): Promise<string | null> {
    const path = this.answers === true ? "/heartbeat" : "/register";
    try {
      // To a worker, it would be a key to be written.
      if (path === "/register") demandMaster(await this.http.request("GET", ROLE_PATH, null, ASK_MS));
      const text = Buffer.from(JSON.stringify(heartbeat));
      const { status, body } = await this.http.request("POST", path, text, ASK_MS);
      if (status !== 200) return `status ${status}: ${body.toString().trim()}`;
      this.setup.heard(readAnswer(body.toString()), heartbeat);
      if (heartbeat.rank === this.rank) this.toldRank?.();
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  }

  private wait(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = undefined;
      void this.beat();
    }, ms);
  }

  /** Logs that a master has come or gone, and from time to time another reason for that. */
  private say(failure: string | null): void {
    this.failure = failure;
    const answers = failure === null;
    const isOther = failure !== this.said.failure && performance.now() - this.said.atMs >= SAY_AGAIN_MS;
    if (answers === this.answers && !isOther) return;
    this.answers = answers;
    this.said = { failure, atMs: performance.now() };
    const { log, url: master } = this.setup;
    if (answers) log.info({ master }, "registered with the master");
    else
      log.warn(
        { master, reason: failure },
        "the master does not answer: going on without it, and trying again",
      );
  }
}

function readAnswer(text: string): HeartbeatAnswer {
  const answer = JSON.parse(text) as HeartbeatAnswer;
  if (!Array.isArray(answer.suspect) || !Array.isArray(answer.down))
    throw new Error("it is no master of minivault, or of another release");
  if (answer.leads !== undefined && typeof answer.leads !== "boolean")
    throw new Error("it does not say whether it leads");
  if (answer.candidates !== undefined && !Array.isArray(answer.candidates))
    throw new Error("it names candidates that are none");
  if (answer.known !== undefined) readKnown(answer.known);
  if (answer.birth !== undefined) checkStores(answer.birth);
  return answer;
}
