/**
 * Rows of `bench:peers` for those who follow changes: from when a write is sent until its event is there, beside Redis' keyspace notifications.
 * One client, this process, drives both by the same few lines: sockets, and a search for the key's name in what they bring.
 */
import net from "node:net";
import type { Contender } from "./contenders.ts";
import { startRedis } from "./redis.ts";
import type { Stage } from "./rows.ts";
import { median, shortNumber } from "./statistics.ts";

const WATCHERS = 1000;
const EVENTS = 200;
const CROWD_EVENTS = 20;
const VALUE = "v".repeat(100);
const EVENT_MS_MAX = 30_000;
/** Of the end of what came, kept: a name may come in two pieces. */
const KEPT_LETTERS = 100;

/** A connection that waits for texts. */
class Listener {
  private readonly socket: net.Socket;
  private text = "";
  private wanted: { text: string; found: () => void } | null = null;

  constructor(port: number) {
    this.socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
    this.socket.on("data", (piece) => {
      this.text = this.text.slice(-KEPT_LETTERS) + piece.toString("latin1");
      if (this.wanted === null || !this.text.includes(this.wanted.text)) return;
      const { found } = this.wanted;
      this.wanted = null;
      this.text = "";
      found();
    });
    // A connection that breaks shows as an event that does not come.
    this.socket.on("error", () => {});
  }

  send(text: string): void {
    this.socket.write(text);
  }

  /** Once this text has come; it has to be new. */
  until(text: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${JSON.stringify(text)} has not come: ${this.text}`)),
        EVENT_MS_MAX,
      );
      const found = (): void => {
        clearTimeout(timer);
        resolve();
      };
      this.wanted = { text, found };
    });
  }

  close(): void {
    this.socket.destroy();
  }
}

/** A store that tells its changes: how a watcher begins, and how a key is written. */
interface Teller {
  port: number;
  subscribe: string;
  /** Says that the watcher has begun. */
  begun: string;
  write: (key: string) => string;
  /** In the answer to a write. */
  written: string;
  /** In the event of a key. */
  event: (key: string) => string;
}

const minivaultAt = (port: number): Teller => ({
  port,
  subscribe: "GET /w/?watch HTTP/1.1\r\nHost: x\r\n\r\n",
  begun: "id: ",
  write: (key) => `PUT /${key} HTTP/1.1\r\nHost: x\r\nContent-Length: ${VALUE.length}\r\n\r\n${VALUE}`,
  written: '"success":true',
  event: (key) => `"key":"${key}"`,
});

const redisAt = (port: number): Teller => ({
  port,
  subscribe: "PSUBSCRIBE __keyspace@0__:w/*\r\n",
  begun: "psubscribe",
  write: (key) => `*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$${VALUE.length}\r\n${VALUE}\r\n`,
  written: "+OK",
  event: (key) => `__keyspace@0__:${key}\r\n`,
});

let keys = 0;

/** Seconds from when a write is sent until the last watcher has its event: the median of so many, one after the other. */
async function eventSeconds(teller: Teller, watchers: number, events: number): Promise<number> {
  const listeners = Array.from({ length: watchers }, () => new Listener(teller.port));
  const writer = new Listener(teller.port);
  try {
    await Promise.all(
      listeners.map(async (listener) => {
        const begun = listener.until(teller.begun);
        listener.send(teller.subscribe);
        await begun;
      }),
    );
    const took: number[] = [];
    for (let event = 0; event < events; event++) {
      const key = `w/${String(keys++).padStart(8, "0")}`;
      const all = Promise.all(listeners.map((listener) => listener.until(teller.event(key))));
      const written = writer.until(teller.written);
      const sentMs = performance.now();
      writer.send(teller.write(key));
      await all;
      took.push((performance.now() - sentMs) / 1000);
      await written;
    }
    return median(took);
  } finally {
    for (const listener of [...listeners, writer]) listener.close();
  }
}

export function watchStage(options: {
  tiny: boolean;
  has: (program: string) => boolean;
  start: () => Promise<Contender>;
}): Stage {
  return async (result, wanted) => {
    const crowd = options.tiny ? 50 : WATCHERS;
    const rows = [
      { work: "watch: from a write to its event", watchers: 1, events: EVENTS },
      {
        work: `watch: from a write to the last of ${shortNumber(crowd)} watchers' events`,
        watchers: crowd,
        events: CROWD_EVENTS,
      },
    ];
    if (!rows.some(({ work }) => wanted(work)) || !options.has("redis-server")) return;
    const server = await options.start();
    const redis = await startRedis("os", { "notify-keyspace-events": "K$" });
    for (const { work, watchers, events } of rows)
      await result({
        work,
        against: "Redis keyspace notifications",
        unit: "s",
        compare: "latencies",
        goal: 1,
        ours: () => eventSeconds(minivaultAt(server.port), watchers, options.tiny ? 5 : events),
        theirs: () => eventSeconds(redisAt(redis.port), watchers, options.tiny ? 5 : events),
      });
    await redis.stop();
    await server.stop();
  };
}
