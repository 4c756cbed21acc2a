/**
 * Cyclic redundancy checks that neither Node.js nor a package in the bundle has: CRC-32C (Castagnoli, RFC
 * 3720) and CRC-64/NVME (NVM Express, reflected polynomial 0x9a6c9329ac4bc9b5). Tables for eight bytes a step
 * (Kounavis and Berry, "A Systematic Approach to Building High Performance Software-based CRC Generators").
 */

const CASTAGNOLI = 0x82f63b78;
const STEP_BYTES = 8;

/** Table `step * 256 + byte`: what a byte leaves behind so many further bytes. */
function tables32(polynomial: number): Uint32Array {
  const tables = new Uint32Array(STEP_BYTES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
    tables[byte] = crc;
  }
  for (let index = 256; index < tables.length; index++)
    tables[index] = (tables[index - 256] >>> 8) ^ tables[tables[index - 256] & 255];
  return tables;
}

let castagnoli: Uint32Array | null = null;

/** @param crc of what came before; 0 at the beginning */
export function crc32c(bytes: Uint8Array, crc: number): number {
  castagnoli ??= tables32(CASTAGNOLI);
  const t = castagnoli;
  let c = ~crc;
  let at = 0;
  for (const end = bytes.length - STEP_BYTES; at <= end; at += STEP_BYTES) {
    const low = c ^ (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24));
    c =
      t[1792 + (low & 255)] ^
      t[1536 + ((low >>> 8) & 255)] ^
      t[1280 + ((low >>> 16) & 255)] ^
      t[1024 + (low >>> 24)] ^
      t[768 + bytes[at + 4]] ^
      t[512 + bytes[at + 5]] ^
      t[256 + bytes[at + 6]] ^
      t[bytes[at + 7]];
  }
  for (; at < bytes.length; at++) c = (c >>> 8) ^ t[(c ^ bytes[at]) & 255];
  return ~c >>> 0;
}

/** Of 64 bits, as two halves. */
const NVME_LOW = 0xac4bc9b5;
const NVME_HIGH = 0x9a6c9329;

interface Tables64 {
  low: Uint32Array;
  high: Uint32Array;
}

function tables64(): Tables64 {
  const low = new Uint32Array(STEP_BYTES * 256);
  const high = new Uint32Array(STEP_BYTES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let [l, h] = [byte, 0];
    for (let bit = 0; bit < 8; bit++) {
      const isOdd = l & 1;
      l = (l >>> 1) | (h << 31);
      h >>>= 1;
      if (isOdd) {
        l ^= NVME_LOW;
        h ^= NVME_HIGH;
      }
    }
    low[byte] = l;
    high[byte] = h;
  }
  for (let index = 256; index < low.length; index++) {
    const [l, h] = [low[index - 256], high[index - 256]];
    low[index] = ((l >>> 8) | (h << 24)) ^ low[l & 255];
    high[index] = (h >>> 8) ^ high[l & 255];
  }
  return { low, high };
}

let nvme: Tables64 | null = null;

/** A CRC-64/NVME over bytes that come in pieces. */
export class Crc64Nvme {
  private low = 0xffffffff;
  private high = 0xffffffff;

  update(bytes: Uint8Array): void {
    nvme ??= tables64();
    const { low: tl, high: th } = nvme;
    let [l, h] = [this.low, this.high];
    let at = 0;
    for (const end = bytes.length - STEP_BYTES; at <= end; at += STEP_BYTES) {
      l ^= bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
      h ^= bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24);
      const a = 1792 + (l & 255);
      const b = 1536 + ((l >>> 8) & 255);
      const c = 1280 + ((l >>> 16) & 255);
      const d = 1024 + (l >>> 24);
      const e = 768 + (h & 255);
      const f = 512 + ((h >>> 8) & 255);
      const g = 256 + ((h >>> 16) & 255);
      const i = h >>> 24;
      l = tl[a] ^ tl[b] ^ tl[c] ^ tl[d] ^ tl[e] ^ tl[f] ^ tl[g] ^ tl[i];
      h = th[a] ^ th[b] ^ th[c] ^ th[d] ^ th[e] ^ th[f] ^ th[g] ^ th[i];
    }
    for (; at < bytes.length; at++) {
      const index = (l ^ bytes[at]) & 255;
      l = ((l >>> 8) | (h << 24)) ^ tl[index];
      h = (h >>> 8) ^ th[index];
    }
    this.low = l >>> 0;
    this.high = h >>> 0;
  }

  /** The highest byte first. */
  digest(): Buffer {
    const sum = Buffer.alloc(8);
    sum.writeUInt32BE(~this.high >>> 0, 0);
    sum.writeUInt32BE(~this.low >>> 0, 4);
    return sum;
  }
}
