/**
 * The body of a request as its signature and headers describe it: decoded, summed up as it comes, and judged
 * at its end. What it gives out must not be used before `finish` has returned.
 */
import { createHash, type Hash } from "node:crypto";
import type { ChecksumName, KeptChecksum } from "../../format/fields/sums.ts";
import {
  type Announced,
  algorithmOf,
  announcedIn,
  type Checksum,
  createChecksum,
  headerOf,
  readSum,
  sumBytes,
} from "../checksum/checksum.ts";
import type { HashedBody, HashPool } from "../hashing/hash-pool.ts";
import type { FoundSums } from "../hashing/slots.ts";
import { S3Error } from "../protocol/errors.ts";
import { ChunkedBody } from "../signature/chunks.ts";
import { type Seed, UNSIGNED } from "../signature/verify.ts";
import type { LentBody } from "../store/value-sink.ts";

const MD5_BYTES = 16;
const STREAMING = "STREAMING-";

/** What was found out of a body. */
export interface Sums {
  bytes: number;
  /** Null: nobody asked for it. */
  md5: Buffer | null;
  checksum: KeptChecksum | null;
  /** Where it was summed up elsewhere: all of it, which its taker has not seen. Whoever has it closes it. */
  held: LentBody | null;
}

export interface PayloadOptions {
  /** As x-amz-content-sha256 says. */
  mode: string;
  seed: Seed | null;
  headers: ReadonlyMap<string, string>;
  /** Of the body as it travels; Infinity: nobody knows. */
  sentBytes: number;
  /** A checksum in the headers is that of the body. */
  hasChecksum: boolean;
}

export class Payload {
  /** Of the decoded body, as announced; Infinity: nobody knows. */
  readonly expectedBytes: number;
  /** Of the checksum that is calculated, and told again; null: none. */
  readonly algorithm: ChecksumName | null;
  /** The MD5 is wanted, whether one was sent or not. */
  wantsMd5 = false;
  private bytes = 0;
  private readonly chunked: ChunkedBody | null;
  private sha256: Hash | null = null;
  private readonly expectedSha256: string;
  private readonly md5Sent: Buffer | null;
  private md5: Hash | null = null;
  private elsewhere: HashedBody | null = null;
  private readonly announced: Announced | null;
  private checksum: Checksum | null = null;

  /** @throws S3Error */
  constructor({ mode, seed, headers, sentBytes, hasChecksum }: PayloadOptions) {
    this.chunked = chunkedOf(mode, seed);
    this.expectedBytes = this.chunked === null ? Math.max(0, sentBytes) : decodedBytes(headers);
    const isHash = this.chunked === null && mode !== UNSIGNED;
    if (isHash && !/^[0-9a-f]{64}$/i.test(mode))
      throw new S3Error(
        "InvalidArgument",
        "x-amz-content-sha256 is a SHA-256 in hexadecimal, or a word for none.",
      );
    this.expectedSha256 = isHash ? mode.toLowerCase() : "";
    const md5 = headers.get("content-md5");
    this.md5Sent = md5 === undefined ? null : readSum(md5, MD5_BYTES, "InvalidDigest");
    this.announced = hasChecksum ? announcedIn(headers) : null;
    if (this.announced?.value != null) readSum(this.announced.value, sumBytes(this.announced.name));
    this.algorithm =
      this.announced?.name ??
      algorithmOf(
        headers.get("x-amz-sdk-checksum-algorithm") ?? headers.get("x-amz-checksum-algorithm") ?? null,
      );
  }

  /** Has other threads sum it up, if they have room. Before any of it has come. */
  sumElsewhere(pool: HashPool): void {
    const wanted = { md5: this.isMd5Due, sha256: this.expectedSha256 !== "", checksum: this.algorithm };
    if (wanted.md5 || wanted.sha256 || wanted.checksum !== null)
      this.elsewhere = pool.open(wanted, this.expectedBytes);
  }

  private get isMd5Due(): boolean {
    return this.wantsMd5 || this.md5Sent !== null;
  }

