/**
 * Chunk extensions (RFC 9112, 7.1.1), which uWS reads as digits of the chunk's size: "3;a=b" is a chunk of
 * 244,443 bytes to it. So the end of the body is taken for bytes of the value, and client and server wait for
 * each other. From here it looks like this: what came last is what ends a chunked body, and nothing follows.
 * A body that pauses there and is well framed all the same would have to contain these very bytes; such a
 * one, paused for CHUNK_END_MS, is refused, too.
 */

/** How long nothing may follow. */
const CHUNK_END_MS = 1500;
/** As much of the end as is looked at. */
const TAIL_BYTES = 128;
/** The last chunk, perhaps with an extension, behind the line end of another one. */
const END = /\r\n0+(;[^\r\n]*)?\r\n\r\n$/;

export class ChunkEnd {
  private readonly onEnd: () => void;
  private tail = "";
  private timer: NodeJS.Timeout | null = null;

  /** @param onEnd called once it is clear that nothing follows */
  constructor(onEnd: () => void) {
    this.onEnd = onEnd;
  }

  /** The next bytes of the body, as uWS sees it. */
  data(bytes: Uint8Array): void {
    this.stop();
    const from = Math.max(0, bytes.length - TAIL_BYTES);
    const last = Buffer.from(bytes.buffer, bytes.byteOffset + from, bytes.length - from).toString("latin1");
    this.tail = (this.tail + last).slice(-TAIL_BYTES);
    if (!END.test(this.tail)) return;
    this.timer = setTimeout(this.onEnd, CHUNK_END_MS);
    this.timer.unref();
  }

  /** The body is complete, or its request over. Idempotent. */
  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}
