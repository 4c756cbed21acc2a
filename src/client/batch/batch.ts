/**
 * Many operations in one request, and what of them has to come again in further ones: a batch whose answer
 * was lost, and single operations that could not be done just now, as far as each alone would be sent again.
 */
import type { BatchOptions, Operation, OperationResult } from "../options/operations.ts";
import { pause } from "../transport/attempt-clock.ts";
import { MinivaultError } from "../transport/errors.ts";
import type { Answer, Requests } from "../transport/requests.ts";
import { isNodes } from "../transport/verdicts.ts";
import { type Item, itemsOf } from "./item.ts";
import { type RawResult, resultOf } from "./texts.ts";

export async function batch(
  requests: Requests,
  operations: readonly Operation[],
  { signal, once = true }: BatchOptions,
): Promise<OperationResult[]> {
  const items = itemsOf(operations, once && requests.takesKeys);
  const sinceMs = Date.now();
  let left: readonly Item[] = items;
  for (let attempt = 0; left.length > 0; ) {
    let answer: Answer;
    try {
      answer = await ask(requests, left, sinceMs, signal);
    } catch (error) {
      signal?.throwIfAborted();
      if (left === items || !(error instanceof MinivaultError)) throw error;
      for (const item of left) item.lose(error);
      break;
    }
    const { again, keyless } = await settle(requests, left, answer, signal);
    // What only goes on without its key has not failed.
    if (again.size > 0 && ++attempt <= requests.retries) await pause(attempt, signal);
    else again.clear();
    left = left.filter((item) => again.has(item) || keyless.has(item));
  }
  return items.map(({ result }) => resultOf(result));
}

/** One request. */
function ask(
  requests: Requests,
  items: readonly Item[],
  sinceMs: number,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  const content = `{"operations":[${items.map(({ text }) => text).join(",")}]}`;
  return requests.send({
    ...{ method: "POST", path: "/_batch", sinceMs, signal, needsBody: true },
    body: { content, type: "application/json", bytes: content.length },
    writes: items.some(({ isRead }) => !isRead),
    isKeyed: items.every(({ isSafe }) => isSafe),
  });
}

/** Hands out the results. Answers what has to come again: after a while, and at once without a key. */
async function settle(
  requests: Requests,
  items: readonly Item[],
  { bytes, isAgain, node }: Answer,
  signal: AbortSignal | undefined,
): Promise<{ again: Set<Item>; keyless: Set<Item> }> {
  const again = new Set<Item>();
  const keyless = new Set<Item>();
  const results = resultsIn(bytes, items.length);
  let known: Promise<boolean> | null = null;
  // Once for all of them, where it is asked at all.
  const knowsKeys = (): Promise<boolean> => (known ??= requests.knowsKeys(signal));
  for (const [index, item] of items.entries()) {
    const next = await item.take(results[index], isAgain, knowsKeys);
    if (next === "again") again.add(item);
    if (next !== "keyless") continue;
    keyless.add(item);
    item.forget();
    if (item.result.code !== "unremembered") requests.keepsNoKeys();
  }
  if ([...again].some(({ result }) => isNodes({ status: result.status, code: "" })))
    requests.nodes.failed(node);
  return { again, keyless };
}

/** @throws MinivaultError where there is not one for each operation */
function resultsIn(bytes: Uint8Array, count: number): RawResult[] {
  let results: unknown;
  try {
    ({ results } = JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    // Then it is not from a node.
  }
  if (Array.isArray(results) && results.length === count) return results;
  const message = "the answer to a batch has no result for each of its operations";
  throw new MinivaultError(message, { status: 200, code: "bad_answer" });
}
