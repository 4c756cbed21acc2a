/** A proxy that hands requests on, and loses answers: the connection closes before one, or in the middle of it. */
import http from "node:http";
import type { AddressInfo } from "node:net";

/** What becomes of an answer: it comes, it does not, or it ends before its body does. */
export type Fate = "comes" | "lost" | "cut";

export interface LossyProxy {
  url: string;
  /** Answers that did not come whole. */
  lost(): number;
  close(): void;
}

/** @param fate is asked once for each answer */
export async function lossyProxy(port: number, fate: () => Fate): Promise<LossyProxy> {
  let lost = 0;
  const proxy = http.createServer((request, response) => {
    const { method, url, headers } = request;
    const onward = http.request(
      { host: "127.0.0.1", port, method, path: url, headers, agent: false },
      (answer) => {
        const pieces: Buffer[] = [];
        answer.on("data", (piece) => pieces.push(piece));
        answer.on("end", () => {
          const body = Buffer.concat(pieces);
          const what = fate();
          if (what !== "comes") lost++;
          if (what === "lost") request.socket.destroy();
          else {
            response.writeHead(answer.statusCode ?? 500, answer.headers);
            if (what === "comes") response.end(body);
            else response.write(body.subarray(0, body.length >> 1), () => request.socket.destroy());
          }
        });
      },
    );
    onward.on("error", () => request.socket.destroy());
    request.pipe(onward);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    lost: () => lost,
    close: () => {
      proxy.closeAllConnections();
      proxy.close();
    },
  };
}
