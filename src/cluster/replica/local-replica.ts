/**
 * This node's own replica: the register's operations on the vault, for the own coordinator and, as frames and
 * streams, for those of other nodes. It never asks another node.
 *
 * Every operation carries the epoch that it was decided under. It is looked at twice: before the operation
 * goes to its shard, and again before a yes is given, because a new layout may have come meanwhile; whoever
 * synchronises under the new one has then read this replica without the record, so the yes must not count.
 */

import { type Ballot, ballotOf } from "../../format/record.ts";
import { isAhead } from "../../rules/register.ts";
import type { KeyBytes, WriteResult } from "../../shards/arena/write.ts";
import type { LocalUpload } from "../../shards/upload/upload.ts";
import type { FoundRegister, LocalVault } from "../../shards/vault/local-vault.ts";
import { COLD_READS_MAX, type Found } from "../../shards/vault/vault.ts";
import { VaultError } from "../../util/errors.ts";
import { hashKey, partitionOf } from "../../util/hash.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import type { AnswerRoom, PeerSink, PeerSource } from "../peers/peer-handler.ts";
import {
  type AcceptAnswer,
  type ClusterKey,
  type LookAnswer,
  type PrepareAnswer,
  type Proposal,
  type RecallAnswer,
  type Refused,
  type Replaced,
  UNAVAILABLE,
} from "../register/ports.ts";
import { decodeRecall, encodeRecalled, isRecall } from "../wire/recall.ts";
import { inlineValue, isInline, isStaged, type RemoteValue, type StoredValue } from "../wire/values.ts";
import {
  ACCEPT,
  decodeRequest,
  encodeAccepted,
  encodeHeld,
  encodeNo,
  encodeRefused,
  LOOK,
  type PeerRequest,
  PREPARE,
  READ,
} from "../wire/wire.ts";
import { AcceptLog } from "./accept-log.ts";
import type { LocalReplica } from "./node-port.ts";

/** A value that was streamed here and whose accept does not come is forgotten after this time. */
const STAGED_MS = 60_000;

export interface LocalReplicaSetup {
  vault: LocalVault;
  /** This node's id. */
  self: string;
  /** Epoch of the layout that this node has; 0: none. */
  epoch: () => number;
  /** Whether this replica may vote for a partition. */
  votes: (partition: number) => boolean;
  /** Cluster time, milliseconds since 1970. */
  clusterMillis: () => number;
  /**
   * A ballot that was seen: this node's own ones are above it from now on, or its writes would lose to those
   * of nodes whose clocks are ahead.
   */
  observe: (ballot: Ballot) => void;
  /**
   * The record of a key that this replica holds was found damaged; the key's bytes are only valid during the
   * call.
   */
  damaged: (key: ClusterKey) => void;
  /** Somebody has a newer layout. */
  behind: (epoch: number) => void;
  /** Streams a large value of this or another node into an upload. */
  fetch: (key: ClusterKey, value: RemoteValue, upload: LocalUpload) => Promise<void>;
}

export class VaultReplica implements LocalReplica {
  private readonly setup: LocalReplicaSetup;
  /** Values that wait for their accept, by key and operation. */
  private readonly staged = new Map<string, { upload: LocalUpload; timer: NodeJS.Timeout }>();

  private readonly accepts = new AcceptLog(() => performance.now());

  constructor(setup: LocalReplicaSetup) {
    this.setup = setup;
  }

