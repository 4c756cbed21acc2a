/**
 * As much of NATS' protocol as a benchmark of its key-value store needs: one connection, one question at a time. Put as a program of its own it is a
 * load: `nats-client.ts PORTS CONNECTIONS SECONDS BYTES` prints a line of JSON. No library lies between the load and the server.
 */
import net from "node:net";
import { keyPath, SPREAD_KEYS } from "./load.ts";

const ASK_MS_MAX = 10_000;
const INBOX = "_INBOX.bench";

export interface Nats {
  /** Publishes with a reply's subject, and answers the reply's body. */
  ask(subject: string, body: Buffer): Promise<string>;
  close(): void;
}

/** Connects, subscribes to the inbox, and waits until the server has said that it is there. */
export async function openNats(port: number): Promise<Nats> {
  const socket = net.connect(port, "127.0.0.1");
  socket.setNoDelay(true);
  const inbox = `${INBOX}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  let text = "";
  let waiting: { subject: string; resolve: (body: string) => void; reject: (error: Error) => void } | null =
    null;
  const fail = (error: Error): void => {
    const { reject } = waiting ?? {};
    waiting = null;
    reject?.(error);
  };
  const take = (piece: Buffer): void => {
    // One question at a time: text stays short. Bodies here are JSON or ASCII.
    text += piece.toString("latin1");
    for (;;) {
      const end = text.indexOf("\r\n");
      if (end < 0) return;
      const [verb, ...words] = text.slice(0, end).split(" ");
      // MSG subject sid bytes, HMSG subject sid header-bytes bytes.
      const bytes = verb === "MSG" || verb === "HMSG" ? Number(words[words.length - 1]) : -1;
      const next = bytes < 0 ? end + 2 : end + 2 + bytes + 2;
      if (text.length < next) return;
      const body = text.slice(end + 2, next - 2);
      text = text.slice(next);
      if (verb === "PING") socket.write("PONG\r\n");
      else if (verb === "-ERR") fail(new Error(words.join(" ")));
      else if (bytes >= 0 || verb === "PONG") {
        const { resolve } = waiting ?? {};
        waiting = null;
        resolve?.(verb === "HMSG" ? body.slice(Number(words[words.length - 2])) || body : body);
      }
    }
  };
  socket.on("data", take);
  socket.on("error", fail);
  socket.on("close", () => fail(new Error("the connection was closed")));
  const send = (subject: string, bytes: Buffer): Promise<string> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => fail(new Error(`${subject}: no answer`)), ASK_MS_MAX);
      waiting = {
        subject,
        resolve: (body) => {
          clearTimeout(timer);
          resolve(body);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      socket.write(bytes);
    });
  const hello = `CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\nSUB ${inbox} 1\r\nPING\r\n`;
  await send("CONNECT", Buffer.from(hello));
  return {
    ask: (subject, body) =>
      send(
        subject,
        Buffer.concat([Buffer.from(`PUB ${subject} ${inbox} ${body.length}\r\n`), body, Buffer.from("\r\n")]),
      ),
    close: () => socket.destroy(),
  };
}

/** Puts over that many connections, spread over the ports, each with one in flight; the sum of acknowledged ones. */
async function load(
  ports: readonly number[],
  connections: number,
  seconds: number,
  bytes: number,
  bucket: string,
): Promise<void> {
  const clients = await Promise.all(
    Array.from({ length: connections }, (_, number) => openNats(ports[number % ports.length])),
  );
  const value = Buffer.alloc(bytes, "v");
  const begun = performance.now();
  const end = begun + seconds * 1000;
  let done = 0;
  let failures = 0;
  await Promise.all(
    clients.map(async (client, number) => {
      const first = Math.floor((number * SPREAD_KEYS) / connections);
      for (let turn = first; performance.now() < end; turn++) {
        const answer = await client
          .ask(`$KV.${bucket}.${keyPath(turn % SPREAD_KEYS).slice(1)}`, value)
          .catch(String);
        if (answer.includes('"seq"')) done++;
        else failures++;
      }
    }),
  );
  const took = (performance.now() - begun) / 1000;
  for (const client of clients) client.close();
  console.log(JSON.stringify({ perSecond: done / took, failures }));
}

if (require.main === module) {
  const [ports, connections, seconds, bytes, bucket] = process.argv.slice(2);
  void load(ports.split(",").map(Number), Number(connections), Number(seconds), Number(bytes), bucket);
}
