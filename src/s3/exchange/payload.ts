/**
 * The body of a request as its signature and headers describe it: decoded, summed up as it comes, and judged
 * at its end. What it gives out must not be used before `finish` has returned.
 */
import { createHash, type Hash } from "node:crypto";
import type { KeptChecksum } from "../../format/fields/sums.ts";
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
import { S3Error } from "../protocol/errors.ts";
import { ChunkedBody } from "../signature/chunks.ts";
import type { Seed } from "../signature/verify.ts";

const MD5_BYTES = 16;
const STREAMING = "STREAMING-";
const UNSIGNED = "UNSIGNED-PAYLOAD";

/** What was found out of a body. */
export interface Sums {
  bytes: number;
  /** Null: nobody asked for it. */
  md5: Buffer | null;
  checksum: KeptChecksum | null;
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
  /** The MD5 is wanted, whether one was sent or not. */
  wantsMd5 = false;
  private bytes = 0;
  private readonly chunked: ChunkedBody | null;
  private readonly sha256: Hash | null;
  private readonly expectedSha256: string;
  private readonly md5Sent: Buffer | null;
  private md5: Hash | null = null;
  private readonly announced: Announced | null;
  private readonly checksum: Checksum | null;

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
    this.sha256 = isHash ? createHash("sha256") : null;
    this.expectedSha256 = mode.toLowerCase();
    const md5 = headers.get("content-md5");
    this.md5Sent = md5 === undefined ? null : readSum(md5, MD5_BYTES, "InvalidDigest");
    this.announced = hasChecksum ? announcedIn(headers) : null;
    if (this.announced?.value != null) readSum(this.announced.value, sumBytes(this.announced.name));
    const algorithm =
      this.announced?.name ??
      algorithmOf(
        headers.get("x-amz-sdk-checksum-algorithm") ?? headers.get("x-amz-checksum-algorithm") ?? null,
      );
    this.checksum = algorithm === null ? null : createChecksum(algorithm);
    this.algorithm = algorithm;
  }

  private readonly algorithm: KeptChecksum["name"] | null;

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
    if (this.wantsMd5 || this.md5Sent !== null) {
      this.md5 ??= createHash("md5");
      this.md5.update(piece);
    }
    this.sha256?.update(piece);
    this.checksum?.update(piece);
    take(piece);
  }

  /** The body has ended. @throws S3Error where it is not what was announced, or signed */
  finish(): Sums {
    this.chunked?.finish();
    if (Number.isFinite(this.expectedBytes) && this.bytes !== this.expectedBytes)
      throw new S3Error("IncompleteBody");
    if (this.sha256 !== null && this.sha256.digest("hex") !== this.expectedSha256)
      throw new S3Error("XAmzContentSHA256Mismatch");
    const isMd5Due = this.wantsMd5 || this.md5Sent !== null;
    const md5 = isMd5Due ? (this.md5 ?? createHash("md5")).digest() : null;
    if (this.md5Sent !== null && md5 !== null && !this.md5Sent.equals(md5)) throw new S3Error("BadDigest");
    return { bytes: this.bytes, md5, checksum: this.judgeChecksum() };
  }

  private judgeChecksum(): KeptChecksum | null {
    const { checksum, algorithm, announced } = this;
    if (checksum === null || algorithm === null) return null;
    const sum = checksum.digest();
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
