/**
 * Load of writes in a process of its own, so that the proxies of the links are not held up by it; each key is written once by a POST, and by PUTs in turn.
 */
import { fork } from "node:child_process";
import { saturate } from "../rest/offered-load.ts";

const VALUE_BYTES = 100;
const KEYS = 5000;

export interface GeoJob {
  method: "PUT" | "POST";
  connections: number;
  seconds: number;
  ports: readonly number[];
}

export interface GeoLoad {
  perSecond: number;
  refusedPerSecond: number;
  others: string[];
  p50: number;
  p99: number;
}

/** Runs a job in a process of its own. */
export function runGeoLoad(job: GeoJob): Promise<GeoLoad> {
  const child = fork(__filename, [JSON.stringify(job)], { execArgv: ["--import", "tsx"] });
  return new Promise((resolve, reject) => {
    child.on("message", (message) => resolve(message as GeoLoad));
    child.on("exit", (code) => reject(new Error(`the load ended with ${code}`)));
  });
}

async function main({ method, connections, seconds, ports }: GeoJob): Promise<GeoLoad> {
  const results = await Promise.all(
    ports.map((port, index) =>
      saturate({
        port,
        method,
        seconds,
        connections: Math.floor(connections / ports.length),
        valueBytes: VALUE_BYTES,
        prefix: `geo-${method}-${index}-`,
        keys: KEYS,
      }),
    ),
  );
  const [all, ...rest] = results.map((result) => result.successLatency);
  for (const latency of rest) all.add(latency);
  const sum = (of: (result: (typeof results)[number]) => number) =>
    results.reduce((total, result) => total + of(result) / result.seconds, 0);
  return {
    perSecond: sum((result) => result.successes),
    refusedPerSecond: sum((result) => result.refusals),
    others: results.flatMap((result) => result.others).slice(0, 5),
    p50: all.getValueAtPercentile(50) / 1000,
    p99: all.getValueAtPercentile(99) / 1000,
  };
}

if (require.main === module)
  void main(JSON.parse(process.argv[2]) as GeoJob).then((load) => process.send?.(load));