  prepare(
    key: ClusterKey,
    epoch: number,
    ballot: Ballot,
    builds: boolean,
    reply: (answer: PrepareAnswer) => void,
  ): void {
    const refusal = this.refusal(key, epoch);
    if (refusal !== null) {
      reply(refusal);
      return;
    }
    if (this.isTooFarAhead(key, ballot)) {
      reply(AHEAD);
      return;
    }
    this.setup.observe(ballot);
    const sent = this.setup.vault.prepare(keyBytes(key), ballot, (result) => {
      const register = this.verdict(result, epoch, key);
      if ("kind" in register) {
        reply(register);
        return;
      }
      if (builds && register.ballot !== null)
        this.accepts.shown(ballot, register.operationLow, register.operationHigh);
      reply({
        kind: "yes",
        ballot: register.ballot,
        tombstone: register.tombstone,
        operationLow: register.operationLow,
        operationHigh: register.operationHigh,
        floor: register.floor,
      });
    });
    if (!sent) reply(UNAVAILABLE);
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
    const refusal = this.refusal(key, epoch, repair);
    if (refusal !== null) {
      reply(refusal);
      return;
    }
    const { payload, ballot, operationLow, operationHigh } = proposal;
    const done = (result: WriteResult) => reply(this.accepted(result, epoch, key, proposal));
    const { vault, observe } = this.setup;
    if (!repair && proposal.held !== true && this.isTooFarAhead(key, ballot)) {
      reply(AHEAD);
      return;
    }
    observe(ballot);
    const head = {
      ...{ key: keyBytes(key), ballot, operationLow, operationHigh, json: false, contentType: "" },
      repair,
    };
    if (payload.tombstone) {
      if (!vault.accept(head, null, done)) reply(UNAVAILABLE);
      return;
    }
    const { json, contentType } = payload as StoredValue;
    const valueHead = { ...head, json, contentType };
    if (isInline(payload)) {
      if (!vault.accept(valueHead, payload.bytes, done)) reply(UNAVAILABLE);
    } else if (isStaged(payload)) this.acceptStaged(key.bytes, proposal, done, reply);
    else {
      const upload = vault.stage(valueHead);
      if (upload === null) {
        reply(UNAVAILABLE);
        return;
      }
      this.setup.fetch(key, payload as RemoteValue, upload).then(
        () => upload.accept(ballot, done),
        () => {
          upload.abort();
          reply(UNAVAILABLE);
        },
      );
    }
  }

  private acceptStaged(
    key: Uint8Array,
    { ballot, operationLow, operationHigh }: Omit<Proposal, "payload">,
    done: (result: WriteResult) => void,
    reply: (answer: AcceptAnswer) => void,
  ): void {
    const name = stagedName(key, operationLow, operationHigh);
    const staged = this.staged.get(name);
    if (staged === undefined) {
      reply(UNAVAILABLE);
      return;
    }
    this.staged.delete(name);
    clearTimeout(staged.timer);
    staged.upload.accept(ballot, done);
  }

  recall(
    key: ClusterKey,
    epoch: number,
    { operationLow, operationHigh }: Pick<Proposal, "operationLow" | "operationHigh">,
    node: number,
    ageMs: number,
    reply: (answer: RecallAnswer) => void,
  ): void {
    reply(this.refusal(key, epoch) ?? this.accepts.recall(operationLow, operationHigh, node, ageMs));
  }

  /** @param room what of it the value needs; null: the value is not wanted */
  look(
    key: ClusterKey,
    epoch: number,
    room: AnswerRoom | null,
    reply: (answer: LookAnswer) => void,
    reads = 0,
  ): void {
    const refusal = this.refusal(key, epoch);
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
    if (held.state === "damaged") {
      this.setup.damaged(key);
      reply({ kind: "refused", reason: "damaged", epoch: 0 });
      return;
    }
    const { state, head } = held;
    reply({
      kind: "yes",
      ballot: state === "absent" ? null : ballotOf(head),
      tombstone: state === "tombstone",
      operationLow: state === "absent" ? 0 : head.operationLow,
      operationHigh: state === "absent" ? 0 : head.operationHigh,
      payload: room !== null && state === "found" ? this.valueOf(held, room) : null,
    });
  }

