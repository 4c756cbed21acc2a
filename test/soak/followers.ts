/** Clients of the feed: watchers that come and go, and followers that keep a copy of a prefix. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../random.ts";
import { EventStream } from "../rest/event-stream.ts";
import type { Doors, Node } from "./doors.ts";

const STAY_MS_MIN = 1000;
const STAY_MS_MAX = 30_000;
const AWAY_MS_MAX = 5000;
const STEP_MS_MAX = 500;
const WAIT_MS_MAX = 120_000;

/** Watches a prefix for a while, goes, and comes back at some node, from its place or anew. Answers how many events it was told. */
export async function watch(
  prefix: () => string,
  doors: Doors,
  random: Random,
  over: () => boolean,
): Promise<number> {
  let told = 0;
  let place = "";
  let watched = prefix();
  while (!over()) {
    const node = doors.pick(random);
    const headers = { ...doors.headers, ...(place === "" ? {} : { "Last-Event-ID": place }) };
    const stream = new EventStream(node.port, `/${watched}?watch`, headers);
    const untilMs = Date.now() + STAY_MS_MIN + random.below(STAY_MS_MAX - STAY_MS_MIN);
    while (!over() && !stream.ended && Date.now() < untilMs) {
      told += stream.events.length;
      stream.events.length = 0;
      await sleep(200);
    }
    if (stream.ended) doors.count(node, `watch ended${stream.status === 200 ? "" : `, ${stream.status}`}`);
    place = random.below(3) === 0 ? "" : stream.lastId;
    if (place === "") watched = prefix();
    stream.close();
    await sleep(random.below(AWAY_MS_MAX));
  }
  return told;
}

interface Told {
  event: string;
  key: string;
  etag: string;
}

interface Listed {
  keys: { key: string; etag: string }[];
  cursor: string | null;
}

/** Keeps a copy of the versions below a prefix, by pages of changes. */
export class Follower {
  told = 0;
  resets = 0;
  private readonly prefix: string;
  private readonly doors: Doors;
  private readonly random: Random;
  private copy = new Map<string, string>();
  private place: string | null = null;

  constructor(prefix: string, doors: Doors, random: Random) {
    this.prefix = prefix;
    this.doors = doors;
    this.random = random;
  }

  async run(over: () => boolean): Promise<void> {
    while (!over()) {
      await this.step();
      await sleep(this.random.below(STEP_MS_MAX));
    }
  }

  /** At rest the copy is the list. Answers what is wrong, or null. */
  async check(node: Node): Promise<string | null> {
    let wrong = "";
    for (const deadline = Date.now() + WAIT_MS_MAX; Date.now() < deadline; ) {
      const isAtRest = await this.step(node);
      const list = isAtRest ? await this.list(node) : null;
      if (list !== null) {
        wrong = differenceOf(this.copy, list);
        if (wrong === "") return null;
      }
      // Ends of life go on; an event may still be on its way.
      await sleep(100);
    }
    return `a follower of ${this.prefix} at node ${node.number}: ${wrong || "it does not come to rest"}`;
  }

  /** True: there was nothing more. */
  private async step(node?: Node): Promise<boolean> {
    if (this.place === null) {
      const now = await this.page("", node);
      const list = now === null || now.place === null ? null : await this.list(node);
      if (list === null) return false;
      this.place = now?.place ?? null;
      this.copy = list;
      return false;
    }
    const page = await this.page(`&limit=500&since=${this.place}`, node);
    if (page === null) return false;
    this.place = page.place;
    if (page.place === null) {
      this.resets++;
      return false;
    }
    for (const { event, key, etag } of page.changes)
      if (event === "put") this.copy.set(key, etag);
      else this.copy.delete(key);
    this.told += page.changes.length;
    return page.changes.length === 0 && !page.more;
  }

  /** Null: nobody can tell now. Its place is null when the one before was too old. */
  private async page(
    query: string,
    node: Node | undefined,
  ): Promise<{ changes: Told[]; place: string | null; more: boolean } | null> {
    const where = node === undefined ? {} : { node };
    const reply = await this.doors.ask(this.random, "GET", `/${this.prefix}?changes${query}`, where);
    if ("failed" in reply) return null;
    if (reply.status === 410) return { changes: [], place: null, more: false };
    return JSON.parse(reply.body.toString());
  }

  private async list(node: Node | undefined): Promise<Map<string, string> | null> {
    const where = { timeoutMs: 10_000, ...(node === undefined ? {} : { node }) };
    const found = new Map<string, string>();
    for (let cursor: string | null = ""; cursor !== null; ) {
      const query: string = cursor === "" ? "" : `&cursor=${cursor}`;
      const reply = await this.doors.ask(this.random, "GET", `/${this.prefix}?list${query}`, where);
      if ("failed" in reply || reply.status !== 200) return null;
      const page = JSON.parse(reply.body.toString()) as Listed;
      for (const { key, etag } of page.keys) found.set(key, etag);
      ({ cursor } = page);
    }
    return found;
  }
}

function differenceOf(copy: Map<string, string>, list: Map<string, string>): string {
  const keys = [...new Set([...copy.keys(), ...list.keys()])].filter(
    (key) => copy.get(key) !== list.get(key),
  );
  const [key] = keys;
  return keys.length === 0
    ? ""
    : `${keys.length} keys differ: ${key} is ${copy.get(key)} in the copy, ${list.get(key)} in the list`;
}
