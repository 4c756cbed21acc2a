/**
 * Writes many small values fast: raw sockets, one request in flight on each, because building and parsing requests by node:http would
 * cost several times what the server needs.
 */
import net from "node:net";

const CONNECTIONS = 64;

/** `PUT`s the value of each key of 0 to count - 1. Throws when one is not answered by 201. */
export async function putMany(
  port: number,
  count: number,
  key: (index: number) => string,
  value: (index: number) => string,
): Promise<void> {
  let next = 0;
  const lane = () =>
    new Promise<void>((resolve, reject) => {
      const socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
      let answer = "";
      const send = () => {
        if (next >= count) {
          socket.destroy();
          resolve();
          return;
        }
        const index = next++;
        const body = value(index);
        socket.write(
          `PUT /${key(index)} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
          "latin1",
        );
      };
      socket.on("connect", send);
      socket.on("error", reject);
      socket.on("close", () => reject(new Error(`the connection was closed after: ${answer}`)));
      socket.on("data", (piece) => {
        answer += piece.toString("latin1");
        // Write answers are small documents: the brace is the end.
        if (!answer.endsWith("}")) return;
        if (!answer.startsWith("HTTP/1.1 201 ")) {
          reject(new Error(answer));
          socket.destroy();
          return;
        }
        answer = "";
        send();
      });
    });
  await Promise.all(Array.from({ length: CONNECTIONS }, lane));
}
