/** Large values to and from one other node, each as a stream of its own; as many at once as it bears. */
import { ExchangeError } from "../link/exchange.ts";
import type { NodeHttp } from "../link/node-http.ts";
import { PEER_VALUE_PATH } from "../link/paths.ts";
import { downloadOf, type PeerDownload, withHead } from "../link/value-stream.ts";
import { failedError, PeerError, refusedError } from "./peer-error.ts";

export interface PeerStreamsSetup {
  http: NodeHttp;
  /** Streams at once, both ways together. */
  streamsMax: number;
  /** A target with who asks. */
  from: (target: string) => string;
  /** Why nothing can be asked of the node just now, or null. */
  hindrance: () => PeerError | null;
}

export class PeerStreams {
  private readonly setup: PeerStreamsSetup;
  private count = 0;

  constructor(setup: PeerStreamsSetup) {
    this.setup = setup;
  }

  /** See PeerClient.putStream. */
  put(head: Uint8Array, body: AsyncIterable<Uint8Array>, signal: AbortSignal | null): Promise<Buffer> {
    return this.stream(async ({ http, from }) => {
      const answer = await http.upload("PUT", from(PEER_VALUE_PATH), withHead(head, body), signal);
      if (answer.status !== 200) throw refusedError(answer);
      return answer.body;
    });
  }

  /** See PeerClient.getStream. */
  get(head: Uint8Array): Promise<PeerDownload> {
    return this.stream(async ({ http, from }) => {
      const answer = await http.download(from(PEER_VALUE_PATH), head);
      if (!("stream" in answer)) throw refusedError(answer);
      this.count++;
      answer.stream.once("close", () => this.count--);
      return downloadOf(answer);
    });
  }

  private async stream<Result>(run: (setup: PeerStreamsSetup) => Promise<Result>): Promise<Result> {
    const { http, streamsMax, hindrance } = this.setup;
    const why = hindrance();
    if (why !== null) throw why;
    if (this.count >= streamsMax)
      throw new PeerError("peer_overloaded", "not_sent", `too many streams to ${http.url}`);
    this.count++;
    try {
      return await run(this.setup);
    } catch (error) {
      throw error instanceof ExchangeError ? failedError(error) : error;
    } finally {
      this.count--;
    }
  }
}
