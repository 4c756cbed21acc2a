/**
 * Writes and reads many small values fast: raw sockets, one request in flight on each, because building and parsing requests by node:http would
 * cost several times what the server needs.
 */
import net from "node:net";

const CONNECTIONS = 64;

/** Sends the requests of 0 to count - 1 and gives each answer (status line, headers, body) to `take`, which throws when it is not the expected one. */
async function exchangeMany(
  port: number,
  count: number,
  request: (index: number) => string,
  take: (index: number, answer: string) => void,
): Promise<void> {
  let next = 0;
  const lane = () =>
    new Promise<void>((resolve, reject) => {
      const socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
      let answer = "";
      let index = -1;
      const send = () => {
        if (next >= count) {
          socket.destroy();
          resolve();
          return;
        }
        index = next++;
        answer = "";
        socket.write(request(index), "latin1");
      };
      socket.on("connect", send);
      socket.on("error", reject);
      socket.on("close", () => reject(new Error(`the connection was closed after: ${answer}`)));
      socket.on("data", (piece) => {
        answer += piece.toString("latin1");
        const head = answer.indexOf("\r\n\r\n");
        if (head < 0) return;
        const bodyBytes = Number(/\r\ncontent-length: (\d+)/i.exec(answer)?.[1] ?? 0);
        if (answer.length < head + 4 + bodyBytes) return;
        try {
          take(index, answer);
        } catch (error) {
          socket.destroy();
          reject(error);
          return;
        }
        send();
      });
    });
  await Promise.all(Array.from({ length: CONNECTIONS }, lane));
}

/** `PUT`s the value of each key of 0 to count - 1. Throws when one is not answered by 201. */
export function putMany(
  port: number,
  count: number,
  key: (index: number) => string,
  value: (index: number) => string,
): Promise<void> {
  const request = (index: number) => {
    const body = value(index);
    return `PUT /${key(index)} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  };
  return exchangeMany(port, count, request, (_, answer) => {
    if (!answer.startsWith("HTTP/1.1 201 ")) throw new Error(answer);
  });
}

/** `GET`s each key of 0 to count - 1. Throws when one is not answered by 200 and a value that is right. */
export function getMany(
  port: number,
  count: number,
  key: (index: number) => string,
  isRight: (index: number, value: string) => boolean,
): Promise<void> {
  const request = (index: number) => `GET /${key(index)} HTTP/1.1\r\nHost: x\r\n\r\n`;
  return exchangeMany(port, count, request, (index, answer) => {
    const value = answer.slice(answer.indexOf("\r\n\r\n") + 4);
    if (!answer.startsWith("HTTP/1.1 200 ") || !isRight(index, value))
      throw new Error(`${key(index)}: ${answer}`);
  });
}
