/**
 * `minivault import -from-minikeyvalue URL`: copies what a minikeyvalue master lists into a node. Small
 * values go many in a request (`/_batch`), large ones stream. What the node has already is not fetched again,
 * so a migration that was broken off is run again.
 */
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { BYTES_TYPE, LINES_TYPE } from "../../util/header-text.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { type NodeClient, pathOf, Refused, textOf } from "../client/node-client.ts";
import type { Counting } from "../subcommand/transfer.ts";
import type { MiniKeyValue, SourceValue } from "./minikeyvalue.ts";

/** Values that are fetched at once. */
const AT_ONCE = 32;
/** Of one request. */
const BATCH_COUNT_MAX = 500;
const BATCH_BYTES_MAX = 8 * 1024 * 1024;
/** What the node has between two keys of a page is looked up in so many pages at most. */
const KNOWN_PAGES_MAX = 20;
const KNOWN_LIMIT = 10_000;
/** A node that is busy, or has no quorum, is asked again. */
const TRIES_MAX = 30;
const RETRY_MS = 1000;
/** Refusals that are told by name. */
const TOLD_MAX = 20;

if (BATCH_BYTES_MAX < CHUNK_BYTES) throw new Error("migration.ts: a small value fits into no batch");

/** What became of the keys. */
export interface Moved {
  stored: number;
  bytes: number;
  /** They were there, and stay. */
  kept: number;
  /** Deleted while they were copied. */
  gone: number;
  refused: number;
  /** The first of those. */
  refusals: { key: string; error: string }[];
}

interface Small {
  key: string;
  bytes: Buffer;
}

interface Result {
  status: number;
  error?: string;
}

export class Migration {
  private readonly source: MiniKeyValue;
  private readonly client: NodeClient;
  private readonly replaces: boolean;
  private readonly shown: Counting;
  private readonly moved: Moved = { stored: 0, bytes: 0, kept: 0, gone: 0, refused: 0, refusals: [] };
  private listed = 0;
  private batch: Small[] = [];
  private batchBytes = 0;

  /** @param replaces what is there is replaced; else it stays */
  constructor(source: MiniKeyValue, client: NodeClient, replaces: boolean, shown: Counting) {
    this.source = source;
    this.client = client;
    this.replaces = replaces;
    this.shown = shown;
  }

  /** Copies all keys with a prefix. Throws Error, with a sentence, where it cannot go on. */
  async run(prefix: string): Promise<Moved> {
    let start = "";
    try {
      do {
        const page = await this.source.page(prefix, start);
        this.listed += page.keys.length;
        await this.take(page.keys);
        start = page.next;
      } while (start !== "");
    } finally {
      // Also what was fetched before it broke off.
      await this.flush();
    }
    return this.moved;
  }

  private async take(keys: readonly string[]): Promise<void> {
    const names = keys.map((key) => key.slice(1));
    const known = this.replaces || names.length === 0 ? new Set<string>() : await this.knownAmong(names);
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < names.length) {
        const name = names[next++];
        if (known.has(name)) this.moved.kept++;
        else await this.copy(name);
        const { stored, kept, gone, refused } = this.moved;
        this.shown.at(stored + kept + gone + refused, this.listed);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }

  private async copy(name: string): Promise<void> {
    const value = await this.source.value(`/${name}`);
    if (value.kind === "gone") this.moved.gone++;
    else if (value.kind === "failed") this.refuse(name, value.reason);
    else if (value.kind === "large") await this.putLarge(name, value);
    else {
      this.batch.push({ key: name, bytes: value.bytes });
      this.batchBytes += value.bytes.length;
      if (this.batch.length >= BATCH_COUNT_MAX || this.batchBytes >= BATCH_BYTES_MAX) await this.flush();
    }
  }

  /** Stores what is gathered. */
  private async flush(): Promise<void> {
    let left = this.batch;
    this.batch = [];
    this.batchBytes = 0;
    for (let tries = 1; left.length > 0; tries++) {
      const results = await this.send(left, tries);
      const again: Small[] = [];
      for (const [index, small] of left.entries()) {
        const { status, error = "" } = results[index] ?? { status: 503, error: "the node gave no result" };
        if (isPassing(status) && tries < TRIES_MAX) again.push(small);
        else this.note(small.key, small.bytes.length, status, error);
      }
      left = again;
      if (left.length > 0) await sleep(RETRY_MS);
    }
  }

