/** Requests to nodes that may be busy with each other. */
import { setTimeout as sleep } from "node:timers/promises";
import { type CallOptions, call, type Reply } from "../rest/client.ts";

const TRIES_MAX = 100;
const PAUSE_MS = 100;

/** Asks until there is a reply; null: again. `isLast`: what comes then counts. */
async function repeated(ask: (isLast: boolean) => Promise<Reply | null>): Promise<Reply> {
  for (let tries = 0; ; tries++) {
    const reply = await ask(tries >= TRIES_MAX);
    if (reply !== null) return reply;
    await sleep(PAUSE_MS);
  }
}

/** A request that is sent again while it is answered with 503, or not at all. */
export function patiently(
  port: number,
  method: string,
  path: string,
  body?: string | Uint8Array,
  headers: Record<string, string> = {},
): Promise<Reply> {
  const options = { agent: false, headers, ...(body === undefined ? {} : { body }) } as const;
  return repeated(async (isLast) => {
    try {
      const reply = await call(port, method, path, options);
      return reply.status !== 503 || isLast ? reply : null;
    } catch (error) {
      if (isLast) throw error;
      return null;
    }
  });
}

/**
 * A request that is sent again while a node says that it has done nothing, as one that is too busy to hear the others in time: for tests
 * that are about what a healthy cluster answers. One of unknown outcome is not sent again, since it may be answered otherwise then.
 */
export function callPatiently(
  port: number,
  method: string,
  path: string,
  options: CallOptions = {},
): Promise<Reply> {
  return repeated(async (isLast) => {
    const reply = await call(port, method, path, options);
    const isUndone = reply.status === 503 && !reply.text.includes("unknown_outcome");
    return isUndone && !isLast ? null : reply;
  });
}
