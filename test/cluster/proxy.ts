/**
 * A link between two nodes that can be made bad: a TCP proxy in this process. Every connection through it is delayed, cut or stalled
 * in each direction for itself, as long as the link is in that state.
 *
 *   client ──"to"──► proxy ──► target
 *   client ◄─"from"─ proxy ◄── target
 *
 * cut: bytes are thrown away, as on a network that drops packets; nothing ever arrives, no connection is closed, new ones are not made
 * (their first bytes are lost). When the link heals, connections that lost bytes are reset, since TCP cannot go on without them.
 * stall: bytes are kept and delivered after healing.
 */
import net from "node:net";

export type Direction = "both" | "to" | "from";

export interface LinkControls {
  /** Connections that are open now. */
  readonly connections: number;
  /** Bytes taken so far, both ways, whether delivered or not. */
  readonly bytes: number;
  /** Delays everything by so long each way, from now on; half a round trip. Connecting itself is not delayed. */
  delay(ms: number): void;
  /** Loses everything in that direction. */
  cut(direction: Direction): void;
  /** Keeps everything back, both ways. */
  stall(): void;
  /** Resets every connection, once. */
  reset(): void;
  /** Ends cut and stall; the delay stays. */
  heal(): void;
  /** Shows every piece that comes from the client from now on, with a name of its connection; null: no more. */
  listen(listener: Listener | null): void;
}

type Listener = (connection: object, data: Buffer) => void;

export interface LinkProxy extends LinkControls {
  /** Where to connect instead of the target. */
  readonly port: number;
  close(): Promise<void>;
}

/** One address for a node, with a link of its own for each address that connections come from. */
export interface NodeProxy {
  readonly port: number;
  /** The link from that address, such as "127.0.0.2"; it may be asked for before anything comes from there. */
  from(address: string): LinkControls;
  close(): Promise<void>;
}

interface Piece {
  data: Buffer | null;
  dueMs: number;
}

/** What goes one way on one connection. */
class Lane {
  /** Bytes are missing. */
  lost = false;
  private readonly pieces: Piece[] = [];
  private timer: NodeJS.Timeout | null = null;
  private readonly link: Link;
  private readonly direction: "to" | "from";
  private readonly from: net.Socket;
  private readonly to: net.Socket;

  constructor(link: Link, direction: "to" | "from", from: net.Socket, to: net.Socket) {
    this.link = link;
    this.direction = direction;
    this.from = from;
    this.to = to;
    from.on("data", (data) => this.take(data));
    from.on("end", () => this.take(null));
    to.on("drain", () => from.resume());
  }

  private take(data: Buffer | null): void {
    if (data !== null) this.link.bytes += data.length;
    if (data !== null && this.direction === "to") this.link.listener?.(this.from, data);
    if (this.link.isCut(this.direction)) {
      this.lost = true;
      return;
    }
    this.pieces.push({ data, dueMs: performance.now() + this.link.delayMs });
    this.pump();
  }

  /** Delivers what is due. */
  pump(): void {
    if (this.link.stalled) return;
    // Lost bytes make a gap that nothing may follow.
    if (this.lost || this.link.isCut(this.direction)) {
      if (this.pieces.length > 0) this.lost = true;
      this.pieces.length = 0;
      return;
    }
    const nowMs = performance.now();
    while (this.pieces.length > 0 && this.pieces[0].dueMs <= nowMs) {
      const { data } = this.pieces.shift() as Piece;
      if (data === null) this.to.end();
      else if (!this.to.write(data)) this.from.pause();
    }
    if (this.pieces.length > 0 && this.timer === null) {
      this.timer = setTimeout(
        () => {
          this.timer = null;
          this.pump();
        },
        Math.max(0, this.pieces[0].dueMs - nowMs),
      );
    }
  }

  stop(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.pieces.length = 0;
  }
}

/** One link: its state, and the connections through it. */
class Link implements LinkControls {
  delayMs = 0;
  bytes = 0;
  stalled = false;
  listener: Listener | null = null;
  private readonly cutLanes = new Set<"to" | "from">();
  private readonly pairs = new Map<net.Socket, { other: net.Socket; lanes: Lane[] }>();

