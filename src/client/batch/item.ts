/**
 * An operation of a batch on its way: what it is known by, what was answered, and whether it comes again.
 *
 * What an order decides is never sent again: of two writes of one key the first may have been refused and the
 * second done, and then the first would be done after it. Increments come to the same in any order.
 */
import type { Operation } from "../options/operations.ts";
import type { MinivaultError } from "../transport/errors.ts";
import { isRecent, randomName } from "../transport/requests.ts";
import { isForgetting, isUnknownAfterUnclear, verdictOf } from "../transport/verdicts.ts";
import { type Members, membersOf, type RawResult, textOf } from "./texts.ts";

/** What becomes of an operation: it has its result, comes again after a while, or at once without its key. */
export type Next = "settled" | "again" | "keyless";

export class Item {
  readonly isRead: boolean;
  result: RawResult = { status: 0 };
  /** What its write is known by; null: nothing. */
  private once: string | null = null;
  /** The key is the caller's own: the write is not done without it. */
  private readonly needsOnce: boolean;
  /** Nobody sees in which order it and the others were done. */
  private readonly isFree: boolean;
  private readonly members: Members;
  private readonly sinceMs = Date.now();
  /** It may have been done. */
  private isUnclear = false;

  /** @param wanted whether a write has a key where its operation says nothing of it */
  constructor(operation: Operation, wanted: boolean, isFree: boolean) {
    const { once = wanted } = operation as { once?: boolean | string };
    this.isRead = operation.op === "get";
    this.isFree = isFree;
    this.needsOnce = typeof once === "string";
    this.members = membersOf(operation);
    if (this.isRead) return;
    if (typeof once === "string") this.once = once;
    else if (once && isFree) this.once = randomName();
  }

  get text(): string {
    return textOf(this.members, this.once);
  }

  /** It can be sent again whatever has become of it. */
  get isSafe(): boolean {
    return this.isFree && (this.isRead || this.once !== null);
  }

  /**
   * Takes a result.
   * @param isAgain an earlier attempt of the same request may have been done
   * @param knowsKeys whether the nodes know idempotency keys
   */
  async take(result: RawResult, isAgain: boolean, knowsKeys: () => Promise<boolean>): Promise<Next> {
    if (isAgain && !this.isRead) this.isUnclear = true;
    this.result =
      this.isUnclear && isUnknownAfterUnclear(failureOf(result))
        ? unknown(`${result.error}; an earlier attempt may have been done`)
        : result;
    if (result.status < 400 || !this.isFree) return "settled";
    const failure = failureOf(result);
    const verdict = verdictOf(failure);
    if (this.once !== null && !this.needsOnce && !this.isUnclear) {
      // Where keys are not known they are a member that is not.
      const isUnknownMember = failure.code === "bad_request" && !(await knowsKeys());
      if (isForgetting(failure) || isUnknownMember) return "keyless";
    }
    if (verdict === "lasting") return "settled";
    if (this.isRead) return "again";
    if (verdict === "unclear") this.isUnclear = true;
    if (!this.isUnclear) return "again";
    return this.once !== null && isRecent(this.sinceMs) && (await knowsKeys()) ? "again" : "settled";
  }

  /** Goes on without a key. */
  forget(): void {
    this.once = null;
  }

  /** The request that it was in has failed; an earlier one has told its result. */
  lose(error: MinivaultError): void {
    if (!this.isRead && verdictOf(error) === "unclear") this.result = unknown(error.message);
  }
}

function failureOf({ status, code = "" }: RawResult): { status: number; code: string } {
  return { status, code };
}

/** It may have been done. */
function unknown(error: string): RawResult {
  return { status: 503, error, code: "unknown_outcome" };
}

/** The operations of a batch. */
export function itemsOf(operations: readonly Operation[], wanted: boolean): Item[] {
  const ordered = orderedKeys(operations);
  return operations.map((operation) => new Item(operation, wanted, !ordered.has(operation.key)));
}

/** Keys that are named more than once, and not by reads only, or by increments only. */
function orderedKeys(operations: readonly Operation[]): Set<string> {
  const ops = new Map<string, string>();
  const ordered = new Set<string>();
  for (const { op, key } of operations) {
    const known = ops.get(key);
    if (known === undefined) ops.set(key, op);
    else if (known !== op || (op !== "get" && op !== "increment")) ordered.add(key);
  }
  return ordered;
}
