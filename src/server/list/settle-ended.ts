/**
 * What a list leaves out since its end has come is told gone to whoever reads the list: so that is on the
 * disk first. Mostly the shard has seen to it before, and there is nothing to do.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Ended, Refused } from "../../shards/catalog/messages.ts";
import type { Vault } from "../../shards/vault/vault.ts";
import type { ErrorCode } from "../../util/errors.ts";

/** Keys that are under way at once. */
const AT_ONCE_MAX = 256;
/** A full queue is asked again so often. */
const RETRIES_MAX = 200;
const RETRY_MS = 5;

/** Answers why that is not possible; null: it is done. */
export async function settleEnded(vault: Vault, { keys, nowMs }: Ended): Promise<Refused | null> {
  // Where nothing can be written only the clock can tell.
  if ((vault.readOnly ?? null) !== null) return null;
  for (let at = 0; at < keys.length; at += AT_ONCE_MAX) {
    const some = keys.slice(at, at + AT_ONCE_MAX).map((key) => settleKey(vault, key, nowMs));
    for (const refusal of await Promise.all(some)) if (refusal !== null) return refusal;
  }
  return null;
}

async function settleKey(vault: Vault, key: Uint8Array, nowMs: number): Promise<Refused | null> {
  for (let tries = 0; tries <= RETRIES_MAX; tries++) {
    if (tries > 0) await sleep(RETRY_MS);
    const failure = await new Promise<{ error: ErrorCode | null; detail: string }>((resolve) => {
      const isTaken = vault.end({ bytes: key, length: key.length }, resolve, nowMs);
      if (!isTaken) resolve({ error: "overloaded", detail: "" });
    });
    const { error, detail } = failure;
    if (error === null) return null;
    if (error !== "overloaded") return { kind: "refused", code: error, detail };
  }
  return { kind: "refused", code: "overloaded", detail: "" };
}
