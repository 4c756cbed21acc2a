/**
 * Rows of the tables that say what can be asked of a node (server/operations). The methods that a path has
 * (`Allow`), `/_openapi.json` and the reference in docs/ are made of them, so each fact stands once.
 *
 * Some operations share path and method, and are told apart by a parameter (`GET /<prefix>?list`): each is a
 * row of its own here, and one operation of the document.
 */
import type { ErrorCode } from "../../util/errors.ts";
import type { HeaderName } from "./headers.ts";
import type { Schema } from "./schema.ts";

/** By media type; of lines (NDJSON) the schema is that of one line. */
export type Content = Readonly<Record<string, Schema>>;

export interface Parameter {
  name: string;
  in: "path" | "query" | "header";
  /** The paths that have it; left out: all that the operation has. */
  at?: readonly string[];
  text: string;
  schema: Schema;
}

export interface Body {
  text: string;
  required: boolean;
  content: Content;
}

export interface Answer {
  text: string;
  headers?: readonly HeaderName[];
  /** Left out: there is no body. */
  content?: Content;
}

/** Those of HTTP, in the order in which `Allow` has them, and then others. */
export const METHODS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "LOCK", "UNLOCK"] as const;
export type Method = (typeof METHODS)[number];

/** What a token has to allow; none: nobody is asked for a token. */
export type Need = "none" | "read" | "list" | "watch" | "write" | "delete" | "metrics" | "admin";

/** What the reference is divided into. */
export const GROUPS = {
  Keys: "Values by their keys: read, write, change, delete.",
  Lists: "Keys in order.",
  Changes: "What changes, as a stream or in pages.",
  "Many keys": "Many operations in one request, archives out and in.",
  Node: "What a node says of itself.",
  Cluster: "What a master knows and does.",
} as const;
export type Group = keyof typeof GROUPS;

export interface Operation {
  /** One word, for programs that make clients of the document. */
  id: string;
  group: Group;
  methods: readonly Method[];
  /** `/{key}` is a key, or the beginning of keys. */
  paths: readonly string[];
  /** How a person writes it, where path and method alone do not say it: "GET /<prefix>?list". */
  form?: string;
  summary: string;
  /** More, as Markdown. */
  text?: string;
  parameters?: readonly Parameter[];
  body?: Body;
  answers: Readonly<Record<number, Answer>>;
  /** Codes of util/errors.ts beside those that every request can meet. */
  errors: readonly ErrorCode[];
  /** Headers of errors, by the code. */
  errorHeaders?: Partial<Record<ErrorCode, readonly HeaderName[]>>;
  /** The last line of an answer in lines, which can also come with an error's status. */
  failureLine?: Schema;
  needs: readonly Need[];
}

/** Paths of a key, and of the keys with a prefix, which may be empty. */
export const KEY_PATHS = ["/{key}", "/_kv/{key}"] as const;
export const PREFIX_PATHS = ["/", "/{key}", "/_kv/", "/_kv/{key}"] as const;
