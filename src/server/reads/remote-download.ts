/**
 * A large value on its way from another node to a client: as fast as the client takes it, with at most a few
 * pieces in memory.
 */
import type { RemoteStream } from "../../cluster/node/access.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import type { Paced } from "../http/pace.ts";
import { GET } from "../status/stats.ts";
import { STALL_MS } from "./download.ts";

export class RemoteDownload implements Paced {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly stream: RemoteStream;
  private readonly totalBytes: number;
  private open = true;
  private sentBytes = 0;
  private piece: Uint8Array | null = null;
  private pieceStart = 0;
  private taken: (() => void) | null = null;
  private progressBytes = -1;
  private progressMs = 0;

  /** Status and headers are written already. */
  constructor(context: FrontContext, res: Res, stream: RemoteStream, totalBytes: number) {
    this.context = context;
    this.res = res;
    this.stream = stream;
    this.totalBytes = totalBytes;
  }

  /** Begins to send; to be called within the cork that wrote the head. */
  begin(): void {
    this.context.inFlight.enter();
    this.context.pacer.add(this);
    this.res.onAborted(() => this.finish(false));
    this.res.onWritable(() => this.push());
    this.run().then(
      () => this.breakOff("the other node sent too little"),
      (error: Error) => this.breakOff(error.message),
    );
  }

  private async run(): Promise<void> {
    for await (const piece of this.stream) {
      if (!this.open) return;
      this.pieceStart = this.sentBytes;
      this.piece = piece;
      this.sentBytes += piece.length;
      const taken = new Promise<void>((resolve) => {
        this.taken = resolve;
      });
      this.res.cork(() => {
        this.push();
      });
      await taken;
    }
  }

  /** Sends what is left of the piece; false: the socket is full. */
  private push(): boolean {
    if (!this.open || this.piece === null) return true;
    const rest = this.piece.subarray(this.res.getWriteOffset() - this.pieceStart);
    const [taken, complete] = this.res.tryEnd(rest, this.totalBytes);
    if (complete) {
      this.finish(true);
      return true;
    }
    if (!taken) return false;
    this.piece = null;
    this.taken?.();
    return true;
  }

  /** The client sees a cut connection, never a full length of wrong bytes. */
  private breakOff(reason: string): void {
    if (!this.open) return;
    this.context.log.error({ error: reason }, "a value broke off on its way from another node");
    this.res.close();
    this.finish(false);
  }

  beat(nowMs: number): void {
    this.res.cork(() => {
      this.push();
    });
    if (!this.open) return;
    const offset = this.res.getWriteOffset();
    if (offset !== this.progressBytes) {
      this.progressBytes = offset;
      this.progressMs = nowMs;
    } else if (nowMs - this.progressMs > STALL_MS) this.res.close();
  }

  private finish(complete: boolean): void {
    if (!this.open) return;
    this.open = false;
    this.piece = null;
    this.context.pacer.delete(this);
    this.context.inFlight.leave();
    if (complete) this.context.meter.count(GET, 200);
    else {
      this.context.meter.countAborted(GET);
      this.stream.destroy();
    }
    this.taken?.();
  }
}
