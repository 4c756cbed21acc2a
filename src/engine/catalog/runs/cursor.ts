import { KEY_BLOCK_BYTES, KeyBlock } from "../../../format/keys/key-block.ts";
import { type KeyRun, RunDamage } from "./run.ts";

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
