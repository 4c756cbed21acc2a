/**
 * Raw connections: every byte that goes out is chosen by the test, and every byte that comes back is judged as HTTP.
 */
import net from "node:net";
import { waitUntil } from "./server.ts";

/** One answer, as it stood on the wire. */
export interface RawAnswer {
  status: number;
  headers: Map<string, string>;
  body: Buffer;
}

export interface ParsedAnswers {
  answers: RawAnswer[];
  /** Bytes of an answer that has begun and is not complete. */
  partial: Buffer;
  /** What is not HTTP, or null. */
  problem: string | null;
}

const HEAD_END = Buffer.from("\r\n\r\n");
const STATUS_LINE = /^HTTP\/1\.1 ([1-5]\d\d) [\x20-\x7e]+$/;
const HEADER_LINE = /^([A-Za-z0-9-]+): ?([\t\x20-\x7e]*)$/;

/**
 * Cuts what a server sent into answers. `mayBeHead`: an answer followed by another status line, or by nothing, may belong to a HEAD.
 * An answer without a length ends with the connection.
 */
export function parseAnswers(bytes: Buffer, closed: boolean, mayBeHead: boolean): ParsedAnswers {
  const answers: RawAnswer[] = [];
  let at = 0;
  const result = (problem: string | null): ParsedAnswers => ({
    answers,
    partial: bytes.subarray(at),
    problem,
  });
  while (at < bytes.length) {
    const end = bytes.indexOf(HEAD_END, at);
    if (end < 0) return result(null);
    const [first, ...lines] = bytes.subarray(at, end).toString("latin1").split("\r\n");
    const match = STATUS_LINE.exec(first);
    if (match === null) return result(`a status line: ${JSON.stringify(first.slice(0, 200))}`);
    const status = Number(match[1]);
    const headers = new Map<string, string>();
    for (const line of lines) {
      const header = HEADER_LINE.exec(line);
      if (header === null) return result(`a header line: ${JSON.stringify(line.slice(0, 200))}`);
      const name = header[1].toLowerCase();
      if (headers.has(name)) return result(`the header ${name} twice`);
      headers.set(name, header[2]);
    }
    const bodyAt = end + HEAD_END.length;
    const length = headers.get("content-length");
    let bodyEnd = bodyAt;
    if (status >= 200 && status !== 304) {
      if (length === undefined) {
        if (!closed) return result(null);
        bodyEnd = bytes.length;
      } else {
        if (!/^\d+$/.test(length)) return result(`Content-Length ${length}`);
        bodyEnd = bodyAt + Number(length);
        const next = bytes.subarray(bodyAt, bodyAt + 9).toString("latin1");
        if (mayBeHead && (next === "" || next === "HTTP/1.1 ")) bodyEnd = bodyAt;
      }
    }
    if (bodyEnd > bytes.length) return result(null);
    // 100 Continue announces an answer and is none.
    if (status >= 200) answers.push({ status, headers, body: bytes.subarray(bodyAt, bodyEnd) });
    at = bodyEnd;
  }
  return result(null);
}

export class RawConnection {
  readonly socket: net.Socket;
  closed = false;
  receivedBytes = 0;
  private readonly pieces: Buffer[] = [];

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("data", (piece: Buffer) => {
      this.pieces.push(piece);
      this.receivedBytes += piece.length;
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.closed = true;
    });
  }

  /** `localAddress`: any address of 127.0.0.0/8, for more connections than one address has ports. */
  static open(port: number, localAddress?: string): Promise<RawConnection> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host: "127.0.0.1", port, localAddress, noDelay: true });
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(new RawConnection(socket));
      });
      socket.once("error", reject);
    });
  }

  send(bytes: string | Uint8Array): void {
    if (!this.closed) this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  }

  get received(): Buffer {
    return Buffer.concat(this.pieces);
  }

  parsed(mayBeHead = false): ParsedAnswers {
    return parseAnswers(this.received, this.closed, mayBeHead);
  }

  /** Waits for so many complete answers. */
  async answers(count = 1, longestMs = 60_000): Promise<RawAnswer[]> {
    await waitUntil(
      `${count} answers`,
      () => {
        const { answers, problem } = this.parsed();
        if (problem !== null) throw new Error(`not HTTP: ${problem}`);
        if (answers.length < count && this.closed)
          throw new Error(`closed after ${answers.length} answers: ${this.received.toString("latin1")}`);
        return answers.length >= count;
      },
      longestMs,
    );
    return this.parsed().answers;
  }

  async isClosed(longestMs = 60_000): Promise<void> {
    await waitUntil("the server closes the connection", () => this.closed, longestMs);
  }

  /** Ends with a reset, as a client that crashes does. */
  abort(): void {
    this.socket.resetAndDestroy();
  }

  destroy(): void {
    this.socket.destroy();
  }
}
