/** What the own replica answers to what its shard has said. */
import type { Ballot } from "../../format/record.ts";
import { hasEnded } from "../../rules/expiry.ts";
import type { RegisterOutcome } from "../../rules/write.ts";
import type { WriteResult } from "../../shards/arena/write.ts";
import {
  type AcceptAnswer,
  type ClusterKey,
  type Proposal,
  type Replaced,
  UNAVAILABLE,
} from "../register/ports.ts";
import type { AcceptLog } from "./accept-log.ts";
import type { AdmissionSetup } from "./admission.ts";

export interface VerdictSetup extends Pick<AdmissionSetup, "epoch"> {
  /**
   * The record of a key that this replica holds was found damaged; the key's bytes are only valid during the
   * call.
   */
  damaged: (key: ClusterKey) => void;
}

export class Verdicts {
  private readonly setup: VerdictSetup;
  private readonly accepts: AcceptLog;

  constructor(setup: VerdictSetup, accepts: AcceptLog) {
    this.setup = setup;
    this.accepts = accepts;
  }

  /** A verdict of yes, or what else is to be answered. */
  of(result: WriteResult, epoch: number, key: ClusterKey) {
    const { register } = result;
    const own = this.setup.epoch();
    // It may be on disk now, but must not count any more: "refused" without saying that it had no effect.
    if (own !== epoch) return { kind: "refused", reason: "behind_epoch", epoch: own } as const;
    if (result.error === "disk_full") return { kind: "refused", reason: "full", epoch: 0 } as const;
    if (result.error === "key_refused") return { kind: "refused", reason: result.error, epoch: 0 } as const;
    if (result.error === "not_found") return UNAVAILABLE;
    if (result.error !== null || register === undefined || register === null)
      return { kind: "refused", reason: "not_voting", epoch: 0 } as const;
    switch (register.verdict) {
      case "unprepared":
        return { kind: "refused", reason: "unprepared", epoch: 0 } as const;
      case "no":
        return { kind: "no", higher: register.ballot as Ballot } as const;
      case "damaged":
        this.setup.damaged(key);
        return { kind: "refused", reason: "damaged", epoch: 0 } as const;
      default:
        return register;
    }
  }

  /** What to answer to an accept that the shard has judged. */
  accepted(
    result: WriteResult,
    epoch: number,
    key: ClusterKey,
    { ballot, operationLow, operationHigh, atMillis = 0 }: Omit<Proposal, "payload">,
  ): AcceptAnswer {
    const { error, register } = result;
    // After an error that does not say so, nobody knows whether it had an effect.
    const verdict = register?.verdict;
    const answer = this.of(result, epoch, key);
    if (!hadNoEffect(error) && verdict !== "no" && verdict !== "unprepared")
      this.accepts.taken(ballot, operationLow, operationHigh, "kind" in answer ? null : epoch);
    if (!("kind" in answer))
      return { kind: "yes", already: answer.verdict === "already", ...replacedBy(answer, atMillis) };
    const done = result.error === null && result.register?.verdict === "yes" ? result.register : null;
    return answer.kind === "refused" && done !== null
      ? { ...answer, replaced: replacedBy(done, atMillis) }
      : answer;
  }
}

/** What it took the place of, judged by the proposal's time, and no clock of this replica. */
function replacedBy({ ballot, tombstone, end }: RegisterOutcome, atMillis: number): Replaced {
  return { previous: ballot, existed: ballot !== null && !tombstone && !hasEnded(end, atMillis) };
}

/** Whether an error of the shard says that it has done nothing, and will not. */
function hadNoEffect(error: WriteResult["error"]): boolean {
  return error === "disk_full" || error === "key_refused" || error === "not_found";
}
