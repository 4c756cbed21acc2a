/**
 * Requests made from an OpenAPI document, right ones and ones that are a little wrong, sent to a real node: no answer may be one that the
 * document does not name.
 */
import assert from "node:assert/strict";
import http from "node:http";
import { type Diagnostic, Random, randomSeed } from "../random.ts";
import { KEPT_MS } from "../rest/client.ts";
import { type Answer, ApiDocument, essenceOf, type Json } from "./api-document.ts";

/** Few, so that they are met again. */
const KEYS = ["a", "b/1", "b/2", "b/3", "with blank", "ü/%2f", "health", "_x", "k".repeat(1024)];
const RAW_TYPES = ["application/octet-stream", "text/plain", "image/png", "text/html; charset=utf-8"];
const WORDS = [
  "",
  "0",
  "1",
  "-1",
  "a",
  "b/",
  "b/2",
  "true",
  "x=y&z",
  "9999999999",
  "\u00fc",
  '"',
  "*",
  "2.5",
];
const VERSIONS_MAX = 50;
const SHOWN_CHARACTERS = 400;

export interface FuzzedNode {
  port: number;
  /** Sent with every request. */
  headers?: Record<string, string>;
  /** A folder for backups. */
  folder: string;
}

interface Asked {
  path: string;
  method: string;
  operation: Json;
  target: string;
  headers: Record<string, string>;
  body: Buffer | null;
}

export class ApiFuzz {
  readonly document: ApiDocument;
  /** How often each operation was answered with which status. */
  readonly met = new Map<string, number>();
  private readonly random: Random;
  private readonly node: FuzzedNode;
  private readonly agent = new http.Agent({ keepAlive: true, maxSockets: 8, timeout: KEPT_MS });
  private readonly versions: string[] = ['"00000000000000000000000000000000"'];
  private archive: Buffer = Buffer.alloc(1024);
  private copies = 0;

  constructor(document: Json, node: FuzzedNode, seed: number) {
    this.document = new ApiDocument(document);
    this.node = node;
    this.random = new Random(seed);
  }

  close(): void {
    this.agent.destroy();
  }

  private pick<T>(from: readonly T[]): T {
    return from[this.random.below(from.length)];
  }

  private chance(oneIn: number): boolean {
    return this.random.below(oneIn) === 0;
  }

  /** A value of a schema. */
  private valueOf(given: Json, depth = 0): Json {
    const schema = this.document.resolve(given);
    if (schema.const !== undefined) return schema.const;
    if (schema.enum !== undefined) return this.pick(schema.enum);
    if (schema.examples !== undefined) return this.pick(schema.examples);
    const options = schema.anyOf ?? schema.oneOf;
    if (options !== undefined) return this.valueOf(this.pick(options), depth);
    switch (Array.isArray(schema.type) ? this.pick(schema.type) : schema.type) {
      case "object":
        return Object.fromEntries(
          Object.entries<Json>(schema.properties ?? {})
            .filter(([name]) => (schema.required ?? []).includes(name) || this.chance(3))
            .map(([name, member]) => [
              name,
              name === "key" ? this.pick(KEYS) : this.valueOf(member, depth + 1),
            ]),
        );
      case "array":
        return Array.from({ length: this.random.below(4) }, () =>
          this.valueOf(schema.items ?? {}, depth + 1),
        );
      case "integer":
      case "number":
        return (schema.minimum ?? 0) + this.random.below(20);
      case "boolean":
        return this.chance(2);
      case "string":
        if (schema.contentEncoding === "base64")
          return this.random.bytes(this.random.below(20)).toString("base64");
        return this.pick(WORDS);
      default:
        return this.pick([null, 1, "text", [1, 2], { a: { b: [1] } }, 1.5, true]);
    }
  }

  /** A little wrong. */
  private spoil(text: string): string {
    const at = this.random.below(text.length + 1);
    const other = this.pick(WORDS);
    return this.pick([text.slice(0, at) + text.slice(at + 1), text + other, text.slice(0, at), other]);
  }

  private parameter(name: string, schema: Json, isWrong: boolean): string {
    // Nobody waits here, and copies go where they are cleared away.
    if (name === "wait") return this.pick(["0ms", "1ms", "0", "soon", ""]);
    if (name === "directory") return this.pick(["", "\0", `${this.node.folder}/${this.copies++}`]);
    const isVersion = name === "If-Match" || name === "If-None-Match";
    if (isVersion) return this.pick([...this.versions.slice(-5), "*", isWrong ? '"x' : "*"]);
    const value = this.valueOf(schema);
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return isWrong && this.chance(3) ? this.spoil(text) : text;
  }

