/**
 * The blocks of an index (key-index.ts), on the writer's side: getting and giving back, and where an entry
 * stands in a chain of them.
 *
 *   block of the segment ► link ► block ► link ► block
 *
 * A block takes an entry up to PROBES_MAX places after its home, which is a few bits of the entry's tag. What
 * it cannot take goes into the next block of its chain, there in the same way. Chains are rare: entries with
 * one tag, or with neighbouring ones, and a segment that cannot grow any more. A chain takes whatever memory
 * there is for, so an entry always finds a place; and it has no empty blocks.
 */
import {
  ARENA_BLOCK_BITS,
  ARENA_STEP_BYTES,
  ARENAS,
  BLOCK_ENTRIES,
  BLOCK_WORDS,
  blocksIn,
  CONTROL_ARENA_STEPS,
  CONTROL_SEQUENCE,
  firstWordOf,
  type IndexMemory,
  LINK_BYTES,
  PROBES_MAX,
  tagOf,
} from "./memory.ts";
import { IndexReader } from "./reader.ts";

export interface GrowableSharedArrayBuffer extends SharedArrayBuffer {
  grow(bytes: number): void;
}

/** Where an entry stands, or can stand. */
export interface Seat {
  block: number;
  words: Int32Array;
  /** Of the entry's first word in `words`. */
  at: number;
  /** The last block of the chain, when `block` is new and not yet linked to it; else -1. */
  linkFrom: number;
}

export class IndexBlocks extends IndexReader {
  protected readonly freeBlocks: number[] = [];
  protected blockCount = 0;
  /** Blocks that are kept back for entries to come. */
  protected reserved = 0;
  /** What `seat` and `locateIn` answer; valid until the next call. */
  protected readonly seated: Seat = { block: 0, words: new Int32Array(0), at: 0, linkFrom: -1 };

  protected constructor(memory: IndexMemory) {
    super(memory);
  }

  protected begin(): void {
    Atomics.add(this.control, CONTROL_SEQUENCE, 1);
  }
  protected end(): void {
    Atomics.add(this.control, CONTROL_SEQUENCE, 1);
  }

  /** Makes sure of so many blocks, whatever else is taken by growing. False: there is no memory for them. */
  reserve(blocks: number): boolean {
    while (this.atHand < blocks) if (!this.extend()) return false;
    this.reserved = blocks;
    return true;
  }

  /** Blocks that can be taken without more memory. */
  private get atHand(): number {
    return this.freeBlocks.length + blocksIn(this.control[CONTROL_ARENA_STEPS]) - this.blockCount;
  }

  /** Gets memory for more blocks. False: there is none. */
  private extend(): boolean {
    const blocks = blocksIn(this.control[CONTROL_ARENA_STEPS]);
    const arena = blocks >>> ARENA_BLOCK_BITS;
    if (arena >= ARENAS) return false;
    const { arenas, links } = this.memory;
    try {
      grow(links, blocksIn(this.control[CONTROL_ARENA_STEPS] + 1) * LINK_BYTES);
      grow(arenas[arena], arenas[arena].byteLength + ARENA_STEP_BYTES);
    } catch {
      return false;
    }
    this.control[CONTROL_ARENA_STEPS]++;
    return true;
  }

  /**
   * A block of zeros, without a link; -1: there is none, or only what is reserved. Blocks just given back may
   * still be read by a front: the sequence lock makes it start over.
   */
  protected takeBlock(mayUseReserve: boolean): number {
    const wanted = mayUseReserve ? 1 : this.reserved + 1;
    while (this.atHand < wanted) if (!this.extend()) return -1;
    const block = this.freeBlocks.pop();
    if (block === undefined) return this.blockCount++;
    const base = firstWordOf(block);
    // A reader that still probes this block must notice: the counter moves around the wipe.
    this.begin();
    this.arenaOf(block).fill(0, base, base + BLOCK_WORDS);
    this.link(block, -1);
    this.end();
    return block;
  }

  protected link(block: number, next: number): void {
    // Looks again at the size of `links` if it must.
    this.nextOf(block);
    this.links[block] = next + 1;
  }

  /** Gives a block and all that are chained to it back. */
  protected giveBack(first: number): void {
    for (let block = first; block >= 0; block = this.nextOf(block)) this.freeBlocks.push(block);
  }

  /** Position of a free place for an entry in the words of a block, or -1. */
  protected roomIn(words: Int32Array, block: number, word0: number): number {
    const base = firstWordOf(block);
    const mask = BLOCK_ENTRIES - 1;
    const home = tagOf(word0) & mask;
    const end = home + PROBES_MAX;
    for (let entry = home; entry < end; entry++) {
      const at = base + (entry & mask) * 2;
      if (words[at + 1] === 0) return at;
    }
    return -1;
  }

