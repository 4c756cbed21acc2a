/**
 * GETs or PUTs of keys of a filled store (test/engine/fill.ts) over raw sockets, one request in flight on each, in a process of their own; every answer
 * is checked. As a program it prints what it has measured as one line of JSON:
 *
 *   node --import tsx key-load.ts GET|PUT PORT CONNECTIONS SECONDS FIRST COUNT STRIDE VALUE_BYTES
 *
 * The keys are FIRST + (i * STRIDE) mod COUNT for i = 0, 1, …; with a STRIDE of 0 they are random.
 */
import { execFile } from "node:child_process";
import net from "node:net";
import { keyName, valueText } from "../engine/fill.ts";
import { REPOSITORY } from "./server.ts";

export interface KeyLoad {
  verb: "GET" | "PUT";
  port: number;
  connections: number;
  seconds: number;
  first: number;
  count: number;
  stride: number;
  valueBytes: number;
}

export interface KeyLoadResult {
  requests: number;
  wrong: number;
  /** Latencies in milliseconds. */
  p50: number;
  p99: number;
  max: number;
}

/** Runs a load to its end. */
export function keyLoad(load: KeyLoad): Promise<KeyLoadResult> {
  const { verb, port, connections, seconds, first, count, stride, valueBytes } = load;
  const numbers = [port, connections, seconds, first, count, stride, valueBytes].map(String);
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      ["--import", "tsx", __filename, verb, ...numbers],
      { cwd: REPOSITORY },
      (error, stdout, stderr) => {
        if (error !== null) reject(new Error(`${error.message}\n${stderr}`));
        else resolve(JSON.parse(stdout) as KeyLoadResult);
      },
    );
  });
}

async function main(): Promise<void> {
  const verb = process.argv[2];
  const [port, connections, seconds, first, count, stride, valueBytes] = process.argv.slice(3).map(Number);
  const times: number[] = [];
  let wrong = 0;
  let next = 0;
  const end = performance.now() + seconds * 1000;
  const lane = () =>
    new Promise<void>((resolve, reject) => {
      const socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
      let answer = "";
      let number = 0;
      let begun = 0;
      const send = (): void => {
        if (performance.now() >= end) {
          socket.destroy();
          resolve();
          return;
        }
        number = first + (stride === 0 ? Math.floor(Math.random() * count) : (next++ * stride) % count);
        const body = verb === "GET" ? "" : valueText(number, valueBytes);
        const length = verb === "GET" ? "" : `Content-Length: ${body.length}\r\n`;
        begun = performance.now();
        socket.write(`${verb} /${keyName(number)} HTTP/1.1\r\nHost: x\r\n${length}\r\n${body}`, "latin1");
      };
      socket.on("connect", send);
      socket.on("error", reject);
      socket.on("data", (piece) => {
        answer += piece.toString("latin1");
        const head = answer.indexOf("\r\n\r\n");
        const length = head < 0 ? null : /content-length: (\d+)/i.exec(answer);
        if (length === null || answer.length < head + 4 + Number(length[1])) return;
        times.push(performance.now() - begun);
        const right =
          verb === "GET"
            ? answer.slice(head + 4) === valueText(number, valueBytes)
            : answer.startsWith("HTTP/1.1 20");
        if (!right) wrong++;
        answer = "";
        send();
      });
    });
  await Promise.all(Array.from({ length: connections }, lane));
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))];
  const result: KeyLoadResult = { requests: times.length, wrong, p50: at(0.5), p99: at(0.99), max: at(1) };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

if (require.main === module) void main();
