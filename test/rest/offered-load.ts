/**
 * Load of writes by raw sockets, one request in flight on each. `saturate`: every connection sends again as soon as it is answered (closed loop).
 * `offer`: requests begin at a rate, whatever the server does (open loop); their latency counts from the moment they were due, so
 * waiting for a free connection is not hidden.
 */
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { build, type Histogram } from "hdr-histogram-js";

const LATENCY_US_MAX = 120_000_000;
const TICK_MS = 2;

export interface LoadResult {
  seconds: number;
  /** Requests that were due, and those for which every connection was busy. */
  offered: number;
  unsent: number;
  /** Answers by 2xx and by 503; the rest is an error of the test. */
  successes: number;
  refusals: number;
  others: string[];
  /** Microseconds. */
  successLatency: Histogram;
  refusalLatency: Histogram;
}

export interface Load {
  port: number;
  /** PUT when left out. */
  method?: "PUT" | "POST";
  connections: number;
  seconds: number;
  valueBytes: number;
  /** Keys are this and a number; "load/" when left out. */
  prefix?: string;
  /** How many keys; 1000 when left out. */
  keys?: number;
}

function emptyResult(seconds: number): LoadResult {
  const histogram = () => build({ highestTrackableValue: LATENCY_US_MAX, numberOfSignificantValueDigits: 3 });
  return {
    seconds,
    offered: 0,
    unsent: 0,
    successes: 0,
    refusals: 0,
    others: [],
    successLatency: histogram(),
    refusalLatency: histogram(),
  };
}

/** One connection: requests one after the other. */
class Lane {
  private readonly socket: net.Socket;
  private readonly result: LoadResult;
  private readonly free: (lane: Lane) => void;
  private answer = "";
  private dueMs = 0;
  busy = false;

  constructor(socket: net.Socket, result: LoadResult, free: (lane: Lane) => void) {
    this.socket = socket;
    this.result = result;
    this.free = free;
    socket.on("data", (piece) => this.receive(piece.toString("latin1")));
    socket.on("error", () => {});
    socket.on("close", () => {
      if (this.busy) result.others.push(`closed after: ${this.answer}`);
    });
  }

  static open(port: number, result: LoadResult, free: (lane: Lane) => void): Promise<Lane> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
      socket.once("error", reject);
      socket.once("connect", () => resolve(new Lane(socket, result, free)));
    });
  }

  send(request: Buffer, dueMs: number): void {
    this.busy = true;
    this.dueMs = dueMs;
    this.socket.write(request);
  }

  private receive(text: string): void {
    this.answer += text;
    // Write answers are small documents: the brace is the end.
    if (!this.answer.endsWith("}")) return;
    const { result, answer } = this;
    const microseconds = Math.min(LATENCY_US_MAX, Math.round((performance.now() - this.dueMs) * 1000));
    if (answer.startsWith("HTTP/1.1 20")) {
      result.successes++;
      result.successLatency.recordValue(microseconds);
    } else if (answer.startsWith("HTTP/1.1 503 ") && answer.includes("\r\nRetry-After: 1\r\n")) {
      result.refusals++;
      result.refusalLatency.recordValue(microseconds);
    } else result.others.push(answer);
    this.answer = "";
    this.busy = false;
    this.free(this);
  }

  close(): void {
    this.busy = false;
    this.socket.destroy();
  }
}

function requests({ method = "PUT", valueBytes, prefix = "load/", keys = 1000 }: Load): Buffer[] {
  return Array.from({ length: keys }, (_, number) =>
    Buffer.concat([
      Buffer.from(
        `${method} /${prefix}${number} HTTP/1.1\r\nHost: x\r\nContent-Length: ${valueBytes}\r\n\r\n`,
      ),
      Buffer.alloc(valueBytes, "v"),
    ]),
  );
}

async function openLanes(load: Load, result: LoadResult, free: (lane: Lane) => void): Promise<Lane[]> {
  const lanes: Lane[] = [];
  while (lanes.length < load.connections) {
    const some = Math.min(100, load.connections - lanes.length);
    lanes.push(
      ...(await Promise.all(Array.from({ length: some }, () => Lane.open(load.port, result, free)))),
    );
  }
  return lanes;
}

/** Every connection always has a request under way. The first quarter of the time is not counted. */
export async function saturate(load: Load): Promise<LoadResult> {
  const result = emptyResult(load.seconds);
  const texts = requests(load);
  let next = 0;
  let running = true;
  const send = (lane: Lane) => {
    if (!running) return;
    result.offered++;
    lane.send(texts[next++ % texts.length], performance.now());
  };
  const lanes = await openLanes(load, result, send);
  for (const lane of lanes) send(lane);
  await sleep(load.seconds * 250);
  Object.assign(result, emptyResult(load.seconds), { others: result.others });
  const begunMs = performance.now();
  await sleep(load.seconds * 1000);
  running = false;
  result.seconds = (performance.now() - begunMs) / 1000;
  for (const lane of lanes) lane.close();
  return result;
}

/** `perSecond` requests become due each second. The first quarter of the time is not counted. */
export async function offer(load: Load, perSecond: number): Promise<LoadResult> {
  const result = emptyResult(load.seconds);
  const texts = requests(load);
  const idle: Lane[] = [];
  const lanes = await openLanes(load, result, (lane) => idle.push(lane));
  idle.push(...lanes);
  let next = 0;
  const run = async (seconds: number) => {
    const begunMs = performance.now();
    const due = (number: number) => begunMs + (number / perSecond) * 1000;
    for (let number = 0; performance.now() < begunMs + seconds * 1000; ) {
      for (; due(number) <= performance.now(); number++) {
        result.offered++;
        const lane = idle.pop();
        if (lane === undefined) result.unsent++;
        else lane.send(texts[next++ % texts.length], due(number));
      }
      await sleep(TICK_MS);
    }
    return (performance.now() - begunMs) / 1000;
  };
  await run(load.seconds / 4);
  Object.assign(result, emptyResult(load.seconds), { others: result.others });
  result.seconds = await run(load.seconds);
  for (const lane of lanes) lane.close();
  return result;
}

const milliseconds = (histogram: Histogram, percentile: number) =>
  (histogram.getValueAtPercentile(percentile) / 1000).toFixed(histogram.maxValue < 10_000 ? 2 : 0);

/** One line about a run. */
export function loadLine(result: LoadResult): string {
  const { seconds, successLatency, refusalLatency } = result;
  const rate = (count: number) => Math.round(count / seconds);
  return (
    `offered ${rate(result.offered)}/s, served ${rate(result.successes)}/s (p50 ${milliseconds(successLatency, 50)} ms, ` +
    `p99 ${milliseconds(successLatency, 99)} ms, max ${milliseconds(successLatency, 100)} ms), ` +
    `503 ${rate(result.refusals)}/s (p99 ${milliseconds(refusalLatency, 99)} ms), unsent ${rate(result.unsent)}/s`
  );
}
