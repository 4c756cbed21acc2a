/** Archives as streams: the only importer of tar-stream. */
import { type Extract, extract, type Header, type Pack, pack } from "tar-stream";
import { bufferOf } from "../util/bytes.ts";
import type { MemberHead } from "./member.ts";

/** An archive ends in so many zeros. */
export const END_BYTES = 1024;
const BLOCK_BYTES = 512;
/** Bytes that come before their reader takes them. */
const AHEAD_BYTES = 256 * 1024;

/** Pieces that are handed on are about so large: tar-stream gives a header, or a padding, at a time. */
const PIECE_BYTES = 128 * 1024;

/** An archive being written. What is put in comes out of `pieces`, which somebody must read. */
export class ArchiveWriter {
  private readonly pack: Pack = pack({ highWaterMark: AHEAD_BYTES });
  private queue: Uint8Array[] = [];
  private queuedBytes = 0;
  private isOver = false;
  private failure: Error | null = null;
  private wake = (): void => {};

  constructor() {
    this.pack.on("data", (piece) => {
      const bytes = piece as Uint8Array;
      this.queue.push(bytes);
      this.queuedBytes += bytes.length;
      if (this.queuedBytes >= PIECE_BYTES) {
        this.pack.pause();
        this.wake();
      }
      // What comes within this turn makes a larger piece.
      else if (this.queue.length === 1) setImmediate(() => this.wake());
    });
    this.pack.on("error", (error) => {
      this.failure = error;
    });
    this.pack.on("close", () => {
      this.isOver = true;
      this.wake();
    });
  }

  /**
   * The archive's bytes.
   * @throws what `destroy` was given
   */
  async *pieces(): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.failure !== null) throw this.failure;
      if (this.queuedBytes > 0) {
        const piece = Buffer.concat(this.queue);
        this.queue = [];
        this.queuedBytes = 0;
        this.pack.resume();
        yield piece;
      } else if (this.isOver) return;
      else
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
    }
  }

  /** Puts a value in that is at hand. Its bytes must not change any more. */
  put(head: MemberHead, bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const whole = bufferOf(bytes);
      this.pack.entry({ ...head, type: "file" }, whole, (error) =>
        error === null || error === undefined ? resolve() : reject(error),
      );
    });
  }

  /**
   * Puts a value in that comes in pieces.
   * @throws what `pieces` throws, or that they are not as many bytes as the head says
   */
  async putStream(head: MemberHead, pieces: AsyncIterable<Uint8Array>): Promise<void> {
    let settle: (error?: Error | null) => void = () => {};
    const done = new Promise<void>((resolve, reject) => {
      settle = (error) => (error === null || error === undefined ? resolve() : reject(error));
    });
    done.catch(() => {});
    const entry = this.pack.entry({ ...head, type: "file" }, (error) => settle(error));
    entry.on("error", (error: Error) => settle(error));
    try {
      for await (const piece of pieces)
        if (!entry.write(piece)) await new Promise<void>((resolve) => entry.once("drain", () => resolve()));
      entry.end(null);
    } catch (error) {
      this.destroy(error as Error);
      throw error;
    }
    await done;
  }

  /** Nothing follows. */
  end(): void {
    this.pack.finalize();
  }

  /** Breaks it off: `pieces` throw then. */
  destroy(error?: Error): void {
    this.pack.destroy(error);
  }
}

/** A member of an archive that is read. Its bytes must be read, or skipped, before the next one comes. */
export interface Member {
  head: Pick<Header, "name" | "size"> & { type: Header["type"] | null; pax: Record<string, string> | null };
  bytes: AsyncIterable<Uint8Array>;
  /** Where in the archive the next member begins. */
  end: number;
  skip(): void;
}

/** An archive being read. */
export class ArchiveReader {
  private readonly extract: Extract = extract();
  private failure: Error | null = null;

  constructor() {
    this.extract.on("error", (error) => {
      this.failure = error;
    });
  }

  /** Takes the next bytes, which must not change any more. False: wait for `onDrain`. */
  write(bytes: Uint8Array): boolean {
    return this.extract.write(bytes);
  }

  set onDrain(call: () => void) {
    this.extract.on("drain", call);
  }

  /** Nothing follows. */
  end(): void {
    this.extract.end(null);
  }

  destroy(): void {
    this.extract.destroy();
  }

  /**
   * The members, one after the other.
   * @throws Error that says what is wrong with the archive
   */
  async *members(): AsyncGenerator<Member> {
    for await (const entry of this.extract) {
      const { name, type, size, pax } = entry.header;
      const { byteOffset } = entry.header as typeof entry.header & { byteOffset: number };
      const records = (pax ?? null) as Record<string, string> | null;
      yield {
        head: { name, type, size, pax: records },
        bytes: entry as AsyncIterable<Uint8Array>,
        end: byteOffset + (type === "directory" ? 0 : Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES),
        skip: () => void entry.resume(),
      };
    }
    if (this.failure !== null) throw this.failure;
  }
}
