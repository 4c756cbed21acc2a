/**
 * Writes as they come: checks and cuts the body, then decide.ts judges. The outcome is final after the
 * batch's `commit`.
 */
import type { ChunkRef } from "../../format/manifest.ts";
import { TYPE_ENDED, TYPE_MANIFEST, TYPE_TOMBSTONE, TYPE_VALUE } from "../../format/offsets.ts";
import { failed, type Outcome, type Write } from "../../rules/write.ts";
import { NOTHING } from "../../util/bytes.ts";
import { storedParts, textOf } from "../../value/stored.ts";
import type { Batch } from "../batch/batch.ts";
import { type Content, store } from "./decide.ts";
import { applyTouch } from "./touch.ts";

const NO_CHUNKS: readonly ChunkRef[] = [];

const TOMBSTONE: Content = {
  type: TYPE_TOMBSTONE,
  json: false,
  contentType: NOTHING,
  valueBytes: 0,
  parts: [],
  chunks: NO_CHUNKS,
  trailer: NOTHING,
};

/** Judges one write and stages its record. `body`: as the client sent it; ignored for delete. */
export function applyWrite(batch: Batch, write: Write, body: Uint8Array): Outcome {
  if (batch.log.writesStopped) return batch.log.stoppedOutcome;
  if (write.verb === "touch") return applyTouch(batch, write);
  if (write.verb === "delete") return store(batch, write, absenceOf(write));
  if (write.ballot !== null || !write.json) return applyStored(batch, write, body);
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
    trailer: write.trailer,
  });
}

/** What says that there is nothing: of a delete, or of a value of replication that has ended. */
function absenceOf({ ended, trailer }: Write): Content {
  if (ended) return { ...TOMBSTONE, type: TYPE_ENDED, trailer };
  return trailer.length === 0 ? TOMBSTONE : { ...TOMBSTONE, trailer };
}

/** Judges a write whose value is `bytes` in stored form already (JSON with prefix and suffix). */
export function applyStored(batch: Batch, write: Write, bytes: Uint8Array): Outcome {
  return applyWhole(batch, write, TYPE_VALUE, bytes, NO_CHUNKS);
}

/** Judges a large value whose chunks are written and stages its manifest. */
export function applyManifest(
  batch: Batch,
  write: Write,
  manifest: Uint8Array,
  chunks: readonly ChunkRef[],
): Outcome {
  return applyWhole(batch, write, TYPE_MANIFEST, manifest, chunks);
}

function applyWhole(
  batch: Batch,
  write: Write,
  type: number,
  bytes: Uint8Array,
  chunks: readonly ChunkRef[],
): Outcome {
  if (batch.log.writesStopped) return batch.log.stoppedOutcome;
  const { json, trailer } = write;
  const contentType = json ? NOTHING : write.contentType;
  const valueBytes = bytes.length;
  return store(batch, write, { type, json, contentType, valueBytes, parts: [bytes], chunks, trailer });
}
