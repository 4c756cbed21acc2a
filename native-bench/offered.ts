/**
 * Load at a fixed rate: requests become due at the offered rate, whatever the server does, and their latency counts from when they were due. So a
 * request that waits because the server is slow, or because all connections are busy, counts with its whole wait: there is no coordinated omission to
 * correct. A process of its own: runs one job (JSON, first argument) and prints its result as JSON.
 */
import net from "node:net";
import { build } from "hdr-histogram-js";
import { keyPath, keysOf } from "./load.ts";
import { run } from "./processes.ts";

const LATENCY_US_MAX = 60_000_000;
const SIGNIFICANT_DIGITS = 3;
/** Of the measured time, before it, at the same rate. */
const WARM_SHARE = 0.3;
/** After the last request was due, for answers to arrive. */
const DRAIN_MS_MAX = 2000;
export const PERCENTILES = [50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99];

export interface OfferedJob {
  port: number;
  operation: "GET" | "PUT";
  connections: number;
  valueBytes: number;
  measureMs: number;
  /** Requests a second; null: every connection sends again as soon as it is answered, which gives the peak. */
  rate: number | null;
}

export interface OfferedResult {
  /** Requests answered in the measured time, per second. */
  perSecond: number;
  /** Not 2xx, broken connections, and requests that had no answer in the end. */
  failures: number;
  /** Microseconds at PERCENTILES. */
  latencies: number[];
}

/** Runs a job in a process of its own. */
export async function runOffered(job: OfferedJob): Promise<OfferedResult> {
  return JSON.parse(
    await run(process.execPath, ["--import", "tsx", __filename, JSON.stringify(job)]),
  ) as OfferedResult;
}

interface Lane {
  socket: net.Socket;
  /** Of the request under way; NaN: none. */
  dueMs: number;
  received: string;
}

async function offer(job: OfferedJob): Promise<OfferedResult> {
  const histogram = build({
    highestTrackableValue: LATENCY_US_MAX,
    numberOfSignificantValueDigits: SIGNIFICANT_DIGITS,
  });
  const texts = Array.from({ length: keysOf(job.valueBytes) }, (_, number) => {
    const head = `${job.operation} ${keyPath(number)} HTTP/1.1\r\nHost: localhost\r\n`;
    return job.operation === "GET"
      ? `${head}\r\n`
      : `${head}Content-Type: application/octet-stream\r\nContent-Length: ${job.valueBytes}\r\n\r\n${"v".repeat(job.valueBytes)}`;
  });
  const startMs = performance.now() + 50;
  const fromMs = startMs + job.measureMs * WARM_SHARE;
  const untilMs = fromMs + job.measureMs;
  const idle: Lane[] = [];
  let sent = 0;
  let answered = 0;
  let inTime = 0;
  let failures = 0;
  const dueMs = (number: number) =>
    job.rate === null ? performance.now() : startMs + (number * 1000) / job.rate;
  const send = (lane: Lane) => {
    lane.dueMs = dueMs(sent);
    lane.socket.write(texts[sent++ % texts.length], "latin1");
  };
  const receive = (lane: Lane, piece: Buffer) => {
    lane.received += piece.toString("latin1");
    const head = lane.received.indexOf("\r\n\r\n");
    if (head < 0) return;
    const length = /\r\ncontent-length: (\d+)/i.exec(lane.received);
    if (lane.received.length < head + 4 + Number(length?.[1] ?? 0)) return;
    const nowMs = performance.now();
    if (!lane.received.startsWith("HTTP/1.1 2")) failures++;
    if (lane.dueMs >= fromMs && lane.dueMs < untilMs)
      histogram.recordValue(Math.min(LATENCY_US_MAX, Math.max(0, Math.round((nowMs - lane.dueMs) * 1000))));
    if (nowMs >= fromMs && nowMs < untilMs) inTime++;
    answered++;
    lane.received = "";
    lane.dueMs = Number.NaN;
    const next = dueMs(sent);
    if (next < untilMs && next <= nowMs + (job.rate === null ? 1 : 0)) send(lane);
    else idle.push(lane);
  };
  const lanes = await Promise.all(
    Array.from(
      { length: job.connections },
      () =>
        new Promise<Lane>((resolve, reject) => {
          const socket = net.connect({ host: "127.0.0.1", port: job.port, noDelay: true });
          const lane: Lane = { socket, dueMs: Number.NaN, received: "" };
          socket.on("data", (piece) => receive(lane, piece));
          socket.once("connect", () => resolve(lane));
          socket.once("error", reject);
        }),
    ),
  );
  idle.push(...lanes);
  // Turns of the event loop without pause: a timer would be a millisecond late, which is more than most answers take.
  while (performance.now() < untilMs) {
    while (idle.length > 0 && dueMs(sent) <= performance.now() && dueMs(sent) < untilMs)
      send(idle.pop() as Lane);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const giveUpMs = performance.now() + DRAIN_MS_MAX;
  while (answered < sent && performance.now() < giveUpMs)
    await new Promise((resolve) => setTimeout(resolve, 5));
  failures += sent - answered;
  // What was due and found no connection to the end: it waited at least until now.
  if (job.rate !== null)
    for (let number = sent; dueMs(number) < untilMs; number++)
      if (dueMs(number) >= fromMs)
        histogram.recordValue(Math.round((performance.now() - dueMs(number)) * 1000));
  for (const { socket } of lanes) socket.destroy();
  return {
    perSecond: (inTime * 1000) / job.measureMs,
    failures,
    latencies: PERCENTILES.map((percentile) => histogram.getValueAtPercentile(percentile)),
  };
}

if (require.main === module)
  offer(JSON.parse(process.argv[2]) as OfferedJob).then(
    (result) => {
      process.stdout.write(`${JSON.stringify(result)}\n`);
      process.exit(0);
    },
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
