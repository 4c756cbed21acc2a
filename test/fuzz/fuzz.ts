/**
 * Fuzzes the real program over raw sockets while a client on another connection writes and reads. Whatever comes in: the process lives, each
 * answer is HTTP with a documented status and a JSON error, the other client gets right answers in time, memory is bounded,
 * and no key holds a part of a value that was not sent whole.
 *
 * `CASE=n SEED=s` repeats one case.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "hdr-histogram-js";
import { ERRORS } from "../../src/util/errors.ts";
import { type Diagnostic, Random, randomSeed } from "../random.ts";
import { call, inParallel } from "../rest/client.ts";
import { hasProc, memoryLine, watchMemory } from "../rest/process-memory.ts";
import { RawConnection } from "../rest/raw.ts";
import { type Server, waitUntil, withServer } from "../rest/server.ts";
import { anyRequest, document, isWhole, mutate, pick, split, upload } from "./requests.ts";

const MIB = 1024 * 1024;
const LANES = 16;
const WHOLE_KEYS = 60;
/** A mutated request may be one that is never answered. */
const QUIET_MS = 60;
const ANSWER_MS_MAX = 60_000;
const STATUSES = new Set([200, 201, 206, 304, ...Object.values(ERRORS).map(({ status }) => status)]);
/** What the HTTP parser answers by itself, before it closes the connection. */
const PARSER_STATUSES = new Set([400, 431, 505]);

export interface FuzzLimits {
  cases: number;
  addedBytesMax: number;
  otherAnswerMsMax: number;
}

class Failure extends Error {}

/** Judges all that came back on a connection. Answers the statuses. */
function judge(client: RawConnection, what: string): number[] {
  const { answers, problem, partial } = client.parsed(true);
  if (problem !== null) throw new Failure(`${what}: not HTTP: ${problem}`);
  const begun = partial.subarray(0, 9).toString("latin1");
  if (!"HTTP/1.1 ".startsWith(begun))
    throw new Failure(`${what}: bytes between answers: ${JSON.stringify(begun)}`);
  for (const { status, headers, body } of answers) {
    if (headers.get("content-type") === undefined && PARSER_STATUSES.has(status)) {
      if (headers.get("connection") !== "close") throw new Failure(`${what}: ${status} without close`);
      continue;
    }
    if (!STATUSES.has(status)) throw new Failure(`${what}: status ${status} is not documented`);
    if (status < 400 || body.length === 0) continue;
    let error: { success?: unknown; error?: unknown; code?: unknown };
    try {
      error = JSON.parse(body.toString());
    } catch {
      throw new Failure(`${what}: ${status} with ${JSON.stringify(body.toString("latin1").slice(0, 200))}`);
    }
    const kind = ERRORS[error.code as keyof typeof ERRORS];
    if (error.success !== false || typeof error.error !== "string" || kind?.status !== status)
      throw new Failure(`${what}: ${status} with ${body.toString()}`);
    if (error.code === "internal" || error.code === "corrupt")
      throw new Failure(`${what}: ${body.toString()}`);
    if (kind.retryable && status === 503 && headers.get("retry-after") === undefined)
      throw new Failure(`${what}: 503 without Retry-After`);
  }
  return answers.map(({ status }) => status);
}

async function sendPieces(random: Random, client: RawConnection, pieces: Buffer[]): Promise<void> {
  for (const piece of pieces) {
    client.send(piece);
    if (random.below(3) === 0) await sleep(random.below(4));
  }
}

function leave(random: Random, client: RawConnection): void {
  if (random.below(2) === 0) client.abort();
  else client.destroy();
}

/** A correct upload in pieces, sometimes cut off: it is answered, or leaves nothing. */
async function wholeOrNothing(random: Random, port: number, what: string): Promise<number[]> {
  const bytes = upload(random, `whole/${random.below(WHOLE_KEYS)}`);
  const cutOff = random.below(2) === 0;
  const sent = cutOff ? bytes.subarray(0, 1 + random.below(bytes.length - 1)) : bytes;
  const client = await RawConnection.open(port);
  // The parser wants the request line in one piece.
  await sendPieces(
    random,
    client,
    split(random, sent, 6, Math.min(sent.length - 1, bytes.indexOf("\r\n") + 2)),
  );
  try {
    if (!cutOff) {
      await waitUntil(
        `${what}: an answer`,
        () => client.parsed().answers.length > 0 || client.closed,
        ANSWER_MS_MAX,
      );
      const statuses = judge(client, what);
      const right = statuses.length === 1 && [200, 201, 409, 503].includes(statuses[0]);
      if (!right) throw new Failure(`${what}: a correct upload got ${statuses.join()}`);
      return statuses;
    }
    await sleep(random.below(10));
    return judge(client, what);
  } finally {
    leave(random, client);
  }
}

/** One to three requests, changed in bytes and order. */
async function mutated(random: Random, port: number, what: string): Promise<number[]> {
  const requests = Array.from({ length: 1 + random.below(3) }, () => anyRequest(random));
  const bytes =
    random.below(20) === 0 ? random.bytes(1 + random.below(5000)) : mutate(random, Buffer.concat(requests));
  const client = await RawConnection.open(port);
  // Mostly with the first line in one piece: else most answers would be the parser's 505.
  const from = random.below(8) === 0 ? 0 : Math.min(bytes.length - 1, bytes.indexOf("\n") + 1);
  await sendPieces(random, client, split(random, bytes, 4, from));
  let seen = -1;
  const ends = random.below(4);
  if (ends === 0) client.socket.end();
  while (ends !== 1 && !client.closed && seen !== client.receivedBytes) {
    seen = client.receivedBytes;
    await sleep(QUIET_MS);
  }
  try {
    return judge(client, what);
  } finally {
    leave(random, client);
  }
}

