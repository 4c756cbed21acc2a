/** Where a large value goes: the own replica, or another node's, each as fast as it takes it. */
import type { LocalUpload } from "../../shards/upload/upload.ts";

/** Bytes that may wait for one peer before the client is paused. */
const WAITING_BYTES_MAX = 1024 * 1024;
/** How often it is looked who takes nothing any more. */
const STALL_LOOK_MS = 1000;

/** One replica that the value is streamed to. */
export interface Branch {
  readonly node: string;
  /** Whether it can take more now. */
  isReady: boolean;
  failed: boolean;
  /** Bytes that it has passed on. */
  readonly movedBytes: number;
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

  get movedBytes(): number {
    return this.upload.arrivedBytes;
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
  movedBytes = 0;
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
        this.movedBytes += piece.length;
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

/**
 * Notices which of some branches pass nothing on. It counts looks at them, and not the time: while this
 * process stands still nobody else's silence counts.
 */
export class Stall {
  private readonly those: () => readonly Branch[];
  private readonly stalled: (branches: readonly Branch[]) => void;
  private timer: NodeJS.Timeout | undefined;
  private readonly seen = new Map<Branch, { movedBytes: number; idleLooks: number }>();

  /** @param those whom it looks at, as they are at that moment */
  constructor(those: () => readonly Branch[], stalled: (branches: readonly Branch[]) => void) {
    this.those = those;
    this.stalled = stalled;
  }

  /** Begins to look, unless it does already. @param looksMax after so many in vain one has stalled */
  begin(looksMax: number): void {
    this.timer ??= setInterval(() => this.look(looksMax), STALL_LOOK_MS);
  }

  end(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.seen.clear();
  }

  private look(looksMax: number): void {
    const stalled = this.those().filter((branch) => {
      const { movedBytes } = branch;
      const before = this.seen.get(branch);
      const idleLooks = before?.movedBytes === movedBytes ? before.idleLooks + 1 : 0;
      this.seen.set(branch, { movedBytes, idleLooks });
      return idleLooks >= looksMax;
    });
    if (stalled.length > 0) this.stalled(stalled);
  }
}
