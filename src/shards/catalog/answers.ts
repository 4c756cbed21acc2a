/**
 * What the catalog answers to each kind of question, a slice at a time. A question holds nothing here between
 * two slices but a place.
 */
import type { Catalog } from "../../engine/catalog/catalog.ts";
import { type KeyRange, type Visitor, walk } from "../../engine/catalog/runs/listing.ts";
import type { Slices } from "../../engine/catalog/slices.ts";
import { copyOf } from "../../util/bytes.ts";
import { VaultError } from "../../util/errors.ts";
import { EntryWriter, keyText } from "../../value/entry-text.ts";
import type { Entries } from "./entries.ts";
import { type HeldKey, HeldWriter } from "./held.ts";
import type {
  CatalogAnswer,
  CatalogQuestion,
  CountQuestion,
  Ended,
  HeldQuestion,
  ListQuestion,
  NamesQuestion,
} from "./messages.ts";

/** A page ends after so many keys, dead ones included, so much text, or so much work. */
const PAGE_KEYS_MAX = 10_000;
const PAGE_BYTES_MAX = 4 * 1024 * 1024;
const PAGE_WORK_MS_MAX = 50;
/** What is told to other nodes at once. */
const HELD_BYTES_MAX = 192 * 1024;
/** A count ends after so much work. */
const COUNT_WORK_MS_MAX = 1000;

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

export class CatalogAnswers {
  private readonly catalog: Catalog;
  private readonly entries: Entries;
  private readonly slices: () => Slices;
  private readonly requireWhole: () => void;

  /**
   * @param slices made for each question
   * @param requireWhole throws as soon as the catalog cannot say which keys there are
   */
  constructor(catalog: Catalog, entries: Entries, slices: () => Slices, requireWhole: () => void) {
    this.catalog = catalog;
    this.entries = entries;
    this.slices = slices;
    this.requireWhole = requireWhole;
  }

  of(question: CatalogQuestion): Promise<CatalogAnswer> {
    switch (question.kind) {
      case "list":
        return this.list(question);
      case "count":
        return this.count(question);
      case "held":
        return this.held(question);
      default:
        return this.names(question);
    }
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
    const slices = this.slices();
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
    const writer = new EntryWriter(lines);
    const prefixes: string[] = [];
    const ended = noneEnded();
    let count = 0;
    const key = (name: Uint8Array): number | null => {
      const bytes = this.entries.entry(name, values, ended, writer);
      if (bytes !== null) count++;
      return bytes;
    };
    const prefix = (name: Uint8Array): number => {
      count++;
      if (lines) writer.prefix(name);
      else prefixes.push(keyText(name));
      return name.length;
    };
    const left = await this.walk(range, limit, PAGE, { key, prefix }, ended);
    return {
      kind: "list",
      ended,
      keys: writer.whole(),
      prefixes: bytesOf(prefixes.join(",\n")),
      count,
      left,
    };
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
    const writer = new HeldWriter();
    const allowance = { ...PAGE, keys: limit, bytes: HELD_BYTES_MAX };
    let last = 0;
    const take = (held: HeldKey | null): number | null => {
      if (held === null) return null;
      last = writer.put(held);
      return last;
    };
    const left = await this.walk(range, Number.POSITIVE_INFINITY, allowance, {
      key: (key) => take(this.entries.held(key)),
      // Of what is rolled up, the first that has a value.
      isThere: (key) => {
        const held = this.entries.held(key);
        return held !== null && !held.tombstone && take(held) !== null;
      },
      prefix: () => last,
    });
    return { kind: "held", entries: writer.whole(), left };
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