  /**
   * Finds a place for an entry in the chain of a block, or takes a new block for it. False: there is none to
   * take.
   */
  protected seat(first: number, word0: number, mayUseReserve: boolean): boolean {
    const { seated } = this;
    seated.linkFrom = -1;
    let last = first;
    for (let block = first; block >= 0; block = this.nextOf(block)) {
      const words = this.arenaOf(block);
      const at = this.roomIn(words, block, word0);
      if (at >= 0) {
        seated.block = block;
        seated.words = words;
        seated.at = at;
        return true;
      }
      last = block;
    }
    const fresh = this.takeBlock(mayUseReserve);
    if (fresh < 0) return false;
    seated.block = fresh;
    seated.words = this.arenaOf(fresh);
    seated.at = firstWordOf(fresh) + (tagOf(word0) & (BLOCK_ENTRIES - 1)) * 2;
    seated.linkFrom = last;
    return true;
  }

  /** Puts an entry where `seat` has found a place. */
  protected sitDown(word0: number, word1: number): void {
    const { block, words, at, linkFrom } = this.seated;
    words[at] = word0;
    words[at + 1] = word1;
    if (linkFrom >= 0) this.link(linkFrom, block);
  }

  /** Finds an entry in the chain of a block. False: it is not there. */
  protected locateIn(first: number, word0: number, word1: number): boolean {
    for (let block = first; block >= 0; block = this.nextOf(block)) {
      const words = this.arenaOf(block);
      const base = firstWordOf(block);
      const mask = BLOCK_ENTRIES - 1;
      const home = tagOf(word0) & mask;
      const end = home + PROBES_MAX;
      for (let entry = home; entry < end; entry++) {
        const at = base + (entry & mask) * 2;
        if (words[at + 1] === 0) break;
        if (words[at + 1] !== word1 || words[at] !== word0) continue;
        const { seated } = this;
        seated.block = block;
        seated.words = words;
        seated.at = at;
        seated.linkFrom = -1;
        return true;
      }
    }
    return false;
  }

  /** Empties a place and closes the gap (backward shift, Knuth, vol. 3, 6.4, algorithm R). */
  private closeGap(words: Int32Array, at: number): void {
    const base = at - (at % BLOCK_WORDS);
    let hole = (at - base) >>> 1;
    let next = hole;
    for (let probes = 1; probes < BLOCK_ENTRIES; probes++) {
      next = (next + 1) & (BLOCK_ENTRIES - 1);
      const word1 = words[base + next * 2 + 1];
      if (word1 === 0) break;
      const home = tagOf(words[base + next * 2]) & (BLOCK_ENTRIES - 1);
      // The entry may fill the hole if its home is not between the hole and itself, going round.
      if (((next - home) & (BLOCK_ENTRIES - 1)) >= ((next - hole) & (BLOCK_ENTRIES - 1))) {
        words[base + hole * 2] = words[base + next * 2];
        words[base + hole * 2 + 1] = word1;
        hole = next;
      }
    }
    words[base + hole * 2] = words[base + hole * 2 + 1] = 0;
  }

  /**
   * Takes the entry that `locateIn` has found out of the chain of `first`. An entry of the chain's last block
   * moves into its place, so that chains get shorter as they lose entries; a last block that is empty then is
   * given back. To be called between `begin` and `end`.
   * @returns how many entries `first` has lost, and how many blocks the chain
   */
  protected takeOut(first: number): { entries: number; blocks: number } {
    const { block, words, at } = this.seated;
    this.closeGap(words, at);
    let entries = block === first ? 1 : 0;
    let last = first;
    let previous = -1;
    for (let next = this.nextOf(first); next >= 0; next = this.nextOf(next)) {
      previous = last;
      last = next;
    }
    if (previous < 0) return { entries, blocks: 0 };
    const lastWords = this.arenaOf(last);
    const base = firstWordOf(last);
    let isEmpty = true;
    for (let from = base; from < base + BLOCK_WORDS; from += 2) {
      if (lastWords[from + 1] === 0) continue;
      const to = last === block ? -1 : this.roomIn(words, block, lastWords[from]);
      if (to < 0) {
        isEmpty = false;
        continue;
      }
      words[to] = lastWords[from];
      words[to + 1] = lastWords[from + 1];
      this.closeGap(lastWords, from);
      if (block === first) entries--;
      isEmpty = lastWords.subarray(base, base + BLOCK_WORDS).every((word) => word === 0);
      break;
    }
    if (!isEmpty) return { entries, blocks: 0 };
    this.link(previous, -1);
    this.freeBlocks.push(last);
    return { entries, blocks: 1 };
  }
}

/** Grows a shared buffer to so many bytes, if it is smaller. Throws where the system has no memory. */
export function grow(buffer: SharedArrayBuffer, bytes: number): void {
  if (buffer.byteLength < bytes) (buffer as GrowableSharedArrayBuffer).grow(bytes);
}