  /** Takes the next bytes as they travel. @throws S3Error */
  feed(bytes: Uint8Array, take: (piece: Uint8Array) => void): void {
    if (this.chunked === null) this.take(bytes, take);
    else this.chunked.feed(bytes, (piece) => this.take(piece, take));
  }

  private take(piece: Uint8Array, take: (piece: Uint8Array) => void): void {
    if (piece.length === 0) return;
    this.bytes += piece.length;
    if (this.bytes > this.expectedBytes)
      throw new S3Error("IncompleteBody", "The body is longer than announced.");
    if (this.elsewhere !== null) {
      this.elsewhere.append(piece);
      return;
    }
    this.begin();
    this.md5?.update(piece);
    this.sha256?.update(piece);
    this.checksum?.update(piece);
    take(piece);
  }

  private begin(): void {
    if (this.isMd5Due) this.md5 ??= createHash("md5");
    if (this.expectedSha256 !== "") this.sha256 ??= createHash("sha256");
    if (this.algorithm !== null) this.checksum ??= createChecksum(this.algorithm);
  }

  /**
   * The body has ended. A promise where it was summed up elsewhere.
   * @throws S3Error where it is not what was announced, or signed
   */
  finish(): Sums | Promise<Sums> {
    this.chunked?.finish();
    if (Number.isFinite(this.expectedBytes) && this.bytes !== this.expectedBytes)
      throw new S3Error("IncompleteBody");
    const { elsewhere } = this;
    if (elsewhere !== null) {
      // From now on it is theirs who are told of it.
      this.elsewhere = null;
      return this.judgeLater(elsewhere);
    }
    this.begin();
    const [md5, sha256, checksum] = [this.md5, this.sha256, this.checksum].map(
      (hash) => hash?.digest() ?? null,
    );
    return { ...this.judge({ md5, sha256, checksum }), held: null };
  }

  private async judgeLater(elsewhere: HashedBody): Promise<Sums> {
    try {
      return { ...this.judge(await elsewhere.end()), held: elsewhere };
    } catch (error) {
      elsewhere.close();
      throw error;
    }
  }

  private judge({ md5, sha256, checksum }: FoundSums): Omit<Sums, "held"> {
    if (sha256 !== null && Buffer.from(sha256).toString("hex") !== this.expectedSha256)
      throw new S3Error("XAmzContentSHA256Mismatch");
    if (this.md5Sent !== null && md5 !== null && !this.md5Sent.equals(md5)) throw new S3Error("BadDigest");
    return {
      bytes: this.bytes,
      md5: md5 === null ? null : Buffer.from(md5),
      checksum: this.judgeChecksum(checksum),
    };
  }

  /** Nobody will ask for its end. Idempotent. */
  close(): void {
    this.elsewhere?.close();
    this.elsewhere = null;
  }

  private judgeChecksum(sum: Uint8Array | null): KeptChecksum | null {
    const { algorithm, announced } = this;
    if (sum === null || algorithm === null) return null;
    if (announced !== null) {
      const sent = announced.value ?? this.chunked?.trailers.get(headerOf(announced.name));
      if (sent === undefined)
        throw new S3Error(
          "InvalidRequest",
          `The trailer ${headerOf(announced.name)} was announced and did not come.`,
        );
      if (!readSum(sent, sum.length).equals(sum)) throw new S3Error("BadDigest");
    }
    return { name: algorithm, sum, isComposite: false };
  }
}

function chunkedOf(mode: string, seed: Seed | null): ChunkedBody | null {
  switch (mode) {
    case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
      return new ChunkedBody(seed, false);
    case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER":
      return new ChunkedBody(seed, true);
    case "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
      return new ChunkedBody(null, true);
    default:
      if (mode.startsWith(STREAMING))
        throw new S3Error("NotImplemented", `${mode.slice(0, 80)} is not supported.`);
      return null;
  }
}

function decodedBytes(headers: ReadonlyMap<string, string>): number {
  const text = headers.get("x-amz-decoded-content-length");
  if (text === undefined || !/^\d{1,15}$/.test(text))
    throw new S3Error("MissingContentLength", "The header x-amz-decoded-content-length is missing.");
  return Number(text);
}