function parsesAsJson(body: Buffer): boolean {
  try {
    JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body));
    return true;
  } catch {
    return false;
  }
}

/** A JSON document, mostly changed: what is accepted is JSON, and comes back as it was. */
async function json(random: Random, port: number, what: string): Promise<number[]> {
  const key = `/json/${what.replace(/\D/g, "")}`;
  const whole = document(random);
  const body = random.below(5) === 0 ? whole : mutate(random, whole);
  const headers = { "Content-Type": "application/json" };
  const written = await call(port, "PUT", key, { body, headers });
  const text = JSON.stringify(body.toString("latin1").slice(0, 300));
  if (written.status === 400) {
    if (!["bad_json", "no_value"].includes(written.json().code))
      throw new Failure(`${what}: ${written.text}`);
    if (body === whole) throw new Failure(`${what}: refused ${text}: ${written.text}`);
  } else if (written.status === 201) {
    if (!parsesAsJson(body)) throw new Failure(`${what}: took ${text}`);
    const read = await call(port, "GET", key);
    assert.deepEqual(read.json(), JSON.parse(body.toString()), what);
    await call(port, "DELETE", key);
  } else if (written.status !== 503) throw new Failure(`${what}: ${written.status}`);
  return [written.status];
}

/** Another client, which must not notice anything. */
function otherClient(port: number): {
  failure(): unknown;
  stop(): Promise<{ answers: number; p50: number; p99: number; max: number }>;
} {
  const histogram = build({ highestTrackableValue: 60_000_000, numberOfSignificantValueDigits: 3 });
  let running = true;
  let failure: unknown = null;
  const timed = async (method: string, path: string, body?: string) => {
    const asked = performance.now();
    const reply = await call(port, method, path, body === undefined ? {} : { body });
    histogram.recordValue(Math.min(60_000_000, Math.round((performance.now() - asked) * 1000)));
    return reply;
  };
  const loop = (async () => {
    for (let round = 0; running; round++) {
      const key = `/control-${round % 7}-of-the-other-client`;
      const value = `round ${round}`;
      const written = await timed("PUT", key, value);
      assert.ok(written.status < 300, written.text);
      const read = await timed("GET", key);
      assert.equal(read.status, 200);
      assert.equal(read.text, value);
      assert.equal((await timed("GET", "/never-there-of-the-other-client")).status, 404);
      await sleep(2);
    }
  })().catch((error) => {
    failure = error;
  });
  return {
    failure: () => failure,
    async stop() {
      running = false;
      await loop;
      if (failure !== null) throw failure;
      const at = (percentile: number) => histogram.getValueAtPercentile(percentile) / 1000;
      return { answers: histogram.totalCount, p50: at(50), p99: at(99), max: at(100) };
    },
  };
}

const KINDS = [wholeOrNothing, wholeOrNothing, mutated, mutated, mutated, json] as const;

async function runCase(seed: number, number: number, server: Server): Promise<number[]> {
  const random = new Random(Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) + Math.imul(number, 0xc2b2ae35));
  const kind = pick(random, KINDS);
  return kind(random, server.port, `${kind.name}, CASE=${number}`);
}

export async function fuzz(t: Diagnostic, limits: FuzzLimits): Promise<void> {
  const seed = randomSeed(t);
  await withServer({ sync: "os" }, async (server) => {
    const { port, pid } = server;
    if (process.env.CASE !== undefined) {
      t.diagnostic(`statuses: ${await runCase(seed, Number(process.env.CASE), server)}`);
      return;
    }
    const watched = hasProc ? watchMemory(pid) : null;
    const other = otherClient(port);
    const counts = new Map<string, number>();
    await inParallel(limits.cases, LANES, async (number) => {
      const statuses = await runCase(seed, number, server);
      for (const status of statuses.length === 0 ? ["none"] : statuses)
        counts.set(String(status), (counts.get(String(status)) ?? 0) + 1);
      if (other.failure() !== null) throw other.failure();
    });
    const { answers, p50, p99, max } = await other.stop();
    t.diagnostic(
      `${limits.cases} cases, answers: ${[...counts]
        .sort()
        .map(([status, count]) => `${status}: ${count}`)
        .join(", ")}`,
    );
    t.diagnostic(
      `another client meanwhile: ${answers} answers, 0 wrong, p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, max ${max.toFixed(1)} ms`,
    );
    assert.ok(counts.size > 8, "many kinds of answers were seen");
    assert.ok(max < limits.otherAnswerMsMax, `${max} ms`);
    await waitUntil("nothing is left in flight", async () => {
      const { queues } = (await call(port, "GET", "/_stats")).json();
      return queues.requestsInFlight === 0 && queues.receivingBytes === 0;
    });
    let whole = 0;
    for (let number = 0; number < WHOLE_KEYS; number++) {
      const read = await call(port, "GET", `/whole/${number}`);
      if (read.status === 404) continue;
      assert.equal(read.status, 200);
      assert.ok(isWhole(read.body), `a part of a value is stored under whole/${number}`);
      whole++;
    }
    assert.ok(whole > 0, "uploads were stored");
    if (watched !== null) {
      const peak = watched.stop();
      t.diagnostic(`${whole} values whole, 0 in part; MiB: ${memoryLine(watched.start, peak)}`);
      assert.ok(peak.own - watched.start.own < limits.addedBytesMax, memoryLine(watched.start, peak));
    }
    assert.equal(server.pid, pid);
    const exit = await server.stop();
    assert.equal(exit.status, 0, server.log());
    assert.ok(!/a request failed|a write failed|could not be sent/.test(server.log()), server.log());
  });
}

export const MEMORY_BYTES_MAX = 192 * MIB;