  /**
   * A copy of a small value, since the map may go; of a large one, or where there is no room for more, only
   * where it is.
   */
  private valueOf({ found, head }: FoundRegister, room: AnswerRoom): StoredValue {
    const { json, valueBytes } = found;
    const contentType = json ? "application/json" : found.contentType;
    if (valueBytes === 0 || (valueBytes <= CHUNK_BYTES && room.take(valueBytes)))
      return inlineValue(json, contentType, found.copy());
    const value: RemoteValue = {
      tombstone: false,
      json,
      contentType,
      valueBytes,
      node: this.setup.self,
      ballot: ballotOf(head),
    };
    return value;
  }

  /** One operation of another node. `reply` gets the frame to answer. */
  frame(bytes: Uint8Array, reply: (answer: Uint8Array) => void, room: AnswerRoom): void {
    const recall = isRecall(bytes) ? decodeRecall(bytes) : null;
    if (recall !== null) {
      this.recall(clusterKey(recall.key), recall.epoch, recall, recall.node, recall.ageMs, (answer) =>
        reply(answer.kind === "yes" ? encodeRecalled(answer) : encodeOther(answer)),
      );
      return;
    }
    const request = decodeRequest(bytes);
    if (request === null) {
      reply(encodeRefused("not_voting", this.setup.epoch()));
      return;
    }
    const { kind, epoch, ballot, builds } = request;
    // The frame is gone when the shard answers; who only looks is answered before that.
    const isWrite = kind === PREPARE || kind === ACCEPT;
    const key = clusterKey(isWrite ? Uint8Array.from(request.key) : request.key);
    switch (kind) {
      case PREPARE:
        this.prepare(key, epoch, ballot, builds, (answer) =>
          reply(answer.kind === "yes" ? encodeHeld({ ...answer, value: null }) : encodeOther(answer)),
        );
        break;
      case ACCEPT:
        this.accept(key, epoch, proposalOf(request), (answer) => reply(encodeAcceptAnswer(answer)));
        break;
      case LOOK:
      case READ:
        this.look(key, epoch, kind === READ ? room : null, (answer) =>
          reply(
            answer.kind === "yes"
              ? encodeHeld({ ...answer, value: answer.payload as StoredValue | null })
              : encodeOther(answer),
          ),
        );
    }
  }

  /** A large value begins to arrive, to be accepted when it is complete, or when its accept comes. */
  openSink(head: Uint8Array): PeerSink {
    const request = decodeRequest(head);
    if (request === null || request.kind !== ACCEPT) throw new VaultError("bad_request", "this is no value");
    const { epoch, ballot, operationLow, operationHigh, json, contentType, staged } = request;
    const key = clusterKey(Uint8Array.from(request.key));
    const upload = this.setup.vault.stage({
      key: keyBytes(key),
      ballot,
      operationLow,
      operationHigh,
      json,
      contentType,
    });
    if (upload === null) throw new VaultError("overloaded");
    const sink: PeerSink = {
      onDrain: () => {},
      onFail: () => {},
      write: (bytes) => upload.write(bytes),
      commit: (done) => {
        if (staged) {
          upload.onFail = () => done(encodeOther(UNAVAILABLE));
          upload.whenWritten(() => {
            upload.onFail = () => {};
            this.keepStaged(key.bytes, operationLow, operationHigh, upload);
            setImmediate(done, encodeAccepted(false, false, null));
          });
          return;
        }
        const ahead = !request.held && this.isTooFarAhead(key, ballot);
        const refusal = this.refusal(key, epoch) ?? (ahead ? AHEAD : null);
        if (refusal !== null) {
          upload.abort();
          setImmediate(done, encodeOther(refusal));
        } else
          upload.accept(ballot, (result) =>
            done(encodeAcceptAnswer(this.accepted(result, epoch, key, request))),
          );
      },
      abort: () => upload.abort(),
    };
    upload.onDrain = () => sink.onDrain();
    upload.onFail = (result) => sink.onFail(result.error ?? "internal", result.detail);
    return sink;
  }

