/**
 * Answers the fronts' questions from the catalog, a slice at a time, and keeps the catalog up with the logs.
 * A question holds nothing here between two slices but a place.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Catalog, CatalogState } from "../../engine/catalog/catalog.ts";
import { type KeyRange, type Visitor, walk } from "../../engine/catalog/runs/listing.ts";
import { RunDamage } from "../../engine/catalog/runs/run.ts";
import { Slices } from "../../engine/catalog/slices.ts";
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import { copyOf } from "../../util/bytes.ts";
import type { SteadyClock } from "../../util/clock.ts";
import { VaultError } from "../../util/errors.ts";
import { Entries } from "./entries.ts";
import { keyText } from "./entry-text.ts";
import { encodeHeld, type HeldKey } from "./held.ts";
import {
  CATALOG_FIGURE,
  type CatalogAnswer,
  type CatalogQuestion,
  type CountQuestion,
  type Ended,
  type HeldQuestion,
  type ListQuestion,
  type NamesQuestion,
} from "./messages.ts";

/** How often the logs are looked at when nobody asks. */
const FOLLOW_MS = 100;
/** A page ends after so many keys, dead ones included, so much text, or so much work. */
const PAGE_KEYS_MAX = 10_000;
const PAGE_BYTES_MAX = 4 * 1024 * 1024;
const PAGE_WORK_MS_MAX = 50;
/** What is told to other nodes at once. */
const HELD_BYTES_MAX = 192 * 1024;
/** A count ends after so much work. */
const COUNT_WORK_MS_MAX = 1000;
/** How long a question waits until the catalog has followed the logs; then it is "building". */
const CATCH_UP_MS_MAX = 5000;

const STATES: readonly CatalogState[] = ["building", "ready", "blind"];

/** What one page may cost. */
interface Allowance {
  keys: number;
  bytes: number;
  workMs: number;
}

const PAGE: Allowance = { keys: PAGE_KEYS_MAX, bytes: PAGE_BYTES_MAX, workMs: PAGE_WORK_MS_MAX };
const COUNTING: Allowance = {
  keys: Number.POSITIVE_INFINITY,
  bytes: Number.POSITIVE_INFINITY,
  workMs: COUNT_WORK_MS_MAX,
};

/** What becomes of the keys that are there. */
interface Taker {
  /** Null where the key is not there, else the length of what was taken. */
  key(key: Uint8Array): number | null;
  prefix(prefix: Uint8Array): number;
  /** Whether a key is there that would be rolled up; left out: whoever is there. */
  isThere?(key: Uint8Array): boolean;
}

export class CatalogService {
  private readonly catalog: Catalog;
  private readonly entries: Entries;
  private readonly figures: Float64Array;
  private readonly warn: (message: string) => void;
  private readonly timer: NodeJS.Timeout;
  private following: Promise<void> | null = null;
  private closed = false;

  constructor(
    catalog: Catalog,
    store: StoreIdentity,
    figures: Float64Array,
    clock: SteadyClock,
    warn: (message: string) => void,
  ) {
    this.catalog = catalog;
    this.entries = new Entries(catalog.lookups, store, clock);
    this.figures = figures;
    this.warn = warn;
    this.timer = setInterval(() => this.tend(), FOLLOW_MS);
    this.timer.unref();
    this.tend();
  }

  /** Follows the logs, and has written what is due. */
  private tend(): void {
    void this.follow().then(() => {
      this.catalog.release();
      this.show();
      if (this.catalog.isDue) void this.catalog.work();
    }, this.failed);
  }

  private readonly failed = (error: Error): void => {
    this.warn(`the catalog of keys: ${error.stack ?? error.message}`);
  };

  /** Takes in all that is published now; ends early where damage is in the way. */
  private follow(): Promise<void> {
    this.following ??= this.followOn().finally(() => {
      this.following = null;
    });
    return this.following;
  }

  private async followOn(): Promise<void> {
    const slices = new Slices(() => this.closed);
    while (!this.catalog.absorb(slices)) {
      this.show();
      // A first build is long: what it has goes to the disk meanwhile, so that it needs little memory, and a
      // stop in the middle loses little.
      if (this.catalog.isDue) void this.catalog.work();
      if (this.catalog.isBehind) await this.catalog.work();
      if (this.catalog.state === "blind" || !(await slices.turn())) return;
    }
  }

  private show(): void {
    const figures = this.catalog.figures();
    const { figures: shown } = this;
    for (const [name, value] of Object.entries(figures))
      if (name !== "state") shown[CATALOG_FIGURE[name as keyof typeof CATALOG_FIGURE]] = Number(value);
    shown[CATALOG_FIGURE.state] = STATES.indexOf(figures.state);
  }

  async answer(question: CatalogQuestion): Promise<CatalogAnswer> {
    try {
      await this.catchUp();
      switch (question.kind) {
        case "list":
          return await this.list(question);
        case "count":
          return await this.count(question);
        case "held":
          return await this.held(question);
        default:
          return await this.names(question);
      }
    } catch (error) {
      return this.refusal(error as Error);
    }
  }

  private refusal(error: Error): CatalogAnswer {
    if (error instanceof RunDamage) {
      this.catalog.damaged(error);
      this.tend();
      return { kind: "refused", code: "building", detail: "" };
    }
    if (error instanceof VaultError) return { kind: "refused", code: error.code, detail: error.message };
    this.failed(error);
    return { kind: "refused", code: "internal", detail: "" };
  }

