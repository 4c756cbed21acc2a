/**
 * A program of its own: GETs keys of a filled store (test/engine/fill.ts) over raw sockets, one request in flight on each, checks every value and
 * prints what it has measured as one line of JSON.
 *
 *   node --import tsx read-load.ts PORT CONNECTIONS SECONDS FIRST COUNT STRIDE VALUE_BYTES
 *
 * The keys are FIRST + (i * STRIDE) mod COUNT for i = 0, 1, …
 */
import net from "node:net";
import { keyName, valueText } from "../engine/fill.ts";

export interface ReadLoad {
  port: number;
  connections: number;
  seconds: number;
  first: number;
  count: number;
  stride: number;
  valueBytes: number;
}

export interface ReadResult {
  requests: number;
  wrong: number;
  /** Latencies in milliseconds. */
  p50: number;
  p99: number;
  max: number;
}

async function main(): Promise<void> {
  const [port, connections, seconds, first, count, stride, valueBytes] = process.argv.slice(2).map(Number);
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
        number = first + ((next++ * stride) % count);
        begun = performance.now();
        socket.write(`GET /${keyName(number)} HTTP/1.1\r\nHost: x\r\n\r\n`, "latin1");
      };
      socket.on("connect", send);
      socket.on("error", reject);
      socket.on("data", (piece) => {
        answer += piece.toString("latin1");
        const head = answer.indexOf("\r\n\r\n");
        const length = head < 0 ? null : /content-length: (\d+)/i.exec(answer);
        if (length === null || answer.length < head + 4 + Number(length[1])) return;
        times.push(performance.now() - begun);
        if (answer.slice(head + 4) !== valueText(number, valueBytes)) wrong++;
        answer = "";
        send();
      });
    });
  await Promise.all(Array.from({ length: connections }, lane));
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))];
  const result: ReadResult = { requests: times.length, wrong, p50: at(0.5), p99: at(0.99), max: at(1) };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

void main();
