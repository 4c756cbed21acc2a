/**
 * Who else speaks: what each request between nodes, and each answer to a pulse, says of its sender is judged
 * here, and remembered (lives.ts). What is of another cluster, of another layout under the own number, or of
 * an earlier life does not count.
 */
import { VaultError } from "../../util/errors.ts";
import { isForeign, isNamedIn, type Layout } from "../layout/layout.ts";
import { decodeLife, decodeMarks, type Life } from "./life.ts";
import { FENCED, type Known, type Lives } from "./lives.ts";
import type { OwnLife } from "./own-life.ts";

/** How the refusal of one of another cluster begins. */
const FOREIGN = "foreign:";
/** Senders whose words are remembered as judged. */
const HEARD_MAX = 4096;
/** Who must not be here and is speaks every second; what was not said for so long is over. */
const ALARM_MS = 60_000;
/** Of those that are going on, as many are logged once. */
const LOGGED_MAX = 64;

export interface SendersSetup {
  url: string;
  layout: () => Layout | null;
  incarnation: () => number;
  own: OwnLife;
  lives: Lives;
  /** Milliseconds on a clock that only goes forward; left out: the process' own. */
  now?: () => number;
  log: { error(fields: object, text: string): void };
}

export class Senders {
  private readonly setup: SendersSetup;
  private readonly now: () => number;
  private heard = { generation: -1, layout: null as Layout | null, lives: new Map<string, Life>() };
  /** What each node said last of its vote. */
  private readonly voters = new Map<string, boolean>();
  private alarm: { reason: string; atMs: number } | null = null;
  /** What was logged of what is going on. */
  private readonly logged = new Set<string>();

  constructor(setup: SendersSetup) {
    this.setup = setup;
    this.now = setup.now ?? (() => performance.now());
  }

  /**
   * Takes what every request between nodes carries: who sends it and, with a pulse, how far its log was
   * answered. Answers why the request is not taken, or null.
   * @throws VaultError when a new life cannot be put on disk
   */
  hear(from: string, marks: string | null): string | null {
    const { lives } = this.setup;
    const layout = this.setup.layout();
    if (this.heard.generation !== lives.generation || this.heard.layout !== layout)
      this.heard = { generation: lives.generation, layout, lives: new Map() };
    let life = this.heard.lives.get(from) ?? null;
    if (life === null) {
      life = decodeLife(from);
      if (life === null) return "the sender does not say who it is in a form that this node knows";
      const refusal = this.judge(life);
      if (refusal !== null) return refusal;
      if (this.heard.lives.size < HEARD_MAX) this.heard.lives.set(from, life);
    }
    const places = marks === null ? null : decodeMarks(marks);
    if (places !== null) lives.hear(life, places);
    return null;
  }

  /**
   * A node that starts asks what is known of its store. Its life is admitted, where it is a later one.
   * @throws VaultError when it is of another cluster
   */
  answerHello(from: string): Known {
    const life = decodeLife(from);
    if (life === null) throw new VaultError("bad_request", "a hello says whose it is");
    const refusal = this.judge(life);
    if (refusal?.startsWith(FOREIGN)) throw new VaultError("conflict", refusal);
    return { ...this.setup.lives.knownOf(life), forgetful: this.setup.own.isForgetful };
  }

  /** A node that answers a pulse says who it is: false when that does not count. */
  heardBack(from: string): boolean {
    const life = decodeLife(from);
    if (life === null) return true;
    this.voters.set(life.url, life.votes);
    if (!isForeign(this.setup.layout()?.cluster, life.cluster)) return !this.setup.lives.isFenced(life);
    this.alert(`${life.url} belongs to another cluster (${life.cluster})`);
    return false;
  }

  /** Whoever refuses requests of this node says why; `life` is what the request carried. */
  wasRefused(life: string, reason: string): void {
    if (reason.startsWith(FOREIGN)) this.alert(reason);
    const { own, incarnation, layout, url } = this.setup;
    // Of a worker that is no member the others may remember what it was: a master tells it (own-life.ts).
    if (!isNamedIn(layout(), url)) return;
    // While it finds out who it is, and right after, requests are on their way that carry what it was before.
    const isOwn = decodeLife(life)?.incarnation === incarnation();
    if (reason.startsWith(FENCED) && isOwn && own.isProven) own.fence(reason);
  }

  /** Whether a node says that it votes. */
  saysItVotes(url: string): boolean {
    return this.voters.get(url) ?? true;
  }

  /** What the node said of its vote does not count any more. */
  forget(url: string): void {
    this.voters.delete(url);
  }

  /** Something that must not be: said once, and shown until it was not so for a while. */
  alert(reason: string): void {
    const isGoingOn = this.problem !== null;
    this.alarm = { reason, atMs: this.now() };
    // Several may say it in turns.
    if (!isGoingOn || this.logged.size >= LOGGED_MAX) this.logged.clear();
    if (this.logged.has(reason)) return;
    this.logged.add(reason);
    this.setup.log.error({ reason }, "what a node says does not count here");
  }

  /** What must not be and is, for a person; null: nothing. */
  get problem(): string | null {
    if (this.alarm !== null && this.now() - this.alarm.atMs >= ALARM_MS) this.alarm = null;
    return this.alarm?.reason ?? null;
  }

  /**
   * Judges who sends a request between nodes, and remembers it. Answers why nothing of it is taken, or null.
   * @throws VaultError when a new life cannot be put on disk
   */
  private judge(life: Life): string | null {
    const { url, own } = this.setup;
    const layout = this.setup.layout();
    if (isForeign(layout?.cluster, life.cluster)) {
      this.alert(`${life.url} belongs to another cluster (${life.cluster}; this one is ${layout?.cluster})`);
      return `${FOREIGN} ${url} belongs to another cluster`;
    }
    if (layout !== null && life.epoch === layout.epoch && life.layout !== null)
      if (life.layout !== own.digestOf(layout)) {
        this.alert(`${life.url} has another layout under the number ${layout.epoch}`);
        return `${FOREIGN} ${url} has another layout under the number ${layout.epoch}`;
      }
    if (!isNamedIn(layout, life.url)) return null;
    return this.admitted(life, layout) ? null : this.setup.lives.refusalOf(life, `at ${url}`);
  }

  private admitted(life: Life, layout: Layout | null): boolean {
    try {
      return this.setup.lives.admit(life, (url) => isNamedIn(layout, url));
    } catch (error) {
      // Nothing of the request was done.
      throw new VaultError(
        "unavailable",
        `a start of ${life.url} cannot be noted: ${(error as Error).message}`,
      );
    }
  }
}