  /** Keeps a value of which all bytes have come until its accept does. */
  keepStaged(key: Uint8Array, operationLow: number, operationHigh: number, upload: LocalUpload): void {
    const name = stagedName(key, operationLow, operationHigh);
    const timer = setTimeout(() => {
      this.staged.delete(name);
      upload.abort();
    }, STAGED_MS);
    timer.unref();
    this.dropStaged(key, operationLow, operationHigh);
    this.staged.set(name, { upload, timer });
  }

  /** Forgets a value that waits. */
  dropStaged(key: Uint8Array, operationLow: number, operationHigh: number): void {
    const name = stagedName(key, operationLow, operationHigh);
    const staged = this.staged.get(name);
    if (staged === undefined) return;
    clearTimeout(staged.timer);
    this.staged.delete(name);
    staged.upload.abort();
  }

  /** A part of a large value is asked for. */
  openSource(head: Uint8Array): PeerSource {
    const request = decodeRequest(head);
    if (request === null || request.kind !== READ || request.value.length !== RANGE_BYTES)
      throw new VaultError("bad_request", "this asks for no value");
    const found = this.findVersion(request.key, request.ballot);
    if (found === null) throw new VaultError("not_found", "this version is not here any more");
    const range = Buffer.from(request.value);
    const start = range.readDoubleLE(0);
    const end = Math.min(range.readDoubleLE(8), found.valueBytes);
    if (!(start >= 0 && start < end)) throw new VaultError("range_not_satisfiable");
    const reader = found.open();
    return {
      head: new Uint8Array(0),
      valueBytes: end - start,
      read: (offset) => reader.read(start + offset),
      holds: (from, to) => reader.holds?.(start + from, start + to) ?? true,
      close: () => reader.close(),
    };
  }

  /** The value of a key, if its version is still this one. Valid as what the vault finds. */
  findVersion(key: Uint8Array, ballot: Ballot): Found | null {
    const held = this.setup.vault.findRegister({ bytes: key, length: key.length });
    if (held.state !== "found" || !isSame(held.head, ballot)) return null;
    return held.found;
  }

  /**
   * What the key has here is only looked at for the few ballots that are far ahead. A promise needs no look:
   * who met one that is far ahead comes with a second clock.
   */
  private isTooFarAhead(key: ClusterKey, ballot: Ballot): boolean {
    const { vault, clusterMillis } = this.setup;
    const millis = clusterMillis();
    if (!isAhead(ballot, null, millis)) return false;
    const { state, head } = vault.findRegister(keyBytes(key));
    const floor = vault.replica.floorOf(key.partition);
    const record = state === "found" || state === "tombstone" ? ballotOf(head) : null;
    return isAhead(ballot, record ?? floor, millis);
  }

  /** Why an operation cannot be taken, or null. */
  private refusal(key: ClusterKey, epoch: number, repair = false): Refused | null {
    const { setup } = this;
    const own = setup.epoch();
    if (epoch < own) return { kind: "refused", reason: "stale_epoch", epoch: own };
    if (epoch > own) {
      setup.behind(epoch);
      return { kind: "refused", reason: "behind_epoch", epoch: own };
    }
    return repair || setup.votes(key.partition)
      ? null
      : { kind: "refused", reason: "not_voting", epoch: own };
  }

  /** What the shard said: a verdict of yes, or what else is to be answered. */
  private verdict(result: WriteResult, epoch: number, key: ClusterKey) {
    const { register } = result;
    const own = this.setup.epoch();
    // It may be on disk now, but must not count any more: "refused" without saying that it had no effect.
    if (own !== epoch) return { kind: "refused", reason: "behind_epoch", epoch: own } as const;
    if (result.error === "disk_full") return { kind: "refused", reason: "full", epoch: 0 } as const;
    if (result.error === "key_refused") return { kind: "refused", reason: result.error, epoch: 0 } as const;
    if (result.error !== null || register === undefined || register === null)
      return { kind: "refused", reason: "not_voting", epoch: 0 } as const;
    switch (register.verdict) {
      case "no":
        return { kind: "no", higher: register.ballot as Ballot } as const;
      case "damaged":
        this.setup.damaged(key);
        return { kind: "refused", reason: "damaged", epoch: 0 } as const;
      default:
        return register;
    }
  }

