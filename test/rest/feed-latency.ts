/**
 * How long from an acknowledged PUT to its event, what many watchers cost the writes, and what they take of memory: a process of its own, as a
 * bench: `node --import tsx test/rest/feed-latency.ts [events] [watchers]`.
 */
import { readFileSync } from "node:fs";
import { call, closeConnections, inParallel } from "./client.ts";
import { EventStream } from "./event-stream.ts";
import { startServer } from "./server.ts";

/** Resident memory of a process, in MiB. */
export function residentMiB(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1] ?? Number.NaN) / 1024;
}

export interface Latency {
  p50Ms: number;
  p99Ms: number;
}

function quantiles(samples: number[]): Latency {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}

/** From the answer to a PUT until its event is here, one after another; a negative time: the event came first. */
export async function eventLatency(port: number, events: number): Promise<Latency> {
  const stream = new EventStream(port, "/latency/?watch");
  await stream.begun();
  const samples: number[] = [];
  for (let i = 0; i < events; i++) {
    let seenMs = 0;
    const seen = stream
      .until((from) => from.events.length > 0 && from.events.some(({ data }) => data.key === `latency/${i}`))
      .then(() => {
        seenMs = performance.now();
      });
    const reply = await call(port, "PUT", `/latency/${i}`, { body: "x".repeat(100) });
    if (reply.status !== 201) throw new Error(reply.text);
    const answeredMs = performance.now();
    await seen;
    samples.push(seenMs - answeredMs);
    stream.events.length = 0;
  }
  stream.close();
  return quantiles(samples);
}

/** Acknowledged PUTs a second, with so many at a time. */
export async function putRate(port: number, puts: number, width: number): Promise<number> {
  const startMs = performance.now();
  await inParallel(puts, width, async (i) => {
    const reply = await call(port, "PUT", `/rate/${i % 5000}`, { body: "x".repeat(100) });
    if (reply.status > 201) throw new Error(reply.text);
  });
  return (puts / (performance.now() - startMs)) * 1000;
}

async function main(): Promise<void> {
  const events = Number(process.argv[2] ?? 300);
  const watchers = Number(process.argv[3] ?? 1000);
  const server = await startServer();
  const { port, pid } = server;
  try {
    console.log("event latency", await eventLatency(port, events));
    const rates: Record<string, number[]> = { without: [], with: [] };
    await putRate(port, 5000, 32);
    for (let round = 0; round < 3; round++) {
      rates.without.push(await putRate(port, 20_000, 32));
      const before = residentMiB(pid);
      const streams = Array.from({ length: watchers }, (_, i) => new EventStream(port, `/own/${i}/?watch`));
      await Promise.all(streams.map((stream) => stream.begun()));
      if (round === 0)
        console.log(`${watchers} idle watchers: ${(residentMiB(pid) - before).toFixed(1)} MiB`);
      rates.with.push(await putRate(port, 20_000, 32));
      for (const stream of streams) stream.close();
    }
    console.log("PUT a second", rates);
  } finally {
    closeConnections();
    await server.dispose();
  }
}

if (require.main === module) void main();
