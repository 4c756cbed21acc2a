/**
 * The OpenAPI document (3.1) that a table of operations makes. Operations that share path and method become
 * one, whose answers are any of theirs.
 */
import { ERRORS, type ErrorCode } from "../../util/errors.ts";
import { HEADERS, type HeaderName } from "../describe/headers.ts";
import {
  type Answer,
  GROUPS,
  METHODS,
  type Method,
  type Need,
  type Operation,
  type Parameter,
} from "../describe/operation.ts";
import { type Schema, Shape } from "../describe/schema.ts";
import { ERROR, JSON_TYPE, LINES_TYPE } from "../describe/shapes.ts";

export interface DocumentFacts {
  title: string;
  version: string;
  /** What the reader has to know of all of it, as Markdown. */
  description: string;
}

type Json = Record<string, unknown>;

/** As OpenAPI 3.2 calls it without the prefix. */
export const OTHER_METHODS = "x-additionalOperations";

/** What any request can meet. */
const ALWAYS: readonly ErrorCode[] = ["too_many_requests", "internal"];
const WITH_TOKENS: readonly ErrorCode[] = ["unauthorized", "forbidden"];
const CACHING: readonly HeaderName[] = ["Cache-Control"];
/** The parser's own answer, which is no JSON. */
const TOO_MUCH_HEAD = {
  description:
    "The headers have more than 16 KiB, or are too many. A short HTML text without a type; the connection closes.",
};

/** Makes the document. */
export function openApiDocument(operations: readonly Operation[], facts: DocumentFacts): Json {
  const components = new Components();
  const paths: Json = {};
  for (const path of new Set(operations.flatMap((one) => one.paths)))
    paths[path] = pathItem(path, operations, components);
  return {
    openapi: "3.1.0",
    info: {
      ...{ title: facts.title, version: facts.version, description: facts.description },
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: "/" }],
    tags: Object.entries(GROUPS)
      .filter(([name]) => operations.some(({ group }) => group === name))
      .map(([name, description]) => ({ name, description })),
    paths,
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer", description: "The node's key, or a token." },
        basic: { type: "http", scheme: "basic", description: "The token as password, with any user." },
      },
      responses: { TooMuchHead: TOO_MUCH_HEAD },
      ...components.all(),
    },
  };
}

/** What stands once in the document and is referred to. */
class Components {
  private readonly schemas: Record<string, unknown> = {};
  private readonly parameters: Record<string, Json> = {};
  private readonly headers: Record<string, Json> = {};

  schema(schema: Schema): unknown {
    return this.plain(schema);
  }

  parameter({ name, in: place, text, schema }: Parameter): Json {
    const plain: Json = { name, in: place, description: text, schema: this.plain(schema) };
    if (place === "path") plain.required = true;
    // `?list` is the same as `?list=true`.
    if ((schema as Json).type === "boolean") plain.allowEmptyValue = true;
    const base = `${name}.${place}`;
    for (let number = 1; ; number++) {
      const id = number === 1 ? base : `${base}.${number}`;
      const known = this.parameters[id];
      if (known !== undefined && JSON.stringify(known) !== JSON.stringify(plain)) continue;
      this.parameters[id] = plain;
      return { $ref: `#/components/parameters/${id}` };
    }
  }

  header(name: HeaderName): Json {
    const { text, schema } = HEADERS[name];
    this.headers[name] = { description: text, schema };
    return { $ref: `#/components/headers/${name}` };
  }

  all(): Json {
    return { schemas: this.schemas, parameters: this.parameters, headers: this.headers };
  }

  /** Puts references in place of shapes. */
  private plain(value: unknown): unknown {
    if (value instanceof Shape) {
      if (this.schemas[value.name] === undefined) {
        this.schemas[value.name] = {};
        this.schemas[value.name] = this.plain(value.schema);
      }
      return { $ref: `#/components/schemas/${value.name}` };
    }
    if (Array.isArray(value)) return value.map((one) => this.plain(one));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, this.plain(one)]));
  }
}