  get connections(): number {
    return this.pairs.size;
  }

  isCut(direction: "to" | "from"): boolean {
    return this.cutLanes.has(direction);
  }

  delay(ms: number): void {
    this.delayMs = ms;
  }

  listen(listener: Listener | null): void {
    this.listener = listener;
  }

  cut(direction: Direction): void {
    for (const lane of ["to", "from"] as const)
      if (direction === lane || direction === "both") this.cutLanes.add(lane);
  }

  stall(): void {
    this.stalled = true;
  }

  reset(): void {
    this.resetWhere(() => true);
  }

  heal(): void {
    this.stalled = false;
    this.cutLanes.clear();
    // A connection with a gap, or whose other side has gone meanwhile, is of no use any more.
    this.resetWhere((other, lanes) => other.destroyed || lanes.some((lane) => lane.lost));
    for (const { lanes } of [...this.pairs.values()]) for (const lane of lanes) lane.pump();
  }

  /** Takes a new connection. */
  connect(client: net.Socket, target: Target): void {
    const other = net.connect({
      host: target.host ?? "127.0.0.1",
      port: target.port,
      noDelay: true,
      allowHalfOpen: true,
    });
    const lanes = [new Lane(this, "to", client, other), new Lane(this, "from", other, client)];
    this.pairs.set(client, { other, lanes });
    const end = () => {
      if (!this.pairs.delete(client)) return;
      for (const lane of lanes) lane.stop();
      client.destroy();
      other.destroy();
    };
    // A reset or a refusal is passed on at once, unless the link would lose it.
    other.on("error", () => {
      if (this.isCut("from") || this.stalled) return;
      reset(client);
      end();
    });
    client.on("error", end);
    client.on("close", end);
    other.on("close", () => {
      if (other.readableEnded && !client.writableEnded) return; // its end is on its way through the lane
      if (!this.isCut("from") && !this.stalled) end();
    });
  }

  private resetWhere(which: (other: net.Socket, lanes: Lane[]) => boolean): void {
    for (const [client, { other, lanes }] of [...this.pairs]) {
      if (!which(other, lanes)) continue;
      reset(client);
      reset(other);
    }
  }
}

/**
 * Ends a connection with a reset. One that is just sending its end is closed instead: there libuv refuses the reset, and Node then never closes the handle, so that
 * the process spins for ever at its exit.
 */
function reset(socket: net.Socket): void {
  if (socket.writableEnded && !socket.writableFinished) socket.destroy();
  else socket.resetAndDestroy();
}

interface Target {
  host?: string;
  port: number;
}

interface ProxyOptions {
  target: Target;
  /** Where to listen; 127.0.0.1 and any free port when left out. */
  host?: string;
  port?: number;
}

/** Listens, and passes every connection on to the target through the link that `linkOf` names. */
async function listen(
  { target, host = "127.0.0.1", port = 0 }: ProxyOptions,
  linkOf: (client: net.Socket) => Link,
): Promise<net.Server> {
  const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (client) =>
    linkOf(client).connect(client, target),
  );
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  return server;
}

/** One link for all connections. */
export async function createLinkProxy(options: ProxyOptions): Promise<LinkProxy> {
  const link = new Link();
  const server = await listen(options, () => link);
  return Object.assign(link, {
    port: (server.address() as net.AddressInfo).port,
    async close() {
      link.reset();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

/**
 * One address for a node, and a link for each node that connects from an address of its own (PeerClientOptions.localAddress): so all nodes
 * know it by the same URL, and each pair has its own link.
 */
export async function createNodeProxy(options: ProxyOptions): Promise<NodeProxy> {
  const links = new Map<string, Link>();
  const from = (address: string): Link => {
    let link = links.get(address);
    if (link === undefined) {
      link = new Link();
      links.set(address, link);
    }
    return link;
  };
  const server = await listen(options, (client) => from(client.remoteAddress ?? ""));
  return {
    port: (server.address() as net.AddressInfo).port,
    from,
    async close() {
      for (const link of links.values()) link.reset();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
