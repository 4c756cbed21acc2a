/**
 * A value on its way into the store, in pieces, whatever its size: what fits one record is gathered and
 * written at once, more streams into an upload. What is to be kept with it may follow from its bytes, so that
 * is said at the end.
 */
import { isDiskFull } from "../../engine/slabs/io.ts";
import { etagOf } from "../../format/version.ts";
import { type Life, NO_LIFE } from "../../rules/expiry.ts";
import type { FrontContext } from "../../server/http/context.ts";
import type { Upload, WriteHead, WriteResult } from "../../shards/arena/write.ts";
import { GAVE_WAY, type Gathering } from "../../util/gathering/gatherings.ts";
import { CHUNK_BYTES, KEY_BYTES_MAX } from "../../util/limits.ts";
import { type S3Error, s3ErrorOf } from "../protocol/errors.ts";

const OLDER = `Bucket and key are limited to ${KEY_BYTES_MAX} bytes together, before the data directory, or the cluster, is upgraded.`;

/** Where it goes, and what it is. */
export interface Destination {
  key: Uint8Array;
  contentType: string;
  life?: Life;
}

/** On which a write depends, in the form of the store. */
export interface Terms {
  ifMatch: string;
  ifNoneMatch: string;
}

export const NO_TERMS: Terms = { ifMatch: "", ifNoneMatch: "" };

/** What became of it. */
export interface Stored {
  /** Version, without quotes. */
  version: string;
}

/** A whole value that is in memory of somebody else. */
export interface LentBody {
  /** Valid until `close`. */
  whole(): Uint8Array;
  close(): void;
}

export class ValueSink {
  /** Called when more may come after `take` said false. */
  onDrain: () => void = () => {};
  /** Called once when it fails while bytes are coming. */
  onFail: (error: S3Error) => void = () => {};
  bytes = 0;
  private readonly context: FrontContext;
  private readonly destination: Destination;
  private readonly terms: Terms;
  private readonly expectedBytes: number;
  private gathered: Gathering | null = null;
  private lent: LentBody | null = null;
  private upload: Upload | null = null;
  private trailer: Uint8Array = new Uint8Array(0);
  private failure: S3Error | null = null;
  private isOver = false;

  /**
   * @param expectedBytes Infinity: nobody knows
   * @param terms of a large value, whose bytes do not wait; of a small one `commit` says them
   */
  constructor(context: FrontContext, destination: Destination, expectedBytes: number, terms = NO_TERMS) {
    this.context = context;
    this.destination = destination;
    if (destination.key.length > KEY_BYTES_MAX && !this.target.keepsEnds)
      throw s3ErrorOf("key_too_long", OLDER);
    this.expectedBytes = expectedBytes;
    this.terms = terms;
  }

  private get target() {
    return this.context.cluster ?? this.context.vault;
  }

  /** Whether its bytes wait here until it is committed, so that it can be tried again. */
  get isSmall(): boolean {
    return this.upload === null;
  }

  /**
   * Takes the next bytes, which are copied. False: wait for `onDrain`.
   * @throws S3Error
   */
  take(bytes: Uint8Array): boolean {
    if (this.failure !== null) throw this.failure;
    if (bytes.length === 0 || this.isOver) return true;
    this.bytes += bytes.length;
    if (this.bytes > this.context.maxValueBytes)
      throw s3ErrorOf("too_large", `Objects are limited to ${this.context.maxValueBytes} bytes.`);
    const fits =
      this.bytes <= CHUNK_BYTES &&
      (this.expectedBytes <= CHUNK_BYTES || !Number.isFinite(this.expectedBytes));
    if (this.upload === null && fits) {
      this.gather(bytes);
      return true;
    }
    const upload = this.upload ?? this.begin();
    let more = true;
    if (this.gathered !== null) {
      more = upload.write(this.gathered.whole());
      this.gathered.close();
      this.gathered = null;
    }
    return upload.write(bytes) && more;
  }

  /** Takes all bytes of a small value at once, without a copy; closes them when they are not needed. */
  lend(body: LentBody): void {
    if (this.isOver) body.close();
    else this.lent = body;
  }

  private gather(bytes: Uint8Array): void {
    this.gathered ??= this.context.vault.gatherings.open((error) => this.lost(error), this.expectedBytes);
    if (this.gathered?.append(bytes) !== true)
      throw s3ErrorOf("overloaded", "Too many bodies are being received; try again.");
  }

  private begin(): Upload {
    const head = { ...this.head(this.terms), trailerAtEnd: () => this.trailer };
    const upload = this.target.upload(head);
    if (upload === null) throw s3ErrorOf("overloaded");
    this.upload = upload;
    upload.onDrain = () => this.onDrain();
    upload.onFail = ({ error, detail }) => this.fail(s3ErrorOf(error ?? "internal", detail));
    return upload;
  }

  private lost(error: Error): void {
    if (error === GAVE_WAY) this.fail(s3ErrorOf("too_slow"));
    else this.fail(s3ErrorOf(isDiskFull(error) ? "disk_full" : "internal", error.message));
  }

  private fail(error: S3Error): void {
    if (this.failure !== null || this.isOver) return;
    this.failure = error;
    this.onFail(error);
    // Whoever waits for room need not wait any longer.
    this.onDrain();
  }

  private head({ ifMatch, ifNoneMatch }: Terms): WriteHead {
    const { key, contentType, life = NO_LIFE } = this.destination;
    return {
      ...{ verb: "put" as const, key: { bytes: key, length: key.length }, json: false, contentType },
      ...{ trailer: this.trailer, life, ifMatch, ifNoneMatch },
    };
  }

  /**
   * Writes the value, of which all bytes have come. A small one whose terms do not hold can be committed
   * again, with others; `close` it at the end.
   * @param trailer fields to be kept with it
   * @throws S3Error; of terms that do not hold PreconditionFailed
   */
  async commit(trailer: Uint8Array, terms: Terms = this.terms): Promise<Stored> {
    if (this.failure !== null) throw this.failure;
    this.trailer = trailer;
    const result = await new Promise<Pick<WriteResult, "error" | "detail"> & { version: string }>(
      (resolve) => {
        const done = ({ error, detail, etag }: WriteResult): void =>
          resolve({ error, detail, version: etag === null ? "" : etagOf(etag).slice(1, -1) });
        if (this.upload !== null) {
          this.isOver = true;
          this.upload.commit(done);
        } else {
          const body = (this.lent ?? this.gathered)?.whole() ?? new Uint8Array(0);
          if (!this.target.submit(this.head(terms), body, done))
            resolve({ error: "overloaded", detail: "", version: "" });
        }
      },
    );
    if (result.error !== null) throw s3ErrorOf(result.error, result.detail);
    return { version: result.version };
  }

  /** Gives back what it holds, and forgets what was not committed. Idempotent. */
  close(): void {
    if (!this.isOver) this.upload?.abort();
    this.isOver = true;
    this.gathered?.close();
    this.gathered = null;
    this.lent?.close();
    this.lent = null;
  }
}
