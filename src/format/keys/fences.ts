import { RUN_KEY_BYTES_MAX } from "./key-block.ts";
import { compareKeys } from "./order.ts";

/**
 * What tells the blocks of a file apart: for each the shortest text that is above every key before the block
 * and not above its first one; for the first block that key itself.
 */
export class Fences {
  private bytes: Uint8Array = new Uint8Array(256);
  private starts: Int32Array = new Int32Array(64);
  count = 0;

  /** Memory in use. */
  get memoryBytes(): number {
    return this.bytes.length + this.starts.byteLength;
  }

  add(fence: Uint8Array, from: number, to: number): void {
    const at = this.starts[this.count];
    if (at + to - from > this.bytes.length) {
      const larger = new Uint8Array(Math.max(at + to - from, this.bytes.length * 2));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    for (let i = from, k = at; i < to; i++, k++) this.bytes[k] = fence[i];
    if (this.count + 2 > this.starts.length) {
      const larger = new Int32Array(this.starts.length * 2);
      larger.set(this.starts);
      this.starts = larger;
    }
    this.starts[++this.count] = at + to - from;
  }

  /** Gives memory back that was kept for more. */
  trim(): this {
    this.bytes = this.bytes.slice(0, this.starts[this.count]);
    this.starts = this.starts.slice(0, this.count + 1);
    return this;
  }

  /** Negative when fence `number` comes before `key[from .. to)`. */
  compare(number: number, key: Uint8Array, from: number, to: number): number {
    return compareKeys(this.bytes, this.starts[number], this.starts[number + 1], key, from, to);
  }

  /** The last block that may have keys at or before `key[from .. to)`, at least 0. */
  blockOf(key: Uint8Array, from: number, to: number): number {
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.compare(middle, key, from, to) <= 0) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  encode(): Uint8Array {
    const encoded = new Uint8Array(this.starts[this.count] + 2 * this.count);
    let at = 0;
    for (let number = 0; number < this.count; number++) {
      const length = this.starts[number + 1] - this.starts[number];
      encoded[at] = length & 255;
      encoded[at + 1] = length >>> 8;
      encoded.set(this.bytes.subarray(this.starts[number], this.starts[number + 1]), at + 2);
      at += 2 + length;
    }
    return encoded;
  }

  /** Null: the bytes are not those of `count` fences. */
  static decode(encoded: Uint8Array, count: number): Fences | null {
    const fences = new Fences();
    let at = 0;
    for (let number = 0; number < count; number++) {
      const length = encoded[at] | (encoded[at + 1] << 8);
      if (at + 2 + length > encoded.length || length > RUN_KEY_BYTES_MAX) return null;
      fences.add(encoded, at + 2, at + 2 + length);
      at += 2 + length;
    }
    return at === encoded.length ? fences.trim() : null;
  }
}
