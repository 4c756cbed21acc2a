import type { NodeAnswer } from "./exchange.ts";
import { NodeHttp, type NodeHttpOptions } from "./node-http.ts";

/** One GET over a connection of its own. Rejects with a sentence for a person, also of a URL that is none. */
export async function askOnce(
  options: Pick<NodeHttpOptions, "url" | "signer" | "tls">,
  target: string,
  timeoutMs: number,
): Promise<NodeAnswer> {
  const { url, signer, tls } = options;
  const http = new NodeHttp({ url, signer, tls, connections: 1 });
  try {
    return await http.request("GET", target, null, timeoutMs);
  } finally {
    await http.close();
  }
}
