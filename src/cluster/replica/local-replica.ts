/**
 * This node's own replica: the register's operations on the vault, for the own coordinator and, by
 * peer-frames.ts, for those of other nodes. It never asks another node.
 *
 * Every operation carries the epoch that it was decided under. It is looked at twice: before the operation
 * goes to its shard, and again before a yes is given, because a new layout may have come meanwhile; whoever
 * synchronises under the new one has then read this replica without the record, so the yes must not count.
 */

import { endOf } from "../../format/end.ts";
import { type Ballot, ballotOf } from "../../format/record.ts";
import { compareBallots, compareOptionalBallots } from "../../format/version.ts";
import { isOutvoted } from "../../rules/write.ts";
import type { WriteResult } from "../../shards/arena/write.ts";
import type { LocalUpload } from "../../shards/upload/upload.ts";
import type { AcceptHead, FoundRegister } from "../../shards/vault/register.ts";
import { COLD_READS_MAX, type Found } from "../../shards/vault/vault.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import type { AnswerRoom } from "../peers/peer-handler.ts";
import { DAMAGED, lookAnswer } from "../register/look-answer.ts";
import {
  type AcceptAnswer,
  type ClusterKey,
  type LookAnswer,
  type Payload,
  type PrepareAnswer,
  type Proposal,
  type RecallAnswer,
  UNAVAILABLE,
} from "../register/ports.ts";
import {
  inlineValue,
  isInline,
  isStaged,
  isTouched,
  NO_KIND,
  payloadOf,
  type RemoteValue,
  type StoredValue,
  trailerOf,
} from "../wire/values.ts";
import { AcceptLog } from "./accept-log.ts";
import { Admission, type AdmissionSetup, AHEAD } from "./admission.ts";
import { keyBytes } from "./cluster-key.ts";
import { StagedValues } from "./staged-values.ts";
import { type VerdictSetup, Verdicts } from "./verdicts.ts";

export interface LocalReplicaSetup extends AdmissionSetup, VerdictSetup {
  /** This node's id. */
  self: string;
  /**
   * A ballot that was seen: this node's own ones are above it from now on, or its writes would lose to those
   * of nodes whose clocks are ahead.
   */
  observe: (ballot: Ballot) => void;
  /** Streams a large value of this or another node into an upload. */
  fetch: (key: ClusterKey, value: RemoteValue, upload: LocalUpload) => Promise<void>;
}

export class LocalReplica {
  private readonly setup: LocalReplicaSetup;
  /** Values that wait for their accept. */
  readonly staged = new StagedValues();
  /** What is taken at all. */
  readonly admission: Admission;
  readonly verdicts: Verdicts;
  private readonly accepts = new AcceptLog(() => performance.now());

  constructor(setup: LocalReplicaSetup) {
    this.setup = setup;
    this.admission = new Admission(setup);
    this.verdicts = new Verdicts(setup, this.accepts);
  }

  /** Epoch of the layout that this node has; 0: none. */
  get epoch(): number {
    return this.setup.epoch();
  }

  prepare(
    key: ClusterKey,
    epoch: number,
    ballot: Ballot,
    builds: boolean,
    reply: (answer: PrepareAnswer) => void,
  ): void {
    const refusal = this.admission.refusal(key, epoch);
    if (refusal !== null) {
      reply(refusal);
      return;
    }
    if (this.admission.isTooFarAhead(key, ballot)) {
      reply(AHEAD);
      return;
    }
    this.setup.observe(ballot);
    const sent = this.setup.vault.prepare(keyBytes(key), ballot, (result) => {
      const register = this.verdicts.of(result, epoch, key);
      if ("kind" in register) {
        reply(register);
        return;
      }
      const recent = register.remembers ? this.recentOf(key, register.ballot) : null;
      if (recent === undefined) {
        // Another record has come to be there meanwhile: the next question meets it.
        reply(UNAVAILABLE);
        return;
      }
      if (builds && register.ballot !== null)
        this.accepts.shown(ballot, register.operationLow, register.operationHigh);
      reply({
        kind: "yes",
        ballot: register.ballot,
        tombstone: register.tombstone,
        ended: register.ended,
        end: register.end,
        operationLow: register.operationLow,
        operationHigh: register.operationHigh,
        recent,
        floor: register.floor,
      });
    });
    if (!sent) reply(UNAVAILABLE);
  }

  /** What the record at this ballot remembers; undefined: it is not the one that is held any more. */
  private recentOf(key: ClusterKey, ballot: Ballot | null): Uint8Array | null | undefined {
    const { state, head, recent } = this.setup.vault.findRegister(keyBytes(key));
    const isThis = (state === "found" || state === "tombstone") && compareOptionalBallots(head, ballot) === 0;
    return isThis ? recent : undefined;
  }

  accept(key: ClusterKey, epoch: number, proposal: Proposal, reply: (answer: AcceptAnswer) => void): void {
    this.hold(key, epoch, proposal, false, reply);
  }

  /**
   * Takes over what a majority of the others has shown to be the key's record, whether this replica votes or
   * not.
   */
  take(key: ClusterKey, epoch: number, proposal: Proposal, reply: (answer: AcceptAnswer) => void): void {
    this.hold(key, epoch, proposal, true, reply);
  }