  /** One request; where the node takes none now, each of its operations failed with that. */
  private async send(batch: readonly Small[], tries: number): Promise<Result[]> {
    const op = this.replaces ? "put" : "post";
    const lines = batch.map(({ key, bytes }) =>
      JSON.stringify({ op, key, base64: bytes.toString("base64"), type: BYTES_TYPE }),
    );
    const body = Buffer.from(lines.join("\n"));
    try {
      const answer = await this.client.ask("POST", "/_batch", {
        headers: { "Content-Type": LINES_TYPE, "Content-Length": String(body.length) },
        body: Readable.from([body]),
      });
      return (await textOf(answer))
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as Result);
    } catch (error) {
      if (!(error instanceof Refused) || !isPassing(error.status) || tries >= TRIES_MAX) throw error;
      return batch.map(() => ({ status: error.status, error: error.message }));
    }
  }

  private async putLarge(name: string, first: SourceValue & { kind: "large" }): Promise<void> {
    let value: SourceValue = first;
    for (let tries = 1; value.kind === "large"; tries++) {
      const { size, body } = value;
      let broken: Error | null = null;
      body.once("error", (error) => {
        broken = error;
      });
      const headers = {
        "Content-Type": BYTES_TYPE,
        ...(size === null ? {} : { "Content-Length": String(size) }),
        ...(this.replaces ? {} : { "If-None-Match": "*" }),
      };
      try {
        const answer = await this.client.ask("PUT", pathOf(name), { headers, body });
        await textOf(answer);
        this.note(name, size ?? 0, answer.status, "");
        return;
      } catch (error) {
        body.destroy();
        if (broken !== null) {
          this.refuse(name, (broken as Error).message);
          return;
        }
        if (!(error instanceof Refused)) throw error;
        if (!isPassing(error.status) || tries >= TRIES_MAX) {
          this.note(name, 0, error.status, error.message);
          return;
        }
      }
      await sleep(RETRY_MS);
      value = await this.source.value(`/${name}`);
    }
    if (value.kind === "failed") this.refuse(name, value.reason);
    else this.moved.gone++;
  }

  private note(name: string, bytes: number, status: number, error: string): void {
    // 403 of minikeyvalue's own rules, 412 of If-None-Match.
    const isThere = status === 409 || status === 412 || (status === 403 && /exists already/.test(error));
    if (status < 300) {
      this.moved.stored++;
      this.moved.bytes += bytes;
    } else if (isThere && !this.replaces) this.moved.kept++;
    else if (status === 507) throw new Error(`${error}; run the same command again when there is room`);
    else this.refuse(name, error === "" ? `status ${status}` : error);
  }

  private refuse(key: string, error: string): void {
    this.moved.refused++;
    if (this.moved.refusals.length < TOLD_MAX) this.moved.refusals.push({ key, error });
  }

  /** Which of these names, which are in order of their bytes, the node has. Empty where it does not tell. */
  private async knownAmong(names: readonly string[]): Promise<Set<string>> {
    const known = new Set<string>();
    let cursor: string | null = null;
    for (let pages = 0; pages < KNOWN_PAGES_MAX; pages++) {
      const bounds = { limit: String(KNOWN_LIMIT), start: names[0], end: `${names[names.length - 1]}\0` };
      const query = new URLSearchParams({ ...bounds, ...(cursor === null ? {} : { cursor }) });
      let text: string;
      try {
        // Where `list` is not the first word it is our list, also with -compat mkv.
        text = await textOf(await this.client.ask("GET", `/_kv/?${query}&list`));
      } catch (error) {
        // A token that may write need not be one that may list: then the writes tell.
        if (error instanceof Refused) return known;
        throw error;
      }
      const page = JSON.parse(text) as { keys: { key: string }[]; cursor: string | null };
      for (const { key } of page.keys) known.add(key);
      if (page.cursor === null) break;
      cursor = page.cursor;
    }
    return known;
  }
}

/** Whether the same may succeed later. */
function isPassing(status: number): boolean {
  return status === 408 || status === 429 || status === 503 || status === 504;
}
