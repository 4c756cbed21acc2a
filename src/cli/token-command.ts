/**
 * `minivault token NAME`: makes a token for a client, and the line of the file of `-tokens` that says what it
 * may do. The token itself is printed and kept nowhere.
 */
import { hash, randomBytes } from "node:crypto";
import { appendFileSync } from "node:fs";
import { PERMISSIONS, type Permission, parseTokens } from "../auth/token-file.ts";
import { tokensWith } from "../config/access.ts";
import { UsageError } from "../config/values.ts";
import type { Subcommand, Terminal, Words } from "./subcommand/subcommand.ts";

const ID_BYTES = 8;
const SECRET_BYTES = 32;
/** As long as those of AWS, which some programs check. */
const ACCESS_KEY_CHARACTERS = 20;
const SECRET_KEY_BYTES = 30;
/** What means nothing without keys. */
const OF_KEYS: readonly Permission[] = ["read", "list", "write", "delete", "watch"];

export const TOKEN: Subcommand = {
  name: "token",
  operands: "NAME",
  summary: "Makes a client's token, and its line for the file of -tokens.",
  more: `Prints the token, which is kept nowhere, and below it the line; with -tokens FILE the line is added to that file (made with mode 600 if it is not
there), and nodes that were started with it know the token within a second. With -json one object: token, line, and with -s3 accessKey, secretKey.

  minivault token app -prefix app/ -allow read,list,write,delete -tokens /etc/minivault/tokens
  minivault token prometheus -allow metrics
  minivault token operator -prefix '' -allow read,list,write,delete,watch,metrics,admin

Exit status: 0 made; 1 the file cannot be read or written; 2 used wrongly.`,
  operandsMin: 1,
  operandsMax: 1,
  flags: ["tokens"],
  options: {
    prefix: { value: "text", text: "keys that begin with it, comma-separated or given again; '': all keys" },
    allow: { value: "words", text: `what it may do: ${PERMISSIONS.join(", ")}` },
    "requests-per-second": { value: "number", text: "how many it may send to each node" },
    expires: {
      value: "time",
      text: "when it ends: seconds since 1970, or a date such as 2027-01-31T12:00:00Z",
    },
  },
  switches: { s3: "for S3, too: the line then holds a secret, readably", json: "print one JSON object" },
  async run(words, terminal) {
    return make(words, terminal);
  },
};

function make({ operands: [name], options, values, switches }: Words, terminal: Terminal): number {
  const allow = split(options.allow);
  const prefix = split(options.prefix);
  const unknown = allow.find((word) => !(PERMISSIONS as readonly string[]).includes(word));
  if (unknown !== undefined)
    throw new UsageError(`-allow: "${unknown}" is none of ${PERMISSIONS.join(", ")}`);
  if (allow.length === 0)
    throw new UsageError("-allow says what the token may do; without it that is nothing");
  if (options.prefix === undefined && allow.some((word) => (OF_KEYS as string[]).includes(word)))
    throw new UsageError("-prefix says which keys it is for; -prefix '' is all of them");
  const token = `mv1.${randomBytes(ID_BYTES).toString("base64url")}.${randomBytes(SECRET_BYTES).toString("base64url")}`;
  const s3 = switches.has("s3") ? makeS3Keys() : {};
  const line = JSON.stringify({
    name,
    sha256: hash("sha256", token, "hex"),
    prefix,
    allow,
    ...rateOf(options["requests-per-second"]),
    ...momentOf(options.expires),
    ...s3,
  });
  try {
    parseTokens(line);
  } catch (error) {
    throw new UsageError((error as Error).message.replace(/^line 1: /, ""));
  }
  const file = values.tokens as string | undefined;
  if (file !== undefined) append(file, line);
  if (switches.has("json")) terminal.out(`${JSON.stringify({ token, line, ...s3 })}\n`);
  else {
    const lines = [token, ...(file === undefined ? [line] : []), ...Object.values(s3)];
    terminal.out(lines.map((text) => `${text}\n`).join(""));
  }
  return 0;
}

function split(values: readonly string[] | undefined): string[] {
  return (values ?? []).flatMap((value) => (value === "" ? [""] : value.split(","))).map((one) => one.trim());
}

function rateOf(texts: readonly string[] | undefined): { requestsPerSecond?: number | string } {
  const text = texts?.at(-1);
  // What is no number is judged with the rest of the line.
  return text === undefined ? {} : { requestsPerSecond: /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : text };
}

function momentOf(texts: readonly string[] | undefined): { expires?: number | string } {
  const text = texts?.at(-1);
  if (text === undefined) return {};
  return { expires: /^\d+$/.test(text) ? Number(text) : text };
}

function makeS3Keys(): { accessKey: string; secretKey: string } {
  const letters = randomBytes(ACCESS_KEY_CHARACTERS).toString("hex").toUpperCase();
  return {
    accessKey: `MV${letters}`.slice(0, ACCESS_KEY_CHARACTERS),
    secretKey: randomBytes(SECRET_KEY_BYTES).toString("base64url"),
  };
}

/** Adds a line to a file, in one write; not to one that nodes would not take then. */
function append(file: string, line: string): void {
  const before = tokensWith(file, line);
  const isOpen = before !== "" && !before.endsWith("\n");
  appendFileSync(file, `${isOpen ? "\n" : ""}${line}\n`, { mode: 0o600 });
}
