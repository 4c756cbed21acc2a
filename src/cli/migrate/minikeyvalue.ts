/**
 * A minikeyvalue master as a source: its list in pages (`GET /<prefix>?list&limit=…&start=…`), and values,
 * to which it redirects (`302` to a volume, with `Content-Md5` where it keeps hashes).
 */
import { createHash } from "node:crypto";
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { Readable } from "node:stream";
import { reasonOf } from "../../platform/system-error.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";

/** Keys on a page of its list. */
const PAGE_KEYS = 1000;
/** Of a page; a key has a few KiB at most. */
const PAGE_BYTES_MAX = 64 * 1024 * 1024;
/** Connections to the master, and to each volume. */
const SOCKETS_MAX = 32;
const REDIRECTS_MAX = 5;
const SILENCE_MS = 60_000;
/** A volume that just restarts, or a connection that breaks, is asked again. */
const TRIES_MAX = 4;
const RETRY_MS = 500;
const MD5 = /^[0-9a-f]{32}$/i;

/** What became of a value that the list has. */
export type SourceValue =
  | { kind: "small"; bytes: Buffer }
  /** To be streamed; it breaks off where it is not whole, or not what the master knows of it. */
  | { kind: "large"; size: number | null; body: Readable }
  /** Deleted since it was listed. */
  | { kind: "gone" }
  | { kind: "failed"; reason: string };

export interface SourcePage {
  /** With the slash that all of its keys begin with. */
  keys: readonly string[];
  /** Where the next page begins; empty: this was the last. */
  next: string;
}

/** The master itself does not answer: nothing that follows would do better. */
class SourceGone extends Error {}

interface Found {
  response: IncomingMessage;
  md5: string | null;
}

export class MiniKeyValue {
  private readonly url: string;
  private readonly agents = {
    "http:": new HttpAgent({ keepAlive: true, maxSockets: SOCKETS_MAX }),
    "https:": new HttpsAgent({ keepAlive: true, maxSockets: SOCKETS_MAX }),
  };

  /** @param url without a slash at its end */
  constructor(url: string) {
    this.url = url;
  }

  close(): void {
    for (const agent of Object.values(this.agents)) agent.destroy();
  }

  /** A page of the keys that begin with a prefix. Throws Error. */
  async page(prefix: string, start: string): Promise<SourcePage> {
    const from = start === "" ? "" : `&start=${encodeURIComponent(start)}`;
    const { response } = await this.find(`${pathOf(`/${prefix}`)}?list&limit=${PAGE_KEYS}${from}`);
    if (response.statusCode !== 200) {
      response.resume();
      throw new Error(
        `${this.url} answers its list with status ${response.statusCode}: is it a minikeyvalue master?`,
      );
    }
    const text = (await gathered(response, PAGE_BYTES_MAX)).pieces.toString("utf8");
    const { keys, next } = JSON.parse(text) as { keys?: unknown; next?: unknown };
    const isList = Array.isArray(keys) && keys.every((key) => typeof key === "string" && key.startsWith("/"));
    if (!isList || typeof next !== "string")
      throw new Error(`${this.url} answers no list of minikeyvalue's form`);
    // Its order is that of bytes.
    if (next !== "" && Buffer.compare(Buffer.from(next), Buffer.from(start)) <= 0)
      throw new Error(`${this.url}: its list does not move on from ${JSON.stringify(start)}`);
    return { keys: keys as string[], next };
  }

