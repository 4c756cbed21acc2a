/**
 * Load of PUTs in a process of its own, so that the proxies of the links are not held up by it: the ports, connections and seconds on the command line;
 * the counts go to the parent process.
 */
import { saturate } from "../rest/offered-load.ts";

const VALUE_BYTES = 100;
const KEYS = 5000;

const [connections, seconds, ...ports] = process.argv.slice(2).map(Number);

export interface GeoLoad {
  perSecond: number;
  refusedPerSecond: number;
  others: string[];
  p50: number;
  p99: number;
}

async function main(): Promise<void> {
  const results = await Promise.all(
    ports.map((port, index) =>
      saturate({
        port,
        seconds,
        connections: Math.floor(connections / ports.length),
        valueBytes: VALUE_BYTES,
        prefix: `geo-${index}-`,
        keys: KEYS,
      }),
    ),
  );
  const [all, ...rest] = results.map((result) => result.successLatency);
  for (const latency of rest) all.add(latency);
  const sum = (of: (result: (typeof results)[number]) => number) =>
    results.reduce((total, result) => total + of(result) / result.seconds, 0);
  const load: GeoLoad = {
    perSecond: sum((result) => result.successes),
    refusedPerSecond: sum((result) => result.refusals),
    others: results.flatMap((result) => result.others).slice(0, 5),
    p50: all.getValueAtPercentile(50) / 1000,
    p99: all.getValueAtPercentile(99) / 1000,
  };
  process.send?.(load);
}

void main();
