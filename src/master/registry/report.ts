/** A heartbeat as a body: every field is checked before anybody believes it. */
import { decodeLife, decodeMarks } from "../../cluster/identity/life.ts";
import type { Heartbeat, Progress, Tried } from "../../cluster/membership/messages.ts";
import { nodeUrl, region } from "../../config/values.ts";

/** Largest "load" in a report, as JSON: what the registry keeps for each worker. */
export const LOAD_BYTES_MAX = 4096;
/** Most results of tries in a report. */
const TRIED_MAX = 64;

/** A report from a body; throws an Error with a sentence for a person. */
export function parseReport(text: string): Heartbeat {
  let body: Record<string, unknown>;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Error('the body is not JSON such as {"url":"http://10.0.0.1:3000","region":"eu"}');
  }
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw new Error("the body is not a JSON object");
  if (typeof body.url !== "string") throw new Error('"url" is missing, or no text');
  const {
    url,
    region: regionName = "default",
    host = "",
    store = "",
    epoch = 0,
    rank = 0,
    load = null,
    life,
    marks,
    features,
  } = body;
  if (typeof regionName !== "string") throw new Error('"region" is no text');
  if (typeof host !== "string" || !HOST_SYNTAX.test(host)) throw new Error('"host" is no name of a machine');
  if (typeof store !== "string" || !STORE_SYNTAX.test(store)) throw new Error('"store" is not 32 hex digits');
  if (!isCount(epoch)) throw new Error('"epoch" is no number');
  if (!isCount(rank)) throw new Error('"rank" is no number');
  if (features !== undefined && !isCount(features)) throw new Error('"features" is no number');
  if (life !== undefined && (typeof life !== "string" || decodeLife(life) === null))
    throw new Error('"life" is not what this program knows');
  if (marks !== undefined && (typeof marks !== "string" || decodeMarks(marks) === null))
    throw new Error('"marks" are not what this program knows');
  if (JSON.stringify(load).length > LOAD_BYTES_MAX)
    throw new Error(`"load" is longer than ${LOAD_BYTES_MAX} characters`);
  return {
    url: named("url", () => nodeUrl(url)),
    region: named("region", () => region(regionName)),
    host,
    store,
    epoch,
    empty: body.empty === true,
    voting: body.voting === true,
    rank,
    progress: parseProgress(body.progress),
    ...(body.tried === undefined ? {} : { tried: parseTried(body.tried) }),
    load,
    ...(features === undefined ? {} : { features }),
    ...(life === undefined ? {} : { life: life as string }),
    ...(marks === undefined ? {} : { marks: marks as string }),
  };
}

const STORE_SYNTAX = /^([0-9a-f]{32})?$/;
const HOST_SYNTAX = /^[\w.:-]{0,255}$/;

function parseProgress(value: unknown): Progress | null {
  if (value === undefined || value === null) return null;
  const { epoch, done, total } = value as Progress;
  if (!isCount(epoch) || !isCount(done) || !isCount(total))
    throw new Error('"progress" is not {"epoch":n,"done":n,"total":n}');
  return { epoch, done, total };
}

function parseTried(value: unknown): Tried[] {
  if (!Array.isArray(value) || value.length > TRIED_MAX)
    throw new Error(`"tried" is no list of at most ${TRIED_MAX}`);
  return value.map(({ url, store, problem }: Record<string, unknown>) => {
    const isProblem = problem === null || typeof problem === "string";
    if (typeof url !== "string" || typeof store !== "string" || !STORE_SYNTAX.test(store) || !isProblem)
      throw new Error('"tried" is not [{"url":URL,"store":"…","problem":null}]');
    return { url: named("tried", () => nodeUrl(url)), store, problem };
  });
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function named<Result>(name: string, parse: () => Result): Result {
  try {
    return parse();
  } catch (error) {
    throw new Error(`"${name}": ${(error as Error).message}`);
  }
}
