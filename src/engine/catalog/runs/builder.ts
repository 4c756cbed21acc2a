/** Making runs of keys that come in their order. */

import { Fences } from "../../../format/keys/fences.ts";
import { blockSeed, KEY_BLOCK_BYTES, KeyBlockWriter } from "../../../format/keys/key-block.ts";
import { sharedBytes } from "../../../format/keys/order.ts";
import { type KeyRun, type RunPart, runOf } from "./run.ts";

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
