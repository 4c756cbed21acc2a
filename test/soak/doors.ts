/** How the clients of a soak reach its nodes: each request at a node that seems well, timed, and what went wrong counted by its kind. */
import http from "node:http";
import type { Random } from "../random.ts";
import { KEPT_MS } from "../rest/client.ts";

const SMALL_MS_MAX = 3000;
export const LARGE_MS_MAX = 30_000;
/** So long a node that failed is left alone. */
const REST_MS = 1000;
/** Codes that say that nothing was done. */
const NOT_DONE = new Set([
  "no_quorum",
  "overloaded",
  "unavailable",
  "stopping",
  "unremembered",
  "not_leading",
]);
/** Codes that a node without some others, or one that stands still, may answer besides. */
const MAY_BE = new Set([...NOT_DONE, "unknown_outcome", "timeout", "too_slow", "building"]);

export interface Node {
  readonly number: number;
  readonly port: number;
}

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
  /** Unix time in milliseconds. */
  sentMs: number;
  answeredMs: number;
}

/** No answer, or one of trouble: "not done" when nothing has happened for sure. */
export interface Failure {
  failed: "not done" | "unknown";
  sentMs: number;
}

export interface Asked {
  headers?: Record<string, string>;
  body?: string | Buffer;
  /** Counts among the latencies of these. */
  timed?: "get" | "put";
  timeoutMs?: number;
  /** Instead of one that seems well. */
  node?: Node;
}

/** What one node did since the last look. */
export interface Tally {
  get: number[];
  put: number[];
  errors: Map<string, number>;
}

const emptyTally = (): Tally => ({ get: [], put: [], errors: new Map() });

export class Doors {
  readonly nodes: readonly Node[];
  /** All answers so far. */
  answers = 0;
  private readonly authorization: string;
  private readonly wrong: (what: string) => void;
  private readonly agent = new http.Agent({ keepAlive: true, timeout: KEPT_MS });
  private readonly restUntil: number[];
  private tallies: Tally[];

  /** @param wrong is told of answers that no trouble explains */
  constructor(nodes: readonly Node[], token: string, wrong: (what: string) => void) {
    this.nodes = nodes;
    this.authorization = `Bearer ${token}`;
    this.wrong = wrong;
    this.restUntil = nodes.map(() => 0);
    this.tallies = nodes.map(emptyTally);
  }

  get headers(): Record<string, string> {
    return { Authorization: this.authorization };
  }

  /** One that has not just failed, where there is one. */
  pick(random: Random): Node {
    const now = Date.now();
    const well = this.nodes.filter(({ number }) => this.restUntil[number] <= now);
    const some = well.length === 0 ? this.nodes : well;
    return some[random.below(some.length)];
  }

  /** The tallies since the last call. */
  takeTallies(): Tally[] {
    const taken = this.tallies;
    this.tallies = this.nodes.map(emptyTally);
    return taken;
  }

  count(node: Node, kind: string): void {
    const { errors } = this.tallies[node.number];
    errors.set(kind, (errors.get(kind) ?? 0) + 1);
    this.restUntil[node.number] = Date.now() + REST_MS;
  }

  /** Sends a request. Statuses from 500 on, and 408, are failures. */
  async ask(random: Random, method: string, path: string, asked: Asked = {}): Promise<Answer | Failure> {
    const node = asked.node ?? this.pick(random);
    const sentMs = Date.now();
    const begun = performance.now();
    const answer = await this.send(node, method, path, asked).catch((error: NodeJS.ErrnoException) => error);
    if (answer instanceof Error) {
      const kind = answer.code ?? answer.message;
      this.count(node, kind);
      return { failed: kind === "ECONNREFUSED" ? "not done" : "unknown", sentMs };
    }
    this.answers++;
    if (answer.status < 500 && answer.status !== 408) {
      if (asked.timed !== undefined) this.tallies[node.number][asked.timed].push(performance.now() - begun);
      return { ...answer, sentMs, answeredMs: Date.now() };
    }
    const code = codeOf(answer.body) ?? `status ${answer.status}`;
    this.count(node, code);
    if (!MAY_BE.has(code))
      this.wrong(
        `${method} ${path} at node ${node.number}: ${answer.status} ${answer.body.subarray(0, 300)}`,
      );
    return { failed: NOT_DONE.has(code) ? "not done" : "unknown", sentMs };
  }

  private send(
    node: Node,
    method: string,
    path: string,
    { headers, body, timeoutMs = SMALL_MS_MAX }: Asked,
  ): Promise<Pick<Answer, "status" | "headers" | "body">> {
    return new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { "Content-Length": String(Buffer.byteLength(body)) };
      const request = http.request({
        ...{ host: "127.0.0.1", port: node.port, method, path, agent: this.agent },
        headers: { ...this.headers, ...headers, ...length },
      });
      const timer = setTimeout(() => request.destroy(new Error("no answer in time")), timeoutMs);
      request.on("error", reject);
      request.on("close", () => clearTimeout(timer));
      request.on("response", (response) => {
        const pieces: Buffer[] = [];
        response.on("data", (piece: Buffer) => pieces.push(piece));
        response.on("error", reject);
        response.on("close", () => {
          if (!response.complete) reject(new Error("cut off"));
          else
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: Buffer.concat(pieces),
            });
        });
      });
      request.end(body);
    });
  }

  close(): void {
    this.agent.destroy();
  }
}

/** The code of an error's document; null when it is none. */
function codeOf(body: Buffer): string | null {
  try {
    const { code } = JSON.parse(body.toString()) as { code?: string };
    return code ?? null;
  } catch {
    return null;
  }
}

/** Whether a code in a batch's result, or at the end of lines, says that nothing was done. */
export function isNotDone(code: string | undefined): boolean {
  return NOT_DONE.has(code ?? "");
}
