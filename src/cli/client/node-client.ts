/**
 * HTTP as the commands for values need it: bodies of any size in both directions, and several URLs, of which
 * the first that can be reached answers.
 */
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Readable } from "node:stream";
import { nodeAddresses, nodeUrl, UsageError } from "../../config/values.ts";
import { isNotConnected, reasonOf, sentenceOf } from "../../platform/system-error.ts";
import { LINES_TYPE } from "../../util/header-text.ts";
import { KEY_BYTES_MAX } from "../../util/limits.ts";
import { authorityOf, schemeOf, tokenOf, tokenOptions } from "../subcommand/access.ts";
import { optionOf, type SubcommandOption, type Words } from "../subcommand/subcommand.ts";

export const URL_DEFAULT = "http://localhost:3000";
/** Neither side has sent anything for so long. */
const SILENCE_MS = 60_000;
/** What a node reads of a request's head is 16 KiB; who sends more finds the connection closed. */
const TARGET_CHARACTERS_MAX = 14 * 1024;
/** Of the text of an error. */
const ERROR_BYTES_MAX = 64 * 1024;

/** Flags that say which node is asked, and as whom. */
export const CLIENT_OPTIONS: Readonly<Record<string, SubcommandOption>> = {
  url: {
    value: "urls",
    text: `the node, or several, comma-separated: the first that can be reached (default ${URL_DEFAULT})`,
    hasVariable: true,
  },
  ...tokenOptions("who is asking"),
};
/** Those of the common table. */
export const CLIENT_FLAGS = ["tls-ca", "auth", "auth-file"] as const;

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: IncomingMessage;
}

export interface Question {
  headers?: Record<string, string>;
  /** Sent chunked unless the headers have a Content-Length. */
  body?: Readable;
  /** An answer in lines is no refusal, whatever its status: its last line says what became of it. */
  takesLines?: boolean;
  /** How long a node may take until its answer begins; left out: silence for SILENCE_MS ends it. */
  longestMs?: number;
  /** It may be sent to the next node, too, whatever has become of it at the one before. */
  mayRepeat?: boolean;
}

/** What was to be sent could not be read: that is nobody's fault at the other end. */
class Unread extends Error {}

/** What a node answered that is no success. */
export class Refused extends Error {
  readonly status: number;
  readonly code: string | null;

  constructor(status: number, code: string | null, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export interface NodeClient {
  /**
   * Asks the nodes in turn until one can be reached. The answer's body must be read, or destroyed.
   * @throws Refused for any status but 2xx; Error when nobody answers
   */
  ask(method: string, path: string, question?: Question): Promise<Answer>;
}

/** The nodes that the flags name. */
export function clientOf(words: Words): NodeClient {
  const ca = authorityOf(words);
  const given = urlsOf(words);
  const urls = given.map((text) => nodeUrl(text, schemeOf(words)));
  const token = tokenOf(words);
  const access: Record<string, string> = token === null ? {} : { Authorization: `Bearer ${token}` };
  return {
    async ask(method, path, question = {}) {
      const failures: string[] = [];
      if (path.length > TARGET_CHARACTERS_MAX)
        throw new UsageError(`a key, or a prefix, has at most ${KEY_BYTES_MAX} bytes, and this one far more`);
      for (const url of urls) {
        const answer = await exchange(url, method, path, question, access, ca).catch((error) => {
          if (error instanceof Unread) throw error;
          failures.push(`${url} cannot be reached: ${reasonOf(error)}`);
          // A body that was begun cannot be sent again, and a write may have happened.
          const mayGoOn = method === "GET" || question.mayRepeat === true || isNotConnected(error);
          if (!mayGoOn) throw new Error(failures.join("; "));
          return null;
        });
        if (answer === null) continue;
        if (answer.status >= 200 && answer.status < 300) return answer;
        if (question.takesLines === true && answer.headers["content-type"] === LINES_TYPE) return answer;
        throw await refusalOf(url, answer, token !== null);
      }
      throw new Error(`${failures.join("; ")}; -url names another node`);
    },
  };
}

/** The path of a key, or of a prefix: `/_kv/` reaches every key. Throws UsageError where it is no Unicode. */
export function pathOf(key: string): string {
  try {
    return `/_kv/${key.split("/").map(encodeURIComponent).join("/")}`;
  } catch {
    throw new UsageError(`${JSON.stringify(key)} is not valid Unicode`);
  }
}

/** The version that an answer names, without quotes; null: none. */
export function etagOf({ headers }: Answer): string | null {
  return headers.etag?.replace(/^"|"$/g, "") ?? null;
}

/** All of an answer that fits in memory. */
export async function bytesOf({ body }: Answer): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of body) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

export async function textOf(answer: Answer): Promise<string> {
  return (await bytesOf(answer)).toString("utf8");
}

function urlsOf(words: Words): string[] {
  try {
    return nodeAddresses(optionOf(words, "url") ?? URL_DEFAULT);
  } catch (error) {
    throw new UsageError(`-url: ${(error as Error).message}`);
  }
}

async function refusalOf(url: string, answer: Answer, hasToken: boolean): Promise<Refused> {
  const { status, body } = answer;
  let text = "";
  body.setEncoding("utf8");
  for await (const piece of body) {
    text += piece;
    if (text.length > ERROR_BYTES_MAX) break;
  }
  // The request may have been cut short.
  body.destroy();
  if (status === 401) {
    const advice = hasToken ? "does not know this token" : "wants a token: MINIVAULT_TOKEN, or -token-file";
    return new Refused(status, "unauthorized", `${url} ${advice}`);
  }
  try {
    const { error, code } = JSON.parse(text) as { error?: string; code?: string };
    if (typeof error === "string") return new Refused(status, code ?? null, error);
  } catch {}
  return new Refused(status, null, `${url} answers with status ${status}`);
}

function exchange(
  url: string,
  method: string,
  path: string,
  { headers = {}, body, longestMs }: Question,
  access: Record<string, string>,
  ca: string | null,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const base = new URL(url);
    const request = (base.protocol === "https:" ? httpsRequest : httpRequest)({
      // Without the brackets that an IPv6 address has in a URL.
      host: base.hostname.replace(/^\[(.*)\]$/, "$1"),
      port: base.port,
      path,
      method,
      headers: { ...access, ...headers },
      agent: false,
      timeout: SILENCE_MS,
      ...(ca === null ? {} : { ca }),
    });
    const timer =
      longestMs === undefined
        ? undefined
        : setTimeout(() => request.destroy(new Error(`no answer in ${longestMs / 1000} s`)), longestMs);
    request.on("close", () => clearTimeout(timer));
    request.on("response", (response) => {
      clearTimeout(timer);
      // A refusal before the body's end: the rest is not sent.
      if (body !== undefined && !body.readableEnded && (response.statusCode ?? 0) >= 400) {
        body.unpipe(request);
        body.destroy();
      }
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: response });
    });
    request.on("timeout", () => request.destroy(new Error(`silence for ${SILENCE_MS / 1000} s`)));
    request.on("error", reject);
    if (body === undefined) request.end();
    else
      request.once("socket", (socket) => {
        // The body is not touched before somebody is there: the next node may need it whole.
        socket.once(base.protocol === "https:" ? "secureConnect" : "connect", () => {
          body.on("error", (error) => {
            reject(new Unread(sentenceOf(error), { cause: error }));
            request.destroy();
          });
          body.pipe(request);
        });
      });
  });
}
