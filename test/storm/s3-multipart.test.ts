/**
 * An object of 5 GiB is uploaded in parts and read back: right to the last byte, and the node's own memory does not grow with it. BYTES says
 * how large it is.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { after, test } from "node:test";
import { CreateBucketCommand, GetObjectCommand } from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { closeConnections, contentHash, contentStream } from "../rest/client.ts";
import { hasProc, memoryLine, watchMemory } from "../rest/process-memory.ts";
import { client, startS3 } from "../s3/harness.ts";

const MIB = 2 ** 20;
const BYTES = Number(process.env.BYTES ?? 5 * 2 ** 30);
const PART_BYTES = 16 * MIB;
const PARTS_AT_ONCE = 4;
/** What the node may take for itself beside what it has at its start. */
const MORE_BYTES_MAX = 256 * MIB;
const SEED = 24;

after(closeConnections);

test(`s3: an object of ${BYTES / MIB} MiB in parts: at most 256 MiB of memory`, async (t) => {
  const server = await startS3({ flags: ["-max-value", "8GiB"] });
  const s3 = client(server.s3Port);
  try {
    const place = { Bucket: "large", Key: "of parts" };
    await s3.send(new CreateBucketCommand({ Bucket: place.Bucket }));
    const memory = hasProc ? watchMemory(server.pid) : null;
    const begunMs = performance.now();
    let lastPartMs = begunMs;
    const upload = new Upload({
      client: s3,
      params: { ...place, Body: contentStream(SEED, BYTES) },
      partSize: PART_BYTES,
      queueSize: PARTS_AT_ONCE,
    });
    upload.on("httpUploadProgress", () => {
      lastPartMs = performance.now();
    });
    const { ETag } = await upload.done();
    const doneMs = performance.now();
    assert.match(ETag ?? "", new RegExp(`-${Math.ceil(BYTES / PART_BYTES)}"$`));
    const seconds = (from: number, to: number): string => ((to - from) / 1000).toFixed(1);
    t.diagnostic(`parts ${seconds(begunMs, lastPartMs)} s, completion ${seconds(lastPartMs, doneMs)} s`);
    const { Body, ContentLength } = await s3.send(new GetObjectCommand(place));
    assert.equal(ContentLength, BYTES);
    const hash = createHash("sha256");
    for await (const piece of Body as Readable) hash.update(piece);
    t.diagnostic(`read in ${seconds(doneMs, performance.now())} s`);
    if (memory !== null) {
      const peak = memory.stop();
      t.diagnostic(`MiB: ${memoryLine(memory.start, peak)}`);
      const more = peak.own - memory.start.own;
      assert.ok(more <= MORE_BYTES_MAX, `${Math.round(more / MIB)} MiB more`);
    }
    assert.equal(hash.digest("hex"), contentHash(SEED, BYTES));
  } finally {
    s3.destroy();
    await server.dispose();
  }
});
