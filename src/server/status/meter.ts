/**
 * What the fronts count: answers by verb and outcome, latencies, what is in hand. Each front has a meter, in
 * memory that all fronts can read. Counting allocates nothing.
 */
import type { FrontNumbers } from "../../shards/arena/front-figures.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { Histogram } from "../../util/prometheus.ts";
import { LATENCY_NUMBERS, Latencies, type LatencySummary } from "./latency.ts";

/** Verbs in the counters. */
export const GET = 0;
export const HEAD = 1;
export const PUT = 2;
export const POST = 3;
export const DELETE = 4;
export const OTHER = 5;
const VERBS = ["get", "head", "put", "post", "delete", "other"] as const;
/** Verbs by the names of their handlers. */
export const VERB_OF = { get: GET, head: HEAD, put: PUT, post: POST, delete: DELETE, other: OTHER } as const;

/** Outcomes in the counters: the status' first digit, and 0 for a client that left before its answer. */
const OUTCOMES = ["aborted", "1xx", "2xx", "3xx", "4xx", "5xx"] as const;
const ABORTED = 0;

const COUNTS = VERBS.length * OUTCOMES.length;

/** Why a client's token was not enough, in the counters. */
const REFUSALS = ["unauthorized", "forbidden", "too_many_requests"] as const satisfies ErrorCode[];

/** Places in a meter's memory, in numbers. */
const READS = COUNTS;
const WRITES = READS + LATENCY_NUMBERS;
const IN_FLIGHT = WRITES + LATENCY_NUMBERS;
const RECEIVING = IN_FLIGHT + 1;
const CONNECTIONS = RECEIVING + 1;
const WATCHERS = CONNECTIONS + 1;
const CLOSED_MS = WATCHERS + 1;
const FILES = CLOSED_MS + 1;
const QUEUED_WRITES = FILES + 1;
const QUEUED_BYTES = QUEUED_WRITES + 1;
const BATCHES = QUEUED_BYTES + 1;
const BATCHED_WRITES = BATCHES + 1;
const COLD_READS = BATCHED_WRITES + 1;
const REFUSED = COLD_READS + 1;
const NUMBERS = REFUSED + REFUSALS.length;
/** Size of a meter's memory. */
export const METER_BYTES = NUMBERS * Float64Array.BYTES_PER_ELEMENT;

/** Numbers that all fronts have a part of. */
const SUMMED = [
  ...(["requestsInFlight", "receivingBytes", "connections", "watchers", "refusedFiles"] as const),
  ...(["queuedWrites", "queuedBytes", "batches", "batchedWrites", "coldReads"] as const),
];

/** Counters and latencies of the front, and what it has in hand. Constant memory. */
export class Meter implements FrontNumbers {
  /** One number: requests that are not answered yet. */
  readonly requestsInFlight: Float64Array;
  /** One number: memory that bodies have which come in pieces. */
  readonly receivingBytes: Float64Array;
  /** One number: connections that are open. */
  readonly connections: Float64Array;
  /** One number: clients that follow changes, or wait for one. */
  readonly watchers: Float64Array;
  /** One number: when a connection was last closed for want of descriptors, in milliseconds since 1970. */
  readonly refusedMs: Float64Array;
  /** One number: files of access that have changed and could not be taken. Of the main thread's meter. */
  readonly refusedFiles: Float64Array;
  /** What the front's vault counts: see FrontFigures. */
  readonly queuedWrites: Float64Array;
  readonly queuedBytes: Float64Array;
  readonly batches: Float64Array;
  readonly batchedWrites: Float64Array;
  readonly coldReads: Float64Array;
  private readonly counts: Float64Array;
  private readonly refusals: Float64Array;
  private readonly reads: Latencies;
  private readonly writes: Latencies;

  /** @param memory METER_BYTES, shared where other threads are to read it */
  constructor(memory: ArrayBufferLike = new ArrayBuffer(METER_BYTES)) {
    const part = (number: number, length: number) => new Float64Array(memory, number * 8, length);
    this.counts = part(0, COUNTS);
    this.reads = new Latencies(part(READS, LATENCY_NUMBERS));
    this.writes = new Latencies(part(WRITES, LATENCY_NUMBERS));
    this.requestsInFlight = part(IN_FLIGHT, 1);
    this.receivingBytes = part(RECEIVING, 1);
    this.connections = part(CONNECTIONS, 1);
    this.watchers = part(WATCHERS, 1);
    this.refusedMs = part(CLOSED_MS, 1);
    this.refusedFiles = part(FILES, 1);
    this.queuedWrites = part(QUEUED_WRITES, 1);
    this.queuedBytes = part(QUEUED_BYTES, 1);
    this.batches = part(BATCHES, 1);
    this.batchedWrites = part(BATCHED_WRITES, 1);
    this.coldReads = part(COLD_READS, 1);
    this.refusals = part(REFUSED, REFUSALS.length);
  }

  /** All that these have counted, now. */
  static sum(meters: readonly Meter[]): Meter {
    const total = new Meter();
    for (const { counts, refusals, reads, writes, ...meter } of meters) {
      for (let index = 0; index < COUNTS; index++) total.counts[index] += counts[index];
      for (let index = 0; index < REFUSALS.length; index++) total.refusals[index] += refusals[index];
      total.reads.add(reads);
      total.writes.add(writes);
      for (const name of SUMMED) total[name][0] += meter[name][0];
      total.refusedMs[0] = Math.max(total.refusedMs[0], meter.refusedMs[0]);
    }
    return total;
  }

  /** Counts an answer by its status. */
  count(verb: number, status: number): void {
    this.counts[verb * OUTCOMES.length + ((status / 100) | 0)]++;
  }

  /** Counts a request that a client's token was not enough for. */
  refused(code: ErrorCode): void {
    const index = (REFUSALS as readonly ErrorCode[]).indexOf(code);
    if (index >= 0) this.refusals[index]++;
  }

  countAborted(verb: number): void {
    this.counts[verb * OUTCOMES.length + ABORTED]++;
  }

  /** Records a sampled read, in milliseconds. */
  readTook(ms: number): void {
    this.reads.record(ms);
  }

  /** Records a write from its headers to its answer, in milliseconds. */
  writeTook(ms: number): void {
    this.writes.record(ms);
  }

  /** Everything counted. */
  get total(): number {
    return this.counts.reduce((sum, count) => sum + count, 0);
  }

  /** Refused for their token, by the error's code. */
  refusedRequests(): Record<string, number> {
    return Object.fromEntries(REFUSALS.map((code, index) => [code, this.refusals[index]]));
  }

  requests(): Record<string, Record<string, number>> {
    const byVerb: Record<string, Record<string, number>> = {};
    VERBS.forEach((verb, verbIndex) => {
      const byOutcome: Record<string, number> = {};
      OUTCOMES.forEach((outcome, outcomeIndex) => {
        if (outcome !== "1xx") byOutcome[outcome] = this.counts[verbIndex * OUTCOMES.length + outcomeIndex];
      });
      byVerb[verb] = byOutcome;
    });
    return byVerb;
  }

  readHistogram(): Histogram {
    return this.reads.histogram();
  }

  writeHistogram(): Histogram {
    return this.writes.histogram();
  }

  latencies(): { read: LatencySummary; write: LatencySummary } {
    return { read: this.reads.summary(), write: this.writes.summary() };
  }
}
