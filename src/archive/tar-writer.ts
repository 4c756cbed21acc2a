/**
 * Archives being written, in pieces. Headers are laid out here, in place: a package that makes
 * streams of each member takes longer for a small value than all else that an export does.
 *
 *   a member:  header of its pax records │ records, padded │ its own header │ bytes, padded
 *   the end:   1024 zeros
 *
 * All is in blocks of 512 bytes. Formats: POSIX ustar and pax; sizes that 11 octal digits do not hold are in
 * base 256, as GNU tar has them.
 */
import type { MemberHead } from "./member.ts";
import { BLOCK_BYTES, MAGIC_AT, TYPE_AT, USTAR } from "./tar-header.ts";

/** An archive ends in so many zeros. */
export const END_BYTES = 1024;
const PIECE_BYTES = 128 * 1024;
/** Bytes that come before their reader takes them. */
const AHEAD_BYTES = 2 * PIECE_BYTES;

/** Offsets in a header; each number has so many octal digits, and a blank behind them. */
const AT = {
  name: 0,
  mode: 100,
  uid: 108,
  gid: 116,
  size: 124,
  mtime: 136,
  checksum: 148,
  type: TYPE_AT,
} as const;
const DEVICE_MAJOR_AT = 329;
const DEVICE_MINOR_AT = 337;
const SHORT_DIGITS = 6;
const LONG_DIGITS = 11;
const SIZE_BYTES = 12;
const BLANK = 0x20;
const ZERO = 0x30;
const TYPE_FILE = 0x30;
const TYPE_PAX = 0x78;
/** Readers take a member's name from its records. */
const NAME = Buffer.from("PaxHeader");
const ZEROS = Buffer.alloc(END_BYTES);
const MAGIC = Buffer.from(`${USTAR}00`);
const NOTHING_MORE = new Error("the archive was given up");

/** An archive being written. What is put in comes out of `pieces`, which somebody must read. */
export class ArchiveWriter {
  private piece: Buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
  private filled = 0;
  private queue: Uint8Array[] = [];
  private queuedBytes = 0;
  private isOver = false;
  private isGivenUp = false;
  private failure: Error | null = null;
  /** The reader goes on. */
  private wake = (): void => {};
  /** Who puts values in goes on. */
  private go = (): void => {};

