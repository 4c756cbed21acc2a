/**
 * Bodies in the content coding `aws-chunked`: pieces with their lengths, each of which may be signed, and
 * trailers. Pieces go on as they come; whoever takes them must not use them before `finish`.
 *
 *   400;chunk-signature=<64 hex digits>\r\n  1,024 bytes  \r\n
 *   0;chunk-signature=<64 hex digits>\r\n
 *   x-amz-checksum-crc32c:wdBDMA==\r\n  x-amz-trailer-signature:<64 hex digits>\r\n  \r\n
 *
 * Each signature covers the one before it, so no piece can be left out, come twice or in another place.
 */
import { createHash, type Hash } from "node:crypto";
import { S3Error } from "../protocol/errors.ts";
import { hmac, scopeText, sha256 } from "./canonical.ts";
import { isSame, type Seed } from "./verify.ts";

/** Longest line of a piece's head, and of all trailers together. */
const LINE_BYTES_MAX = 1024;
const TRAILER_BYTES_MAX = 16 * 1024;
const CARRIAGE_RETURN = 0x0d;
const LINE_FEED = 0x0a;
const SIGNATURE = "x-amz-trailer-signature";

/** The next bytes are of: */
const HEAD = 0;
const DATA = 1;
const DATA_END = 2;
const TRAILER = 3;
const OVER = 4;

export class ChunkedBody {
  /** By name, in small letters, once `finish` has returned. */
  readonly trailers = new Map<string, string>();
  private readonly seed: Seed | null;
  private readonly hasTrailer: boolean;
  private previous: string;
  private state = HEAD;
  private line: number[] = [];
  private leftBytes = 0;
  private isLast = false;
  private signature = "";
  private hash: Hash | null = null;
  private trailerText = "";
  private trailerBytes = 0;

  /**
   * @param seed signature of the request; null: the pieces are not signed
   * @param hasTrailer trailers are announced
   */
  constructor(seed: Seed | null, hasTrailer: boolean) {
    this.seed = seed;
    this.hasTrailer = hasTrailer;
    this.previous = seed?.signature ?? "";
  }

  /**
   * Takes the next bytes of the body.
   * @param take called with views of what is in the pieces
   * @throws S3Error
   */
  feed(bytes: Uint8Array, take: (piece: Uint8Array) => void): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.state === DATA) {
        const piece = bytes.subarray(at, at + this.leftBytes);
        this.hash?.update(piece);
        take(piece);
        at += piece.length;
        this.leftBytes -= piece.length;
        if (this.leftBytes === 0) this.state = DATA_END;
        continue;
      }
      if (this.state === OVER) throw new S3Error("InvalidRequest", "Bytes follow the end of the last chunk.");
      const byte = bytes[at++];
      if (byte === LINE_FEED && this.line.at(-1) === CARRIAGE_RETURN) this.takeLine();
      else {
        this.line.push(byte);
        if (this.line.length > LINE_BYTES_MAX)
          throw new S3Error("InvalidRequest", "A chunk's head is too long.");
      }
    }
  }

  private takeLine(): void {
    const line = Buffer.from(this.line.slice(0, -1)).toString("latin1");
    this.line = [];
    if (this.state === HEAD) this.takeHead(line);
    else if (this.state === DATA_END) {
      if (line !== "") throw new S3Error("InvalidRequest", "A chunk is longer than it says.");
      this.endPiece();
      this.state = HEAD;
    } else this.takeTrailer(line);
  }

  private takeHead(line: string): void {
    const match = /^([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-fA-F]+))?[ \t]*$/.exec(line);
    if (match === null) throw new S3Error("InvalidRequest", "A chunk's head cannot be understood.");
    this.leftBytes = Number.parseInt(match[1], 16);
    this.signature = (match[2] ?? "").toLowerCase();
    if (this.seed !== null && this.signature === "") throw new S3Error("SignatureDoesNotMatch", UNSIGNED);
    this.hash = this.seed === null ? null : createHash("sha256");
    if (this.leftBytes > 0) {
      this.state = DATA;
      return;
    }
    this.isLast = true;
    this.endPiece();
    this.state = TRAILER;
  }

  /** The piece is complete: judges its signature. */
  private endPiece(): void {
    const { seed, hash } = this;
    if (seed === null || hash === null) return;
    const text = ["AWS4-HMAC-SHA256-PAYLOAD", seed.time, scopeText(seed.scope), this.previous, EMPTY_SHA256];
    const expected = hmac(seed.key, [...text, hash.digest("hex")].join("\n")).toString("hex");
    if (!isSame(expected, this.signature)) throw new S3Error("SignatureDoesNotMatch", WRONG_CHUNK);
    this.previous = expected;
    this.hash = null;
  }

  private takeTrailer(line: string): void {
    if (line === "") {
      this.endTrailers();
      this.state = OVER;
      return;
    }
    this.trailerBytes += line.length;
    const colon = line.indexOf(":");
    if (!this.hasTrailer || colon <= 0 || this.trailerBytes > TRAILER_BYTES_MAX)
      throw new S3Error("InvalidRequest", "The trailers were not announced, or cannot be understood.");
    const name = line.slice(0, colon).trim().toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (this.trailers.has(name)) throw new S3Error("InvalidRequest", `The trailer ${name} came twice.`);
    this.trailers.set(name, value);
    if (name !== SIGNATURE) this.trailerText += `${name}:${value}\n`;
  }

  private endTrailers(): void {
    const { seed } = this;
    if (seed === null || !this.hasTrailer) return;
    const text = ["AWS4-HMAC-SHA256-TRAILER", seed.time, scopeText(seed.scope), this.previous];
    const expected = hmac(seed.key, [...text, sha256(this.trailerText)].join("\n")).toString("hex");
    if (!isSame(expected, this.trailers.get(SIGNATURE) ?? ""))
      throw new S3Error("SignatureDoesNotMatch", "The trailers are not what was signed.");
  }

  /**
   * The body has ended.
   * @throws S3Error where it was not complete
   */
  finish(): void {
    // Some leave the last empty line out.
    const isCut = !this.isLast || this.line.length > 0 || (this.state === TRAILER && this.hasTrailer);
    if (!isCut) return;
    if (this.seed !== null)
      throw new S3Error("SignatureDoesNotMatch", "The body ends before its last signature.");
    throw new S3Error("IncompleteBody", "The body ends before its last chunk.");
  }
}

const EMPTY_SHA256 = sha256("");
const UNSIGNED = "A chunk has no signature.";
const WRONG_CHUNK = "The signature of a chunk is not what the secret key makes of it.";
