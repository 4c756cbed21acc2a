/** Archives being read: the only importer of tar-stream. */
import { type Extract, extract, type Header } from "tar-stream";

const BLOCK_BYTES = 512;

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