  /**
   * The archive's bytes, each piece of them good until the next one is asked for.
   * @throws what `destroy` was given
   */
  async *pieces(): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.failure !== null) throw this.failure;
      const piece = this.queue.shift();
      if (piece !== undefined) {
        yield piece;
        this.queuedBytes -= piece.length;
        this.go();
      } else if (this.filled > 0) {
        // What comes within this turn makes a larger piece.
        if (!this.isOver) await new Promise((resolve) => setImmediate(resolve));
        if (this.queue.length === 0) this.flush();
      } else if (this.isOver) return;
      else
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
    }
  }

  /** Puts a value in that is at hand. */
  async put(head: MemberHead, bytes: Uint8Array): Promise<void> {
    this.begin(head, bytes.length);
    this.write(bytes);
    this.pad(bytes.length);
    if (this.queuedBytes > AHEAD_BYTES) await this.room();
  }

  /**
   * Puts a value in that comes in pieces, each of which has to be good until the next one is asked for.
   * @throws what `pieces` throws, or that they are not as many bytes as the head says
   */
  async putStream(head: MemberHead, pieces: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      this.begin(head, head.size);
      let bytes = 0;
      for await (const piece of pieces) {
        bytes += piece.length;
        if (piece.length >= PIECE_BYTES) await this.pass(piece);
        else {
          this.write(piece);
          if (this.queuedBytes > AHEAD_BYTES) await this.room();
        }
        // Nobody takes the rest: whoever gives it is to be told now.
        if (this.isOver) throw this.failure ?? NOTHING_MORE;
      }
      if (bytes !== head.size) throw new Error(`a value of ${head.size} bytes came as ${bytes}`);
      this.pad(bytes);
    } catch (error) {
      this.destroy(error as Error);
      throw error;
    }
  }

  /** Nothing follows. */
  end(): void {
    if (this.isGivenUp) return;
    this.write(ZEROS);
    this.isOver = true;
    this.wake();
  }

  /** Breaks it off: `pieces` throw then, or end, where there is no error. */
  destroy(error?: Error): void {
    this.failure ??= error ?? null;
    this.isGivenUp = true;
    this.isOver = true;
    this.queue = [];
    this.queuedBytes = 0;
    this.filled = 0;
    this.wake();
    this.go();
  }

  /** Hands bytes on as they are, and waits until their reader has done with them. */
  private async pass(bytes: Uint8Array): Promise<void> {
    this.flush();
    for (let from = 0; from < bytes.length; from += PIECE_BYTES)
      this.queue.push(bytes.subarray(from, from + PIECE_BYTES));
    this.queuedBytes += bytes.length;
    this.wake();
    await this.room(0);
  }

  private async room(bytes = AHEAD_BYTES): Promise<void> {
    while (this.queuedBytes > bytes)
      await new Promise<void>((resolve) => {
        this.go = resolve;
      });
  }

  private begin({ name, mtime, mode, pax }: MemberHead, size: number): void {
    if (this.isOver) throw this.failure ?? NOTHING_MORE;
    let text = recordOf("path", name);
    for (const key in pax) text += recordOf(key, pax[key]);
    const records = Buffer.from(text);
    this.header(TYPE_PAX, records.length, mode, mtime);
    this.write(records);
    this.pad(records.length);
    this.header(TYPE_FILE, size, mode, mtime);
  }

  private header(type: number, size: number, mode: number, mtime: Date): void {
    if (this.filled + BLOCK_BYTES > PIECE_BYTES) this.flush();
    const { piece, filled } = this;
    piece.set(TEMPLATE, filled);
    const seconds = Math.max(0, Math.floor(mtime.getTime() / 1000));
    piece[filled + AT.type] = type;
    const sum =
      TEMPLATE_SUM +
      type +
      octal(piece, filled + AT.mode, mode, SHORT_DIGITS) +
      (size < 8 ** LONG_DIGITS
        ? octal(piece, filled + AT.size, size, LONG_DIGITS)
        : base256(piece, filled + AT.size, size)) +
      octal(piece, filled + AT.mtime, seconds, LONG_DIGITS);
    octal(piece, filled + AT.checksum, sum, SHORT_DIGITS);
    this.took(BLOCK_BYTES);
  }

  private write(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; ) {
      if (this.filled === PIECE_BYTES) this.flush();
      const end = Math.min(bytes.length, from + PIECE_BYTES - this.filled);
      this.piece.set(from === 0 && end === bytes.length ? bytes : bytes.subarray(from, end), this.filled);
      this.took(end - from);
      from = end;
    }
  }

  /** Fills up the last block of something. */
  private pad(bytes: number): void {
    this.write(ZEROS.subarray(0, -bytes & (BLOCK_BYTES - 1)));
  }

  private took(bytes: number): void {
    const isFirst = this.filled === 0;
    this.filled += bytes;
    if (isFirst) this.wake();
  }

  /** Hands on what is there of a piece. */
  private flush(): void {
    if (this.filled === 0) return;
    this.queue.push(this.piece.subarray(0, this.filled));
    this.queuedBytes += this.filled;
    this.piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
    this.filled = 0;
    this.wake();
  }
}

/** A pax record: its own length in decimal digits, of which it is a part, its name and its value. */
function recordOf(name: string, value: string): string {
  const rest = ` ${name}=${value}\n`;
  const bytes = Buffer.byteLength(rest);
  let digits = String(bytes).length;
  if (String(bytes + digits).length > digits) digits++;
  return `${bytes + digits}${rest}`;
}

/** Both answer the sum of the bytes that they have written. */
function octal(block: Buffer, at: number, value: number, digits: number): number {
  let rest = value;
  let sum = BLANK;
  for (let digit = digits - 1; digit >= 0; digit--) {
    const byte = ZERO + (rest % 8);
    block[at + digit] = byte;
    sum += byte;
    rest = Math.floor(rest / 8);
  }
  block[at + digits] = BLANK;
  return sum;
}

function base256(block: Buffer, at: number, value: number): number {
  let rest = value;
  let sum = 0x80;
  for (let byte = SIZE_BYTES - 1; byte > 0; byte--) {
    block[at + byte] = rest % 256;
    sum += rest % 256;
    rest = Math.floor(rest / 256);
  }
  block[at] = 0x80;
  return sum;
}

/** What all headers have in common, and the sum of its bytes, as if blanks stood where the sum goes. */
const TEMPLATE = Buffer.alloc(BLOCK_BYTES);
NAME.copy(TEMPLATE, AT.name);
for (const at of [AT.uid, AT.gid, DEVICE_MAJOR_AT, DEVICE_MINOR_AT]) octal(TEMPLATE, at, 0, SHORT_DIGITS);
MAGIC.copy(TEMPLATE, MAGIC_AT);
const TEMPLATE_SUM = TEMPLATE.reduce((sum, byte) => sum + byte, 8 * BLANK);