  private accepted(
    result: WriteResult,
    epoch: number,
    key: ClusterKey,
    { ballot, operationLow, operationHigh }: Omit<Proposal, "payload">,
  ): AcceptAnswer {
    const { error, register } = result;
    // After an error that does not say so, nobody knows whether it had an effect.
    const surelyNot = error === "disk_full" || error === "key_refused" || register?.verdict === "no";
    if (!surelyNot) this.accepts.taken(ballot, operationLow, operationHigh);
    const answer = this.verdict(result, epoch, key);
    if (!("kind" in answer))
      return { kind: "yes", already: answer.verdict === "already", ...replacedBy(answer) };
    const done = result.error === null && result.register?.verdict === "yes" ? result.register : null;
    return answer.kind === "refused" && done !== null ? { ...answer, replaced: replacedBy(done) } : answer;
  }
}

/** Length of the two numbers, start and end, that a request for a part of a value carries. */
const RANGE_BYTES = 16;

/** The value of a request for a part of a value. */
export function rangeBytes(start: number, end: number): Buffer {
  const bytes = Buffer.alloc(RANGE_BYTES);
  bytes.writeDoubleLE(start, 0);
  bytes.writeDoubleLE(end, 8);
  return bytes;
}

/** A key with what the cluster needs to know of it. `bytes` must not change any more. */
export function clusterKey(bytes: Uint8Array): ClusterKey {
  const hashA = hashKey(bytes, bytes.length, 0);
  return { bytes, hashA, partition: partitionOf(hashA) };
}

export function keyBytes({ bytes }: ClusterKey): KeyBytes {
  return { bytes, length: bytes.length };
}

function stagedName(key: Uint8Array, operationLow: number, operationHigh: number): string {
  return `${operationLow} ${operationHigh} ${Buffer.from(key).toString("latin1")}`;
}

function isSame(a: Ballot, b: Ballot): boolean {
  return (
    a.clockLow === b.clockLow &&
    a.clockHigh === b.clockHigh &&
    a.node === b.node &&
    a.incarnation === b.incarnation
  );
}

function replacedBy({ ballot, tombstone }: { ballot: Ballot | null; tombstone: boolean }): Replaced {
  return { previous: ballot, existed: ballot !== null && !tombstone };
}

const AHEAD: Refused = Object.freeze({ kind: "refused", reason: "ahead", epoch: 0 });
const NOWHERE: ReadonlySet<string> = new Set();

function proposalOf(request: PeerRequest): Proposal {
  const { ballot, operationLow, operationHigh, json, contentType, held } = request;
  const payload = request.tombstone
    ? ({ tombstone: true } as const)
    : request.staged
      ? { tombstone: false as const, json, contentType, valueBytes: 0, staged: NOWHERE }
      : inlineValue(json, contentType, request.value);
  return { ballot, payload, operationLow, operationHigh, held };
}

function encodeOther(answer: PrepareAnswer | AcceptAnswer | LookAnswer | RecallAnswer): Buffer {
  if (answer.kind === "no") return encodeNo(answer.higher);
  if (answer.kind === "refused") return encodeRefused(answer.reason, answer.epoch, answer.replaced);
  throw new Error("a replica answers yes, no or refused");
}

function encodeAcceptAnswer(answer: AcceptAnswer): Buffer {
  if (answer.kind === "yes") return encodeAccepted(answer.already, answer.existed, answer.previous);
  return encodeOther(answer);
}
