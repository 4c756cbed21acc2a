/**
 * The calendar of a shard: where values lie that will end, by when. A binary heap in pieces, so that growing
 * never copies it. 16 bytes a value.
 *
 * What is entered stays until its time has come, also when the value is replaced before; so it may hold more
 * than there is. `thin` throws such entries out, a few at a time, when they are the larger part.
 */
const PIECE_BITS = 14;
const PIECE_ENTRIES = 1 << PIECE_BITS;
const PIECE_MASK = PIECE_ENTRIES - 1;
/** Below so many entries it is not worth while. */
const THINNED_ENTRIES_MIN = 65_536;

/** A heap of ends, the earliest first. */
class Heap {
  count = 0;
  /** Pairs: end, place. */
  private readonly pieces: Float64Array[] = [];

  end(index: number): number {
    return this.pieces[index >>> PIECE_BITS][(index & PIECE_MASK) * 2];
  }

  place(index: number): number {
    return this.pieces[index >>> PIECE_BITS][(index & PIECE_MASK) * 2 + 1];
  }

  private set(index: number, end: number, place: number): void {
    const piece = this.pieces[index >>> PIECE_BITS];
    const at = (index & PIECE_MASK) * 2;
    piece[at] = end;
    piece[at + 1] = place;
  }

  push(end: number, place: number): void {
    let at = this.count++;
    if (at >>> PIECE_BITS === this.pieces.length) this.pieces.push(new Float64Array(PIECE_ENTRIES * 2));
    for (let above = (at - 1) >> 1; at > 0 && this.end(above) > end; above = (at - 1) >> 1) {
      this.set(at, this.end(above), this.place(above));
      at = above;
    }
    this.set(at, end, place);
  }

  /** Takes the earliest out; there must be one. */
  pop(): void {
    const last = --this.count;
    const end = this.end(last);
    const place = this.place(last);
    let at = 0;
    for (let below = 1; below < last; below = at * 2 + 1) {
      if (below + 1 < last && this.end(below + 1) < this.end(below)) below++;
      if (this.end(below) >= end) break;
      this.set(at, this.end(below), this.place(below));
      at = below;
    }
    if (last > 0) this.set(at, end, place);
    this.shrink();
  }

  /** Takes the last one out, which leaves a heap: any one but the earliest. There must be one. */
  dropLast(): void {
    this.count--;
    this.shrink();
  }

  /** One empty piece is kept, or a count about its edge would make and drop pieces all the time. */
  private shrink(): void {
    if (this.pieces.length > (this.count >>> PIECE_BITS) + 2) this.pieces.pop();
  }
}

export class Calendar {
  private heap = new Heap();
  /** What is left to look through of the one before. */
  private old = new Heap();

  /** Ends that it has, those of values that are gone included. */
  get entries(): number {
    return this.heap.count + this.old.count;
  }

  /**
   * @param end milliseconds since 1970
   * @param place where the value's record lies (`logPlace`)
   */
  add(end: number, place: number): void {
    this.heap.push(end, place);
  }

  /** The earliest end; Infinity: there is none. */
  get next(): number {
    const { heap, old } = this;
    const first = heap.count === 0 ? Number.POSITIVE_INFINITY : heap.end(0);
    return old.count === 0 ? first : Math.min(first, old.end(0));
  }

  /** Takes the earliest out; answers the place of its value. There must be one. */
  take(): number {
    const { heap, old } = this;
    const from = heap.count === 0 || (old.count > 0 && old.end(0) < heap.end(0)) ? old : heap;
    const place = from.place(0);
    from.pop();
    return place;
  }

  /** Whether the larger part of the entries are of values that are gone, or was when `thin` began. */
  isThick(values: number): boolean {
    return this.old.count > 0 || this.heap.count > Math.max(THINNED_ENTRIES_MIN, 2 * values);
  }

  /**
   * Throws some of the entries out whose values are gone, if those are the larger part.
   * @param values that there are
   * @param isThere whether the record at a place is still what its key has
   * @param limit entries to look at
   * @returns whether there is more to do
   */
  thin(values: number, isThere: (place: number) => boolean, limit: number): boolean {
    if (!this.isThick(values)) return false;
    if (this.old.count === 0) [this.old, this.heap] = [this.heap, this.old];
    const { old, heap } = this;
    for (let looked = 0; looked < limit && old.count > 0; looked++) {
      const last = old.count - 1;
      const place = old.place(last);
      if (isThere(place)) heap.push(old.end(last), place);
      old.dropLast();
    }
    return old.count > 0;
  }
}
