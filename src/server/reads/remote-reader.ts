/**
 * A large value on another node, or a part of it, as something to read from: one piece at a time, the next
 * one asked for when the one before it has been sent. So as little of it is in memory as the network takes.
 */
import type { ClusterAccess, RemoteStream } from "../../cluster/node/access.ts";
import type { RemoteValue } from "../../cluster/wire/values.ts";
import { hiddenBytes } from "../../shards/vault/as-it-came.ts";
import type { Found, ValueReader } from "../../shards/vault/vault.ts";
import { VaultError } from "../../util/errors.ts";
import type { FrontLog } from "../http/context.ts";

/**
 * A value that is replaced, or whose node dies, just when it is to be read is looked up again, and what is
 * found then is judged anew: so many looks in all.
 */
export const LOOKS_MAX = 5;
/** What a client is told after them. */
export const OUT_OF_REACH =
  "each time the value was looked up it was replaced, or could not be read where it lies; try again";

/**
 * Opens the bytes `start` to `end` of what is shown as `found`, and waits for the first of them: up to then
 * nobody has been told anything. Null: they cannot be had there.
 */
export async function openRemote(
  { cluster, log }: { cluster: ClusterAccess; log: FrontLog },
  key: Uint8Array,
  value: RemoteValue,
  found: Found,
  { start, end }: { start: number; end: number },
): Promise<RemoteReader | null> {
  const hidden = hiddenBytes(found);
  try {
    const stream = await cluster.open(key, value, start + hidden, end + hidden);
    const reader = new RemoteReader(stream, found.valueBytes, start, end);
    await reader.begin();
    return reader;
  } catch (error) {
    log.info(
      { node: value.node, error: (error as Error).message },
      "a value on another node could not be read",
    );
    return null;
  }
}

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

  /** Waits for the first piece. Rejects when it cannot come. */
  async begin(): Promise<void> {
    await this.next().catch((error: Error) => {
      this.close();
      throw error;
    });
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

  /** Throws VaultError("unavailable") when the piece could not come. */
  read(offset: number): Uint8Array {
    if (this.failure !== null)
      throw new VaultError("unavailable", `the node that has the value broke off: ${this.failure.message}`);
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
