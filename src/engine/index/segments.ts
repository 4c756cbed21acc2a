/**
 * The segments of an index (key-index.ts), on the writer's side: rows of blocks, which grow by a block and
 * split in two. A change is built aside in fresh blocks, then switched over under the lock.
 */
import { grow, IndexBlocks } from "./blocks.ts";
import {
  BLOCK_ENTRIES,
  BLOCK_WORDS,
  BLOCKS_MAX,
  blockIndexOf,
  DEPTH_MAX,
  firstWordOf,
  ROW_BLOCKS,
  ROW_CHAINED,
  ROW_DEPTH,
  ROW_ENTRIES,
  ROW_FIRST_BLOCK,
  ROW_WORDS,
  ROWS_BYTES_MAX,
  ROWS_STEP_BYTES,
  TAG_BITS,
  tagOf,
} from "./memory.ts";

/** A segment of this many blocks splits, unless its depth is at the maximum. */
const SPLIT_BLOCKS = 16;
/** A segment grows from this load on. */
export const LOAD_MAX = 0.75;

/** Entries dealt out over fresh blocks that nobody sees yet. */
interface Deal {
  blocks: number[];
  /** Entries in these blocks, and blocks chained to them. */
  entries: number;
  chained: number;
}

export class IndexSegments extends IndexBlocks {
  protected segmentCount = 0;
  /** How often a segment has grown or split. */
  growths = 0;
  /** Entries of a segment that grows. */
  private word0s = new Int32Array(0);
  private word1s = new Int32Array(0);

  /** The block of its segment that an entry with this tag belongs to. */
  protected blockOf(row: number, tag: number): number {
    return this.rows[row + ROW_FIRST_BLOCK + blockIndexOf(tag, this.rows[row + ROW_BLOCKS])];
  }

  protected newBlock(): number {
    const block = this.takeBlock(true);
    if (block < 0) throw new Error("index: out of memory");
    return block;
  }

  /** Makes sure of the memory for a segment's row. False: there is none. */
  private hasRow(segment: number): boolean {
    const { rows } = this.memory;
    if ((segment + 1) * ROW_WORDS * 4 <= rows.byteLength) return true;
    try {
      grow(rows, Math.min(ROWS_BYTES_MAX, rows.byteLength + ROWS_STEP_BYTES));
    } catch {
      return false;
    }
    return true;
  }

  private setRow(row: number, depth: number, { blocks, entries, chained }: Deal): void {
    this.rows[row + ROW_BLOCKS] = blocks.length;
    this.rows[row + ROW_DEPTH] = depth;
    this.rows[row + ROW_ENTRIES] = entries;
    this.rows[row + ROW_CHAINED] = chained;
    this.rows.set(blocks, row + ROW_FIRST_BLOCK);
  }

  protected newSegment(depth: number, deal: Deal, reused?: number): number {
    const segment = reused ?? this.segmentCount++;
    if (!this.hasRow(segment)) throw new Error("index: out of memory");
    this.setRow(this.rowOf(segment), depth, deal);
    return segment;
  }

  /**
   * Gives the segment of a cell one block more, or splits it.
   * @returns false: it cannot grow, or there is no memory to; then nothing has changed
   */
  protected grow(cell: number): boolean {
    const segment = this.directory[cell];
    const row = this.rowOf(segment);
    const count = this.rows[row + ROW_BLOCKS];
    const depth = this.rows[row + ROW_DEPTH];
    const splits = count >= SPLIT_BLOCKS && depth < DEPTH_MAX;
    if ((!splits && count === BLOCKS_MAX) || (splits && !this.hasRow(this.segmentCount))) return false;
    const old = Array.from(this.rows.subarray(row + ROW_FIRST_BLOCK, row + ROW_FIRST_BLOCK + count));
    const gathered = this.gather(old);
    if (splits) {
      const bit = 1 << (TAG_BITS - 1 - depth);
      const first = this.sort(gathered, bit);
      const low = this.deal(0, first, blocksFor(first));
      const high = low && this.deal(first, gathered, blocksFor(gathered - first));
      if (low === null || high === null) {
        if (low !== null) for (const block of low.blocks) this.giveBack(block);
        return false;
      }
      const other = this.newSegment(depth + 1, high);
      const span = 1 << (DEPTH_MAX - depth);
      const firstCell = cell - (cell % span);
      this.begin();
      this.setRow(row, depth + 1, low);
      this.directory.fill(other, firstCell + span / 2, firstCell + span);
      this.end();
    } else {
      const larger = this.deal(0, gathered, count + 1);
      if (larger === null) return false;
      this.begin();
      this.setRow(row, depth, larger);
      this.end();
    }
    this.growths++;
    for (const block of old) this.giveBack(block);
    return true;
  }

  /** Notes the entries of blocks and of their chains; answers how many they are. */
  private gather(blocks: readonly number[]): number {
    let entries = 0;
    for (const first of blocks)
      for (let block = first; block >= 0; block = this.nextOf(block)) {
        if (this.word0s.length < entries + BLOCK_ENTRIES) {
          const length = Math.max(BLOCKS_MAX * BLOCK_ENTRIES, this.word0s.length * 2);
          [this.word0s, this.word1s] = [this.word0s, this.word1s].map((words) => {
            const larger = new Int32Array(length);
            larger.set(words);
            return larger;
          });
        }
        const words = this.arenaOf(block);
        const base = firstWordOf(block);
        for (let at = base; at < base + BLOCK_WORDS; at += 2) {
          if (words[at + 1] === 0) continue;
          this.word0s[entries] = words[at];
          this.word1s[entries++] = words[at + 1];
        }
      }
    return entries;
  }

  /** Moves the gathered entries without a bit of the tag before those with it; answers how many they are. */
  private sort(count: number, bit: number): number {
    const { word0s, word1s } = this;
    let first = 0;
    for (let i = 0; i < count; i++) {
      if ((tagOf(word0s[i]) & bit) !== 0) continue;
      const [word0, word1] = [word0s[i], word1s[i]];
      word0s[i] = word0s[first];
      word1s[i] = word1s[first];
      word0s[first] = word0;
      word1s[first++] = word1;
    }
    return first;
  }

  /**
   * Deals the gathered entries `from` to `to` - 1 out over so many fresh blocks; null, and nothing kept:
   * there is no memory.
   */
  private deal(from: number, to: number, count: number): Deal | null {
    const deal: Deal = { blocks: [], entries: 0, chained: 0 };
    const { blocks } = deal;
    const fail = (): null => {
      for (const block of blocks) this.giveBack(block);
      return null;
    };
    while (blocks.length < count) {
      const block = this.takeBlock(false);
      if (block < 0) return fail();
      blocks.push(block);
    }
    for (let i = from; i < to; i++) {
      const word0 = this.word0s[i];
      const first = blocks[blockIndexOf(tagOf(word0), count)];
      if (!this.seat(first, word0, false)) return fail();
      this.sitDown(word0, this.word1s[i]);
      if (this.seated.block === first) deal.entries++;
      else if (this.seated.linkFrom >= 0) deal.chained++;
    }
    return deal;
  }
}

/** Blocks for half of a segment that is split, with room to grow. */
function blocksFor(entries: number): number {
  const needed = Math.floor(entries / (BLOCK_ENTRIES * LOAD_MAX)) + 1;
  return Math.min(BLOCKS_MAX, Math.max(SPLIT_BLOCKS / 2 + 1, needed));
}
