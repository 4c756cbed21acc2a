/**
 * Clients of a cluster that write down everything they ask and are told, key by key, as histories for the checker in test/sim.
 *
 * Every value names the operation that wrote it and, when it is large, is made of bytes that follow from that, so a read tells which write it saw and
 * that it is whole. What certainly had no effect is left out of a history; what may have had one is "unknown".
 */
import http from "node:http";
import { OPERATION_MS_MAX } from "../../src/util/limits.ts";
import { content } from "../rest/client.ts";
import type { Recorded } from "../sim/linearizability.ts";

/** A client that has waited for so long gives up, and knows nothing. A node that can says before what became of it. */
const CLIENT_MS_MAX = OPERATION_MS_MAX + 1000;
const LARGE_BYTES = 1_200_000;
const LARGE_STEP_BYTES = 150_000;

export interface HotKey {
  readonly name: string;
  readonly large: boolean;
  readonly history: Recorded[];
  /** Values by the ETags under which clients have seen them. */
  readonly versions: { etag: string; id: number }[];
  lastId: number;
}

export interface Told {
  operations: number;
  done: number;
  refused: number;
  failed: number;
  unknown: number;
  /** Of those: what a node said so, and what took a client too long; the others' connections were lost. */
  said: number;
  slow: number;
}

interface Answer {
  status: number;
  etag: string;
  type: string;
  body: Buffer;
}

export function hotKey(name: string, large: boolean): HotKey {
  return { name, large, history: [], versions: [], lastId: 0 };
}

export class Recorder {
  readonly told: Told = { operations: 0, done: 0, refused: 0, failed: 0, unknown: 0, said: 0, slow: 0 };
  /** Answers that no fault explains. */
  readonly unexpected: string[] = [];
  /** Writes that were refused since the time is not agreed on; they have no effect. */
  readonly ahead: string[] = [];
  private readonly agents = new Map<number, http.Agent>();
  private readonly consistency: "quorum" | "one";

  constructor(consistency: "quorum" | "one" = "quorum") {
    this.consistency = consistency;
  }

  /** A quorum read at that node; false when it was not answered. */
  async get(port: number, key: HotKey): Promise<boolean> {
    const recorded = this.begin(key, "get", 0);
    const answer = await this.ask(port, "GET", key.name, {}, null);
    recorded.answered = performance.now();
    if (typeof answer !== "string" && (answer.status === 200 || answer.status === 404)) {
      recorded.outcome = "done";
      this.told.done++;
      if (answer.status === 404) return true;
      recorded.value = this.idOf(key, answer);
      key.versions.push({ etag: answer.etag, id: recorded.value });
      return true;
    }
    if (typeof answer !== "string" && answer.status !== 503 && answer.status !== 504)
      this.unexpected.push(`GET ${key.name} at ${port}: ${answer.status} ${answer.body.subarray(0, 300)}`);
    key.history.splice(key.history.indexOf(recorded), 1);
    this.told.failed++;
    return false;
  }

  /** As `get`, for whoever waits until a read is answered: those that were not do not count. */
  async look(port: number, key: HotKey): Promise<boolean> {
    const isAnswered = await this.get(port, key);
    if (!isAnswered) {
      this.told.operations--;
      this.told.failed--;
    }
    return isAnswered;
  }

