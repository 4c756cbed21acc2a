/** HTTP by hand over one socket, to see every byte of an answer. For set-up and comparison, not for load. */
import net from "node:net";
import type { CeilingAnswer } from "./ceiling.ts";

export interface RawAnswer {
  status: number;
  /** Status line and headers, as sent. */
  head: string;
  body: Buffer;
}

/** Headers that uWS writes by itself. */
const OF_UWS = /^(date|uwebsockets|content-length):/i;

/** Sends one request and reads its answer; the server must send a Content-Length. */
export function exchange(
  port: number,
  method: string,
  path: string,
  body?: Uint8Array,
  contentType = "application/octet-stream",
  key?: string,
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1");
    const pieces: Buffer[] = [];
    let receivedBytes = 0;
    let bodyAt = -1;
    let wantedBytes = Number.POSITIVE_INFINITY;
    let head = "";
    socket.once("error", reject);
    socket.once("close", () =>
      reject(new Error(`${method} ${path}: the connection closed before its answer`)),
    );
    socket.on("data", (piece) => {
      pieces.push(piece);
      receivedBytes += piece.length;
      if (bodyAt < 0) {
        const text = Buffer.concat(pieces).toString("latin1");
        bodyAt = text.indexOf("\r\n\r\n");
        if (bodyAt < 0) return;
        head = text.slice(0, bodyAt);
        bodyAt += 4;
        wantedBytes = bodyAt + Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? Number.NaN);
      }
      if (receivedBytes < wantedBytes) return;
      resolve({ status: Number(head.slice(9, 12)), head, body: Buffer.concat(pieces).subarray(bodyAt) });
      socket.destroy();
    });
    const lines = [`${method} ${path} HTTP/1.1`, "Host: localhost"];
    if (key !== undefined) lines.push(`Authorization: Bearer ${key}`);
    if (body !== undefined) lines.push(`Content-Type: ${contentType}`, `Content-Length: ${body.length}`);
    socket.write(`${lines.join("\r\n")}\r\n\r\n`);
    if (body !== undefined) socket.write(body);
  });
}

/** The answer in the form that the ceiling repeats it. */
export function asCeiling({ head, body }: RawAnswer): CeilingAnswer {
  const [status, ...headers] = head.split("\r\n");
  const own = headers.filter((line) => !OF_UWS.test(line));
  return { head: [status.replace(/^HTTP\/1\.1 /, ""), ...own].join("\r\n"), body: body.toString("base64") };
}

/** Whether two answers are the same bytes on the wire, but for the time of day. */
export function sameAnswer(a: RawAnswer, b: RawAnswer): boolean {
  const timeless = (head: string) => head.replace(/\r\nDate: [^\r]*/, "");
  return timeless(a.head) === timeless(b.head) && a.body.equals(b.body);
}
