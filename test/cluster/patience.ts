/** Requests to nodes that may be busy with each other. */
import { setTimeout as sleep } from "node:timers/promises";
import { type CallOptions, call, type Reply } from "../rest/client.ts";

const TRIES_MAX = 100;
const PAUSE_MS = 100;

/** A request that is sent again while it is answered with 503, or not at all. */
export async function patiently(
  port: number,
  method: string,
  path: string,
  body?: string | Uint8Array,
  headers: Record<string, string> = {},
): Promise<Reply> {
  for (let tries = 0; ; tries++) {
    try {
      const reply = await call(port, method, path, {
        agent: false,
        headers,
        ...(body === undefined ? {} : { body }),
      });
      if (reply.status !== 503 || tries === TRIES_MAX) return reply;
    } catch (error) {
      if (tries === TRIES_MAX) throw error;
    }
    await sleep(PAUSE_MS);
  }
}

/**
 * A request that is sent again while a node says that it has done nothing, as one that is too busy to hear the others in time: for tests
 * that are about what a healthy cluster answers. One of unknown outcome is not sent again, since it may be answered otherwise then.
 */
export async function callPatiently(
  port: number,
  method: string,
  path: string,
  options: CallOptions = {},
): Promise<Reply> {
  for (let tries = 0; ; tries++) {
    const reply = await call(port, method, path, options);
    const isUndone = reply.status === 503 && !reply.text.includes("unknown_outcome");
    if (!isUndone || tries === TRIES_MAX) return reply;
    await sleep(PAUSE_MS);
  }
}