  private next(): Asked {
    const { path, method, operation } = this.pick(this.document.operations());
    const isWrong = this.chance(2);
    const words: string[] = [];
    const headers: Record<string, string> = { ...this.node.headers };
    let target = path;
    for (const reference of operation.parameters ?? []) {
      const { name, in: place, schema, allowEmptyValue } = this.document.resolve(reference);
      if (place === "path") {
        const keys = KEYS.filter(
          (key) => schema.pattern === undefined || new RegExp(schema.pattern).test(key),
        );
        const key = encodeURIComponent(this.pick(keys));
        const sent = this.chance(2) ? key.replaceAll("%2F", "/") : key;
        const spoilt = isWrong && this.chance(8) ? this.spoil(sent) : sent;
        // Some would be another path.
        const isAnother = spoilt === "" || !fits(schema.pattern ?? "", spoilt);
        target = target.replace(`{${name}}`, () => (isAnother ? "%" : spoilt));
      } else if (!this.chance(isWrong ? 5 : 7)) continue;
      else if (place === "header")
        headers[name] = this.parameter(name, schema, isWrong).replace(/[^ -~]/g, "");
      else if (allowEmptyValue && this.chance(2)) words.push(name);
      else words.push(`${name}=${encodeURIComponent(this.parameter(name, schema, isWrong))}`);
    }
    // Two questions in one are refused, and would be most of all.
    const questions = words.filter((word) => /^(?:list|watch|changes|wait)\b/.test(word));
    const query = isWrong ? words : words.filter((word) => !questions.slice(1).includes(word));
    const types = Object.keys(operation.responses["200"]?.content ?? {}).filter(
      (type) => !type.includes("*"),
    );
    if (types.length > 0 && this.chance(2)) headers.Accept = this.pick(types);
    const body = this.body(operation, headers, isWrong);
    if (isWrong && this.chance(20)) headers.Origin = "http://elsewhere.example";
    // The parser answers that by itself, a HEAD with a body.
    if (isWrong && method !== "HEAD" && this.chance(50)) headers["X-Long"] = "x".repeat(17 * 1024);
    target = (query.length === 0 ? target : `${target}?${query.join("&")}`).replace(/[^!-~]/g, "%");
    return { path, method, operation, target, headers, body };
  }

  private body(
    { requestBody, operationId }: Json,
    headers: Record<string, string>,
    isWrong: boolean,
  ): Buffer | null {
    if (requestBody === undefined || (!requestBody.required && this.chance(3))) return null;
    const type = this.pick(Object.keys(requestBody.content));
    const { schema } = requestBody.content[type];
    headers["Content-Type"] = type === "*/*" ? this.pick(RAW_TYPES) : type;
    if (isWrong && this.chance(8))
      headers["Content-Type"] = this.pick([...RAW_TYPES, "application/json", "x"]);
    if (operationId === "import" && !this.chance(4)) return this.archive;
    if (!type.includes("json")) return this.random.bytes(this.random.below(200));
    const isLines = type.includes("ndjson");
    const values = Array.from({ length: isLines ? this.random.below(5) : 1 }, () => this.valueOf(schema));
    const text = values.map((value) => JSON.stringify(value)).join("\n");
    return Buffer.from(isWrong && this.chance(3) ? this.spoil(text) : text);
  }

  private ask(asked: Asked, agent: http.Agent | false = this.agent): Promise<Answer> {
    const { method, target, headers, body } = asked;
    const { port } = this.node;
    return new Promise((resolve, reject) => {
      const length = body === null || this.chance(4) ? {} : { "Content-Length": body.length };
      const request = http.request({
        ...{ host: "127.0.0.1", port, method, path: target, agent },
        headers: { ...headers, ...length },
      });
      request.on("error", (error: NodeJS.ErrnoException) => {
        // This process may have stood still for longer than a connection is kept.
        const isStale = request.reusedSocket && error.code === "ECONNRESET";
        if (isStale) this.ask(asked, false).then(resolve, reject);
        else reject(error);
      });
      request.on("response", (response) => {
        const pieces: Buffer[] = [];
        const done = (isCut: boolean): void =>
          resolve({
            ...{
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: Buffer.concat(pieces),
              isCut,
            },
          });
        response.on("error", reject);
        response.on("end", () => done(false));
        response.on("data", (piece: Buffer) => {
          pieces.push(piece);
          if (essenceOf(response.headers["content-type"]) !== "text/event-stream") return;
          // It has no end.
          done(true);
          request.destroy();
        });
      });
      request.end(body ?? undefined);
    });
  }

  /** Sends so many requests, and judges what comes back. */
  async run(count: number): Promise<void> {
    for (let number = 0; number < count; number++) {
      const asked = this.next();
      const { method, target, headers, body, operation } = asked;
      const words = [
        `request ${number}: ${method} ${target}`,
        JSON.stringify(headers),
        body?.toString("latin1"),
      ];
      const what = words.map((word = "") => word.slice(0, SHOWN_CHARACTERS)).join(" ");
      const answer = await this.ask(asked).catch((error: Error) => assert.fail(`${what}: ${error.message}`));
      const problem = this.document.problem(method, operation, answer);
      assert.equal(
        problem,
        null,
        `${what}\nanswered ${answer.status} ${answer.body.toString().slice(0, 500)}: ${problem}`,
      );
      const name = `${operation.operationId} ${answer.status}`;
      this.met.set(name, (this.met.get(name) ?? 0) + 1);
      if (answer.headers.etag !== undefined) this.versions.push(answer.headers.etag);
      if (this.versions.length > VERSIONS_MAX) this.versions.shift();
      if (operation.operationId === "export" && answer.status === 200) this.archive = answer.body;
    }
  }
}

/** Whether what is sent of a path is, once decoded, of a pattern; or cannot be decoded, and is refused for that. */
function fits(pattern: string, sent: string): boolean {
  try {
    return new RegExp(pattern).test(decodeURIComponent(sent));
  } catch {
    return true;
  }
}

/** The document of a node. */
export async function documentOf(port: number): Promise<Json> {
  return (await fetch(`http://127.0.0.1:${port}/_openapi.json`)).json();
}

/** Fuzzes a node by its own document. */
export async function fuzzApi(t: Diagnostic, node: FuzzedNode, count: number): Promise<ApiFuzz> {
  const fuzz = new ApiFuzz(await documentOf(node.port), node, randomSeed(t));
  try {
    await fuzz.run(count);
  } finally {
    fuzz.close();
  }
  return fuzz;
}