/** Those that an OpenAPI document of this version has a place for; others are told beside them. */
const OWN_METHODS: readonly Method[] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"];

function pathItem(path: string, operations: readonly Operation[], components: Components): Json {
  const item: Json = {};
  const others: Json = {};
  for (const method of METHODS) {
    const rows = operations.filter((one) => one.paths.includes(path) && one.methods.includes(method));
    const answered = rows.filter(({ answers }) => Object.keys(answers).length > 0);
    const refused = rows.filter((one) => !answered.includes(one));
    // Where all are only refused, the method is not there.
    if (answered.length === 0) continue;
    const operation = operationOf(path, method, [...answered, ...refused], components);
    if (OWN_METHODS.includes(method)) item[method.toLowerCase()] = operation;
    else others[method] = operation;
  }
  return Object.keys(others).length === 0 ? item : { ...item, [OTHER_METHODS]: others };
}

function operationOf(path: string, method: Method, rows: readonly Operation[], components: Components): Json {
  const [first] = rows;
  const bodies = rows.flatMap(({ body }) => (body === undefined ? [] : [body]));
  const security = securityOf(rows.flatMap(({ needs }) => needs));
  return {
    operationId: idOf(path, method, first),
    tags: [...new Set(rows.map(({ group }) => group))],
    summary: rows.map(({ summary }) => summary).join(" / "),
    description: rows.map(textOf).join("\n\n"),
    ...(security === null ? { security: [] } : { security }),
    ...parametersOf(path, rows, components),
    ...(bodies.length === 0
      ? {}
      : {
          requestBody: {
            description: bodies.map(({ text }) => text).join(" "),
            required: bodies.every(({ required }) => required),
            content: contentOf(
              bodies.map(({ content }) => content),
              components,
            ),
          },
        }),
    responses: responsesOf(method, rows, components),
  };
}

/** The same operation under several paths, or methods, has several names. */
function idOf(path: string, method: Method, { id, paths, methods }: Operation): string {
  const ofMethod = method === methods[0] ? id : `${id}-${method.toLowerCase()}`;
  const place = paths.indexOf(path);
  return place === 0 ? ofMethod : `${ofMethod}-${place + 1}`;
}

function textOf({ form, summary, text }: Operation): string {
  const head = form === undefined ? `${summary}.` : `\`${form}\`: ${summary}.`;
  return text === undefined ? head : `${head} ${text}`;
}

/** Null: nobody needs a token. */
function securityOf(needs: readonly Need[]): Json[] | null {
  const roles = [...new Set(needs)].filter((need) => need !== "none");
  if (roles.length === 0) return null;
  const some = [{ bearer: roles }, { basic: roles }];
  // What a query makes of it may be open.
  return needs.includes("none") ? [{}, ...some] : some;
}

function parametersOf(path: string, rows: readonly Operation[], components: Components): Json {
  const byName = new Map<string, Parameter>();
  for (const { parameters = [] } of rows)
    for (const parameter of parameters) {
      // The media types of the answers say it, and the standard wants it nowhere else.
      if (parameter.name === "Accept") continue;
      if (parameter.at !== undefined && !parameter.at.includes(path)) continue;
      const name = `${parameter.in} ${parameter.name}`;
      const known = byName.get(name);
      byName.set(name, known === undefined ? parameter : together(known, parameter));
    }
  if (byName.size === 0) return {};
  return { parameters: [...byName.values()].map((parameter) => components.parameter(parameter)) };
}

/** One parameter of two operations. */
function together(a: Parameter, b: Parameter): Parameter {
  const isSame = a.text === b.text || a.text.includes(b.text);
  const text = isSame ? a.text : `${a.text} / ${b.text}`;
  const schemas = [a.schema, b.schema].map((schema) => JSON.stringify(schema));
  return { ...a, text, schema: schemas[0] === schemas[1] ? a.schema : { anyOf: [a.schema, b.schema] } };
}

