/**
 * A value that streams out to another node: its head, then its bytes (cluster/link/value-stream.ts), signed
 * piece by piece where there is a key.
 */
import { ANSWER_HEADER } from "../../auth/answer.ts";
import { type Genuine, type RequestVerifier, STREAMED_BODY } from "../../auth/signature.ts";
import { STREAM_PIECE_BYTES, StreamSealer, sealedBytes } from "../../auth/signed-stream.ts";
import { downloadHead } from "../../cluster/link/value-stream.ts";
import type { PeerHandler, PeerSource } from "../../cluster/peers/peer-handler.ts";
import type { ValueReader } from "../../shards/vault/vault.ts";
import { VaultError } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { sendError } from "../http/reply.ts";
import { Download } from "../reads/download.ts";
import { refusalOf } from "./refusal.ts";

/** Answers with the value that `head` asks for. To be called within the request's handler, or corked. */
export function sendValue(
  context: FrontContext,
  handler: PeerHandler,
  res: Res,
  head: Uint8Array,
  statusHead: Uint8Array,
  signed: { verifier: RequestVerifier; genuine: Genuine } | null,
): void {
  let source: PeerSource | null = null;
  let reader: ValueReader;
  let first: Uint8Array;
  let header: string | null = null;
  try {
    source = handler.openSource(head);
    const front = downloadHead(source.head, source.valueBytes);
    if (signed === null) reader = plain(front, source);
    else {
      const answer = signed.verifier.answer(signed.genuine, 200, STREAMED_BODY);
      header = answer.header;
      reader = new SealedReader(front, source, new StreamSealer(signed.genuine.key.object, answer.mac));
    }
    // Before the status: then a value that cannot be read is an error.
    if (source.valueBytes > 0) source.read(0);
    first = reader.read(0);
  } catch (error) {
    source?.close();
    const { code, options } = refusalOf(context, error);
    sendError(res, code, options);
    return;
  }
  res.writeStatus(statusHead);
  if (header !== null) res.writeHeader(ANSWER_HEADER, header);
  new Download(context, res, reader, first, 0, reader.valueBytes, () => {}).begin();
}

/** The value as it lies in its slab, behind its head. */
function plain(front: Uint8Array, source: PeerSource): ValueReader {
  const shift = front.length;
  return {
    valueBytes: shift + source.valueBytes,
    read: (offset) => (offset < shift ? front.subarray(offset) : source.read(offset - shift)),
    // The piece is either the head, in memory, or a piece of the value.
    holds: (from, to) => to <= shift || (source.holds?.(from - shift, to - shift) ?? true),
    close: () => source.close(),
  };
}

/** The same as signed pieces, each in memory of its own when it is handed out. */
class SealedReader implements ValueReader {
  readonly valueBytes: number;
  private readonly source: PeerSource;
  private readonly sealer: StreamSealer;
  private readonly plainPiece = Buffer.allocUnsafe(STREAM_PIECE_BYTES);
  /** The piece that was handed out last, and where in the body it begins. */
  private piece: Buffer;
  private offset = 0;
  /** Bytes of the value that are in pieces by now. */
  private sealed = 0;

  constructor(front: Uint8Array, source: PeerSource, sealer: StreamSealer) {
    this.source = source;
    this.sealer = sealer;
    this.piece = sealer.seal(front);
    const whole = Math.floor(source.valueBytes / STREAM_PIECE_BYTES);
    const rest = source.valueBytes % STREAM_PIECE_BYTES;
    this.valueBytes =
      sealedBytes(front.length) +
      whole * sealedBytes(STREAM_PIECE_BYTES) +
      (rest > 0 ? sealedBytes(rest) : 0) +
      sealedBytes(0);
  }

  read(offset: number): Uint8Array {
    while (offset >= this.offset + this.piece.length) {
      this.offset += this.piece.length;
      this.piece = this.sealer.seal(this.next());
    }
    return this.piece.subarray(offset - this.offset);
  }

  close(): void {
    this.source.close();
  }

  /** The next bytes of the value, as they are on the disk, or none at its end. */
  private next(): Uint8Array {
    const { source, plainPiece } = this;
    let length = 0;
    while (length < plainPiece.length && this.sealed < source.valueBytes) {
      const bytes = source.read(this.sealed);
      const from = this.sealed;
      const taken = bytes.subarray(0, plainPiece.length - length);
      plainPiece.set(taken, length);
      length += taken.length;
      this.sealed += taken.length;
      if (source.holds?.(from, this.sealed) === false)
        throw new VaultError("corrupt", "the disk cannot give the value any more");
    }
    return plainPiece.subarray(0, length);
  }
}
