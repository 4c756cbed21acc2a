/**
 * The autocannon process: runs one job (JSON, first argument) and prints its result as JSON.
 * autocannon's own percentiles are whole milliseconds, so its response events go into an HDR histogram of microseconds. Warm-up and
 * measurement are one run, so that the connections and the compiled code stay.
 */
import autocannon from "autocannon";
import { build } from "hdr-histogram-js";
import { type Job, type LoadResult, requestsOf } from "./load.ts";

const LATENCY_US_MAX = 60_000_000;
const SIGNIFICANT_DIGITS = 3;
/** autocannon only looks this often whether it was told to stop. */
const SAMPLE_MS = 50;

async function generate(job: Job): Promise<LoadResult> {
  const body = Buffer.alloc(job.valueBytes, "v");
  const headers = { "content-type": "application/octet-stream" };
  const histogram = build({
    highestTrackableValue: LATENCY_US_MAX,
    numberOfSignificantValueDigits: SIGNIFICANT_DIGITS,
  });
  let measuring = false;
  let failures = 0;
  let successes = 0;
  let requests = 0;
  let ended: () => void;
  const end = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const instance = autocannon(
    {
      url: `http://127.0.0.1:${job.port}`,
      connections: job.connections,
      duration: 3600,
      sampleInt: SAMPLE_MS,
      requests: requestsOf(job.operation, job.valueBytes).map((request) =>
        request.method === "PUT" ? { ...request, headers, body } : request,
      ),
    } as autocannon.Options,
    () => ended(),
  );
  instance.on("response", (_, status, __, responseMs) => {
    requests++;
    if (status < 200 || status > 299) failures++;
    if (!measuring) return;
    if (status >= 200 && status <= 299) successes++;
    histogram.recordValue(Math.min(LATENCY_US_MAX, Math.round(responseMs * 1000)));
  });
  instance.on("reqError", () => {
    failures++;
  });
  await sleep(job.warmMs);
  const startMs = performance.now();
  measuring = true;
  await sleep(job.measureMs);
  measuring = false;
  const seconds = (performance.now() - startMs) / 1000;
  instance.stop();
  await end;
  const at = (percentile: number) => histogram.getValueAtPercentile(percentile);
  return {
    perSecond: successes / seconds,
    requests,
    failures,
    p50: at(50),
    p90: at(90),
    p99: at(99),
    p999: at(99.9),
    max: histogram.maxValue,
  };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

generate(JSON.parse(process.argv[2]) as Job).then(
  (result) => {
    process.stdout.write(`${JSON.stringify(result)}\n`);
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
