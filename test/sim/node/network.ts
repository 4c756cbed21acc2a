/**
 * The network between simulated nodes: what undici sends and uWebSockets.js receives, in place of both. The shipped client (NodeHttp and all
 * above it) and the shipped handlers of both ends run unchanged.
 */
import type { Dispatcher } from "undici";
import type { Handlers, Req, Res } from "../../../src/server/http/http.ts";
import type { SimProcess, Simulation } from "./simulation.ts";

/** Nothing that is connected to is waited for longer. */
const CONNECT_MS = 2000;

/** How bad the network is. */
export interface Weather {
  latencyMs: number;
  jitterMs: number;
  /** Probabilities, for each message: it never comes; a request comes twice; it takes up to `slowMs` longer. */
  loss: number;
  duplicate: number;
  slow: number;
  slowMs: number;
}

/** Who listens under a URL. */
export interface Host {
  process: SimProcess;
  handlers: Handlers;
}

interface Request {
  path: string;
  method: string;
  body: Uint8Array | null;
}

interface Answer {
  status: number;
  body: Buffer;
}

export class SimNetwork {
  readonly hosts = new Map<string, Host>();
  weather: Weather;
  /** Pairs of machines, "from to", between which nothing passes, and until when. */
  private readonly cuts = new Map<string, number>();
  private readonly simulation: Simulation;

  constructor(simulation: Simulation, weather: Weather) {
    this.simulation = simulation;
    this.weather = weather;
  }

  /** Nothing passes from one to the other for so long. */
  cut(from: string, to: string, ms: number): void {
    this.cuts.set(`${from} ${to}`, this.simulation.now + ms);
  }

  /** Everything passes from now on, and at once. */
  heal(): void {
    this.cuts.clear();
    this.weather = { ...this.weather, loss: 0, duplicate: 0, slow: 0 };
  }

  install(): void {
    const network = this;
    this.simulation.replace(
      require("undici"),
      "Pool",
      class {
        private readonly calls = new Set<Call>();
        constructor(private readonly url: string) {}

        dispatch(request: Request, handler: Dispatcher.DispatchHandler): boolean {
          const call = new Call(network.simulation, network, this.url, request, handler);
          this.calls.add(call);
          call.onOver = () => this.calls.delete(call);
          return true;
        }

        request(): Promise<never> {
          return Promise.reject(new Error("large values are not simulated"));
        }

        async destroy(): Promise<void> {
          for (const call of [...this.calls]) call.fail(new Error("the client is destroyed"));
        }
      },
    );
  }

  /** How long a message takes; null: it never comes. */
  passage(from: string, to: string): number | null {
    const { simulation, weather } = this;
    if ((this.cuts.get(`${from} ${to}`) ?? 0) > simulation.now) return null;
    if (weather.loss > 0 && simulation.chance() < weather.loss) return null;
    const slow =
      weather.slow > 0 && simulation.chance() < weather.slow ? simulation.chance() * weather.slowMs : 0;
    return weather.latencyMs + simulation.chance() * weather.jitterMs + slow;
  }

  isTwice(): boolean {
    return this.weather.duplicate > 0 && this.simulation.chance() < this.weather.duplicate;
  }
}

/** One request and its answer. */
class Call {
  onOver: () => void = () => {};
  private readonly from: SimProcess;
  private isOver = false;

  constructor(
    private readonly simulation: Simulation,
    private readonly network: SimNetwork,
    private readonly url: string,
    private readonly request: Request,
    private readonly handler: Dispatcher.DispatchHandler,
  ) {
    this.from = simulation.current;
    simulation.after(this.from, 0, () => this.connect());
  }

  private connect(): void {
    if (this.isOver) return;
    const { simulation, network, from, url } = this;
    const passage = network.passage(from.name, url);
    const host = network.hosts.get(url);
    if (passage === null) {
      // A connection that there is does not show that nothing comes through any more.
      if (simulation.chance() < 0.5) this.begin();
      else this.later(CONNECT_MS, () => this.fail(new Error("connect timeout")));
    } else if (host === undefined || !host.process.alive)
      this.later(passage, () =>
        this.fail(Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" })),
      );
    else {
      this.begin();
      this.arrive(host, passage);
      if (network.isTwice()) this.arrive(host, (network.passage(from.name, url) ?? 0) + passage);
    }
  }

  private begin(): void {
    const controller = { abort: (why: Error) => this.later(0, () => this.fail(why)) };
    this.handler.onRequestStart?.(controller as unknown as Dispatcher.DispatchController, undefined);
  }

  private arrive(host: Host, ms: number): void {
    const { simulation, network, from, url, request } = this;
    simulation.after(host.process, ms, () => {
      serve(host.handlers, request, (answer) => {
        const passage = network.passage(url, from.name);
        if (passage !== null) this.later(passage, () => this.answered(answer));
      });
    });
    // Who ends while it owes an answer breaks the connection.
    this.watch(host);
  }

  private watch(host: Host): void {
    this.later(50, () => {
      if (host.process.alive) this.watch(host);
      else if (this.network.passage(this.url, this.from.name) !== null)
        this.fail(new Error("other side closed"));
    });
  }

  private answered({ status, body }: Answer): void {
    if (this.isOver) return;
    this.end();
    const controller = { abort: () => {} } as unknown as Dispatcher.DispatchController;
    this.handler.onResponseStart?.(controller, status, {}, "");
    this.handler.onResponseData?.(controller, body);
    this.handler.onResponseEnd?.(controller, {});
  }

  fail(error: Error): void {
    if (this.isOver) return;
    this.end();
    this.handler.onResponseError?.({ abort: () => {} } as unknown as Dispatcher.DispatchController, error);
  }

  private end(): void {
    this.isOver = true;
    this.onOver();
  }

  private later(ms: number, run: () => void): void {
    this.simulation.after(this.from, ms, () => {
      if (!this.isOver) run();
    });
  }
}

/** Hands a request to handlers, as uWebSockets.js would. */
function serve(
  handlers: Handlers,
  { path: target, method, body }: Request,
  answer: (answer: Answer) => void,
): void {
  const [path, query] = target.split("?");
  const headers: Record<string, string> = body === null ? {} : { "content-length": String(body.length) };
  const req = {
    getUrl: () => path,
    getQuery: () => query,
    getHeader: (name: string | Uint8Array) => headers[Buffer.from(name as string).toString()] ?? "",
    forEach: () => {},
    getCaseSensitiveMethod: () => method,
  } as unknown as Req;
  let status = 200;
  let onData: ((chunk: ArrayBuffer, last: boolean) => void) | null = null;
  const res = {
    writeStatus: (line: string | Uint8Array) => {
      status = Number(Buffer.from(line as string).toString("latin1", 0, 3));
      return res;
    },
    writeHeader: () => res,
    end: (text: string | Uint8Array = "") => {
      answer({ status, body: Buffer.from(text as string) });
      return res;
    },
    onAborted: () => res,
    onData: (take: typeof onData) => {
      onData = take;
      return res;
    },
    cork: (write: () => void) => {
      write();
      return res;
    },
  } as unknown as Res;
  const verb = method === "GET" ? "get" : method === "POST" ? "post" : method === "PUT" ? "put" : "other";
  handlers[verb](res, req);
  if (onData !== null)
    (onData as (chunk: ArrayBuffer, last: boolean) => void)(Uint8Array.from(body ?? []).buffer, true);
}
