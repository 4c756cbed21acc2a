/** Large uploads beside small requests, for a short form (test/rest) and a long one (test/storm): memory, and what the small ones feel. */
import assert from "node:assert/strict";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build, type Histogram } from "hdr-histogram-js";
import type { Diagnostic } from "../random.ts";
import { call, curl } from "./client.ts";
import { memoryLine, watchMemory } from "./process-memory.ts";
import { removeFolder, temporaryFolder, withServer } from "./server.ts";

const MIB = 1024 * 1024;
const KEYS = 1000;
const VALUE = "v".repeat(100);
/** Connections of each kind; each sends its next request PAUSE_MS after its last answer. */
const LANES = 4;
const PAUSE_MS = 2;

const emptyHistogram = () => build({ highestTrackableValue: 60_000_000, numberOfSignificantValueDigits: 3 });

/** One after the other on one connection until `stopped`; every answer must be a 2xx and end with `end`. */
async function lane(
  port: number,
  request: (number: number) => string,
  end: string,
  histogram: Histogram,
  stopped: () => boolean,
): Promise<void> {
  const socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
  try {
    for (let number = 0; !stopped(); number++) {
      const asked = performance.now();
      const answer = await new Promise<string>((resolve, reject) => {
        let text = "";
        socket.removeAllListeners();
        socket.on("error", reject);
        socket.on("close", () => reject(new Error(`closed after: ${text}`)));
        socket.on("data", (piece) => {
          text += piece.toString("latin1");
          if (text.endsWith(end)) resolve(text);
        });
        socket.write(request(number));
      });
      histogram.recordValue(Math.min(60_000_000, Math.round((performance.now() - asked) * 1000)));
      assert.match(answer, /^HTTP\/1\.1 20[01] /);
      await sleep(PAUSE_MS);
    }
  } finally {
    socket.removeAllListeners();
    socket.destroy();
  }
}

/** Small GETs and PUTs at once until `work` is done. */
async function smallTraffic(
  port: number,
  work: () => Promise<void>,
): Promise<{ gets: Histogram; puts: Histogram }> {
  const gets = emptyHistogram();
  const puts = emptyHistogram();
  let done = false;
  const stopped = () => done;
  const get = (number: number) => `GET /small/${(number * 7) % KEYS} HTTP/1.1\r\nHost: x\r\n\r\n`;
  const put = (number: number) =>
    `PUT /written/${(number * 7) % KEYS} HTTP/1.1\r\nHost: x\r\nContent-Length: ${VALUE.length}\r\n\r\n${VALUE}`;
  const lanes = Array.from({ length: LANES }, () => [
    lane(port, get, VALUE, gets, stopped),
    lane(port, put, "}", puts, stopped),
  ]).flat();
  try {
    await Promise.race([work(), Promise.all(lanes)]);
  } finally {
    done = true;
  }
  await Promise.all(lanes);
  return { gets, puts };
}

function latencyLine(histogram: Histogram): string {
  const at = (percentile: number) => (histogram.getValueAtPercentile(percentile) / 1000).toFixed(2);
  return `${histogram.totalCount}, p50 ${at(50)} ms, p99 ${at(99)} ms, p99.9 ${at(99.9)} ms, max ${at(100)} ms`;
}

export interface MixedLimits {
  uploads: number;
  bytes: number;
  addedBytesMax: number;
  getP99MsMax: number;
}

export async function largeBesideSmall(t: Diagnostic, limits: MixedLimits): Promise<void> {
  const folder = temporaryFolder();
  try {
    const file = path.join(folder, "sparse");
    fs.writeFileSync(file, "");
    fs.truncateSync(file, limits.bytes);
    await withServer({}, async (server) => {
      const { port, pid, url } = server;
      for (let number = 0; number < KEYS; number++)
        assert.equal((await call(port, "PUT", `/small/${number}`, { body: VALUE })).status, 201);
      const alone = await smallTraffic(port, () => sleep(2000));
      t.diagnostic(`alone: GET ${latencyLine(alone.gets)}; PUT ${latencyLine(alone.puts)}`);
      const watched = watchMemory(pid, 50);
      const begun = performance.now();
      const traffic = smallTraffic(port, async () => {
        const uploads = Array.from({ length: limits.uploads }, (_, number) =>
          curl(["-T", file, `${url}/large-${number}`]),
        );
        for (const { status, exit, stdout } of await Promise.all(uploads))
          assert.equal(status, 201, `curl ended with ${exit}: ${stdout}`);
      });
      const { gets, puts } = await traffic.catch((error) => {
        watched.stop();
        throw error;
      });
      const seconds = (performance.now() - begun) / 1000;
      const peak = watched.stop();
      const rate = (limits.uploads * limits.bytes) / MIB / seconds;
      t.diagnostic(
        `beside ${limits.uploads} uploads of ${limits.bytes / MIB} MiB in ${seconds.toFixed(1)} s (${Math.round(rate)} MiB/s): ` +
          `GET ${latencyLine(gets)}; PUT ${latencyLine(puts)}`,
      );
      t.diagnostic(`MiB: ${memoryLine(watched.start, peak)}`);
      for (let number = 0; number < limits.uploads; number++) {
        const head = await call(port, "HEAD", `/large-${number}`);
        assert.equal(head.headers["content-length"], String(limits.bytes));
      }
      assert.ok(peak.own - watched.start.own < limits.addedBytesMax, memoryLine(watched.start, peak));
      const p99 = gets.getValueAtPercentile(99) / 1000;
      assert.ok(p99 < limits.getP99MsMax, `GET p99 ${p99} ms`);
    });
  } finally {
    removeFolder(folder);
  }
}
