/**
 * The writes of a node's clients, and those that other nodes hand on to it: from a body in stored form to the
 * coordinator, and from its result to the answer.
 */
import { randomBytes } from "node:crypto";
import { endOf } from "../../format/end.ts";
import { withEnd } from "../../format/fields/end.ts";
import { type Once, onceOf, withOnce } from "../../format/fields/recent.ts";
import { ballotMillis, etagScratch } from "../../format/version.ts";
import { endOfLife, type Life, NO_LIFE } from "../../rules/expiry.ts";
import type { WriteDone, WriteHead } from "../../shards/arena/write.ts";
import { copyOf, NOTHING } from "../../util/bytes.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { JSON_TYPE } from "../../util/header-text.ts";
import { storedBytes, textOf } from "../../value/stored.ts";
import type { BallotSource } from "../clock/ballots.ts";
import type { ClusterTime } from "../clock/cluster-time.ts";
import type { Coordinator } from "../coordinator/coordinator.ts";
import { FEATURE_VERSIONS } from "../layout/features.ts";
import type { ReplicaGroup } from "../layout/groups.ts";
import { type PeerClient, PeerError } from "../peers/peer-client.ts";
import { BOUND_MS, type Bound, boundFrom } from "../register/bound.ts";
import { type ClusterKey, FIRST_WRITE, TOMBSTONE } from "../register/ports.ts";
import { NOTHING_DONE, type RegisterResult, type RegisterWrite } from "../register/requests.ts";
import { clusterKey } from "../replica/cluster-key.ts";
import type { Service } from "../service/service.ts";
import { decodeHandOn, decodeWritten, encodeHandOn, encodeWritten, type Terms } from "../wire/hand-on.ts";
import { ACCEPT, encodeRequest } from "../wire/request-frame.ts";
import {
  type InlineValue,
  inlineValue,
  NO_KIND,
  type StagedValue,
  type StoredValue,
  trailerOf,
  type ValueKind,
} from "../wire/values.ts";
import type { ChangeAccess } from "./access.ts";
import { HotKeys } from "./hot-keys.ts";
import { FAILED, resultOf } from "./outcomes.ts";
import { again, changeOf, judgeOf, termsOf } from "./terms.ts";

/** Operations of clients under way; beyond, they get 503. */
export const OPERATIONS_MAX = 16_384;

/** Operations of clients, reads and writes: under way, and so far. */
export interface ClientLoad {
  operations: number;
  begun: number;
}

export interface ClusterWritesSetup {
  self: string;
  time: ClusterTime;
  ballots: BallotSource;
  peerOf: (node: string) => PeerClient | null;
  coordinator: Coordinator;
  load: ClientLoad;
  /** Whether there is a layout to work by. */
  isReady: () => boolean;
  /** The level that all members know (layout/features.ts). */
  features: () => number;
  groupOf: (key: ClusterKey) => ReplicaGroup;
  distance: (node: string) => number;
  /** A write is over. */
  seen: Service["seen"];
}

/** A write and what it asks of what is there. */
interface TermedWrite extends Omit<RegisterWrite, "condition" | "change" | "only"> {
  readonly terms: Terms;
  /** What it is known by when it comes again; null: it has no `Idempotency-Key`. */
  readonly once: Once | null;
}

/** A large value that some replicas have, and how long it is to live. */
interface LargeWrite extends Omit<TermedWrite, "payload" | "staged" | "once"> {
  readonly value: ValueKind & Pick<StagedValue, "valueBytes" | "staged"> & { readonly life: Life };
}

export class ClusterWrites implements ChangeAccess {
  private readonly setup: ClusterWritesSetup;
  private readonly hotKeys: HotKeys;
  private readonly etag = etagScratch();
  private readonly operationNode = (randomBytes(4).readUInt32LE(0) & ~FIRST_WRITE) >>> 0;
  private operationNumber = randomBytes(4).readUInt32LE(0);

  constructor(setup: ClusterWritesSetup) {
    this.setup = setup;
    this.hotKeys = new HotKeys(setup.self, setup.distance, () => performance.now());
  }

  /** The number of the next operation of this node, never used before. */
  nextOperation(): { operationLow: number; operationHigh: number } {
    this.operationNumber = (this.operationNumber + 1) >>> 0;
    return { operationLow: this.operationNumber, operationHigh: this.operationNode };
  }

