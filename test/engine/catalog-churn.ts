/**
 * Lists while keys come and go: pages of random sizes, in both directions, from any place, rolled up or not, made by what answers the fronts; between two pages
 * writes, flushes, merges and compaction. A key that is there all the time comes exactly once, one that never was never comes, and at rest a list is
 * the sorted keys.
 */
import assert from "node:assert/strict";
import { type KeyRange, rangeOf, rollUpBytes } from "../../src/engine/catalog/runs/listing.ts";
import { boundedRange } from "../../src/server/list/list-query.ts";
import { CATALOG_FIGURES_BYTES, type CatalogAnswer } from "../../src/shards/catalog/messages.ts";
import { CatalogService } from "../../src/shards/catalog/service.ts";
import { SteadyClock } from "../../src/util/clock.ts";
import type { Random } from "../random.ts";
import { randomKey, Store, sorted, TAIL_KEYS } from "./catalog-store.ts";

const PERMANENT = 60;
const LISTS = 4;

interface Question {
  prefix: string;
  delimiter: string | null;
  reverse: boolean;
  start?: string;
  after?: string;
  end?: string;
  limit: number;
}

const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

function randomQuestion(random: Random, keys: readonly string[]): Question {
  const some = (): string => keys[random.below(keys.length)];
  return {
    prefix: ["", "a", "a/", "a/b/", "/", "\u00e9"][random.below(6)],
    delimiter: [null, null, "/", "b", "a/"][random.below(5)],
    reverse: random.below(2) === 0,
    ...(random.below(4) === 0 ? { start: some() } : {}),
    ...(random.below(4) === 0 ? { after: some() } : {}),
    ...(random.below(4) === 0 ? { end: some() } : {}),
    limit: 1 + random.below(30),
  };
}

/** What a list of these keys tells; prefixes with a star. */
function told(keys: Iterable<string>, question: Question): string[] {
  const { prefix, delimiter, reverse, start, after, end } = question;
  const range = rangeOf(bytesOf(prefix), false, delimiter === null ? null : bytesOf(delimiter));
  const order = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
  const lines: string[] = [];
  for (const key of sorted(keys)) {
    if (!Buffer.from(key).subarray(0, Buffer.byteLength(prefix)).equals(Buffer.from(prefix))) continue;
    if (start !== undefined && order(key, start) < 0) continue;
    if (after !== undefined && order(key, after) <= 0) continue;
    if (end !== undefined && order(key, end) >= 0) continue;
    const rolled = rollUpBytes(bytesOf(key), range);
    const line = rolled < 0 ? key : `${Buffer.from(key).subarray(0, rolled).toString()}*`;
    if (lines.at(-1) !== line) lines.push(line);
  }
  return reverse ? lines.reverse() : lines;
}

async function listed(
  service: CatalogService,
  question: Question,
  between: (limit: number) => Promise<void>,
): Promise<string[]> {
  const { prefix, delimiter, reverse, start, after, end, limit } = question;
  const bounds = Object.fromEntries(
    Object.entries({ start, after, end, delimiter: delimiter ?? undefined }).filter(
      ([, value]) => value !== undefined,
    ),
  );
  const range = boundedRange(bytesOf(prefix), bounds, reverse);
  assert.ok(typeof range !== "string", String(range));
  const lines: string[] = [];
  for (let left: KeyRange | null = range; left !== null; ) {
    const page: CatalogAnswer = await service.answer({
      kind: "list",
      range: left,
      limit,
      values: false,
      lines: true,
    });
    assert.ok(page.kind === "list", JSON.stringify(page));
    assert.ok(page.count <= limit);
    for (const line of Buffer.from(page.keys).toString().split("\n").slice(0, -1)) {
      const { key, prefix: rolled } = JSON.parse(line);
      lines.push(key ?? `${rolled}*`);
    }
    // Each page comes further; there are only so many keys.
    if (page.left !== null) assert.ok(isLess(page.left, left), `no progress: ${JSON.stringify(question)}`);
    left = page.left;
    await between(limit);
  }
  return lines;
}

/** Whether a range is what is left of another one, and less. */
function isLess(rest: KeyRange, of: KeyRange): boolean {
  if (!rest.reverse) return Buffer.compare(rest.low, of.low) > 0;
  return rest.high !== null && (of.high === null || Buffer.compare(rest.high, of.high) < 0);
}

/** One random history. */
export async function churnRun(directory: string, random: Random): Promise<void> {
  const count = 1 + random.below(2);
  const store = await Store.open(directory, count, random.below(2) === 0);
  const figures = new Float64Array(CATALOG_FIGURES_BYTES / Float64Array.BYTES_PER_ELEMENT);
  const service = new CatalogService(
    store.catalog,
    store.shards[0].store,
    figures,
    new SteadyClock(),
    (warning) => {
      throw new Error(warning);
    },
  );
  const permanent = new Set<string>();
  const live = new Set<string>();
  const ever = new Set<string>();
  while (permanent.size < PERMANENT) permanent.add(randomKey(random));
  const put = (key: string): void => {
    store.shardOf(key).put(key, random.bytes(random.below(200)));
    live.add(key);
    ever.add(key);
  };
  for (const key of permanent) put(key);
  const churn = async (limit: number): Promise<void> => {
    // In time that goes by with keys, not with pages: else small pages never come to an end of what is new.
    if (random.below(30) >= limit) return;
    for (let i = random.below(TAIL_KEYS / 2); i > 0; i--) {
      const key = `${randomKey(random)}${random.below(50)}`;
      if (permanent.has(key)) continue;
      if (random.below(2) === 0) put(key);
      else {
        store.shardOf(key).remove(key);
        live.delete(key);
      }
    }
    const what = random.below(12);
    if (what === 0) {
      for (const harness of store.shards) await harness.settle();
      store.catalog.logs.release();
    } else if (what < 4) await store.catalog.work();
    // Runs are merged under a list, too.
    else if (what < 6) void store.catalog.work();
  };
  const check = async (isAtRest: boolean): Promise<void> => {
    const question = randomQuestion(random, [...ever]);
    const what = JSON.stringify(question);
    const lines = await listed(service, question, isAtRest ? async () => {} : churn);
    if (isAtRest) {
      assert.deepEqual(lines, told(live, question), what);
      return;
    }
    assert.equal(new Set(lines).size, lines.length, `something came twice: ${what}`);
    const wanted = told(permanent, question);
    const isWanted = new Set(wanted);
    assert.deepEqual(
      lines.filter((line) => isWanted.has(line)),
      wanted,
      what,
    );
    const possible = new Set(told(ever, question));
    for (const line of lines) assert.ok(possible.has(line), `${line} never was there: ${what}`);
  };
  for (let list = 0; list < LISTS; list++) {
    await check(false);
    await check(true);
  }
  for (const harness of store.shards) await harness.shard.close();
  await service.close();
}
