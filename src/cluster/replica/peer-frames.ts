/** The own replica as other nodes reach it: frames and streams in, frames and streams out. */
import { endOf } from "../../format/end.ts";
import { recentOf } from "../../format/fields/recent.ts";
import type { LocalVault } from "../../shards/vault/local-vault.ts";
import { VaultError } from "../../util/errors.ts";
import type { AnswerRoom, PeerSink, PeerSource } from "../peers/peer-handler.ts";
import {
  type AcceptAnswer,
  endMark,
  type LookAnswer,
  type Payload,
  type PrepareAnswer,
  type Proposal,
  type RecallAnswer,
  TOMBSTONE,
  UNAVAILABLE,
} from "../register/ports.ts";
import { encodeAccepted, encodeHeld, encodeNo, encodeRefused } from "../wire/answer-frame.ts";
import { decodeRecall, encodeRecalled, isRecall } from "../wire/recall.ts";
import { ACCEPT, decodeRequest, LOOK, type PeerRequest, PREPARE, READ } from "../wire/request-frame.ts";
import { baseOnly, inlineValue, type StagedValue, type StoredValue } from "../wire/values.ts";
import { AHEAD } from "./admission.ts";
import { clusterKey, keyBytes } from "./cluster-key.ts";
import type { LocalReplica } from "./local-replica.ts";

export class PeerFrames {
  private readonly replica: LocalReplica;
  private readonly vault: LocalVault;

  constructor(replica: LocalReplica, vault: LocalVault) {
    this.replica = replica;
    this.vault = vault;
  }

  /** One operation of another node. `reply` gets the frame to answer. */
  frame(bytes: Uint8Array, reply: (answer: Uint8Array) => void, room: AnswerRoom): void {
    const recall = isRecall(bytes) ? decodeRecall(bytes) : null;
    if (recall !== null) {
      this.replica.recall(clusterKey(recall.key), recall.epoch, recall, recall.node, recall.ageMs, (answer) =>
        reply(answer.kind === "yes" ? encodeRecalled(answer) : encodeOther(answer)),
      );
      return;
    }
    const request = decodeRequest(bytes);
    if (request === null) {
      reply(encodeRefused("not_voting", this.replica.epoch));
      return;
    }
    const { kind, epoch, ballot, builds } = request;
    // The frame is gone when the shard answers; who only looks is answered before that.
    const isWrite = kind === PREPARE || kind === ACCEPT;
    const key = clusterKey(isWrite ? Uint8Array.from(request.key) : request.key);
    switch (kind) {
      case PREPARE:
        this.replica.prepare(key, epoch, ballot, builds, (answer) =>
          reply(answer.kind === "yes" ? encodeHeld({ ...answer, value: null }) : encodeOther(answer)),
        );
        break;
      case ACCEPT:
        this.replica.accept(key, epoch, proposalOf(request), (answer) => reply(encodeAcceptAnswer(answer)));
        break;
      case LOOK:
      case READ:
        this.replica.look(key, epoch, kind === READ ? room : null, (answer) =>
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
    const trailer = Uint8Array.from(request.trailer);
    const key = clusterKey(Uint8Array.from(request.key));
    const upload = this.vault.stage({
      key: keyBytes(key),
      ballot,
      operationLow,
      operationHigh,
      json,
      contentType,
      trailer,
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
            this.replica.staged.keep(key.bytes, operationLow, operationHigh, upload);
            setImmediate(done, encodeAccepted(false, false, null));
          });
          return;
        }
        const ahead = !request.held && this.replica.admission.isTooFarAhead(key, ballot);
        const refusal = this.replica.admission.refusal(key, epoch) ?? (ahead ? AHEAD : null);
        if (refusal !== null) {
          upload.abort();
          setImmediate(done, encodeOther(refusal));
        } else
          upload.accept(ballot, trailer, (result) =>
            done(encodeAcceptAnswer(this.replica.verdicts.accepted(result, epoch, key, request))),
          );
      },
      abort: () => upload.abort(),
    };
    upload.onDrain = () => sink.onDrain();
    upload.onFail = (result) => sink.onFail(result.error ?? "internal", result.detail);
    return sink;
  }

  /** A part of a large value is asked for. */
  openSource(head: Uint8Array): PeerSource {
    const request = decodeRequest(head);
    if (request === null || request.kind !== READ || request.value.length !== RANGE_BYTES)
      throw new VaultError("bad_request", "this asks for no value");
    const found = this.replica.findVersion(request.key, request.ballot);
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

const NOWHERE: ReadonlySet<string> = new Set();

function proposalOf(request: PeerRequest): Proposal {
  const { ballot, operationLow, operationHigh, held, atMillis } = request;
  return { ballot, operationLow, operationHigh, held, atMillis, payload: payloadIn(request) };
}

function payloadIn(request: PeerRequest): Payload {
  const { json, contentType, trailer, base } = request;
  if (request.ended) return endMark(endOf(trailer), recentOf(trailer));
  if (request.tombstone) return { ...TOMBSTONE, recent: recentOf(trailer) };
  if (base !== null) return baseOnly(request, base);
  if (!request.staged) return inlineValue(request, request.value);
  const kind = { tombstone: false, json, contentType, trailer, end: endOf(trailer) } as const;
  const payload: StagedValue = { ...kind, valueBytes: 0, staged: NOWHERE };
  return payload;
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