  /** A large value that the replicas have already: written from here. */
  writeLarge(verb: WriteHead["verb"], { value, ...write }: LargeWrite, done: WriteDone): void {
    const { json, contentType, life, valueBytes, staged } = value;
    const problem = this.lifeProblem(life);
    if (problem !== null) {
      setImmediate(done, { ...FAILED, ...problem });
      return;
    }
    const trailer = this.trailerOf(value.trailer, life);
    const end = endOf(trailer);
    const payload: StagedValue = { tombstone: false, json, contentType, trailer, end, valueBytes, staged };
    this.run(verb, done, (written) => this.write({ ...write, payload, staged: true, once: null }, written));
  }

  /** A small write. False: too much is under way. */
  submit(head: WriteHead, body: Uint8Array, done: WriteDone): boolean {
    if (this.setup.load.operations >= OPERATIONS_MAX) return false;
    const once = onceOf(head.trailer)?.slice() ?? null;
    const payload = head.verb === "delete" ? TOMBSTONE : this.payloadOf(head, body);
    const problem = this.lifeProblem(head.life);
    if ("error" in payload) setImmediate(done, { ...FAILED, ...payload });
    else if (problem !== null) setImmediate(done, { ...FAILED, ...problem });
    else {
      const key = clusterKey(copyOf(head.key.bytes, 0, head.key.length));
      const { verb } = head;
      const terms = termsOf(head);
      const { operationLow, operationHigh } = this.nextOperation();
      // A change in place has said itself whose it is.
      if (head.versions === undefined) this.hotKeys.begins(key.bytes, operationHigh, true);
      this.run(verb, done, (written) =>
        this.hotWrite({ key, terms, payload, once, operationLow, operationHigh }, written),
      );
    }
    return true;
  }

  /** The value of a body, in stored form, and when it ends; or what is wrong with it. */
  private payloadOf(head: WriteHead, body: Uint8Array): StoredValue | { error: ErrorCode; detail: string } {
    const trailer = this.trailerOf(withOnce(head.trailer, null), head.life);
    const { json, contentType } = head;
    if (head.verb === "touch") return inlineValue({ ...NO_KIND, trailer }, NOTHING);
    if (!json) return inlineValue({ json, contentType, trailer }, copyOf(body));
    const text = textOf(body);
    if ("error" in text) return text;
    return inlineValue({ json, contentType: JSON_TYPE, trailer }, storedBytes(text));
  }

  /** The trailer with the end of a life, which is computed here and never again. */
  private trailerOf(trailer: Uint8Array, life: Life): Uint8Array {
    const end = life === NO_LIFE ? 0 : endOfLife(life, this.setup.time.now());
    return end === 0 ? trailer : withEnd(trailer, end);
  }

  /** Why a life cannot be given now: a clock that nobody has checked must not say when a lease ends. */
  private lifeProblem({ ttlMs }: Life): { error: ErrorCode; detail: string } | null {
    if (ttlMs === 0 || this.setup.time.wasAgreed) return null;
    const detail = "this node does not know the time of its cluster yet, so it cannot tell when a value ends";
    return { error: "unavailable", detail };
  }

  /** Runs an operation that writes, if there is a layout to work by. */
  private run(
    verb: WriteHead["verb"],
    done: WriteDone,
    start: (written: (result: RegisterResult) => void) => void,
  ): void {
    const { load } = this.setup;
    if (!this.setup.isReady()) {
      setImmediate(done, {
        ...FAILED,
        error: "unavailable",
        detail: "this node is not one of its cluster's yet, or not any more; its /health says why",
      });
      return;
    }
    load.operations++;
    load.begun++;
    start((written) => {
      load.operations--;
      done(resultOf(verb, written, this.etag, this.setup));
    });
  }

  get drawsVersions(): boolean {
    return this.setup.features() >= FEATURE_VERSIONS;
  }

  get writer(): number {
    return this.operationNode;
  }

  elsewhere(key: Uint8Array): PeerClient | null {
    this.hotKeys.begins(key, this.writer, true);
    return this.setup.isReady() && this.drawsVersions ? this.peerFor(clusterKey(key)) : null;
  }

  begins(key: Uint8Array, writer: number): boolean {
    return this.hotKeys.begins(key, writer, false);
  }

  shared(key: Uint8Array): void {
    this.hotKeys.raced(key);
  }

  /** The node that a key's writes are going to now; null: this one. */
  private peerFor(key: ClusterKey): PeerClient | null {
    const node = this.hotKeys.coordinatorOf(key.bytes, this.setup.groupOf(key));
    return node === null ? null : this.setup.peerOf(node);
  }

