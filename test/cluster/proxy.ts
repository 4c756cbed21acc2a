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

export interface LinkProxy {
  /** Where to connect instead of the target. */
  readonly port: number;
  /** Connections that are open now. */
  readonly connections: number;
  /** Bytes taken so far, both ways, whether delivered or not. */
  readonly bytes: number;
  /** Delays everything by so long each way, from now on; half a round trip. */
  delay(ms: number): void;
  /** Loses everything in that direction. */
  cut(direction: Direction): void;
  /** Keeps everything back, both ways. */
  stall(): void;
  /** Resets every connection, once. */
  reset(): void;
  /** Ends cut and stall; the delay stays. */
  heal(): void;
  close(): Promise<void>;
}

interface Piece {
  data: Buffer | null;
  dueMs: number;
}

/** What goes one way on one connection. */
class Lane {
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

/** The state of the link, shared by its connections. */
class Link {
  delayMs = 0;
  bytes = 0;
  stalled = false;
  private readonly cutLanes = new Set<"to" | "from">();

  isCut(direction: "to" | "from"): boolean {
    return this.cutLanes.has(direction);
  }

  cut(direction: Direction): void {
    for (const lane of ["to", "from"] as const)
      if (direction === lane || direction === "both") this.cutLanes.add(lane);
  }

  heal(): void {
    this.stalled = false;
    this.cutLanes.clear();
  }
}

/** Listens on a free port of `host`, and passes every connection on to the target. */
export async function createLinkProxy({
  target,
  host = "127.0.0.1",
  port = 0,
}: {
  target: { host?: string; port: number };
  host?: string;
  port?: number;
}): Promise<LinkProxy> {
  const link = new Link();
  const pairs = new Map<net.Socket, { other: net.Socket; lanes: Lane[] }>();

  const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    const other = net.connect({
      host: target.host ?? "127.0.0.1",
      port: target.port,
      noDelay: true,
      allowHalfOpen: true,
    });
    const lanes = [new Lane(link, "to", client, other), new Lane(link, "from", other, client)];
    pairs.set(client, { other, lanes });
    const end = () => {
      if (!pairs.delete(client)) return;
      for (const lane of lanes) lane.stop();
      client.destroy();
      other.destroy();
    };
    // A reset or a refusal is passed on at once, unless the link would lose it.
    other.on("error", () => {
      if (link.isCut("from") || link.stalled) return;
      client.resetAndDestroy();
      end();
    });
    client.on("error", end);
    client.on("close", end);
    other.on("close", () => {
      if (other.readableEnded && !client.writableEnded) return; // its end is on its way through the lane
      if (!link.isCut("from") && !link.stalled) end();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });

  const resetWhere = (which: (lanes: Lane[]) => boolean) => {
    for (const [client, { other, lanes }] of [...pairs]) {
      if (!which(lanes)) continue;
      client.resetAndDestroy();
      other.resetAndDestroy();
    }
  };
  return {
    port: (server.address() as net.AddressInfo).port,
    get connections() {
      return pairs.size;
    },
    get bytes() {
      return link.bytes;
    },
    delay(ms) {
      link.delayMs = ms;
    },
    cut(direction) {
      link.cut(direction);
    },
    stall() {
      link.stalled = true;
    },
    reset() {
      resetWhere(() => true);
    },
    heal() {
      link.heal();
      // A connection whose other side has gone meanwhile is of no use either.
      resetWhere((lanes) => lanes.some((lane) => lane.lost));
      for (const [client, { other, lanes }] of [...pairs]) {
        if (other.destroyed) client.resetAndDestroy();
        else for (const lane of lanes) lane.pump();
      }
    },
    async close() {
      resetWhere(() => true);
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
