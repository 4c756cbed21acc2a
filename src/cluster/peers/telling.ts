/**
 * What one other node is told of this one: who asks, with every request, and how far the own log was
 * answered, with pulses and now and then with a batch, so that under load no requests of their own are needed
 * for it.
 */
import { FROM_PARAMETER, MARKS_PARAMETER, parameterOf, targetFrom } from "../identity/life.ts";
import type { NodeHttp } from "../link/node-http.ts";
import { PEER_BATCH_PATH, PEER_PING_PATH } from "../link/paths.ts";

/** How soon a node hears how far the own log was answered. */
export const TELL_MS = 100;
/** Sooner than that batches tell it. */
const BATCH_TELL_MS = TELL_MS / 2;
/** A pulse that is not answered in this time is given up. */
const PULSE_MS = 5000;

/** What a node says of itself with every request, and hears. */
export interface PeerIdentity {
  /** See cluster/identity/life.ts. */
  life(): string;
  marks(): string;
  /** Whether it counts who has answered. */
  counts(life: string): boolean;
  /** The node refuses what carried this life. */
  refused(life: string, reason: string): void;
}

export class Telling {
  private readonly http: NodeHttp;
  /** null: nobody says who this node is. */
  private readonly identity: PeerIdentity | null;
  private readonly now: () => number;
  /** What the node knows of the own life and marks, whether it is being told, and when it was last. */
  private toldWords = "";
  private telling = false;
  private tellMs = Number.NEGATIVE_INFINITY;

  constructor(http: NodeHttp, identity: PeerIdentity | null, now: () => number) {
    this.http = http;
    this.identity = identity;
    this.now = now;
  }

  /** Whether the node knows how far the own log was answered. */
  get isUpToDate(): boolean {
    return this.words() === this.toldWords;
  }

  /** A target with who sends it. */
  from(target: string): string {
    return targetFrom(target, this.identity?.life() ?? null);
  }

  /** The same with the marks. */
  withMarks(target: string): string {
    const words = this.words();
    return words === "" ? this.from(target) : targetFrom(target, words);
  }

  /** Where a batch goes; `words`: what it tells, for `told`; null: nothing new. */
  batchTarget(): { target: string; words: string | null } {
    const words = this.now() - this.tellMs < BATCH_TELL_MS ? "" : this.words();
    if (words === "" || words === this.toldWords) return { target: this.from(PEER_BATCH_PATH), words: null };
    this.tellMs = this.now();
    return { target: targetFrom(PEER_BATCH_PATH, words), words };
  }

  /** The node has taken these words. */
  told(words: string): void {
    this.toldWords = words;
  }

  /** Whether it counts who has answered. */
  counts(life: string): boolean {
    return this.identity?.counts(life) ?? true;
  }

  /** Where no batch has told it, a pulse of its own does, soon. To be called all the time. */
  tell(isUp: boolean): void {
    if (this.identity === null || this.telling || !isUp) return;
    if (this.now() - this.tellMs < TELL_MS) return;
    const words = this.words();
    if (words === this.toldWords) return;
    this.telling = true;
    this.tellMs = this.now();
    const target = targetFrom(PEER_PING_PATH, words);
    const over = () => {
      clearTimeout(timer);
      this.telling = false;
    };
    const giveUp = this.http.exchange("GET", target, null, {
      answered: (status, body) => {
        over();
        if (status === 200) this.told(words);
        else this.wasRefused(target, status, body);
      },
      failed: over,
    });
    const timer = setTimeout(() => giveUp(new Error("no answer to a pulse")), PULSE_MS);
    timer.unref();
  }

  /** The node does not take a request: it may say that this process is not who it says. */
  wasRefused(target: string, status: number, body: Buffer): void {
    const life = parameterOf(target.slice(target.indexOf("?") + 1), FROM_PARAMETER);
    if (status !== 409 || life === null) return;
    try {
      this.identity?.refused(life, String(JSON.parse(body.toString()).error));
    } catch {
      // Not from a node of ours.
    }
  }

  /** What is said of the own life and marks. */
  private words(): string {
    const marks = this.identity?.marks() ?? "";
    return marks === "" ? "" : `${this.identity?.life()}&${MARKS_PARAMETER}=${marks}`;
  }
}
