/** `minivault get`, `put` and `create`: values by their keys, for people and scripts. */

import { Readable, Transform, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { UsageError } from "../../config/values.ts";
import { JSON_PREFIX, JSON_SUFFIX } from "../../format/offsets.ts";
import { lifeOfTtl } from "../../rules/life.ts";
import { BYTES_TYPE, isJsonType, JSON_TYPE } from "../../util/header-text.ts";
import { innerText, storedBytes } from "../../value/stored.ts";
import { shown } from "../subcommand/shown.ts";
import {
  JSON_SWITCH,
  optionOf,
  type Subcommand,
  type SubcommandOption,
  type Terminal,
  type Words,
} from "../subcommand/subcommand.ts";
import { saveFile } from "../subcommand/target-file.ts";
import { counted, fileBody } from "../subcommand/transfer.ts";
import {
  type Answer,
  bytesOf,
  CLIENT_FLAGS,
  CLIENT_OPTIONS,
  clientOf,
  etagOf,
  pathOf,
  textOf,
} from "./node-client.ts";

const STATUSES = "Exit status: 0 done; 1 absent, refused, or no node can be reached; 2 used wrongly.";

export const CONDITIONS: Readonly<Record<string, SubcommandOption>> = {
  "if-match": { value: "etag", text: "only if the key has this version; *: any" },
  "if-none-match": { value: "etag", text: "only if the key has another version; *: none" },
};
const BODY: Readonly<Record<string, SubcommandOption>> = {
  value: { value: "json", text: "the value itself, in place of a file" },
  type: {
    value: "type",
    text: `content type of the file (default ${BYTES_TYPE}; ${JSON_TYPE}: it is a JSON value)`,
  },
};
const TTL: SubcommandOption = {
  value: "time",
  text: "how long it is to live: 90 (seconds), 500ms, 5m, 12h, 30d",
};
const KEEPING_TTL: SubcommandOption = { value: "time", text: `${TTL.text}; keep: as long as before` };

export const GET: Subcommand = {
  name: "get",
  operands: "KEY",
  summary: "Prints a value, or saves it as a file.",
  more: `A JSON value is printed as its text, any other as its bytes. A file appears under its name when it is whole, not before.

  minivault get greeting
  minivault get photos/1 -o photo.jpg
  minivault get greeting -json | jq .etag

${STATUSES}`,
  operandsMin: 1,
  operandsMax: 1,
  flags: ["consistency", ...CLIENT_FLAGS],
  switches: JSON_SWITCH,
  options: { o: { value: "file", text: "save it there" }, ...CLIENT_OPTIONS },
  run: get,
};

export const PUT: Subcommand = {
  name: "put",
  operands: "KEY [FILE|-]",
  summary: "Stores a value: a file, standard input (-), or JSON on the command line.",
  more: `  minivault put photos/1 photo.jpg -type image/jpeg
  minivault put greeting -value '"hello"'
  minivault get config | jq '.limit = 5' | minivault put config - -type application/json
  minivault put session -value '{"user": "ada"}' -ttl 30m

${STATUSES}`,
  operandsMin: 1,
  operandsMax: 2,
  flags: CLIENT_FLAGS,
  switches: JSON_SWITCH,
  options: { ...BODY, ttl: KEEPING_TTL, ...CONDITIONS, ...CLIENT_OPTIONS },
  run: (words, terminal) => store("PUT", words, terminal),
};

export const CREATE: Subcommand = {
  name: "create",
  operands: "KEY [FILE|-]",
  summary: "Stores a value under a key that does not exist yet.",
  more: `Of several who create one key at once, one succeeds; the others get exit status 1.

  minivault create jobs/17 -value '{"by": "worker-3"}' && ./job 17

${STATUSES}`,
  operandsMin: 1,
  operandsMax: 2,
  flags: CLIENT_FLAGS,
  switches: JSON_SWITCH,
  options: { ...BODY, ttl: TTL, ...CLIENT_OPTIONS },
  run: (words, terminal) => store("POST", words, terminal),
};

function entityTag(text: string): string {
  return text === "*" || text.startsWith('"') ? text : `"${text}"`;
}

function checkJson(text: string): void {
  try {
    JSON.parse(text);
  } catch {
    throw new UsageError(`-value: ${JSON.stringify(text)} is no JSON; a text is written as -value '"text"'`);
  }
}

/** What a write is to hold to, as headers. */
export function conditionsOf(words: Words): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [option, header] of [
    ["if-match", "If-Match"],
    ["if-none-match", "If-None-Match"],
  ]) {
    const text = optionOf(words, option);
    if (text !== undefined) headers[header] = entityTag(text);
  }
  return headers;
}

async function get(words: Words, terminal: Terminal): Promise<number> {
  const [key] = words.operands;
  const consistency = words.values.consistency as string | undefined;
  const query = consistency === undefined ? "" : `?consistency=${consistency}`;
  const answer = await clientOf(words).ask("GET", `${pathOf(key)}${query}`);
  const file = optionOf(words, "o");
  if (file === undefined && words.switches.has("json")) {
    const facts = JSON.stringify(factsOf(key, answer));
    terminal.out(`${facts.slice(0, -1)},${await memberOf(answer)}}\n`);
    return 0;
  }
  if (file === undefined || file === "-") await print(key, answer, terminal);
  else await save(key, answer, file, terminal);
  if (file !== undefined && file !== "-" && words.switches.has("json"))
    terminal.out(`${JSON.stringify(factsOf(key, answer))}\n`);
  return 0;
}

