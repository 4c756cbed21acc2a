/** What a replica answers to a look, of what it has found. */
import { ballotOf } from "../../format/record.ts";
import type { FoundRegister } from "../../shards/vault/register.ts";
import { VaultError } from "../../util/errors.ts";
import { type LookAnswer, type Payload, type Refused, UNAVAILABLE } from "./ports.ts";

export const DAMAGED: Refused = Object.freeze({ kind: "refused", reason: "damaged", epoch: 0 });

/**
 * The answer; whatever cannot be read is one, too, as it comes when no error would reach who asks.
 * @param payloadOf what of the value is wanted, if one was found
 */
export function lookAnswer(held: FoundRegister, payloadOf: () => Payload | null): LookAnswer {
  const { state, head, ended, end, recent } = held;
  if (state === "unreadable") return UNAVAILABLE;
  if (state === "damaged") return DAMAGED;
  let payload: Payload | null;
  try {
    payload = state === "found" ? payloadOf() : null;
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    return error.code === "corrupt" ? DAMAGED : UNAVAILABLE;
  }
  return {
    kind: "yes",
    ballot: state === "absent" ? null : ballotOf(head),
    tombstone: state === "tombstone",
    ended,
    end,
    operationLow: state === "absent" ? 0 : head.operationLow,
    operationHigh: state === "absent" ? 0 : head.operationHigh,
    recent,
    payload,
  };
}