  /** A small write: goes to the coordinator that the key's writes are going to now. */
  private hotWrite(write: TermedWrite, written: (result: RegisterResult) => void): void {
    const { key, terms, payload, once, operationLow, operationHigh } = write;
    const peer = this.peerFor(key);
    if (peer === null) {
      this.write(write, written);
      return;
    }
    const { features, ballots, groupOf } = this.setup;
    const bound = boundFrom(features(), ballots.millis, groupOf(key).epoch);
    const { epoch = 0, below: ballot } = bound ?? {};
    const request = { kind: ACCEPT, epoch, key: key.bytes, ballot, operationLow, operationHigh } as const;
    const trailer = withOnce(trailerOf(payload), once);
    const accept = payload.tombstone
      ? encodeRequest({ ...request, tombstone: true, trailer })
      : encodeRequest({ ...request, value: { ...(payload as InlineValue), trailer } });
    const lost = (bound: Bound | null): void => this.writeLost({ ...write, lost: true, bound }, written);
    peer.handOn(encodeHandOn(terms, accept)).then(
      (answer) => {
        const result = decodeWritten(answer);
        if (result === null) lost(bound);
        // It tries no more: what comes yet was sent before.
        else if (result.outcome === "unknown_outcome" && bound !== null)
          lost({ ...bound, below: result.ballot ?? bound.below });
        // It has had no effect there; perhaps that node is not the right one.
        else if (result.outcome === "no_quorum") this.write(write, written);
        else {
          if (result.raced) this.hotKeys.raced(key.bytes);
          written(result);
        }
      },
      // What surely was not delivered is written from here; what may have been is only looked for.
      (error: unknown) => {
        if (error instanceof PeerError && error.outcome === "not_sent") this.write(write, written);
        else lost(bound);
      },
    );
  }

  /** A write that was handed on and not answered for: looked for once nothing of it can come any more. */
  private writeLost(write: TermedWrite, written: (result: RegisterResult) => void): void {
    const { bound } = write;
    // For the sake of ballots that follow the time only: whatever it is by now, the next one is above.
    const aheadMs = bound == null ? 0 : ballotMillis(bound.below) - this.setup.ballots.millis;
    const waitMs = Math.min(BOUND_MS, aheadMs);
    if (waitMs <= 0) this.write(write, written);
    else setTimeout(() => this.write(write, written), waitMs);
  }

  private write(write: TermedWrite, written: (result: RegisterResult) => void): void {
    const { key, terms, payload, once, operationLow, operationHigh, staged = false } = write;
    const condition = judgeOf(terms);
    const change = changeOf(terms, payload);
    const { lost = false, bound = null } = write;
    const only = once === null ? null : { once, again };
    const { versions } = terms;
    const number = { operationLow, operationHigh };
    const at = staged ? (payload as StagedValue).staged : null;
    const request = { key, payload, change, ...number, staged, at, lost, bound, versions, condition, only };
    this.setup.coordinator.write(request, (result) => {
      if (result.raced) this.hotKeys.raced(key.bytes);
      this.setup.seen("write", key, result.outcome, result.reason);
      written(result);
    });
  }

  /** A write that another node hands on: written from here, whoever else might be better. */
  handedOn(bytes: Uint8Array, reply: (answer: Uint8Array) => void): void {
    // The frame is gone when the write has its answer.
    const handed = decodeHandOn(Uint8Array.from(bytes));
    if (handed === null || !this.setup.isReady() || this.setup.load.operations >= OPERATIONS_MAX) {
      const outcome = this.setup.load.operations >= OPERATIONS_MAX ? "overloaded" : "no_quorum";
      reply(encodeWritten({ ...NOTHING_DONE, outcome }));
      return;
    }
    const { terms, request } = handed;
    const { value, tombstone, operationLow, operationHigh, epoch, ballot } = request;
    const bound = epoch === 0 ? null : { epoch, below: ballot, sinceMs: performance.now() };
    const once = onceOf(request.trailer);
    const kind = { ...request, trailer: withOnce(request.trailer, null) };
    const payload = tombstone ? TOMBSTONE : inlineValue(kind, value);
    const key = clusterKey(request.key);
    const write = { key, terms, payload, once, operationLow, operationHigh, bound };
    const raced = this.hotKeys.begins(request.key, operationHigh, false);
    this.setup.load.operations++;
    this.write(write, (result) => {
      this.setup.load.operations--;
      reply(encodeWritten({ ...result, raced }));
    });
  }
}
