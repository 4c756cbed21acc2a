import { compareKeys } from "../../../format/keys/order.ts";
import { RunCursor } from "./cursor.ts";
import type { KeyRun } from "./run.ts";

/** Several runs as one: each key once, in order, in one direction or the other. */
export class MergedKeys {
  private readonly cursors: readonly RunCursor[];
  /** Valid cursors as a heap: the one whose key comes next is first. */
  private readonly heap: RunCursor[] = [];
  private reverse = false;

  constructor(runs: readonly KeyRun[]) {
    this.cursors = runs.map((run) => new RunCursor(run));
  }

  get valid(): boolean {
    return this.heap.length > 0;
  }

  /** The cursor whose key it is; only while `valid`. */
  get current(): RunCursor {
    return this.heap[0];
  }

  /** From the first key that is not before `key[0 .. length)` upwards. */
  seek(key: Uint8Array, length: number): void {
    this.reverse = false;
    for (const cursor of this.cursors) cursor.seek(key, length);
    this.build();
  }

  /** From the last key before `key[0 .. length)` downwards; null: from the last. */
  seekBefore(key: Uint8Array | null, length: number): void {
    this.reverse = true;
    for (const cursor of this.cursors) cursor.seekBefore(key, length);
    this.build();
  }

  private build(): void {
    const { heap } = this;
    heap.length = 0;
    for (const cursor of this.cursors) if (cursor.valid) heap.push(cursor);
    for (let at = (heap.length >>> 1) - 1; at >= 0; at--) this.sink(at);
  }

  /** Moves on to the next key that differs. */
  advance(): void {
    const { heap, reverse } = this;
    const first = heap[0];
    // The others with the same key first: it stands still as long as it is the measure.
    for (;;) {
      const other = this.equalChild();
      if (other < 0) break;
      this.move(other, reverse);
    }
    if (reverse) first.previous();
    else first.next();
    this.replace(0);
  }

  /** Where in the heap another cursor stands on the first one's key; -1: none does. */
  private equalChild(): number {
    const { heap } = this;
    const [first] = heap;
    for (let child = 1; child <= 2 && child < heap.length; child++) {
      const { bytes, from, to } = heap[child];
      if (compareKeys(bytes, from, to, first.bytes, first.from, first.to) === 0) return child;
    }
    return -1;
  }

  private move(at: number, reverse: boolean): void {
    const cursor = this.heap[at];
    if (reverse) cursor.previous();
    else cursor.next();
    this.replace(at);
  }

  /** Puts the heap in order again after the cursor at `at` has moved on. */
  private replace(at: number): void {
    const { heap } = this;
    if (heap[at].valid) {
      this.sink(at);
      return;
    }
    const last = heap.pop() as RunCursor;
    if (at === heap.length) return;
    heap[at] = last;
    this.sink(at);
  }

  private isBefore(a: RunCursor, b: RunCursor): boolean {
    const order = compareKeys(a.bytes, a.from, a.to, b.bytes, b.from, b.to);
    return this.reverse ? order > 0 : order < 0;
  }

  private sink(from: number): void {
    const { heap } = this;
    for (let at = from; ; ) {
      let first = at;
      for (let child = 2 * at + 1; child <= 2 * at + 2 && child < heap.length; child++)
        if (this.isBefore(heap[child], heap[first])) first = child;
      if (first === at) return;
      [heap[at], heap[first]] = [heap[first], heap[at]];
      at = first;
    }
  }
}
