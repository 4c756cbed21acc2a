/**
 * A thread that reads an index while another one changes it: what is there all the time is always found, in chains too, and lists meet it once.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { KeyIndex } from "../../src/engine/index/key-index.ts";
import { createIndexMemory, type IndexMemory } from "../../src/engine/index/memory.ts";
import { IndexReader, SCAN_END } from "../../src/engine/index/reader.ts";
import { threadOf } from "../../src/shards/thread/spawn.ts";
import { Random, randomSeed } from "../random.ts";

/** Entries that stay, in slot 1, and those that come and go, in slot 2: of one tag, of one block of a segment as large as one can be, and of random tags. */
const KINDS = 3;
const STAYING = 600;
const PASSING = 1500;
const ROUNDS = 20;
/** The reader meets at least so many while the writer is at work. */
const READ_ROUNDS_MIN = 5;

function hashesOf(kind: number, number: number): [hashA: number, hashB: number] {
  const word = Math.imul(number + 1, 0x9e3779b1);
  return [kind << 22, kind === 0 ? 0x12345678 : kind === 1 ? ((0x155 << 22) | (word >>> 24)) << 6 : word];
}

const unitOf = (kind: number, number: number): number => 256 + number * KINDS + kind;

interface Seen {
  finds: number;
  missing: number;
  found: number;
  scans: number;
  wrongScans: number;
}

/** Words that both threads share: told to stop, and rounds that the reader has done. */
const STOP = 0;
const DONE = 1;

/** The reading thread: reads until it is told to stop, then says what it saw. */
function readOn(memory: IndexMemory, shared: Int32Array): Seen {
  const reader = new IndexReader(memory);
  const seen: Seen = { finds: 0, missing: 0, found: 0, scans: 0, wrongScans: 0 };
  const isThere = (kind: number, slot: number, number: number): boolean => {
    const [hashA, hashB] = hashesOf(kind, number);
    const unit = unitOf(kind, number);
    return reader.find(hashA, hashB, { matches: (s, u) => s === slot && u === unit });
  };
  for (let round = 0; Atomics.load(shared, STOP) === 0; round++) {
    for (let kind = 0; kind < KINDS; kind++) {
      for (let number = round % 7; number < STAYING; number += 7, seen.finds++)
        if (!isThere(kind, 1, number)) seen.missing++;
      // Never there; the search must come to an end all the same.
      if (isThere(kind, 3, round)) seen.found++;
      const met = new Map<number, number>();
      for (let tag = 0; tag < SCAN_END; ) {
        const page = reader.scan(kind, tag, 50);
        page.units.forEach((unit, i) => {
          if (page.slots[i] === 1) met.set(unit, (met.get(unit) ?? 0) + 1);
        });
        tag = page.next;
      }
      seen.scans++;
      if (met.size !== STAYING || [...met.values()].some((times) => times !== 1)) seen.wrongScans++;
    }
    Atomics.add(shared, DONE, 1);
  }
  return seen;
}

if (!isMainThread) parentPort?.postMessage(readOn(workerData.memory, new Int32Array(workerData.shared)));
else
  test("index: a reader beside the writer finds all that stays, while chains grow, shrink and are dealt out again", async (t) => {
    const random = new Random(randomSeed(t));
    const memory = createIndexMemory();
    const index = new KeyIndex(memory);
    const change = (what: "insert" | "remove", kind: number, slot: number, number: number): void => {
      const [hashA, hashB] = hashesOf(kind, number);
      index[what](hashA, hashB, slot, unitOf(kind, number));
    };
    for (let kind = 0; kind < KINDS; kind++)
      for (let number = 0; number < STAYING; number++) change("insert", kind, 1, number);
    const shared = new Int32Array(new SharedArrayBuffer(8));
    const [file, options] = threadOf(__filename, undefined);
    const reader = new Worker(file, { ...options, workerData: { memory, shared: shared.buffer } });
    const done = new Promise<Seen>((resolve, reject) => {
      reader.once("message", resolve);
      reader.once("error", reject);
    });
    await new Promise((resolve) => reader.once("online", resolve));
    const numbers = Array.from({ length: PASSING }, (_, i) => STAYING + i);
    // A busy machine may give the reader no time at first.
    let isOver = false;
    void done.catch(() => undefined).then(() => (isOver = true));
    const isEnough = (round: number): boolean =>
      isOver || (round >= ROUNDS && Atomics.load(shared, DONE) >= READ_ROUNDS_MIN);
    for (let round = 0; !isEnough(round); round++) {
      await new Promise(setImmediate);
      for (const what of ["insert", "remove"] as const)
        for (let kind = 0; kind < KINDS; kind++) {
          for (let i = numbers.length - 1; i > 0; i--) {
            const other = random.below(i + 1);
            [numbers[i], numbers[other]] = [numbers[other], numbers[i]];
          }
          for (const number of numbers) change(what, kind, 2, number);
          // Others move meanwhile.
          for (let number = 0; number < STAYING; number += 5) {
            const [hashA, hashB] = hashesOf(kind, number);
            const unit = unitOf(kind, number);
            index.replace(hashA, hashB, 1, unit, 1, unit);
          }
        }
    }
    Atomics.store(shared, STOP, 1);
    const seen = await done;
    t.diagnostic(JSON.stringify(seen));
    assert.ok(seen.scans > 0 && seen.finds > 0);
    assert.deepEqual([seen.missing, seen.found, seen.wrongScans], [0, 0, 0]);
  });