  /** A value. What goes wrong is told of it alone; throws Error where the master does not answer any more. */
  async value(key: string): Promise<SourceValue> {
    let reason = "";
    let gone: SourceGone | null = null;
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      if (tries > 0) await new Promise((resolve) => setTimeout(resolve, RETRY_MS * tries));
      try {
        const found = await this.find(pathOf(key));
        const { statusCode } = found.response;
        if (statusCode === 200) return await readValue(found);
        found.response.resume();
        if (statusCode === 404 && !(await this.has(key))) return { kind: "gone" };
        // Also said by a master whose volumes do not answer.
        reason = statusCode === 404 ? "it is listed, and none of its volumes has it" : `status ${statusCode}`;
        gone = null;
      } catch (error) {
        gone = error instanceof SourceGone ? error : null;
        reason = reasonOf(error as Error);
      }
    }
    if (gone !== null) throw gone;
    return { kind: "failed", reason };
  }

  /** Whether the list has a key now. */
  private async has(key: string): Promise<boolean> {
    const { keys } = await this.page(key.slice(1), "");
    return keys.includes(key);
  }

  /** Follows redirects. */
  private async find(target: string): Promise<Found> {
    let url = new URL(this.url + target);
    // As it is: `new URL` would take "a/../b" apart.
    let path = target;
    let md5: string | null = null;
    for (let hops = 0; ; hops++) {
      const response = await this.ask(url, path).catch((error: Error) => {
        if (hops > 0) throw error;
        throw new SourceGone(`${this.url} cannot be reached: ${reasonOf(error)}`, { cause: error });
      });
      const { statusCode = 0, headers } = response;
      const said = headers["content-md5"];
      if (typeof said === "string" && MD5.test(said)) md5 = said.toLowerCase();
      if (statusCode < 300 || statusCode >= 400 || headers.location === undefined) return { response, md5 };
      response.resume();
      if (hops === REDIRECTS_MAX) throw new Error(`it is sent on more than ${REDIRECTS_MAX} times`);
      url = new URL(headers.location, url);
      path = `${url.pathname}${url.search}`;
    }
  }

  private ask(url: URL, path: string): Promise<IncomingMessage> {
    const { protocol, hostname, port } = url;
    if (protocol !== "http:" && protocol !== "https:")
      return Promise.reject(new Error(`it is sent to ${protocol}, which is not HTTP`));
    return new Promise((resolve, reject) => {
      const request = (protocol === "https:" ? httpsRequest : httpRequest)({
        ...{ host: hostname.replace(/^\[(.*)\]$/, "$1"), port, path, agent: this.agents[protocol] },
        headers: { "Accept-Encoding": "identity" },
        timeout: SILENCE_MS,
      });
      request.on("timeout", () => request.destroy(new Error(`silence for ${SILENCE_MS / 1000} s`)));
      request.on("error", reject);
      request.on("response", resolve);
      request.end();
    });
  }
}

/** Throws URIError for a text that is not Unicode. */
function pathOf(key: string): string {
  return key.split("/").map(encodeURIComponent).join("/");
}

/** Reads until the end, or a little more than so many bytes. */
async function gathered(
  body: AsyncIterable<Buffer>,
  bytesMax: number,
): Promise<{ pieces: Buffer; rest: AsyncIterator<Buffer> | null }> {
  const iterator = body[Symbol.asyncIterator]();
  const pieces: Buffer[] = [];
  let bytes = 0;
  for (;;) {
    const { done, value } = await iterator.next();
    if (done === true) return { pieces: Buffer.concat(pieces), rest: null };
    pieces.push(value);
    bytes += value.length;
    if (bytes > bytesMax) return { pieces: Buffer.concat(pieces), rest: iterator };
  }
}

async function readValue({ response, md5 }: Found): Promise<SourceValue> {
  const announced = response.headers["content-length"];
  const size = announced === undefined ? null : Number(announced);
  const { pieces, rest } = await gathered(response, CHUNK_BYTES);
  if (rest !== null) return { kind: "large", size, body: Readable.from(checked(pieces, rest, size, md5)) };
  if (size !== null && size !== pieces.length) throw new Error(CUT);
  if (md5 !== null && md5 !== createHash("md5").update(pieces).digest("hex")) throw new Error(WRONG);
  return { kind: "small", bytes: pieces };
}

const CUT = "it came cut";
const WRONG = "its bytes are not those whose Content-Md5 the master has";

/** All pieces; the last one only once the whole is known to be right, so that nobody stores it else. */
async function* checked(
  first: Buffer,
  rest: AsyncIterator<Buffer>,
  size: number | null,
  md5: string | null,
): AsyncGenerator<Buffer> {
  const hash = createHash("md5").update(first);
  let held = first;
  let bytes = first.length;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
    yield held;
    held = next.value;
    hash.update(held);
    bytes += held.length;
  }
  if (size !== null && size !== bytes) throw new Error(CUT);
  if (md5 !== null && md5 !== hash.digest("hex")) throw new Error(WRONG);
  yield held;
}
