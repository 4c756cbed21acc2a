/**
 * A value between nodes, as the body of one request or answer, with what is said of it before it:
 *
 *   up       4 bytes length of the head │ head │ value
 *   down     4 bytes length of the head │ 8 bytes length of the value │ head │ value
 *
 * Numbers are little-endian. With a key, this is what is signed piece by piece (auth/signed-stream.ts). Heads
 * are opaque here, and at most PEER_HEAD_BYTES_MAX.
 */
import { PEER_HEAD_BYTES_MAX } from "../../util/limits.ts";
import { ExchangeError } from "./exchange.ts";
import type { NodeStream } from "./node-http.ts";

const HEAD_LENGTH_BYTES = 4;
const VALUE_LENGTH_BYTES = 8;

/** A value that streams in from a node. */
export interface PeerDownload {
  /** What the node says of it, opaque here. */
  head: Buffer;
  valueBytes: number;
  /** To be read to its end or destroyed. */
  body: AsyncIterable<Buffer> & { destroy(error?: Error): void };
}

/** The body of an upload. */
export async function* withHead(
  head: Uint8Array,
  value: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (head.length > PEER_HEAD_BYTES_MAX) throw new Error(`a head of ${head.length} bytes is too long`);
  const length = Buffer.alloc(HEAD_LENGTH_BYTES);
  length.writeUInt32LE(head.length, 0);
  yield Buffer.concat([length, head]);
  yield* value;
}

/** What comes before the value in the body of a download. */
export function downloadHead(head: Uint8Array, valueBytes: number): Buffer {
  const bytes = Buffer.alloc(HEAD_LENGTH_BYTES + VALUE_LENGTH_BYTES + head.length);
  bytes.writeUInt32LE(head.length, 0);
  bytes.writeBigUInt64LE(BigInt(valueBytes), HEAD_LENGTH_BYTES);
  bytes.set(head, HEAD_LENGTH_BYTES + VALUE_LENGTH_BYTES);
  return bytes;
}

/** Takes the head off the front of an upload's body. */
export class HeadReader {
  private kept: Buffer = Buffer.alloc(0);

  /**
   * Takes the next bytes. Answers the head once it is whole, with what comes behind it (both copies or views
   * of `bytes`); null: not yet.
   * @throws Error when it is none
   */
  feed(bytes: Uint8Array): { head: Uint8Array; rest: Uint8Array } | null {
    this.kept = Buffer.concat([this.kept, bytes]);
    if (this.kept.length < HEAD_LENGTH_BYTES) return null;
    const end = HEAD_LENGTH_BYTES + this.kept.readUInt32LE(0);
    if (end > HEAD_LENGTH_BYTES + PEER_HEAD_BYTES_MAX || end === HEAD_LENGTH_BYTES)
      throw new Error("the value's head is missing or malformed");
    if (this.kept.length < end) return null;
    return { head: this.kept.subarray(HEAD_LENGTH_BYTES, end), rest: this.kept.subarray(end) };
  }
}

/**
 * Reads the head of a download, and answers the value as it comes. Only checked bytes come out; whatever is
 * not what was signed, or ends early, fails the reading. Rejects with an ExchangeError.
 */
export async function downloadOf(answer: NodeStream): Promise<PeerDownload> {
  // Whoever reads it hears of what goes wrong; who does not read it does not want to.
  answer.stream.on("error", () => {});
  const pieces = checked(answer);
  let kept: Buffer = Buffer.alloc(0);
  const need = async (bytes: number): Promise<void> => {
    while (kept.length < bytes) {
      const { done, value } = await pieces.next();
      if (done === true) throw new Error("the value breaks off before it begins");
      kept = Buffer.concat([kept, value]);
    }
  };
  try {
    const fixed = HEAD_LENGTH_BYTES + VALUE_LENGTH_BYTES;
    await need(fixed);
    const headBytes = kept.readUInt32LE(0);
    const valueBytes = Number(kept.readBigUInt64LE(HEAD_LENGTH_BYTES));
    if (headBytes > PEER_HEAD_BYTES_MAX || !Number.isSafeInteger(valueBytes))
      throw new Error("the answer is no value");
    await need(fixed + headBytes);
    const head = Buffer.from(kept.subarray(fixed, fixed + headBytes));
    const value = valueAfter(kept.subarray(fixed + headBytes), pieces, valueBytes);
    const destroy = (error?: Error) => {
      answer.stream.destroy(error);
    };
    return { head, valueBytes, body: { [Symbol.asyncIterator]: () => value, destroy } };
  } catch (error) {
    answer.stream.destroy();
    throw new ExchangeError(error as Error, true);
  }
}

async function* checked({ stream, verifier }: NodeStream): AsyncGenerator<Buffer> {
  if (verifier === null) {
    yield* stream as AsyncIterable<Buffer>;
    return;
  }
  for await (const piece of stream as AsyncIterable<Buffer>) {
    const out: Buffer[] = [];
    const isGenuine = verifier.feed(piece, (bytes) => out.push(Buffer.from(bytes)));
    yield* out;
    if (!isGenuine) throw new Error("the value is not what the node signed");
  }
  if (!verifier.complete) throw new Error("the value breaks off");
}

async function* valueAfter(
  first: Buffer,
  pieces: AsyncGenerator<Buffer>,
  valueBytes: number,
): AsyncGenerator<Buffer> {
  let bytes = first.length;
  if (bytes > 0) yield first;
  for await (const piece of pieces) {
    bytes += piece.length;
    if (bytes > valueBytes) throw new Error("the value is longer than the node said");
    yield piece;
  }
  if (bytes !== valueBytes) throw new Error("the value is shorter than the node said");
}