  private hold(
    key: ClusterKey,
    epoch: number,
    proposal: Proposal,
    repair: boolean,
    reply: (answer: AcceptAnswer) => void,
  ): void {
    const refusal = this.admission.refusal(key, epoch, repair);
    if (refusal !== null) {
      reply(refusal);
      return;
    }
    const { ballot, operationLow, operationHigh } = proposal;
    const payload = payloadOf(proposal);
    const done = (result: WriteResult) => reply(this.verdicts.accepted(result, epoch, key, proposal));
    const { vault, observe } = this.setup;
    if (!repair && proposal.held !== true && this.admission.isTooFarAhead(key, ballot)) {
      reply(AHEAD);
      return;
    }
    observe(ballot);
    const head = headOf(key, proposal, payload, repair);
    if (payload.tombstone) {
      if (!vault.accept(head, null, done)) reply(UNAVAILABLE);
    } else if (isTouched(payload)) {
      const { base, whole } = payload;
      const touched = (result: WriteResult): void => {
        // It holds something else, and has done nothing.
        if (result.error === "not_found" && whole !== null)
          this.hold(key, epoch, { ...proposal, payload: whole }, repair, reply);
        else done(result);
      };
      if (!vault.touch({ ...head, base }, touched)) reply(UNAVAILABLE);
    } else if (isInline(payload)) {
      if (!vault.accept(head, payload.bytes, done)) reply(UNAVAILABLE);
    } else if (isStaged(payload)) {
      const upload = this.staged.take(key.bytes, operationLow, operationHigh);
      const judged = (result: WriteResult): void => {
        // The same value may come again under a higher ballot.
        if (upload !== null && isOutvoted(result))
          this.staged.keep(key.bytes, operationLow, operationHigh, upload);
        done(result);
      };
      if (upload === null) reply(UNAVAILABLE);
      else upload.accept(ballot, head.trailer, judged, true);
    } else {
      const upload = vault.stage(head);
      if (upload === null) {
        reply(UNAVAILABLE);
        return;
      }
      this.setup.fetch(key, payload as RemoteValue, upload).then(
        () => upload.accept(ballot, head.trailer, done),
        () => {
          upload.abort();
          reply(UNAVAILABLE);
        },
      );
    }
  }

  recall(
    key: ClusterKey,
    epoch: number,
    { operationLow, operationHigh }: Pick<Proposal, "operationLow" | "operationHigh">,
    node: number,
    ageMs: number,
    reply: (answer: RecallAnswer) => void,
  ): void {
    reply(
      this.admission.refusal(key, epoch) ??
        this.accepts.recall(operationLow, operationHigh, epoch, node, ageMs),
    );
  }

  /** @param room what of it the value needs; null: the value is not wanted */
  look(
    key: ClusterKey,
    epoch: number,
    room: AnswerRoom | null,
    reply: (answer: LookAnswer) => void,
    reads = 0,
  ): void {
    const refusal = this.admission.refusal(key, epoch);
    if (refusal !== null) {
      reply(refusal);
      return;
    }
    const { vault } = this.setup;
    const held =
      reads < COLD_READS_MAX ? vault.findRegisterResident(keyBytes(key)) : vault.findRegister(keyBytes(key));
    if (held === null) {
      // The key is only lent.
      const kept = reads === 0 ? { ...key, bytes: key.bytes.slice() } : key;
      vault.warm(() => this.look(kept, epoch, room, reply, reads + 1));
      return;
    }
    const answer = lookAnswer(held, () => (room === null ? null : this.valueOf(held, room)));
    if (answer === DAMAGED) this.setup.damaged(key);
    reply(answer);
  }

  /**
   * A copy of a small value, since the map may go; of a large one, or where there is no room for more, only
   * where it is.
   */
  private valueOf({ found, head }: FoundRegister, room: AnswerRoom): StoredValue {
    const { json, contentType, trailer, valueBytes } = found;
    if (valueBytes === 0 || (valueBytes <= CHUNK_BYTES && room.take(valueBytes)))
      return inlineValue(found, found.copy());
    const kind = { tombstone: false, json, contentType, trailer, end: endOf(trailer), valueBytes } as const;
    const value: RemoteValue = { ...kind, node: this.setup.self, ballot: ballotOf(head) };
    return value;
  }

  /** The value of a key, if its version is still this one. Valid as what the vault finds. */
  findVersion(key: Uint8Array, ballot: Ballot): Found | null {
    const held = this.setup.vault.findRegister({ bytes: key, length: key.length });
    if (held.state !== "found" || compareBallots(held.head, ballot) !== 0) return null;
    return held.found;
  }
}

function headOf(
  key: ClusterKey,
  { ballot, operationLow, operationHigh }: Proposal,
  payload: Payload,
  repair: boolean,
): AcceptHead {
  const { json, contentType } = payload.tombstone ? NO_KIND : (payload as StoredValue);
  const trailer = trailerOf(payload);
  const ended = payload.ended === true;
  return {
    key: keyBytes(key),
    ballot,
    operationLow,
    operationHigh,
    repair,
    json,
    contentType,
    trailer,
    ended,
  };
}
