/**
 * A signed body of any length. Its hash is not known when it starts, so it is cut into pieces, and each is
 * signed in a chain that begins with the signature of the request's head (as AWS' "Signature Version 4
 * streaming" does):
 *
 *   piece    4 bytes length (little-endian, 1 to STREAM_PIECE_BYTES) │ bytes │ MAC
 *   end      4 bytes zero │ MAC
 *   MAC      HMAC-SHA256(key, MAC of the piece before ‖ length ‖ bytes); before the first piece: the signature of the request's head, or of
 *            the answer whose body it is
 *
 * So no piece can be changed, left out, repeated, moved, or taken from another request, and the end cannot be
 * cut off.
 */
import { createHmac, type KeyObject, timingSafeEqual } from "node:crypto";
import { MAC_BYTES } from "./keys.ts";

/** Most bytes under one MAC: what the receiver keeps back until it is checked. */
export const STREAM_PIECE_BYTES = 64 * 1024;
const LENGTH_BYTES = 4;

/** Makes pieces, each after the one before. */
export class StreamSealer {
  private readonly key: KeyObject;
  private mac: Uint8Array;

  constructor(key: KeyObject, headMac: string) {
    this.key = key;
    this.mac = Buffer.from(headMac, "base64url");
  }

  /** The next piece: at most STREAM_PIECE_BYTES; empty: the end. */
  seal(bytes: Uint8Array): Buffer {
    const piece = Buffer.allocUnsafe(sealedBytes(bytes.length));
    piece.writeUInt32LE(bytes.length, 0);
    piece.set(bytes, LENGTH_BYTES);
    this.mac = link(this.key, this.mac, piece.subarray(0, LENGTH_BYTES + bytes.length));
    piece.set(this.mac, LENGTH_BYTES + bytes.length);
    return piece;
  }
}

/** What so many bytes take as a piece. */
export function sealedBytes(bytes: number): number {
  return LENGTH_BYTES + bytes + MAC_BYTES;
}

/** Cuts `source` into signed pieces. What `source` yields may be reused by it afterwards. */
export async function* signStream(
  key: KeyObject,
  headMac: string,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Buffer> {
  const sealer = new StreamSealer(key, headMac);
  for await (const bytes of source) {
    for (let at = 0; at < bytes.length; at += STREAM_PIECE_BYTES)
      yield sealer.seal(bytes.subarray(at, at + STREAM_PIECE_BYTES));
  }
  yield sealer.seal(new Uint8Array(0));
}

/** Takes a signed stream apart again. Only checked bytes come out. */
export class StreamVerifier {
  /** The end has come, and held. */
  complete = false;
  private readonly key: KeyObject;
  private mac: Uint8Array;
  private failed = false;
  /** An unfinished piece, with its length; grows with what arrives. */
  private kept: Buffer = Buffer.alloc(0);
  private keptBytes = 0;

  constructor(key: KeyObject, headMac: string) {
    this.key = key;
    this.mac = Buffer.from(headMac, "base64url");
  }

  /**
   * Takes the next bytes, cut anywhere. `take` gets what has been checked, valid during its call.
   * False: the stream is not what was signed, or goes on after its end; nothing more comes out.
   */
  feed(bytes: Uint8Array, take: (checked: Uint8Array) => void): boolean {
    let rest = bytes;
    while (rest.length > 0 && !this.failed) {
      if (this.complete) {
        this.failed = true;
        this.complete = false;
      } else if (
        this.keptBytes === 0 &&
        rest.length >= LENGTH_BYTES &&
        rest.length >= this.pieceBytes(rest)
      ) {
        const length = this.pieceBytes(rest);
        this.open(rest.subarray(0, length), take);
        rest = rest.subarray(length);
      } else {
        rest = this.keep(rest, take);
      }
    }
    return !this.failed;
  }

  /** Adds to the unfinished piece; answers what is left over. */
  private keep(bytes: Uint8Array, take: (checked: Uint8Array) => void): Uint8Array {
    const wanted = this.keptBytes < LENGTH_BYTES ? LENGTH_BYTES : this.pieceBytes(this.kept);
    if (this.failed) return bytes;
    const count = Math.min(bytes.length, wanted - this.keptBytes);
    if (this.kept.length < this.keptBytes + count) {
      const larger = Buffer.allocUnsafe(
        Math.max(this.keptBytes + count, Math.min(wanted, this.kept.length * 2)),
      );
      larger.set(this.kept.subarray(0, this.keptBytes));
      this.kept = larger;
    }
    this.kept.set(bytes.subarray(0, count), this.keptBytes);
    this.keptBytes += count;
    if (this.keptBytes > LENGTH_BYTES && this.keptBytes === this.pieceBytes(this.kept)) {
      this.open(this.kept.subarray(0, this.keptBytes), take);
      this.keptBytes = 0;
    }
    return bytes.subarray(count);
  }

  /** Bytes of the piece that begins here, all included. */
  private pieceBytes(bytes: Uint8Array): number {
    const length = (bytes[0] | (bytes[1] << 8) | (bytes[2] << 16) | (bytes[3] << 24)) >>> 0;
    if (length > STREAM_PIECE_BYTES) this.failed = true;
    return LENGTH_BYTES + length + MAC_BYTES;
  }

  private open(piece: Uint8Array, take: (checked: Uint8Array) => void): void {
    const signed = piece.subarray(0, piece.length - MAC_BYTES);
    const mac = link(this.key, this.mac, signed);
    if (!timingSafeEqual(mac, piece.subarray(piece.length - MAC_BYTES))) {
      this.failed = true;
      return;
    }
    this.mac = mac;
    if (signed.length === LENGTH_BYTES) this.complete = true;
    else take(signed.subarray(LENGTH_BYTES));
  }
}

function link(key: KeyObject, before: Uint8Array, signed: Uint8Array): Buffer {
  return createHmac("sha256", key).update(before).update(signed).digest();
}
