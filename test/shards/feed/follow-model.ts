/**
 * A store that is written, compacted, closed, killed and opened again, and clients that keep a copy of its keys by the feed of changes, which
 * are killed at any moment and go on from the place that they had written down. At rest each copy is the list.
 */

import assert from "node:assert/strict";
import { cpSync, readdirSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import { rangeOf } from "../../../src/engine/catalog/runs/listing.ts";
import { NO_LIFE } from "../../../src/rules/expiry.ts";
import type { WriteVerb } from "../../../src/rules/write.ts";
import { settleEnded } from "../../../src/server/list/settle-ended.ts";
import type { WriteHead } from "../../../src/shards/arena/write.ts";
import type { AnswerTo, ListQuestion, Refused } from "../../../src/shards/catalog/messages.ts";
import type { FeedAnswer, FeedQuestion, FeedRefusal } from "../../../src/shards/feed/messages.ts";
import type { LocalVault } from "../../../src/shards/vault/local-vault.ts";
import { openVault } from "../../../src/shards/vault/open.ts";
import { temporaryDirectory } from "../../engine/harness.ts";
import type { Random } from "../../random.ts";

const HOUR_MS = 3_600_000;
const PATIENCE_MS = 60_000;
/** Longest life of a value that ends. */
const TTL_MS_MAX = 300;

/** Of one value in six it ends soon; 0: it does not end. */
function lifeOf(random: Random): number {
  return random.below(6) === 0 ? 1 + random.below(TTL_MS_MAX) : 0;
}

export function write(
  vault: LocalVault,
  verb: WriteVerb,
  name: string,
  body: Uint8Array,
  ttlMs = 0,
): Promise<string | null> {
  const bytes = Buffer.from(name);
  const head: WriteHead = {
    ...{ verb, key: { bytes, length: bytes.length }, json: false, contentType: "text/plain" },
    ...{ trailer: new Uint8Array(0), life: { ...NO_LIFE, ttlMs }, ifMatch: "", ifNoneMatch: "" },
  };
  return new Promise((resolve) => {
    const attempt = (): void => {
      if (!vault.submit(head, body, ({ error }) => resolve(error))) setTimeout(attempt, 1);
    };
    attempt();
  });
}

export function ask(vault: LocalVault, more: Partial<FeedQuestion>): Promise<FeedAnswer | FeedRefusal> {
  const question: FeedQuestion = {
    ...{ prefixes: [""], exact: false, values: false, form: "objects", since: null, cursor: -1 },
    ...{ catchesUp: false, waitMs: 0, bytesMax: 64 * 1024, countMax: 1000 },
    ...more,
  };
  return new Promise((resolve) => vault.feed.ask(question, resolve));
}

interface Told {
  event: "put" | "delete" | "expire";
  key: string;
  etag: string;
  base64?: string;
}

export function changesOf({ text }: FeedAnswer): Told[] {
  return JSON.parse(`[${Buffer.from(text)}]`) as Told[];
}

/** Names, sizes and times of all that is in a folder. */
function contentOf(folder: string): string {
  return readdirSync(folder, { recursive: true })
    .map((name) => {
      const { size, mtimeMs } = statSync(path.join(folder, String(name)), { throwIfNoEntry: false }) ?? {};
      return `${name} ${size} ${mtimeMs}`;
    })
    .join();
}

/** Copies a store while its threads compact it: again, until nothing has changed meanwhile. */
function copyAtOnce(from: string, to: string): void {
  for (let before = ""; before === "" || before !== contentOf(from); ) {
    before = contentOf(from);
    rmSync(to, { recursive: true, force: true });
    try {
      cpSync(from, to, { recursive: true, filter: (file) => !path.basename(file).startsWith("LOCK") });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      before = "";
    }
  }
}

/** Keys and versions, as the list has them. */
export async function listOf(vault: LocalVault, prefix = ""): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (
    let range: ReturnType<typeof rangeOf> | null = rangeOf(Buffer.from(prefix), false, null);
    range !== null;
  ) {
    const question: ListQuestion = { kind: "list", range, limit: 300, values: false, lines: true };
    const answer: AnswerTo<ListQuestion> | Refused = await vault.catalog.ask(question);
    if (answer.kind === "refused") {
      // After a start the list may have to be built first.
      if (!answer.detail.includes("is being built")) throw new Error(answer.detail);
      await new Promise((resolve) => setTimeout(resolve, 5));
      continue;
    }
    for (const line of Buffer.from(answer.keys).toString().split("\n")) {
      if (line === "") continue;
      const { key, etag } = JSON.parse(line) as Told;
      found.set(key, etag);
    }
    assert.equal(await settleEnded(vault, answer.ended), null);
    range = answer.left;
  }
  return found;
}