  async write(
    port: number,
    key: HotKey,
    kind: "put" | "post" | "delete" | "replaceIf" | "deleteIf",
    how: { json: boolean; putIfNone: boolean; version?: { etag: string; id: number } },
  ): Promise<void> {
    const { version } = how;
    const recorded = this.begin(key, kind, version?.id ?? 0);
    const { id } = recorded;
    const deletes = kind === "delete" || kind === "deleteIf";
    const headers: Record<string, string> = {};
    if (version !== undefined) headers["If-Match"] = version.etag;
    if (kind === "post" && how.putIfNone) headers["If-None-Match"] = "*";
    const json = how.json && !key.large;
    if (!deletes) headers["Content-Type"] = json ? "application/json" : "text/plain";
    const method = deletes ? "DELETE" : kind === "post" && !how.putIfNone ? "POST" : "PUT";
    const body = deletes ? null : json ? Buffer.from(`{"value":"${id}"}`) : writtenBy(key, id);
    const answer = await this.ask(port, method, key.name, headers, body);
    const answered = performance.now();
    const finish = (outcome: Recorded["outcome"]): void => {
      recorded.outcome = outcome;
      if (outcome !== "unknown") recorded.answered = answered;
      this.told[outcome]++;
    };
    const never = (): void => {
      key.history.splice(key.history.indexOf(recorded), 1);
      this.told.failed++;
    };
    if (answer === "unknown") finish("unknown");
    else if (answer === "failed") never();
    else if (answer.status === 200 || answer.status === 201) {
      finish("done");
      if (kind === "put") recorded.existed = answer.status === 200;
      if (kind === "delete") recorded.existed = JSON.parse(answer.body.toString()).deleted;
      if (!deletes) key.versions.push({ etag: answer.etag, id });
      const created = !deletes && answer.status === 201;
      if ((kind === "post") !== created && kind !== "put")
        this.unexpected.push(`${kind} ${key.name} at ${port}: ${answer.status}`);
    } else if (answer.status === 409 || answer.status === 412) finish("refused");
    else {
      const code = codeOf(answer);
      const text = `${method} ${key.name} at ${port}: ${answer.status} ${answer.body.subarray(0, 300)}`;
      if (code === "clock_ahead") {
        never();
        this.ahead.push(text);
      } else if (
        code === "no_quorum" ||
        code === "overloaded" ||
        code === "unavailable" ||
        code === "stopping"
      )
        never();
      else {
        finish("unknown");
        this.told.said++;
        if (code !== "unknown_outcome" && code !== "timeout") this.unexpected.push(text);
      }
    }
  }

  close(): void {
    for (const agent of this.agents.values()) agent.destroy();
  }

  private begin(key: HotKey, kind: Recorded["kind"], expected: number): Recorded {
    const recorded: Recorded = {
      id: ++key.lastId,
      kind,
      called: performance.now(),
      answered: Infinity,
      outcome: "unknown",
      value: 0,
      expected,
      rewritten: Infinity,
      existed: null,
    };
    key.history.push(recorded);
    this.told.operations++;
    return recorded;
  }

  /** The answer; "failed" when the request certainly never left; "unknown" when nobody can tell. */
  private ask(
    port: number,
    method: string,
    name: string,
    headers: Record<string, string>,
    body: Buffer | null,
  ): Promise<Answer | "failed" | "unknown"> {
    let agent = this.agents.get(port);
    if (agent === undefined) {
      agent = new http.Agent({ keepAlive: true });
      this.agents.set(port, agent);
    }
    return new Promise((resolve) => {
      const request = http.request({
        ...{ host: "127.0.0.1", port, method, path: `/${name}?consistency=${this.consistency}`, agent },
        headers: { ...headers, ...(body === null ? {} : { "Content-Length": String(body.length) }) },
      });
      const timer = setTimeout(() => {
        if (method !== "GET") this.told.slow++;
        request.destroy(new Error("too slow"));
      }, CLIENT_MS_MAX);
      const settle = (answer: Answer | "failed" | "unknown"): void => {
        clearTimeout(timer);
        resolve(answer);
      };
      const failed = (error: NodeJS.ErrnoException): void =>
        settle(error.code === "ECONNREFUSED" ? "failed" : "unknown");
      request.on("error", failed);
      request.on("response", (response) => {
        const pieces: Buffer[] = [];
        response.on("data", (piece) => pieces.push(piece));
        response.on("error", () => settle("unknown"));
        response.on("close", () => {
          if (!response.complete) settle("unknown");
          else
            settle({
              status: response.statusCode ?? 0,
              etag: String(response.headers.etag ?? ""),
              type: String(response.headers["content-type"] ?? ""),
              body: Buffer.concat(pieces),
            });
        });
      });
      request.end(body ?? undefined);
    });
  }

  /** Which operation wrote what was read; anything that none wrote is unexpected. */
  private idOf(key: HotKey, { type, body }: Answer): number {
    const isJson = type === "application/json";
    const text = body.subarray(0, 64).toString("latin1");
    const id = Number((isJson ? /^\{"value":"(\d+)"\}$/ : /^(\d+)\n/).exec(text)?.[1] ?? -1);
    const whole = id > 0 && id <= key.lastId && (isJson || body.equals(writtenBy(key, id)));
    if (!whole) this.unexpected.push(`GET ${key.name}: ${body.length} bytes that nobody wrote: ${text}`);
    return id;
  }
}

function writtenBy(key: HotKey, id: number): Buffer {
  const head = Buffer.from(`${id}\n`);
  return key.large ? Buffer.concat([head, content(id, LARGE_BYTES + (id % 4) * LARGE_STEP_BYTES)]) : head;
}

function codeOf({ body }: Answer): string {
  try {
    return JSON.parse(body.toString()).code;
  } catch {
    return "";
  }
}
