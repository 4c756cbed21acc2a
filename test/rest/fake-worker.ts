/** A worker that registers, can be reached, and does nothing else: what it says of itself is the test's. */
import http from "node:http";
import { freePort } from "../../native-bench/processes.ts";
import { FEATURES } from "../../src/cluster/layout/features.ts";

// biome-ignore lint/suspicious/noExplicitAny: documents of any form
type Document = any;

export class FakeWorker {
  /** It answers nothing. */
  silent = false;
  readonly url: string;
  private readonly master: string;
  private readonly store: string;
  private readonly server: http.Server;
  private tried: Document[] = [];

  /** @param digit of its store's name */
  static async start(master: string, digit: string): Promise<FakeWorker> {
    const port = await freePort();
    const worker = new FakeWorker(master, `http://localhost:${port}`, digit);
    await new Promise<void>((resolve) => worker.server.listen(port, "localhost", resolve));
    return worker;
  }

  private constructor(master: string, url: string, digit: string) {
    this.master = master;
    this.url = url;
    this.store = digit.repeat(32);
    this.server = http.createServer((_, response) => {
      if (this.silent) response.destroy();
      else
        response.end(
          JSON.stringify({ success: true, ...this.facts, layout: null, birth: {}, volumes: null }),
        );
    });
  }

  private get facts() {
    return {
      url: this.url,
      region: "default",
      host: "fake",
      store: this.store,
      epoch: 0,
      empty: true,
      voting: false,
      features: FEATURES,
    };
  }

  /** A heartbeat; whom it is asked to try it has reached. Answers what the master says. */
  async beat(more: Document = {}): Promise<Document> {
    const body = { ...this.facts, rank: 0, progress: null, load: null, tried: this.tried, ...more };
    const response = await fetch(`${this.master}/heartbeat`, { method: "POST", body: JSON.stringify(body) });
    const answer = (await response.json()) as Document;
    this.tried = (answer.candidates ?? []).map((candidate: object) => ({ ...candidate, problem: null }));
    return answer;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}
