/**
 * Cluster time: what the clocks of the voters agree on. Pure: clocks come from outside.
 *
 * It is the lower median of the wall clocks of the nodes that were heard lately, the own one included, as
 * long as these are a majority; else what was known last. So one clock that is off, by seconds or by years,
 * changes nothing, and a step of all clocks is followed. Between two pulses it runs on the steady clock. It
 * may go back, as the clocks do: who needs numbers that only rise takes a hybrid clock on top (ballots.ts).
 *
 * Half of a round trip bounds the error of a measurement (Cristian, "Probabilistic clock synchronization",
 * 1989).
 */

/** What was heard longer ago does not count. */
export const CLOCK_HEARD_MS_MAX = 10_000;
/** A worse measurement takes the place of a better one only after this time. */
const BETTER_MS = 3000;
/** How often the median is computed anew, unless something has happened before. */
const RENEW_MS = 500;
/** The own clock has been set when it has moved this far against the steady one. */
const STEP_MS = 5;

export interface ClusterTimeSetup {
  /** The own wall clock, milliseconds since 1970. */
  wall: () => number;
  /** Milliseconds on a clock that only goes forward; any origin. */
  steady: () => number;
  /** How many nodes the cluster has, this one included. */
  nodes: () => number;
}

interface Heard {
  /** Wall clock minus steady clock. */
  offsetMs: number;
  errorMs: number;
  atMs: number;
}

export class ClusterTime {
  private readonly setup: ClusterTimeSetup;
  private readonly heardOf = new Map<string, Heard>();
  private offsetMs: number;
  private ownOffsetMs: number;
  private renewMs = Number.NEGATIVE_INFINITY;
  private isAgreed = false;
  /** Whether a majority's clocks were known at any time: before that the own clock is all there is. */
  private known = false;

  constructor(setup: ClusterTimeSetup) {
    this.setup = setup;
    this.ownOffsetMs = setup.wall() - setup.steady();
    this.offsetMs = this.ownOffsetMs;
  }

  /**
   * Another node's clock was read.
   * @param millis what it showed
   * @param roundTripMs how long it took to ask; it showed that at some moment in between
   */
  heard(node: string, millis: number, roundTripMs: number): void {
    const atMs = this.setup.steady();
    const before = this.heardOf.get(node);
    const heard = { offsetMs: millis + roundTripMs / 2 - atMs, errorMs: roundTripMs / 2, atMs };
    // A clock that was set is believed at once, whatever the link was like then.
    const agrees =
      before !== undefined &&
      Math.abs(before.offsetMs - heard.offsetMs) <= before.errorMs + heard.errorMs + STEP_MS;
    if (agrees && heard.errorMs > before.errorMs && atMs - before.atMs < BETTER_MS) return;
    this.heardOf.set(node, heard);
    this.renewMs = Number.NEGATIVE_INFINITY;
    this.offset();
  }

  /** A node is none of the cluster's any more. */
  forget(node: string): void {
    this.heardOf.delete(node);
    this.renewMs = Number.NEGATIVE_INFINITY;
  }

  /** Cluster time, milliseconds since 1970. */
  now(): number {
    return Math.floor(this.setup.steady() + this.offset());
  }

  /** Whether a majority's clocks are known now. */
  get agreed(): boolean {
    this.offset();
    return this.isAgreed;
  }

  /** Whether a majority's clocks were heard since the start of the process. */
  get wasAgreed(): boolean {
    this.offset();
    return this.known;
  }

  /** Cluster time minus the steady clock. */
  private offset(): number {
    const { wall, steady } = this.setup;
    const steadyMs = steady();
    const ownOffsetMs = wall() - steadyMs;
    if (steadyMs >= this.renewMs || Math.abs(ownOffsetMs - this.ownOffsetMs) > STEP_MS) {
      this.ownOffsetMs = ownOffsetMs;
      this.renew(steadyMs);
    }
    return this.offsetMs;
  }

  private renew(steadyMs: number): void {
    this.renewMs = steadyMs + RENEW_MS;
    const offsets = [this.ownOffsetMs];
    for (const { offsetMs, atMs } of this.heardOf.values())
      if (steadyMs - atMs <= CLOCK_HEARD_MS_MAX) offsets.push(offsetMs);
    this.isAgreed = offsets.length > this.setup.nodes() / 2;
    if (this.isAgreed) {
      offsets.sort((a, b) => a - b);
      this.offsetMs = offsets[(offsets.length - 1) >> 1];
      this.known = true;
    } else if (!this.known) this.offsetMs = this.ownOffsetMs;
  }

  /** How far the own clock is ahead of cluster time, in milliseconds; negative: behind. */
  skewMs(): number {
    const offset = this.offset();
    return Math.round(this.ownOffsetMs - offset);
  }

  /**
   * How far another node's clock is ahead of cluster time, and the most by which that may be wrong; null: not
   * known now.
   */
  skewOf(node: string): { skewMs: number; errorMs: number } | null {
    const heard = this.heardOf.get(node);
    if (heard === undefined || this.setup.steady() - heard.atMs > CLOCK_HEARD_MS_MAX) return null;
    return { skewMs: Math.round(heard.offsetMs - this.offset()), errorMs: Math.ceil(heard.errorMs) };
  }
}