  /** All that was published before this was called is in the catalog when it returns. */
  private async catchUp(): Promise<void> {
    const slices = new Slices(() => this.closed);
    if (this.catalog.absorb(slices)) return this.requireWhole();
    this.requireWhole();
    let isOver = false;
    const until = sleep(CATCH_UP_MS_MAX, undefined, { ref: false }).then(() => {
      isOver = true;
    });
    // Who follows already may have looked at the ends before.
    for (let rounds = 0; rounds < 2 && !isOver; rounds++) await Promise.race([this.follow(), until]);
    if (isOver) throw this.building();
    this.requireWhole();
  }

  private requireWhole(): void {
    const { state } = this.catalog;
    if (this.closed) throw new VaultError("stopping");
    if (state === "building") throw this.building();
    if (state === "blind")
      throw new VaultError(
        "corrupt",
        "records are damaged whose keys nobody knows, so no list would be whole; run minivault verify",
      );
  }

  private building(): VaultError {
    const percent = Math.floor(this.catalog.figures().progress * 100);
    return new VaultError(
      "building",
      `the list of all keys is being built, ${percent} % of the slabs are read; try again`,
    );
  }

  /**
   * Walks a range in slices.
   * @returns what is left of it
   */
  private async walk(
    range: KeyRange,
    limit: number,
    allowance: Allowance,
    taker: Taker,
    ended: Ended = noneEnded(),
  ): Promise<KeyRange | null> {
    const { entries, catalog } = this;
    const slices = new Slices(() => this.closed);
    let left: KeyRange | null = range;
    let [taken, seen, bytes, workMs] = [0, 0, 0, 0];
    let isEnough = false;
    const visitor: Visitor = {
      key(key) {
        const length = taker.key(key);
        if (length === null) return false;
        taken++;
        bytes += length;
        return true;
      },
      isThere: (key) => taker.isThere?.(key) ?? entries.find(key, ended) !== null,
      prefix(prefix) {
        taken++;
        bytes += taker.prefix(prefix);
      },
      isOver: () => seen++ >= allowance.keys || slices.isOver,
      isFull() {
        isEnough = taken >= limit || bytes >= allowance.bytes;
        return isEnough || slices.isOver;
      },
    };
    for (;;) {
      const startMs = performance.now();
      left = walk(catalog.keys(), left, visitor);
      workMs += performance.now() - startMs;
      if (left === null || isEnough || seen > allowance.keys || workMs >= allowance.workMs) return left;
      if (!(await slices.turn())) throw new VaultError("stopping");
      this.requireWhole();
    }
  }

  private async list({ range, limit, values, lines }: ListQuestion): Promise<CatalogAnswer> {
    const keys: string[] = [];
    const prefixes: string[] = [];
    const ended = noneEnded();
    let count = 0;
    const key = (name: Uint8Array): number | null => {
      const entry = this.entries.entry(name, values, ended);
      if (entry === null) return null;
      count++;
      keys.push(entry);
      return entry.length;
    };
    const prefix = (name: Uint8Array): number => {
      count++;
      if (lines) keys.push(`{"prefix":${keyText(name)}}`);
      else prefixes.push(keyText(name));
      return name.length;
    };
    const left = await this.walk(range, limit, PAGE, { key, prefix }, ended);
    const text = lines ? keys.map((entry) => `${entry}\n`).join("") : keys.join(",\n");
    return { kind: "list", ended, keys: bytesOf(text), prefixes: bytesOf(prefixes.join(",\n")), count, left };
  }

  private async count({ range }: CountQuestion): Promise<CatalogAnswer> {
    const ended = noneEnded();
    let count = 0;
    const taker: Taker = {
      key: (key) => (this.entries.find(key, ended) === null ? null : ++count && 0),
      prefix: () => ++count && 0,
    };
    const left = await this.walk(range, Number.POSITIVE_INFINITY, COUNTING, taker, ended);
    return { kind: "count", ended, count, left };
  }

  private async held({ range, limit }: HeldQuestion): Promise<CatalogAnswer> {
    const pieces: Uint8Array[] = [];
    const allowance = { ...PAGE, keys: limit, bytes: HELD_BYTES_MAX };
    const take = (held: HeldKey | null): number | null => {
      if (held === null) return null;
      const piece = encodeHeld(held);
      pieces.push(piece);
      return piece.length;
    };
    const left = await this.walk(range, Number.POSITIVE_INFINITY, allowance, {
      key: (key) => take(this.entries.held(key)),
      // Of what is rolled up, the first that has a value.
      isThere: (key) => {
        const held = this.entries.held(key);
        return held !== null && !held.tombstone && take(held) !== null;
      },
      prefix: () => pieces[pieces.length - 1].length,
    });
    return { kind: "held", entries: new Uint8Array(Buffer.concat(pieces)), left };
  }

  private async names({ range, limit }: NamesQuestion): Promise<CatalogAnswer> {
    const ended = noneEnded();
    const keys: Uint8Array[] = [];
    const taker: Taker = {
      key: (key) => (this.entries.find(key, ended) === null ? null : keys.push(copyOf(key)) && key.length),
      prefix: () => 0,
    };
    const left = await this.walk(range, limit, PAGE, taker, ended);
    return { kind: "names", ended, keys, left };
  }

  /** The shards must be closed already. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    this.closed = true;
    await this.following;
    await this.catalog.close();
  }
}

function noneEnded(): Ended {
  return { keys: [], nowMs: 0 };
}

/** In memory of their own, so that it can be handed over. */
function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(Buffer.byteLength(text));
  Buffer.from(bytes.buffer).write(text);
  return bytes;
}
