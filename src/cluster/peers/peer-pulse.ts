/**
 * Whether another node is there, and how far away: from probes, and from what its client sees.
 *
 *   up ──► suspect (something failed) ──► down (it takes no connection, or has been silent for too long although asked)
 *    ◄──────────── any answer ◄──────────────┘
 *
 * Invariant: time is measured by a patient clock that stands still while this process does: a pause of ours
 * is not its silence.
 */

import { reasonOf } from "../link/exchange.ts";
import type { NodeHttp } from "../link/node-http.ts";
import { PEER_PING_PATH } from "../link/paths.ts";
import { refusedError } from "./peer-error.ts";
import { clockOf, lifeOf } from "./peer-handler.ts";

/** Share of a new measurement in the mean round trip. */
const ROUND_TRIP_WEIGHT = 0.25;
/** Round trips that are measured at once, and that are remembered. */
const MEASUREMENTS_FIRST = 4;
const MEASUREMENTS_KEPT = 16;
/** Silence of our own process that is noticed in a sweep counts as no more than this. */
const SWEEP_MS_MAX = 250;
/** Time between probes of a node that is there, and of one that is not or may not be. */
const PROBE_MS = 1000;
const PROBE_DOWN_MS = 400;
/** Silence while batches are under way after which a probe does not wait for its time. */
const PROBE_WAITING_MS = 200;
/** A probe that takes longer is a failure; on a long link as many round trips. */
const PROBE_MS_MAX = 1000;
const PROBE_ROUND_TRIPS_MAX = 4;

export type PeerState = "up" | "suspect" | "down";

export interface PulseOptions {
  /** A node that has not answered anything for so long, though asked, is down. */
  silenceMs: number;
  /** Milliseconds on a clock that only goes forward. */
  now: () => number;
  /** Whether an answer other than a probe's is awaited. */
  isWaiting: () => boolean;
  /** It has just gone down. */
  onDown: (reason: string) => void;
  /**
   * What its wall clock showed, in milliseconds since 1970, at some moment of the round trip that has just
   * ended.
   */
  onClock?: ((millis: number, roundTripMs: number) => void) | undefined;
  /** A target with what the node is told of this one. */
  told: (target: string) => string;
  /** Whether it counts who answered; `life` is what the answer says of that. */
  counts: (life: string) => boolean;
  /** It does not take what this node says of itself. */
  onRefusal: (target: string, status: number, body: Buffer) => void;
}

export class PeerPulse {
  /** suspect: not heard of yet, or something failed since. */
  state: PeerState = "suspect";
  /** What went wrong last; empty while all is well. */
  failure = "";
  /** Mean round trip, lately; 0 until the first. */
  roundTripMs = 0;
  /** The patient clock. */
  patientMs = 0;
  private readonly http: NodeHttp;
  private readonly options: PulseOptions;
  private readonly latestMs: number[] = [];
  private sweptMs: number;
  private heardMs = 0;
  private askedMs = 0;
  private probe: { startMs: number; cancel: (why: Error) => void } | null = null;
  private closed = false;

  constructor(http: NodeHttp, options: PulseOptions) {
    this.http = http;
    this.options = options;
    this.sweptMs = options.now();
  }

  /**
   * The least of the latest round trips: the link's own, without what waiting adds under load; 0: not known.
   */
  get linkMs(): number {
    return this.latestMs.length === 0 ? 0 : Math.min(...this.latestMs);
  }

  start(): void {
    this.startProbe();
  }

  close(): void {
    this.closed = true;
    this.probe?.cancel(new Error("closed"));
  }

  /** The node has answered something. */
  heard(): void {
    this.heardMs = this.patientMs;
    if (this.state === "up") return;
    this.state = "up";
    this.failure = "";
  }

  /** @param unreachable it takes no connection: nothing is to be waited for */
  failed(reason: string, unreachable: boolean): void {
    if (this.closed) return;
    this.failure = reason;
    if (this.state === "down") return;
    if (unreachable || this.patientMs - this.heardMs >= this.silenceMs()) {
      this.state = "down";
      this.options.onDown(reason);
      return;
    }
    this.state = "suspect";
    // Finds out soon what is the matter.
    if (this.probe === null && this.patientMs - this.askedMs >= PROBE_WAITING_MS) this.startProbe();
  }

  /** To be called all the time, every SWEEP_MS_MAX at the latest. */
  sweep(): void {
    const nowMs = this.options.now();
    this.patientMs += Math.min(nowMs - this.sweptMs, SWEEP_MS_MAX);
    this.sweptMs = nowMs;
    const silentMs = this.patientMs - this.heardMs;
    if (this.probe === null) {
      if (this.patientMs - this.askedMs >= this.probePauseMs(silentMs)) this.startProbe();
    } else if (this.state === "suspect" && silentMs >= this.silenceMs()) {
      this.failed("no answer to two probes", false);
    } else if (this.patientMs - this.probe.startMs >= Math.max(PROBE_MS_MAX, this.patience())) {
      this.probe.cancel(new Error("no answer to a probe"));
    }
  }

  private probePauseMs(silentMs: number): number {
    if (this.state !== "up") return PROBE_DOWN_MS;
    // The first round trips are measured at once; after them, who waits in vain asks early.
    if (this.latestMs.length < MEASUREMENTS_FIRST) return 0;
    const waitsInVain = this.options.isWaiting() && silentMs >= PROBE_WAITING_MS + this.roundTripMs;
    return waitsInVain ? PROBE_DOWN_MS : PROBE_MS;
  }

  private silenceMs(): number {
    return Math.max(this.options.silenceMs, this.patience());
  }

  /** What a long link is allowed. */
  private patience(): number {
    return this.roundTripMs * PROBE_ROUND_TRIPS_MAX;
  }

  private startProbe(): void {
    if (this.closed) return;
    const { now } = this.options;
    this.askedMs = this.patientMs;
    let sentMs = 0;
    const target = this.options.told(PEER_PING_PATH);
    const cancel = this.http.exchange("GET", target, null, {
      sent: () => {
        sentMs = now();
      },
      answered: (status, body) => {
        this.probe = null;
        if (status !== 200) {
          this.options.onRefusal(target, status, body);
          this.failed(refusedError({ status, body }).message, false);
          return;
        }
        const life = lifeOf(body);
        if (life !== null && !this.options.counts(life)) {
          this.failed("another process answers under its URL, or one of another cluster", false);
          return;
        }
        const tookMs = now() - sentMs;
        this.measured(tookMs);
        const clock = clockOf(body);
        if (clock !== null) this.options.onClock?.(clock, tookMs);
        this.heard();
      },
      failed: (error, sent) => {
        this.probe = null;
        this.failed(reasonOf(error), !sent);
      },
    });
    this.probe = { startMs: this.patientMs, cancel };
  }

  private measured(tookMs: number): void {
    const isFirst = this.latestMs.length < MEASUREMENTS_FIRST;
    this.latestMs.push(tookMs);
    if (this.latestMs.length > MEASUREMENTS_KEPT) this.latestMs.shift();
    // The first ones are slow: connections are made, code is compiled.
    if (isFirst) this.roundTripMs = Math.min(...this.latestMs);
    else this.roundTripMs += (tookMs - this.roundTripMs) * ROUND_TRIP_WEIGHT;
  }
}