function isJson({ headers }: Answer): boolean {
  return isJsonType(headers["content-type"] ?? "");
}

function factsOf(key: string, answer: Answer): object {
  return { key, etag: etagOf(answer), type: answer.headers["content-type"] ?? null };
}

/** The value as a member of a JSON object; a JSON value's own text stays as it is. */
async function memberOf(answer: Answer): Promise<string> {
  const bytes = await bytesOf(answer);
  if (!isJson(answer)) return `"base64":"${bytes.toString("base64")}"`;
  return `"value":${Buffer.from(innerText(bytes))}`;
}

/** Takes the envelope off a JSON value, whose own text stays as it is. */
function unwrapped(): Transform {
  let start = JSON_PREFIX.length;
  let last = Buffer.alloc(0);
  return new Transform({
    transform(piece: Buffer, _encoding, done) {
      const skipped = Math.min(start, piece.length);
      start -= skipped;
      const bytes = Buffer.concat([last, piece.subarray(skipped)]);
      const end = Math.max(0, bytes.length - JSON_SUFFIX.length);
      last = Buffer.from(bytes.subarray(end));
      done(null, bytes.subarray(0, end));
    },
  });
}

function receive(key: string, answer: Answer, terminal: Terminal, target: Writable): Promise<void> {
  const length = answer.headers["content-length"];
  const totalBytes = length === undefined ? null : Number(length);
  const passed = counted(terminal, key, totalBytes, (bytes) => {
    return `the answer was cut: ${bytes} of ${totalBytes} bytes came`;
  });
  return isJson(answer)
    ? pipeline(answer.body, passed, unwrapped(), target)
    : pipeline(answer.body, passed, target);
}

async function print(key: string, answer: Answer, terminal: Terminal): Promise<void> {
  const target = terminal.stdout();
  await receive(key, answer, terminal, target);
  if (isJson(answer)) terminal.out("\n");
}

async function save(key: string, answer: Answer, file: string, terminal: Terminal): Promise<void> {
  try {
    await saveFile(file, (target) => receive(key, answer, terminal, target));
  } catch (error) {
    answer.body.destroy();
    throw error;
  }
}

interface Body {
  stream: Readable;
  headers: Record<string, string>;
}

function bodyOf(words: Words, terminal: Terminal): Body {
  const [key, file] = words.operands;
  const value = optionOf(words, "value");
  const type = optionOf(words, "type");
  if ((value === undefined) === (file === undefined))
    throw new UsageError("name a file, - for standard input, or give -value: one of them");
  if (value !== undefined) {
    if (type !== undefined) throw new UsageError("-value is JSON; -type is for files");
    checkJson(value);
    const body = storedBytes(Buffer.from(value));
    const headers = { "Content-Type": JSON_TYPE, "Content-Length": String(body.length) };
    return { stream: Readable.from([body]), headers };
  }
  const headers: Record<string, string> = { "Content-Type": type ?? BYTES_TYPE };
  const wraps = isJsonType(type ?? "");
  const around = wraps ? JSON_PREFIX.length + JSON_SUFFIX.length : 0;
  const { stream, totalBytes } = fileBody(file, key, terminal);
  if (totalBytes !== null) headers["Content-Length"] = String(totalBytes + around);
  return { stream: wraps ? Readable.from(wrapped(stream)) : stream, headers };
}

async function* wrapped(body: Readable): AsyncGenerator<Buffer> {
  yield Buffer.from(JSON_PREFIX);
  for await (const piece of body) yield piece as Buffer;
  yield Buffer.from(JSON_SUFFIX);
}

/** The query that says how long a value is to live. */
function lifeOf(words: Words, keep: boolean): string {
  const ttl = optionOf(words, "ttl");
  if (ttl === undefined) return "";
  const life = lifeOfTtl(ttl, { keep, none: false });
  if (typeof life === "string") throw new UsageError(`-ttl: ${life}`);
  return `?ttl=${encodeURIComponent(ttl)}`;
}

async function store(method: "PUT" | "POST", words: Words, terminal: Terminal): Promise<number> {
  const [key] = words.operands;
  const path = `${pathOf(key)}${lifeOf(words, method === "PUT")}`;
  const client = clientOf(words);
  const { stream, headers } = bodyOf(words, terminal);
  try {
    const question = { headers: { ...conditionsOf(words), ...headers }, body: stream };
    const answer = await client.ask(method, path, question);
    const { created } = JSON.parse(await textOf(answer)) as { created?: boolean };
    const done = created === true ? "created" : "replaced";
    const etag = etagOf(answer);
    if (words.switches.has("json")) terminal.out(`${JSON.stringify({ key, created, etag })}\n`);
    else terminal.out(`${done} ${shown(key)} ${etag}\n`);
    return 0;
  } finally {
    stream.destroy();
  }
}
