/** Other stores, filled with keys, asked for those that begin with a prefix: Redis by SCAN MATCH, etcd by a range. */
import { spawn } from "node:child_process";
import net from "node:net";
import { awaitOutput, freePort, run, start, temporaryFolder } from "./processes.ts";
import { startRedis } from "./redis.ts";

export interface OrderedPeer {
  name: string;
  /** Answers how many keys begin with a prefix, having fetched them all. */
  keysOf(prefix: string): Promise<number>;
  stop(): Promise<void>;
}

const VALUE = "v".repeat(16);
/** etcd takes so many operations in one transaction. */
const TRANSACTION = 128;
const LANES = 16;

/** Redis with these keys; SCAN with a COUNT that is good for large stores. */
export async function loadRedis(keys: Iterable<string>): Promise<OrderedPeer> {
  const redis = await startRedis("os");
  const words = ["-h", "127.0.0.1", "-p", String(redis.port)];
  const client = spawn("redis-cli", [...words, "--pipe"], { stdio: ["pipe", "ignore", "inherit"] });
  const ended = new Promise<number | null>((resolve) => client.once("close", resolve));
  let text = "";
  for (const key of keys) {
    text += `*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$${VALUE.length}\r\n${VALUE}\r\n`;
    if (text.length < 1024 * 1024) continue;
    if (!client.stdin.write(text)) await new Promise((resolve) => client.stdin.once("drain", resolve));
    text = "";
  }
  client.stdin.end(text);
  if ((await ended) !== 0) throw new Error("redis-cli could not load the keys");
  const socket = net.connect({ host: "127.0.0.1", port: redis.port, noDelay: true });
  return {
    name: `Redis ${redis.version}, SCAN MATCH`,
    async keysOf(prefix) {
      let found = 0;
      let cursor = "0";
      do {
        const part = await scan(socket, cursor, `${prefix}*`);
        found += part.keys;
        ({ cursor } = part);
      } while (cursor !== "0");
      return found;
    },
    async stop() {
      socket.destroy();
      await redis.stop();
    },
  };
}

/** One step of a scan: where it goes on, and how many keys it has found. */
function scan(
  socket: net.Socket,
  cursor: string,
  pattern: string,
): Promise<{ cursor: string; keys: number }> {
  return new Promise((resolve, reject) => {
    let text = "";
    const take = (piece: Buffer): void => {
      text += piece.toString("latin1");
      // An array of two: the next cursor, and an array of keys, each with its length before it.
      const head = /^\*2\r\n\$\d+\r\n(\d+)\r\n\*(\d+)\r\n/.exec(text);
      const lines = text.split("\r\n").length - 1;
      if (head === null || lines < 4 + 2 * Number(head[2])) return;
      socket.off("data", take).off("error", reject);
      resolve({ cursor: head[1], keys: Number(head[2]) });
    };
    socket.on("data", take).on("error", reject);
    socket.write(`SCAN ${cursor} MATCH ${pattern} COUNT 1000\r\n`);
  });
}

/** etcd with these keys, asked through its JSON gateway. */
export async function loadEtcd(keys: Iterable<string>): Promise<OrderedPeer> {
  const [port, peerPort] = [await freePort(), await freePort()];
  const urls = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${peerPort}`];
  const program = start("etcd", [
    ...["--data-dir", temporaryFolder(), "--quota-backend-bytes", String(8 * 1024 ** 3)],
    ...["--listen-client-urls", urls[0], "--advertise-client-urls", urls[0]],
    ...["--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1]],
    ...["--initial-cluster", `default=${urls[1]}`],
  ]);
  await awaitOutput(program, /ready to serve client requests/);
  const version = /etcd Version: ([\d.]+)/.exec(program.output())?.[1] ?? (await versionOf());
  const ask = async (path: string, body: object) => {
    const reply = await fetch(`${urls[0]}${path}`, { method: "POST", body: JSON.stringify(body) });
    if (reply.status !== 200) throw new Error(`etcd: ${reply.status} ${await reply.text()}`);
    return reply.json();
  };
  const base64 = (text: string): string => Buffer.from(text).toString("base64");
  const value = base64(VALUE);
  const all = keys[Symbol.iterator]();
  const lane = async (): Promise<void> => {
    for (;;) {
      const success: object[] = [];
      while (success.length < TRANSACTION) {
        const { done, value: key } = all.next();
        if (done === true) break;
        success.push({ requestPut: { key: base64(key), value } });
      }
      if (success.length === 0) return;
      await ask("/v3/kv/txn", { success });
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return {
    name: `etcd ${version}, range`,
    async keysOf(prefix) {
      const end = `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
      const found = await ask("/v3/kv/range", {
        key: base64(prefix),
        range_end: base64(end),
        keys_only: true,
      });
      return (found as { kvs?: object[] }).kvs?.length ?? 0;
    },
    stop: () => program.stop(),
  };
}

async function versionOf(): Promise<string> {
  return /etcd Version: ([\d.]+)/.exec(await run("etcd", ["--version"]))?.[1] ?? "";
}