function contentOf(contents: readonly Readonly<Record<string, Schema>>[], components: Components): Json {
  const schemas = new Map<string, Map<string, unknown>>();
  for (const content of contents)
    for (const [type, schema] of Object.entries(content)) {
      const plain = components.schema(schema);
      const known = schemas.get(type) ?? new Map<string, unknown>();
      known.set(JSON.stringify(plain), plain);
      schemas.set(type, known);
    }
  return Object.fromEntries(
    [...schemas].map(([type, some]) => {
      const all = [...some.values()];
      return [type, { schema: all.length === 1 ? all[0] : { anyOf: all } }];
    }),
  );
}

function responsesOf(method: Method, rows: readonly Operation[], components: Components): Json {
  const answers = new Map<number, Answer[]>();
  const add = (status: number, answer: Answer): void => {
    answers.set(status, [...(answers.get(status) ?? []), answer]);
  };
  for (const row of rows)
    for (const [status, answer] of Object.entries(row.answers)) add(Number(status), answer);
  for (const [status, answer] of errorAnswers(rows)) add(status, answer);
  const responses = [...answers].sort(([a], [b]) => a - b);
  return {
    ...Object.fromEntries(
      responses.map(([status, some]) => [String(status), responseOf(method, some, components)]),
    ),
    431: { $ref: "#/components/responses/TooMuchHead" },
  };
}

function responseOf(method: Method, answers: readonly Answer[], components: Components): Json {
  const headers = [...new Set(answers.flatMap((answer) => answer.headers ?? []))];
  const contents = answers.flatMap(({ content }) => (content === undefined ? [] : [content]));
  return {
    description: [...new Set(answers.map(({ text }) => text))].join(" / "),
    ...(headers.length === 0
      ? {}
      : { headers: Object.fromEntries(headers.map((name) => [name, components.header(name)])) }),
    // A HEAD has the headers alone.
    ...(contents.length === 0 || method === "HEAD" ? {} : { content: contentOf(contents, components) }),
  };
}

/** The errors of operations by their status, with the codes that each can have. */
function errorAnswers(rows: readonly Operation[]): [number, Answer][] {
  const codes = new Set<ErrorCode>([...rows.flatMap(({ errors }) => errors), ...ALWAYS]);
  if (rows.some(({ needs }) => !needs.includes("none"))) for (const code of WITH_TOKENS) codes.add(code);
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of Object.keys(ERRORS) as ErrorCode[])
    if (codes.has(code)) {
      const { status } = ERRORS[code];
      byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
    }
  return [...byStatus].map(([status, some]) => [status, errorAnswer(status, some, rows)]);
}

function errorAnswer(status: number, codes: readonly ErrorCode[], rows: readonly Operation[]): Answer {
  const own = rows.flatMap(({ errorHeaders = {} }) => codes.flatMap((code) => errorHeaders[code] ?? []));
  const hasRetry = (status === 429 || status === 503) && codes.some((code) => ERRORS[code].retryable);
  const lines = rows.flatMap(({ failureLine, errors }) =>
    failureLine !== undefined && codes.some((code) => errors.includes(code)) ? [failureLine] : [],
  );
  return {
    text: codes.map((code) => `\`${code}\`: ${ERRORS[code].message}.`).join(" "),
    headers: [
      ...CACHING,
      ...(hasRetry ? (["Retry-After"] as const) : []),
      ...(status === 401 ? (["WWW-Authenticate"] as const) : []),
      ...own,
    ],
    content: {
      [JSON_TYPE]: { allOf: [ERROR, { properties: { code: { enum: codes } } }] },
      ...(lines.length === 0 ? {} : { [LINES_TYPE]: { anyOf: lines } }),
    },
  };
}
