/** Whether a URL leads to a master: a worker takes the paths of one for keys. */
import type { NodeAnswer } from "./exchange.ts";

/** Where a node says what it is. */
export const ROLE_PATH = "/health";

const SHOWN_CHARACTERS_MAX = 80;

/** Throws an Error with a sentence for a person where this is no answer of a master to ROLE_PATH. */
export function demandMaster({ status, body }: NodeAnswer): void {
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
