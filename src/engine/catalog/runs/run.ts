/**
 * Runs of keys: each key once, in order of bytes; in memory, or in files one after another. A run never
 * changes. What its blocks hold is checked each time one is read.
 */
import {
  blockSeed,
  compareKeys,
  Fences,
  KEY_BLOCK_BYTES,
  KeyBlock,
  KeyBlockWriter,
  sharedBytes,
} from "../../../format/keys/key-run.ts";

/** A block of a run cannot be read: the catalog must be built anew. */
export class RunDamage extends Error {}

/** Blocks that belong together: a file of a run, or a run in memory. */
export interface RunPart {
  /** What damage is reported with. */
  readonly name: string;
  readonly fences: Fences;
  readonly keys: number;
  /** Bytes on the disk, or in memory. */
  readonly bytes: number;
  /** Copies a block to `target`; answers the seed of its checksum. */
  readBlock(block: number, target: Uint8Array): number;
}

/** A run of keys: parts whose keys follow each other. At least one part, none of them empty. */
export interface KeyRun {
  readonly parts: readonly RunPart[];
  readonly keys: number;
}

export function runOf(parts: readonly RunPart[]): KeyRun {
  return { parts, keys: parts.reduce((sum, { keys }) => sum + keys, 0) };
}

/** A part that is made in memory. */
class MemoryPart implements RunPart {
  readonly name = "memory";
  readonly fences: Fences;
  readonly keys: number;
  private readonly blocks: readonly Uint8Array[];

  constructor(blocks: readonly Uint8Array[], fences: Fences, keys: number) {
    this.blocks = blocks;
    this.fences = fences;
    this.keys = keys;
  }

  get bytes(): number {
    return this.blocks.length * KEY_BLOCK_BYTES;
  }

  readBlock(block: number, target: Uint8Array): number {
    target.set(this.blocks[block]);
    return blockSeed(0, 0, block);
  }
}

/** Takes rising keys and makes blocks of them. */
export class RunBuilder {
  private readonly writer = new KeyBlockWriter();
  private readonly last = new Uint8Array(KEY_BLOCK_BYTES);
  private lastBytes = -1;
  private readonly emit: (block: Uint8Array) => void;
  private readonly seedOf: (block: number) => number;
  readonly fences: Fences = new Fences();
  keys = 0;

  /** @param emit gets each block; its bytes are only good during the call */
  constructor(emit: (block: Uint8Array) => void, seedOf: (block: number) => number) {
    this.emit = emit;
    this.seedOf = seedOf;
  }

  /** Blocks that were begun. */
  get blocks(): number {
    return this.fences.count;
  }

  add(key: Uint8Array, from: number, to: number): void {
    const { writer, last } = this;
    if (writer.count > 0 && !writer.add(key, from, to)) this.endBlock();
    if (writer.count === 0) {
      const shared = this.lastBytes < 0 ? to - from : sharedBytes(last, 0, this.lastBytes, key, from, to) + 1;
      this.fences.add(key, from, Math.min(to, from + shared));
      if (!writer.add(key, from, to)) throw new Error("a key does not fit a block");
    }
    for (let i = 0, k = from; k < to; i++, k++) last[i] = key[k];
    this.lastBytes = to - from;
    this.keys++;
  }

  /** Emits the last block. */
  end(): void {
    if (this.writer.count > 0) this.endBlock();
    this.fences.trim();
  }

  private endBlock(): void {
    const { writer } = this;
    writer.seal(this.seedOf(this.fences.count - 1));
    this.emit(writer.bytes);
    writer.clear();
  }
}

/** Makes runs in memory. */
export class MemoryRunBuilder {
  private readonly blocks: Uint8Array[] = [];
  private readonly builder = new RunBuilder(
    (block) => this.blocks.push(block.slice()),
    (block) => blockSeed(0, 0, block),
  );

  add(key: Uint8Array, from: number, to: number): void {
    this.builder.add(key, from, to);
  }

  /** Null: it got no key. */
  end(): KeyRun | null {
    this.builder.end();
    const { keys, fences } = this.builder;
    return keys === 0 ? null : runOf([new MemoryPart(this.blocks, fences, keys)]);
  }
}

/**
 * Walks a run in either direction. While `valid`, the key is `bytes[from .. to)`, good until the next move.
 * Moves throw RunDamage.
 */
export class RunCursor {
  private readonly run: KeyRun;
  private readonly raw = new Uint8Array(KEY_BLOCK_BYTES);
  private readonly expanded = new KeyBlock();
  private part = -1;
  private block = -1;
  private entry = 0;
  valid = false;
  bytes: Uint8Array = this.expanded.bytes;
  from = 0;
  to = 0;

  constructor(run: KeyRun) {
    this.run = run;
  }

  /** Goes to the first key that is not before `key[0 .. length)`. */
  seek(key: Uint8Array, length: number): void {
    const { parts } = this.run;
    let part = 0;
    // The first fence of a part is its first key.
    while (part + 1 < parts.length && parts[part + 1].fences.compare(0, key, 0, length) <= 0) part++;
    this.load(part, parts[part].fences.blockOf(key, 0, length));
    this.entry = this.expanded.find(key, 0, length);
    this.settleForward();
  }

  /** Goes to the last key before `key[0 .. length)`; null: to the last of all. */
  seekBefore(key: Uint8Array | null, length: number): void {
    const { parts } = this.run;
    let part = parts.length - 1;
    if (key === null) {
      this.load(part, parts[part].fences.count - 1);
      this.entry = this.expanded.count - 1;
    } else {
      while (part > 0 && parts[part].fences.compare(0, key, 0, length) >= 0) part--;
      this.load(part, parts[part].fences.blockOf(key, 0, length));
      this.entry = this.expanded.find(key, 0, length) - 1;
    }
    this.settleBackward();
  }

  next(): void {
    this.entry++;
    this.settleForward();
  }

  previous(): void {
    this.entry--;
    this.settleBackward();
  }

  private settleForward(): void {
    const { parts } = this.run;
    if (this.entry >= this.expanded.count) {
      let part = this.part;
      let block = this.block + 1;
      if (block >= parts[part].fences.count) {
        part++;
        block = 0;
      }
      if (part >= parts.length) {
        this.valid = false;
        return;
      }
      this.load(part, block);
      this.entry = 0;
    }
    this.show();
  }

  private settleBackward(): void {
    const { parts } = this.run;
    if (this.entry < 0) {
      let part = this.part;
      let block = this.block - 1;
      if (block < 0) {
        part--;
        if (part < 0) {
          this.valid = false;
          return;
        }
        block = parts[part].fences.count - 1;
      }
      this.load(part, block);
      this.entry = this.expanded.count - 1;
    }
    this.show();
  }

  private show(): void {
    const { expanded, entry } = this;
    this.bytes = expanded.bytes;
    this.from = expanded.starts[entry];
    this.to = expanded.starts[entry + 1];
    this.valid = true;
  }

  private load(part: number, block: number): void {
    if (part === this.part && block === this.block) return;
    this.part = -1;
    const source = this.run.parts[part];
    const seed = source.readBlock(block, this.raw);
    if (!this.expanded.read(this.raw, seed)) throw new RunDamage(`${source.name}: block ${block} is damaged`);
    this.part = part;
    this.block = block;
  }
}

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
