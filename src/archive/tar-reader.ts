/**
 * Archives being read, as they come. Headers are read here, in place: a package that makes a stream of each
 * member takes longer for a small value than storing it does.
 *
 * What GNU tar, bsdtar and other programs write is understood: POSIX ustar and pax, with records for one
 * member or for all that follow; GNU's long names; sizes in base 256; V7. Blocks of zeros are passed over, so
 * archives that were put behind each other are read as one.
 */
import { isAscii } from "node:buffer";
import { bufferOf, NOTHING } from "../util/bytes.ts";

const BLOCK_BYTES = 512;
/** Of pax records, and of long names. */
const HEADER_BYTES_MAX = 4 * 1024 * 1024;
/** What is written beyond that waits for room. */
const AHEAD_BYTES = 64 * 1024;

type PaxRecords = Record<string, string>;
export type MemberType = "file" | "contiguous-file" | "directory" | "link" | "symlink" | "device" | "pipe";

/** What an archive says of a member. */
export interface MemberHeader {
  name: string;
  size: number;
  /** Null: of a kind that is not known. */
  type: MemberType | null;
  pax: PaxRecords | null;
}

/** A member of an archive that is read. What is left of its bytes is passed over when the next one is asked for. */
export interface Member {
  head: MemberHeader;
  /** Where in the archive the next member begins. */
  end: number;
  /** All its bytes, of a small one. */
  whole(): Promise<Uint8Array>;
  /** Its bytes as they come. */
  pieces(): AsyncIterable<Uint8Array>;
}

/** Offsets and lengths of what is read of a header. */
const NAME = [0, 100] as const;
const SIZE = [124, 12] as const;
const CHECKSUM = [148, 8] as const;
const TYPE_AT = 156;
const MAGIC_AT = 257;
const PREFIX = [345, 155] as const;
/** POSIX; GNU's has blanks behind it, and no prefix. */
const USTAR = Buffer.from("ustar\u0000");

const TYPES: Readonly<Record<string, MemberType>> = {
  "\u0000": "file",
  0: "file",
  1: "link",
  2: "symlink",
  3: "device",
  4: "device",
  5: "directory",
  6: "pipe",
  7: "contiguous-file",
};
const EMPTY = bufferOf(NOTHING);
const TORN = "it ends in the middle of a member";

/** What headers before a member say of it. */
interface Said {
  pax: PaxRecords | null;
  /** Of GNU's; null: none. */
  name: string | null;
}

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

function headOf(
  block: Buffer,
  kind: string,
  bytes: number,
  { pax: own, name: long }: Said,
  forAll: PaxRecords | null,
): MemberHeader {
  const pax = forAll === null ? own : { ...forAll, ...own };
  const text = textIn(block, ...NAME);
  const isPosix = USTAR.compare(block, MAGIC_AT, MAGIC_AT + USTAR.length) === 0;
  const short = isPosix && block[PREFIX[0]] !== 0 ? `${textIn(block, ...PREFIX)}/${text}` : text;
  const name = pax?.path ?? long ?? short;
  const size = pax?.size === undefined ? bytes : Number(pax.size);
  if (!Number.isSafeInteger(size) || size < 0) throw new Error("the size of a member is none");
  const type = TYPES[kind] ?? null;
  // Old programs have no type for folders.
  return { name, size, type: type === "file" && name.endsWith("/") ? "directory" : type, pax };
}

function isEmpty(block: Buffer): boolean {
  // A header begins with a name.
  return block[0] === 0 && block.every((byte) => byte === 0);
}

/**
 * The size that a header says.
 * @throws Error where it is no header
 */
function sizeOf(block: Buffer): number {
  // As if blanks stood where the sum is.
  let sum = CHECKSUM[1] * 0x20;
  for (let at = 0; at < CHECKSUM[0]; at++) sum += block[at];
  for (let at = CHECKSUM[0] + CHECKSUM[1]; at < BLOCK_BYTES; at++) sum += block[at];
  if (sum !== numberIn(block, ...CHECKSUM)) throw new Error("a header is damaged, or this is no tar");
  return numberIn(block, ...SIZE);
}

/** A number in octal digits, or in base 256. NaN: it is none. */
function numberIn(block: Buffer, from: number, bytes: number): number {
  let number = 0;
  if (block[from] === 0x80) {
    for (let at = from + 1; at < from + bytes; at++) number = number * 256 + block[at];
    return number;
  }
  let at = from;
  while (at < from + bytes && block[at] === 0x20) at++;
  for (; at < from + bytes && block[at] !== 0 && block[at] !== 0x20; at++) {
    const digit = block[at] - 0x30;
    if (digit < 0 || digit > 7) return Number.NaN;
    number = number * 8 + digit;
  }
  return number;
}

/** A text that ends at its first zero. */
function textIn(bytes: Buffer, from: number, length: number): string {
  const zero = bytes.indexOf(0, from);
  return bytes.toString("utf8", from, zero === -1 || zero > from + length ? from + length : zero);
}

/** Records of pax: length in decimal digits, of which it is a part, a blank, name, "=", value, a line's end. */
function recordsIn(buffer: Buffer): PaxRecords {
  const records: PaxRecords = {};
  // A character is a byte.
  const text = buffer.toString("latin1");
  const isPlain = isAscii(buffer);
  for (let from = 0; from < text.length; ) {
    const blank = text.indexOf(" ", from);
    const end = from + Number(text.slice(from, blank));
    const equals = text.indexOf("=", blank);
    if (!(blank > from && equals > blank && end > equals && end <= text.length && text[end - 1] === "\n"))
      throw new Error("records of a member are damaged");
    const part = (start: number, stop: number) =>
      isPlain ? text.slice(start, stop) : buffer.toString("utf8", start, stop);
    records[part(blank + 1, equals)] = part(equals + 1, end - 1);
    from = end;
  }
  return records;
}
