/**
 * A large value on another node, or a part of it, as something to read from: one piece at a time, the next
 * one asked for when the one before it has been sent. So as little of it is in memory as the network takes.
 */
import type { RemoteStream } from "../../cluster/node/access.ts";
import type { ValueReader } from "../../shards/vault/vault.ts";

export class RemoteReader implements ValueReader {
  readonly valueBytes: number;
  private readonly stream: RemoteStream;
  private readonly pieces: AsyncIterator<Uint8Array>;
  private piece: Uint8Array | null = null;
  /** Where in the value the piece begins. */
  private offset: number;
  private readonly end: number;
  private failure: Error | null = null;
  private isOver = false;

  /** @param stream has the bytes `start` to `end` of a value of `valueBytes` */
  constructor(stream: RemoteStream, valueBytes: number, start: number, end: number) {
    this.stream = stream;
    this.pieces = stream[Symbol.asyncIterator]();
    this.valueBytes = valueBytes;
    this.offset = start;
    this.end = end;
  }

  /** Asks for the next piece unless the one at `offset` is here. */
  ready(offset: number, then: () => void): boolean {
    const { piece } = this;
    if (this.failure !== null || (piece !== null && offset < this.offset + piece.length)) return true;
    this.offset += piece?.length ?? 0;
    this.piece = null;
    this.next().then(then, (error: Error) => {
      this.failure = error;
      then();
    });
    return false;
  }

  private async next(): Promise<void> {
    for (;;) {
      const { done, value } = await this.pieces.next();
      if (done === true) {
        this.isOver = true;
        throw new Error("the other node sent too little");
      }
      if (value.length === 0) continue;
      this.piece = value;
      return;
    }
  }

  /** Throws what kept the piece from coming. */
  read(offset: number): Uint8Array {
    if (this.failure !== null) throw this.failure;
    const { piece } = this;
    if (piece === null) throw new Error("a piece was read before it was there");
    return piece.subarray(offset - this.offset);
  }

  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    const isWhole = this.piece !== null && this.offset + this.piece.length >= this.end;
    this.piece = null;
    if (!isWhole) {
      this.stream.destroy();
      return;
    }
    // Its end is read, too: then the connection to the other node serves again.
    this.pieces.next().then(
      ({ done }) => {
        if (done !== true) this.stream.destroy();
      },
      () => {},
    );
  }
}
