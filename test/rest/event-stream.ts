/** A client of `?watch`: events as they come, by the rules of the HTML standard for server-sent events. */
import http from "node:http";

export interface StreamEvent {
  event: string;
  /** The last id before its end. */
  id: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests read documents of any form
  data: any;
}

export class EventStream {
  status = 0;
  headers: http.IncomingHttpHeaders = {};
  /** All so far. */
  readonly events: StreamEvent[] = [];
  /** What was sent in place of events. */
  text = "";
  lastId = "";
  ended = false;
  private readonly request: http.ClientRequest;
  private response: http.IncomingMessage | null = null;
  private rest = "";
  private wake: (() => void)[] = [];

  constructor(port: number, path: string, headers: Record<string, string> = {}) {
    this.request = http.request({ host: "127.0.0.1", port, path, headers, agent: false });
    this.request.on("error", () => this.end());
    this.request.on("response", (response) => {
      this.response = response;
      this.status = response.statusCode ?? 0;
      this.headers = response.headers;
      response.setEncoding("utf8");
      response.on("data", (text: string) => this.take(text));
      response.on("end", () => this.end());
      response.on("error", () => this.end());
      this.changed();
    });
    this.request.end();
  }

  private take(text: string): void {
    this.text += this.status === 200 ? "" : text;
    this.rest += text;
    for (let at = this.rest.indexOf("\n\n"); at >= 0; at = this.rest.indexOf("\n\n")) {
      this.parse(this.rest.slice(0, at));
      this.rest = this.rest.slice(at + 2);
    }
    this.changed();
  }

  private parse(block: string): void {
    let event = "message";
    let data: string | null = null;
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = line.slice(colon + 1).replace(/^ /, "");
      if (name === "id") this.lastId = value;
      else if (name === "event") event = value;
      else if (name === "data") data = data === null ? value : `${data}\n${value}`;
    }
    if (data !== null) this.events.push({ event, id: this.lastId, data: JSON.parse(data) });
  }

  private end(): void {
    this.ended = true;
    this.changed();
  }

  private changed(): void {
    for (const wake of this.wake.splice(0)) wake();
  }

  /** Waits until `holds` says something else than false or undefined; answers that. */
  async until<Result>(holds: (stream: EventStream) => Result | false | undefined): Promise<Result> {
    for (;;) {
      const result = holds(this);
      if (result !== false && result !== undefined) return result;
      if (this.ended) throw new Error(`the stream has ended: ${this.status} ${this.text}`);
      await new Promise<void>((resolve) => this.wake.push(resolve));
    }
  }

  /** Waits until the stream has begun, at its first place. */
  begun(): Promise<true> {
    return this.until(({ lastId }) => lastId !== "");
  }

  /** Waits for the end; answers everything. */
  async finished(): Promise<StreamEvent[]> {
    while (!this.ended) await new Promise<void>((resolve) => this.wake.push(resolve));
    return this.events;
  }

  /** Takes nothing any more, for now. */
  pause(): void {
    this.response?.pause();
  }

  resume(): void {
    this.response?.resume();
  }

  close(): void {
    this.request.destroy();
  }
}
