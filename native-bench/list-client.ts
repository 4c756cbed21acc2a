/** A client of lists that costs little: pages are read as JSON, of streams only the lines are counted. */
import http from "node:http";

export interface Page {
  keys: { key: string }[];
  prefixes: string[];
  cursor: string | null;
  count?: number;
}

/** What a stream, or a count, has told, and how long that took. */
export interface Listed {
  keys: number;
  ms: number;
}

const NEWLINE = 10;
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });

function get(port: number, path: string, headers: Record<string, string>): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    http.request({ host: "127.0.0.1", port, path, headers, agent }, resolve).on("error", reject).end();
  });
}

/** A document of JSON. */
export async function getJson(port: number, path: string) {
  const reply = await get(port, path, {});
  const pieces: Buffer[] = [];
  for await (const piece of reply) pieces.push(piece as Buffer);
  const text = Buffer.concat(pieces).toString();
  if (reply.statusCode !== 200) throw new Error(`${path}: ${reply.statusCode} ${text}`);
  return JSON.parse(text);
}

export function page(port: number, path: string): Promise<Page> {
  return getJson(port, path);
}

/** Counts in as many requests as it takes. */
export async function count(port: number, path: string): Promise<Listed> {
  const begun = performance.now();
  let keys = 0;
  for (let cursor: string | null = ""; cursor !== null; ) {
    const part: Page = await page(port, cursor === "" ? path : `${path}&cursor=${cursor}`);
    keys += part.count ?? 0;
    cursor = part.cursor;
  }
  return { keys, ms: performance.now() - begun };
}

/** Takes a whole stream, as long as nobody says that it is enough. */
export async function stream(
  port: number,
  path: string,
  isEnough: () => boolean = () => false,
): Promise<Listed> {
  const begun = performance.now();
  const reply = await get(port, path, { Accept: "application/x-ndjson" });
  let lines = 0;
  let end = "";
  for await (const piece of reply) {
    const bytes = piece as Buffer;
    for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) lines++;
    end = (end + bytes.toString("latin1", Math.max(0, bytes.length - 200))).slice(-200);
    if (isEnough()) {
      reply.destroy();
      return { keys: Number.NaN, ms: Number.NaN };
    }
  }
  // Blank lines keep a connection that waits; the last line says how many there are.
  const told = Number(/"count":(\d+),"complete":true\}\n$/.exec(end)?.[1]);
  if (!(told <= lines)) throw new Error(`a stream was cut after ${lines} lines: ${end}`);
  return { keys: told, ms: performance.now() - begun };
}
