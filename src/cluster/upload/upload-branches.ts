/** Where a large value goes: the own replica, or another node's, each as fast as it takes it. */
import type { LocalUpload } from "../../shards/upload/upload.ts";

/** Bytes that may wait for one peer before the client is paused. */
const WAITING_BYTES_MAX = 1024 * 1024;

/** One replica that the value is streamed to. */
export interface Branch {
  readonly node: string;
  /** Whether it can take more now. */
  isReady: boolean;
  failed: boolean;
  write(bytes: Uint8Array): void;
  /** Resolves when it has everything, and keeps it for the accept. */
  end(): Promise<void>;
  abort(): void;
}

export class LocalBranch implements Branch {
  readonly node: string;
  isReady = true;
  failed = false;
  private readonly upload: LocalUpload;
  private readonly keep: () => void;

  constructor(node: string, upload: LocalUpload, keep: () => void, changed: () => void) {
    this.node = node;
    this.upload = upload;
    this.keep = keep;
    upload.onDrain = () => {
      this.isReady = true;
      changed();
    };
    upload.onFail = () => {
      this.failed = true;
      changed();
    };
  }

  write(bytes: Uint8Array): void {
    this.isReady = this.upload.write(bytes);
  }

  end(): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = () => reject(new Error("the own disk did not take it"));
      if (this.failed) {
        fail();
        return;
      }
      this.upload.onFail = fail;
      this.upload.whenWritten(() => {
        this.keep();
        resolve();
      });
    });
  }

  abort(): void {
    this.upload.abort();
  }
}

export class PeerBranch implements Branch {
  readonly node: string;
  isReady = true;
  failed = false;
  private readonly changed: () => void;
  private readonly sent: Promise<unknown>;
  private queue: Uint8Array[] = [];
  private queuedBytes = 0;
  private ended = false;
  private aborted = false;
  private wake: (() => void) | null = null;
  private readonly breaker = new AbortController();

  constructor(
    node: string,
    send: (node: string, body: AsyncIterable<Uint8Array>, signal: AbortSignal) => Promise<unknown>,
    changed: () => void,
  ) {
    this.node = node;
    this.changed = changed;
    this.sent = send(node, this.pieces(), this.breaker.signal);
    this.sent.catch(() => {
      this.failed = true;
      this.queue = [];
      changed();
    });
  }

  private async *pieces(): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.aborted) throw new Error("the upload was given up");
      const piece = this.queue.shift();
      if (piece !== undefined) {
        this.queuedBytes -= piece.length;
        if (!this.isReady && this.queuedBytes < WAITING_BYTES_MAX / 2) {
          this.isReady = true;
          setImmediate(this.changed);
        }
        yield piece;
      } else if (this.ended) return;
      else
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
    }
  }

  private stir(): void {
    const { wake } = this;
    this.wake = null;
    wake?.();
  }

  write(bytes: Uint8Array): void {
    this.queue.push(bytes);
    this.queuedBytes += bytes.length;
    if (this.queuedBytes >= WAITING_BYTES_MAX) this.isReady = false;
    this.stir();
  }

  async end(): Promise<void> {
    this.ended = true;
    this.stir();
    await this.sent;
  }

  abort(): void {
    this.aborted = true;
    this.queue = [];
    this.stir();
    // What waits only for the peer's answer is over, too: a slow one must not gather streams.
    this.breaker.abort();
  }
}
