/**
 * What each operation of a front means to a shard.
 */

import { endValue } from "../../engine/batch/ended.ts";
import {
  dropPartition,
  dropTombstone,
  foldPromises,
  prepare,
  raiseFloor,
} from "../../engine/shard/replica.ts";
import type { Shard } from "../../engine/shard/shard.ts";
import { UploadWriter } from "../../engine/shard/uploads.ts";
import { NO_TRAILER } from "../../format/fields/trailer.ts";
import { failed, type Outcome, succeeded, type Write } from "../../rules/write.ts";
import { VaultError } from "../../util/errors.ts";
import type { HashPrefix } from "../../util/hash-prefix.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import {
  OP_DROP_PARTITION,
  OP_DROP_TOMBSTONE,
  OP_END,
  OP_FOLD_PROMISES,
  OP_OVERDUE,
  OP_PREPARE,
  OP_RAISE_FLOOR,
  OP_SETTLE_LOSS,
  OP_UPLOAD_ABORT,
  OP_UPLOAD_BEGIN,
  OP_UPLOAD_COMMIT,
  OP_UPLOAD_PART,
  type Operation,
} from "../arena/operation.ts";

/** Keys told at once: with the longest ones they are less than the room for sentences. */
const OVERDUE_MAX = 16;

interface Upload {
  shard: Shard;
  writer: UploadWriter;
}

const DONE: Outcome = {
  error: null,
  detail: "",
  created: false,
  deleted: false,
  ballot: null,
  register: null,
};
const NO_BALLOT = failed("internal", "an operation of replication without a ballot");

/** Runs operations, and keeps the uploads that are under way. */
export class Dispatch {
  private readonly uploads = new Map<number, Upload>();

  /**
   * Does one operation; what it changes counts once its shard has committed. Where a data file cannot be
   * opened now, what the shard has staged is taken back with it.
   */
  run(shard: Shard, o: Operation): Outcome {
    try {
      return this.attempt(shard, o);
    } catch (error) {
      if (!(error instanceof VaultError)) throw error;
      const outcome = failed(error.code, error.message);
      shard.batch.fail(outcome);
      if (o.op === OP_UPLOAD_PART || o.op === OP_UPLOAD_COMMIT) this.leave(o.upload);
      return outcome;
    }
  }

  private leave(upload: number): void {
    this.uploads.get(upload)?.writer.end();
    this.uploads.delete(upload);
  }

  private attempt(shard: Shard, o: Operation): Outcome {
    switch (o.op) {
      case OP_UPLOAD_BEGIN:
        // It begins when it is longer than that.
        this.uploads.set(o.upload, {
          shard,
          writer: new UploadWriter(shard.batch, kept(o), CHUNK_BYTES + 1),
        });
        return DONE;
      case OP_UPLOAD_PART:
        return this.uploads.get(o.upload)?.writer.part(o.body) ?? DONE;
      case OP_UPLOAD_COMMIT: {
        const upload = this.uploads.get(o.upload);
        if (upload === undefined) return failed("internal", "the upload is not known");
        const { writer } = upload;
        const failure = writer.part(o.body);
        // Ballot and fields of an accept are chosen when all replicas have the value.
        const outcome = failure ?? writer.finish(o.ballot, o.trailer);
        if (failure !== null) writer.end();
        if (writer.isOver) this.uploads.delete(o.upload);
        return outcome;
      }
      case OP_UPLOAD_ABORT:
        this.leave(o.upload);
        return DONE;
      case OP_PREPARE:
        return o.ballot === null ? NO_BALLOT : prepare(shard.batch, o, o.ballot, o.repair);
      case OP_RAISE_FLOOR:
        return o.ballot === null ? NO_BALLOT : raiseFloor(shard.batch, o.operationLow, o.ballot);
      case OP_DROP_TOMBSTONE:
        return o.ballot === null ? NO_BALLOT : dropTombstone(shard.batch, o, o.ballot, o.ended);
      case OP_END:
        return endValue(shard.batch, o, o.operationLow + o.operationHigh * 2 ** 32);
      case OP_OVERDUE:
        return overdue(shard, o.operationLow);
      case OP_SETTLE_LOSS:
        return shard.settleLoss();
      case OP_DROP_PARTITION:
        return dropPartition(shard.batch, o.operationLow as HashPrefix, o.operationHigh);
      case OP_FOLD_PROMISES:
        return o.ballot === null
          ? NO_BALLOT
          : foldPromises(shard.batch, o.operationLow, o.operationHigh, o.ballot);
      default:
        return shard.apply(o, o.body);
    }
  }

  /** Forgets the uploads. */
  close(): void {
    for (const { writer } of this.uploads.values()) writer.end();
    this.uploads.clear();
  }
}

/** Keys in hexadecimal, with commas, in the place of a sentence: that is bounded. */
function overdue(shard: Shard, limit: number): Outcome {
  const outcome = succeeded();
  const keys = shard.sweep.takeOverdue(Math.min(limit, OVERDUE_MAX));
  outcome.detail = keys.map((key) => Buffer.from(key, "latin1").toString("hex")).join(",");
  return outcome;
}

/** A copy that outlives the batch; its body is what it begins with. */
function kept(o: Operation): Write {
  return { ...o, key: o.key.slice(), contentType: o.contentType.slice(), trailer: NO_TRAILER };
}
