/**
 * Archives being read, as they come. A package that makes a stream of each member takes longer for a small
 * value than storing it does.
 *
 * Blocks of zeros are passed over, so archives that were put behind each other are read as one.
 */
import { bufferOf, NOTHING } from "../util/bytes.ts";
import {
  BLOCK_BYTES,
  headOf,
  isEmpty,
  type MemberHeader,
  type PaxRecords,
  recordsIn,
  type Said,
  sizeOf,
  TYPE_AT,
  textIn,
} from "./tar-header.ts";

/** Of pax records, and of long names. */
const HEADER_BYTES_MAX = 4 * 1024 * 1024;
/** What is written beyond that waits for room. */
const AHEAD_BYTES = 64 * 1024;

/** A member of an archive that is read. Asking for the next one passes over what is left of its bytes. */
export interface Member {
  head: MemberHeader;
  /** Where in the archive the next member begins. */
  end: number;
  /** All its bytes, of a small one. */
  whole(): Promise<Uint8Array>;
  /** Its bytes as they come. */
  pieces(): AsyncIterable<Uint8Array>;
}

const EMPTY = bufferOf(NOTHING);
const TORN = "it ends in the middle of a member";

/** An archive being read. */
export class ArchiveReader {
  private readonly queue: Buffer[] = [];
  private queuedBytes = 0;
  /** How much of the first of them is taken. */
  private taken = 0;
  /** Bytes that are taken, of all. */
  private at = 0;
  private isOver = false;
  private isGivenUp = false;
  /** Somebody waits for room. */
  private isFull = false;
  private wake = (): void => {};
  onDrain = (): void => {};

  /** Takes the next bytes, which must not change any more. False: wait for `onDrain`. */
  write(bytes: Uint8Array): boolean {
    if (bytes.length > 0) {
      this.queue.push(bufferOf(bytes));
      this.queuedBytes += bytes.length;
      this.wake();
    }
    this.isFull = this.queuedBytes > AHEAD_BYTES;
    return !this.isFull;
  }

  /** What `write` answered last, or would answer now. */
  get hasRoom(): boolean {
    return !this.isFull;
  }

  /** Nothing follows. */
  end(): void {
    this.isOver = true;
    this.wake();
  }

  /** Nothing more is read: `members` end, and a value that is not whole is an error. */
  destroy(): void {
    this.isGivenUp = true;
    this.isOver = true;
    this.queue.length = 0;
    this.queuedBytes = 0;
    this.wake();
    this.drain();
  }

  /**
   * The members, one after the other.
   * @throws Error that says what is wrong with the archive
   */
  async *members(): AsyncGenerator<Member> {
    let forAll: PaxRecords | null = null;
    let said: Said = { pax: null, name: null };
    for (;;) {
      const block = this.take(BLOCK_BYTES) ?? (await this.await(BLOCK_BYTES));
      if (block === null) return;
      if (isEmpty(block)) continue;
      const type = String.fromCharCode(block[TYPE_AT]);
      const size = sizeOf(block);
      if (type === "x" || type === "g" || type === "L" || type === "N" || type === "K") {
        if (!(size <= HEADER_BYTES_MAX)) throw new Error("a name, or what is said of a member, is too long");
        const bytes = this.take(size) ?? (await this.await(size));
        if (bytes === null) throw new Error(TORN);
        await this.skip(-size & (BLOCK_BYTES - 1));
        if (type === "g") forAll = Object.assign(forAll ?? {}, recordsIn(bytes));
        else if (type === "x") said.pax = recordsIn(bytes);
        else if (type !== "K") said.name = textIn(bytes, 0, bytes.length);
        continue;
      }
      const head = headOf(block, type, size, said, forAll);
      said = { pax: null, name: null };
      const body = new Body(this, head.type === "directory" ? 0 : head.size);
      const padding = -body.left & (BLOCK_BYTES - 1);
      const end = this.at + body.left + padding;
      yield { head, end, whole: () => body.whole(), pieces: () => body.pieces() };
      if (body.left + padding > 0) await this.skip(body.left + padding);
      if (this.isGivenUp) return;
    }
  }

  /** The next bytes, so many; null: they have not come. */
  take(bytes: number): Buffer | null {
    if (bytes > this.queuedBytes) return null;
    if (bytes === 0) return EMPTY;
    if (this.queue[0].length - this.taken >= bytes) return this.piece(bytes);
    const whole = Buffer.allocUnsafe(bytes);
    for (let filled = 0; filled < bytes; ) {
      const piece = this.piece(bytes - filled) ?? EMPTY;
      whole.set(piece, filled);
      filled += piece.length;
    }
    return whole;
  }

  /** The next bytes that have come, so many at most; null: none have. */
  piece(bytesMax: number): Buffer | null {
    if (this.queuedBytes === 0) return null;
    const [first] = this.queue;
    const from = this.taken;
    const end = Math.min(first.length, from + bytesMax);
    if (end === first.length) {
      this.queue.shift();
      this.taken = 0;
    } else this.taken = end;
    this.at += end - from;
    this.queuedBytes -= end - from;
    if (this.isFull && this.queuedBytes <= AHEAD_BYTES) this.drain();
    return from === 0 && end === first.length ? first : first.subarray(from, end);
  }

  /**
   * Waits for bytes. Null: there are none any more.
   * @throws Error where only some came
   */
  async await(bytes: number): Promise<Buffer | null> {
    for (;;) {
      const found = this.take(bytes);
      if (found !== null) return found;
      if ((this.isOver && this.queuedBytes === 0) || !(await this.more())) return null;
    }
  }

  /**
   * Waits until more has come. False: the archive was given up.
   * @throws Error: nothing comes any more
   */
  async more(): Promise<boolean> {
    if (this.isGivenUp) return false;
    if (this.isOver) throw new Error(TORN);
    // What waits is less than what is needed.
    if (this.isFull) this.drain();
    await new Promise<void>((resolve) => {
      this.wake = resolve;
    });
    return true;
  }

  private async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0; ) {
      const piece = this.piece(left);
      if (piece !== null) left -= piece.length;
      else if (!(await this.more())) return;
    }
  }

  private drain(): void {
    this.isFull = false;
    this.onDrain();
  }
}

/** The bytes of a member. */
class Body {
  private readonly reader: ArchiveReader;
  /** That nobody has read. */
  left: number;

  constructor(reader: ArchiveReader, size: number) {
    this.reader = reader;
    this.left = size;
  }

  async whole(): Promise<Uint8Array> {
    const bytes = this.reader.take(this.left) ?? (await this.reader.await(this.left));
    if (bytes === null) throw new Error(TORN);
    this.left = 0;
    return bytes;
  }

  async *pieces(): AsyncGenerator<Uint8Array> {
    while (this.left > 0) {
      const piece = this.reader.piece(this.left);
      if (piece !== null) {
        this.left -= piece.length;
        yield piece;
      } else if (!(await this.reader.more())) throw new Error(TORN);
    }
  }
}
