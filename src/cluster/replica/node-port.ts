/**
 * The coordinator's way to the replicas: this node's own one directly, the others by frames. A failed send
 * tells "surely not delivered" from "nobody knows", which is the difference that the protocol lives on.
 */
import type { Ballot } from "../../format/record.ts";
import { PeerError } from "../peers/peer-client.ts";
import type { AnswerRoom } from "../peers/peer-handler.ts";
import {
  type AcceptAnswer,
  type AcceptYes,
  type ClusterKey,
  LOST,
  type LookAnswer,
  type LookYes,
  type Lost,
  type No,
  type PrepareAnswer,
  type PrepareYes,
  type Proposal,
  type RecallAnswer,
  type RecallYes,
  type Refused,
  type ReplicaPort,
  UNAVAILABLE,
} from "../register/ports.ts";
import { decodeAccepted, decodeHeld, decodePromise } from "../wire/answer-frame.ts";
import { decodeRecalled, encodeRecall } from "../wire/recall.ts";
import { acceptOf, encodeRequest, LOOK, PREPARE, READ } from "../wire/request-frame.ts";
import {
  isInline,
  isStaged,
  isTouched,
  kindOnly,
  payloadOf,
  type StoredValue,
  type TouchedValue,
  trailerOf,
} from "../wire/values.ts";
import type { LocalReplica } from "./local-replica.ts";

/** What the port needs of a peer client. */
export interface FrameSender {
  send(frame: Uint8Array): Promise<Uint8Array>;
}

export interface NodePortSetup {
  /** This node's id. */
  self: string;
  local: LocalReplica;
  /** Null: not a node that is known. */
  peerOf: (node: string) => FrameSender | null;
  /** Streams a large value that some replica holds to another, which then accepts it. */
  relay: (
    node: string,
    key: ClusterKey,
    epoch: number,
    proposal: Proposal,
    reply: (answer: AcceptAnswer) => void,
  ) => void;
  /** Whether the own replica is not one of the key's: then the first look asks for the value as well. */
  isOutside: (key: ClusterKey) => boolean;
}

/** What stays in this process is bounded by the operations that its clients may have under way. */
const OWN_ROOM: AnswerRoom = { take: () => true };

export class NodePort implements ReplicaPort {
  private readonly setup: NodePortSetup;

  constructor(setup: NodePortSetup) {
    this.setup = setup;
  }

  prepare(
    node: string,
    key: ClusterKey,
    epoch: number,
    ballot: Ballot,
    reply: (answer: PrepareAnswer) => void,
  ): void {
    if (node === this.setup.self) this.setup.local.prepare(key, epoch, ballot, false, reply);
    else
      this.send<PrepareYes | No>(
        node,
        encodeRequest({ kind: PREPARE, epoch, key: key.bytes, ballot }),
        decodePromise,
        reply,
      );
  }

  accept(
    node: string,
    key: ClusterKey,
    epoch: number,
    proposal: Proposal,
    reply: (answer: AcceptAnswer) => void,
  ): void {
    const { self, local, relay } = this.setup;
    if (node === self) {
      local.accept(key, epoch, proposal, reply);
      return;
    }
    const payload = payloadOf(proposal);
    const request = acceptOf(epoch, key.bytes, proposal);
    if (payload.tombstone) {
      const absence = { tombstone: true, ended: payload.ended === true, trailer: trailerOf(payload) };
      this.send<AcceptYes | No>(node, encodeRequest({ ...request, ...absence }), decodeAccepted, reply);
    } else if (isTouched(payload)) this.touch(node, key, epoch, proposal, payload, reply);
    else if (isInline(payload)) {
      // Set, not spread: this is on the way of every write.
      request.value = payload;
      this.send<AcceptYes | No>(node, encodeRequest(request), decodeAccepted, reply);
    } else if (!isStaged(payload)) relay(node, key, epoch, { ...proposal, payload }, reply);
    else if (payload.staged.has(node))
      this.send<AcceptYes | No>(
        node,
        encodeRequest({ ...request, staged: true, value: kindOnly(payload) }),
        decodeAccepted,
        reply,
      );
    // The stream to it has failed: it gets the value later, as one that missed it.
    else reply(UNAVAILABLE);
  }

  /** A replica that does not hold what is touched has not done anything, and gets the value itself. */
  private touch(
    node: string,
    key: ClusterKey,
    epoch: number,
    proposal: Proposal,
    payload: TouchedValue,
    reply: (answer: AcceptAnswer) => void,
  ): void {
    const { base, whole } = payload;
    const request = acceptOf(epoch, key.bytes, proposal);
    const frame = encodeRequest({ ...request, base, value: kindOnly(payload) });
    this.send<AcceptYes | No>(node, frame, decodeAccepted, (answer) => {
      const isMissing = answer.kind === "refused" && answer.reason === "unavailable";
      if (isMissing && whole !== null) this.accept(node, key, epoch, { ...proposal, payload: whole }, reply);
      else reply(answer);
    });
  }

  look(node: string, key: ClusterKey, epoch: number, reply: (answer: LookAnswer) => void): void {
    this.ask(node, key, epoch, this.setup.isOutside(key), reply);
  }

  read(node: string, key: ClusterKey, epoch: number, reply: (answer: LookAnswer) => void): void {
    this.ask(node, key, epoch, true, reply);
  }

  recall(
    replica: string,
    key: ClusterKey,
    epoch: number,
    operation: Pick<Proposal, "operationLow" | "operationHigh">,
    node: number,
    ageMs: number,
    reply: (answer: RecallAnswer) => void,
  ): void {
    const { self, local } = this.setup;
    if (replica === self) {
      local.recall(key, epoch, operation, node, ageMs, reply);
      return;
    }
    const { operationLow, operationHigh } = operation;
    const frame = encodeRecall({ epoch, key: key.bytes, operationLow, operationHigh, node, ageMs });
    this.send<RecallYes>(replica, frame, decodeRecalled, reply);
  }

  private ask(
    node: string,
    key: ClusterKey,
    epoch: number,
    wantValue: boolean,
    reply: (answer: LookAnswer) => void,
  ): void {
    const { self, local } = this.setup;
    if (node === self) {
      local.look(key, epoch, OWN_ROOM, reply);
      return;
    }
    const large = (value: Omit<StoredValue, "tombstone">, ballot: Ballot) => ({
      ...value,
      tombstone: false as const,
      node,
      ballot,
    });
    const frame = encodeRequest({ kind: wantValue ? READ : LOOK, epoch, key: key.bytes });
    this.send<LookYes>(node, frame, (bytes) => decodeHeld(bytes, large), reply);
  }

  private send<Answer>(
    node: string,
    frame: Uint8Array,
    decode: (bytes: Uint8Array) => Answer | Refused | Lost | null,
    reply: (answer: Answer | Refused | Lost) => void,
  ): void {
    const peer = this.setup.peerOf(node);
    if (peer === null) {
      reply(UNAVAILABLE);
      return;
    }
    peer.send(frame).then(
      (bytes) => reply(decode(bytes) ?? LOST),
      (error: unknown) =>
        reply(error instanceof PeerError && error.outcome === "not_sent" ? UNAVAILABLE : LOST),
    );
  }
}
