/**
 * Writes: judges one against the newest state of its key, those of the same batch included, and stages its
 * record. The outcome is final after the batch's `commit`.
 */

import type { ChunkRef } from "../../format/manifest.ts";
import { EXTENDED_VERSION_MIN, TYPE_MANIFEST, TYPE_TOMBSTONE, TYPE_VALUE } from "../../format/offsets.ts";
import { recordUnits } from "../../format/record.ts";
import { etagText } from "../../format/version.ts";
import { isPromisedAbove } from "../../rules/register.ts";
import { failed, isConditional, judge, type Outcome, type ShardWrite, succeeded } from "../../rules/write.ts";
import type { ErrorCode } from "../../util/errors.ts";
import { storedParts, textOf } from "../../value/stored.ts";
import type { Batch, Current } from "./batch.ts";
import { judgeAcceptOf } from "./replica.ts";

const NOTHING = new Uint8Array(0);
const NO_CHUNKS: readonly ChunkRef[] = [];
const UPGRADE_FIRST =
  "this data directory has an older format, which has no place for it: stop the node and run minivault upgrade on it";
/** Of the one write that is being judged. */

/** What a write puts in its record. */
interface Content {
  type: number;
  json: boolean;
  contentType: Uint8Array;
  valueBytes: number;
  /** The value is the concatenation of these. */
  parts: readonly Uint8Array[];
  /** Of a manifest. */
  chunks: readonly ChunkRef[];
}

const TOMBSTONE: Content = {
  type: TYPE_TOMBSTONE,
  json: false,
  contentType: NOTHING,
  valueBytes: 0,
  parts: [],
  chunks: NO_CHUNKS,
};

/** Judges one write and stages its record. `body`: as the client sent it; ignored for delete. */
export function applyWrite(batch: Batch, write: ShardWrite, body: Uint8Array): Outcome {
  if (batch.log.writesStopped) return batch.log.stoppedOutcome;
  if (write.verb === "delete") return store(batch, write, TOMBSTONE);
  if (write.ballot !== undefined || !write.json) return applyStored(batch, write, body);
  const text = textOf(body);
  if ("error" in text) return failed(text.error, text.detail);
  const { parts, valueBytes } = storedParts(text);
  return store(batch, write, {
    type: TYPE_VALUE,
    json: true,
    contentType: NOTHING,
    valueBytes,
    parts,
    chunks: NO_CHUNKS,
  });
}

/** Judges a write whose value is `bytes` in stored form already (JSON with prefix and suffix). */
export function applyStored(batch: Batch, write: ShardWrite, bytes: Uint8Array): Outcome {
  return applyWhole(batch, write, TYPE_VALUE, bytes, NO_CHUNKS);
}

/** Judges a large value whose chunks are written and stages its manifest. */
export function applyManifest(
  batch: Batch,
  write: ShardWrite,
  manifest: Uint8Array,
  chunks: readonly ChunkRef[],
): Outcome {
  return applyWhole(batch, write, TYPE_MANIFEST, manifest, chunks);
}

function applyWhole(
  batch: Batch,
  write: ShardWrite,
  type: number,
  bytes: Uint8Array,
  chunks: readonly ChunkRef[],
): Outcome {
  if (batch.log.writesStopped) return batch.log.stoppedOutcome;
  const { json } = write;
  const contentType = json ? NOTHING : write.contentType;
  return store(batch, write, { type, json, contentType, valueBytes: bytes.length, parts: [bytes], chunks });
}

function store(batch: Batch, write: ShardWrite, content: Content): Outcome {
  const { verb } = write;
  if (write.trailer.length > 0 && batch.state.store.version < EXTENDED_VERSION_MIN)
    return failed("upgrade_first", UPGRADE_FIRST);
  const { log } = batch;
  try {
    const { contentType, valueBytes } = content;
    const units = recordUnits(write.key.length, contentType.length, valueBytes, write.trailer.length);
    batch.makeRoom(units, verb === "delete");
  } catch (error) {
    const failure = log.failure(error);
    return withoutRecord(batch, write) ?? failure;
  }
  const outcome = succeeded();
  const current = batch.currentOf(write, outcome);
  const exists = current.state === "value";
  outcome.created = !exists && current.state !== "damaged";
  if (write.ballot !== undefined) return accept(batch, write, content, current, outcome);
  if (isConditional(write)) {
    const refusal = judge(write, current.state, exists ? etagText(batch.headOf(current)) : null);
    if (refusal !== null) return refuse(outcome, refusal);
  }
  if (verb === "delete") {
    outcome.created = false;
    outcome.deleted = exists || current.state === "damaged";
    // Where a failed write may come back, only a record keeps it away.
    const certain = !log.appender.file.uncertain;
    if (current.state === "absent" && certain) return outcome;
    if (current.state === "tombstone" && certain) {
      outcome.ballot = { ...batch.headOf(current) };
      return outcome;
    }
  }
  if (!batch.admits(write, current)) return refuse(outcome, "key_refused");
  const { clock, store: identity } = batch.state;
  clock.tick();
  const ballot = {
    clockLow: clock.low,
    clockHigh: clock.high,
    node: identity.node,
    incarnation: identity.incarnation,
  };
  batch.describe(content.type, content.json, ballot, write.operationLow, write.operationHigh);
  if (stage(batch, write, content, current, outcome)) outcome.ballot = ballot;
  return outcome;
}

/** A write of replication: its conditions were judged where its ballot was drawn. */
function accept(
  batch: Batch,
  write: ShardWrite,
  content: Content,
  current: Current,
  outcome: Outcome,
): Outcome {
  const { ballot } = write;
  if (ballot === undefined || !judgeAcceptOf(batch, write, ballot, current, outcome)) return outcome;
  if (!batch.admits(write, current)) return Object.assign(outcome, failed("key_refused"));
  batch.describe(content.type, content.json, ballot, write.operationLow, write.operationHigh);
  batch.head.outranked = isPromisedAbove(batch.promisedOf(write)?.ballot ?? null, ballot);
  stage(batch, write, content, current, outcome);
  return outcome;
}

function stage(
  batch: Batch,
  write: ShardWrite,
  content: Content,
  current: Current,
  outcome: Outcome,
): boolean {
  const { contentType, valueBytes, parts, chunks } = content;
  return batch.stage(write, contentType, valueBytes, parts, chunks, current, outcome, write.trailer);
}

/**
 * The outcome of a delete that needs no record, where there is no room for one: the key is not there. Null:
 * it needs one.
 */
function withoutRecord(batch: Batch, write: ShardWrite): Outcome | null {
  if (write.verb !== "delete" || write.ballot !== undefined || isConditional(write)) return null;
  if (batch.log.writesStopped || batch.log.appender.file.uncertain || batch.has(write)) return null;
  const current = batch.currentOf(write);
  if (current.state !== "absent" && current.state !== "tombstone") return null;
  const outcome = succeeded();
  if (current.state === "tombstone") outcome.ballot = { ...batch.headOf(current) };
  return outcome;
}

function refuse(outcome: Outcome, error: ErrorCode): Outcome {
  outcome.error = error;
  outcome.created = false;
  return outcome;
}
