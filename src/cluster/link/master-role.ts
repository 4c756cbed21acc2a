/** Whether a URL leads to a master: a worker takes the paths of one for keys. */
import type { NodeHttp } from "./node-http.ts";

const SHOWN_CHARACTERS_MAX = 80;

/** Rejects with a sentence for a person where it is none, or cannot be asked. */
export async function demandMaster(http: NodeHttp, timeoutMs: number): Promise<void> {
  const { status, body } = await http.request("GET", "/health", null, timeoutMs);
  const text = body.toString();
  const role = roleOf(text);
  if (role === "master") return;
  if (role === "worker") throw new Error("a worker answers there, and no master");
  const shown = text.slice(0, SHOWN_CHARACTERS_MAX);
  throw new Error(`it is no master of minivault (its /health answers ${status} ${shown})`);
}

function roleOf(text: string): unknown {
  try {
    return JSON.parse(text).role;
  } catch {
    return null;
  }
}