/** A client: what it has, and what of that it would still have after it was killed. */
export class Client {
  map = new Map<string, string>();
  private place: string | null = null;
  private cursor = -1;
  private catchesUp = false;
  private kept: { map: Map<string, string>; place: string } | null = null;
  /** Of this connection: a version that was told is never followed by a lower one. */
  private versions = new Map<string, string>();
  resets = 0;
  private readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  /** Asks once, and takes what comes. True: there was nothing more. */
  async step(vault: LocalVault, waitMs = 0): Promise<boolean> {
    if (this.place === null) {
      await this.begin(vault);
      return false;
    }
    const answer = await ask(vault, {
      ...{ since: this.place, cursor: this.cursor, catchesUp: this.catchesUp, waitMs },
      countMax: 1 + this.random.below(100),
      bytesMax: 1 + this.random.below(5000),
      values: this.random.below(2) === 0,
    });
    if (answer.kind === "refused") {
      assert.equal(answer.code, "place_too_old", answer.detail);
      this.place = null;
      this.resets++;
      return false;
    }
    for (const { event, key, etag } of changesOf(answer)) {
      const before = this.versions.get(key);
      assert.ok(before === undefined || before <= etag, `${key}: ${etag} after ${before}`);
      this.versions.set(key, etag);
      if (event === "put") this.map.set(key, etag);
      else this.map.delete(key);
    }
    this.place = answer.place;
    this.cursor = answer.cursor;
    if (answer.cursor >= 0) this.catchesUp = false;
    if (this.random.below(3) === 0) this.kept = { map: new Map(this.map), place: answer.place };
    return answer.count === 0 && !answer.more;
  }

  /** A list, and what changes meanwhile. */
  private async begin(vault: LocalVault): Promise<void> {
    const now = await ask(vault, {});
    if (now.kind === "refused") throw new Error(now.detail);
    this.map = await listOf(vault);
    this.versions = new Map(this.map);
    this.place = now.place;
    this.cursor = -1;
    this.catchesUp = true;
  }

  /** Loses all that was not written down, and its connection. */
  kill(): void {
    this.map = new Map(this.kept?.map ?? []);
    this.place = this.kept?.place ?? null;
    this.cursor = -1;
    this.catchesUp = false;
    this.versions = new Map();
  }

  /** The connection is lost, and nothing else. */
  reconnect(): void {
    this.cursor = -1;
    this.versions = new Map();
  }

  async catchUp(vault: LocalVault): Promise<void> {
    const untilMs = performance.now() + PATIENCE_MS;
    while (!(await this.step(vault))) assert.ok(performance.now() < untilMs, "it never catches up");
  }
}

export interface RunResult {
  resets: number;
  restarts: number;
  compacted: number;
}

/** One run. Throws what is wrong. */
export async function follow(random: Random, operations: number): Promise<RunResult> {
  const scratch = temporaryDirectory();
  const historyMs = random.below(2) === 0 ? 0 : HOUR_MS;
  const threads = 1 + random.below(3);
  let folder = path.join(scratch.path, "0");
  const open = (): Promise<LocalVault> =>
    openVault({
      ...{
        dataDirectory: folder,
        sync: "os",
        threads,
        historyMs,
        slabBytes: 512 * 1024,
        chunkBytes: 16 * 1024,
      },
      warn: () => {},
      fatal: (error) => assert.fail(error),
    });
  let vault = await open();
  const result: RunResult = { resets: 0, restarts: 0, compacted: 0 };
  const clients = [new Client(random), new Client(random), new Client(random)];
  const keyCount = 5 + random.below(200);
  const churn = async (): Promise<void> => {
    const writes: Promise<unknown>[] = [];
    for (let i = random.below(400); i >= 0; i--) {
      // Some stay for long among what is soon replaced, so that there is something to move.
      const name = random.below(8) === 0 ? `cold/${random.below(2000)}` : `key/${random.below(keyCount)}`;
      const bytes = random.below(30) === 0 ? random.below(60_000) : random.below(3000);
      if (random.below(4) === 0) writes.push(write(vault, "delete", name, new Uint8Array(0)));
      else writes.push(write(vault, "put", name, random.bytes(Math.min(bytes, 16_000)), lifeOf(random)));
    }
    await Promise.all(writes);
  };
  try {
    for (let i = 0; i < operations; i++) {
      const client = clients[random.below(clients.length)];
      switch (random.below(12)) {
        case 0:
          client.kill();
          break;
        case 1:
          client.reconnect();
          break;
        case 2:
          if (random.below(3) !== 0) break;
          result.restarts++;
          result.compacted += compactedOf(vault);
          await vault.close();
          vault = await open();
          for (const each of clients) each.reconnect();
          break;
        case 3: {
          if (random.below(3) !== 0) break;
          // What kill -9 leaves: all that was written, and nothing of an orderly end.
          result.restarts++;
          result.compacted += compactedOf(vault);
          const next = path.join(scratch.path, String(i + 1));
          copyAtOnce(folder, next);
          await vault.close();
          rmSync(folder, { recursive: true });
          folder = next;
          vault = await open();
          for (const each of clients) each.reconnect();
          break;
        }
        case 4:
        case 5:
        case 6:
          await churn();
          break;
        case 7: {
          const churning = churn();
          await client.step(vault, random.below(30));
          await churning;
          break;
        }
        default:
          await client.step(vault);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, TTL_MS_MAX));
    // What has ended by now is noted with the list.
    const list = await listOf(vault);
    for (const client of clients) {
      await client.catchUp(vault);
      assert.deepEqual(new Map([...client.map].sort()), new Map([...list].sort()));
      result.resets += client.resets;
    }
    result.compacted += compactedOf(vault);
    return result;
  } finally {
    await vault.close();
    scratch.remove();
  }
}

function compactedOf(vault: LocalVault): number {
  return vault.stats().shards.reduce((sum, { compactedBytes }) => sum + compactedBytes, 0);
}
