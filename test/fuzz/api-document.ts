/**
 * An OpenAPI document as a judge: whether an answer is one that the document names, by status, media type, headers and shape.
 */
import type http from "node:http";
import Ajv2020, { type ValidateFunction } from "ajv/dist/2020.js";
import { OTHER_METHODS } from "../../src/server/openapi/document.ts";

// biome-ignore lint/suspicious/noExplicitAny: a document of any form
export type Json = any;

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
  /** The rest was not waited for. */
  isCut?: boolean;
}

/** What every answer may have, as the document's own text says. */
const EVERYWHERE = new Set([
  ...["date", "uwebsockets", "content-length", "transfer-encoding", "connection", "keep-alive"],
  ...["content-type", "vary", "access-control-allow-origin", "access-control-expose-headers"],
]);
const LINES_TYPE = "application/x-ndjson";

/** The media type without its parameters. */
export function essenceOf(contentType = ""): string {
  return contentType.split(";")[0].trim().toLowerCase();
}

/** The operations of a path by their methods, also those that OpenAPI 3.1 has no place for. */
export function operationsOf(item: Json): Json {
  const { [OTHER_METHODS]: others = {}, ...own } = item;
  return { ...own, ...others };
}

export class ApiDocument {
  readonly root: Json;
  private readonly ajv = new Ajv2020({ strict: false });
  private readonly compiled = new Map<Json, ValidateFunction>();

  constructor(root: Json) {
    this.root = root;
  }

  /** What a reference stands for. */
  resolve(value: Json): Json {
    if (typeof value?.$ref !== "string") return value;
    const names = value.$ref.slice("#/".length).split("/");
    return this.resolve(names.reduce((at: Json, name: string) => at[name], this.root));
  }

  /** Each operation with its path and its method in capitals. */
  operations(): { path: string; method: string; operation: Json }[] {
    return Object.entries<Json>(this.root.paths).flatMap(([path, item]) =>
      Object.entries<Json>(operationsOf(item)).map(([method, operation]) => ({
        ...{ path, method: method.toUpperCase(), operation },
      })),
    );
  }

  /** Why the document does not name an answer; null: it does. */
  problem(method: string, operation: Json, answer: Answer): string | null {
    const response = this.resolve(operation.responses[String(answer.status)]);
    if (response === undefined) return `status ${answer.status} is not named`;
    const named = new Set(Object.keys(response.headers ?? {}).map((name) => name.toLowerCase()));
    for (const name of Object.keys(answer.headers))
      if (!EVERYWHERE.has(name) && !named.has(name) && !name.startsWith("x-meta-"))
        return `the header ${name} is not named for ${answer.status}`;
    for (const [name, header] of Object.entries<Json>(response.headers ?? {})) {
      const value = answer.headers[name.toLowerCase()];
      if (value !== undefined && !this.validate(this.resolve(header).schema, value))
        return `the header ${name}: ${value} is not as it is named`;
    }
    if (method === "HEAD" || answer.body.length === 0)
      return answer.body.length > 0 ? "a HEAD has a body" : null;
    return this.bodyProblem(response, answer);
  }

  private bodyProblem(response: Json, { status, headers, body, isCut }: Answer): string | null {
    const type = essenceOf(headers["content-type"]);
    const content = response.content ?? {};
    // The parser's own answers have no type, and the document none for them.
    if (type === "" && response.content === undefined) return null;
    const media = content[type] ?? content[`${type.split("/")[0]}/*`] ?? content["*/*"];
    if (media === undefined) return `${type} is not named for ${status}`;
    if (isCut || this.takesAnything(media.schema)) return null;
    const text = body.toString("utf8");
    const isJson = type === "application/json" && content[type] !== undefined;
    const pieces = isJson
      ? [text]
      : type === LINES_TYPE
        ? text.split("\n").filter((line) => line !== "")
        : [];
    for (const piece of pieces) {
      let value: unknown;
      try {
        value = JSON.parse(piece);
      } catch {
        return `no JSON: ${piece.slice(0, 200)}`;
      }
      if (!this.validate(media.schema, value)) return `not of the named shape: ${piece.slice(0, 300)}`;
    }
    return null;
  }

  /** A value may be kept with the type of our own documents. */
  private takesAnything(given: Json): boolean {
    const { description, anyOf, ...rest } = this.resolve(given);
    const isOpen = Object.keys(rest).length === 0;
    return isOpen && (anyOf === undefined || anyOf.some((one: Json) => this.takesAnything(one)));
  }

  private validate(schema: Json, value: unknown): boolean {
    let check = this.compiled.get(schema);
    if (check === undefined) {
      check = this.ajv.compile({ components: this.root.components, ...schema });
      this.compiled.set(schema, check);
    }
    return check(value);
  }
}
