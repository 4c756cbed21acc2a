/** Verifying one shard: its list, its slabs, the values in them, and the index that a start would build. */

import type { ChunkRef } from "../../format/manifest.ts";
import { RECORD_HEADER_BYTES, TYPE_CHUNK, UNIT_BYTES } from "../../format/offsets.ts";
import { checksumOf, recordSource, typeOf, valueBytesOf } from "../../format/record.ts";
import { demandDescriptors } from "../../platform/system-error.ts";
import { listSlabs, readSlab, slabName } from "../slabs/files.ts";
import type { Findings } from "./findings.ts";
import { verifyIndex } from "./verify-index.ts";
import { checkList } from "./verify-list.ts";
import { checkSlab, type LiveManifest, ReadShard } from "./verify-slab.ts";
import { checkSnapshot } from "./verify-snapshot.ts";
import { keyText } from "./words/describe.ts";

/** Checks a shard. `totalBytes`: of all slabs of the directory, for the progress. */
export async function verifyShard(findings: Findings, totalBytes: number): Promise<void> {
  const { directory, summary, store, report } = findings;
  const read = new ReadShard();
  const present = listSlabs(directory);
  const expected = checkList(findings, present);
  // What the next start removes is not looked at.
  const sequences = present.filter((sequence) => !expected.leftovers.includes(sequence));
  read.sequences = sequences;
  if (sequences.length === 0 && store.incarnation > 1)
    findings.damage(directory, null, "shard", null, "there is no slab in it");
  for (const sequence of sequences) {
    checkSlab(findings, read, sequence, sequence === sequences[sequences.length - 1], expected);
    summary.slabs++;
    summary.bytes += store.slabBytes;
    report.progress(summary.bytes, totalBytes);
    // The lock's timer, and the terminal, need their turn.
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const [name, manifest] of read.manifests) checkChunks(findings, read, name, manifest);
  await checkIndex(findings, read);
  checkSnapshot(findings, expected);
}

/** Builds the index as a start would, and compares it with what was read. */
async function checkIndex(findings: Findings, read: ReadShard): Promise<void> {
  const { report, summary, root, directory, store, shard } = findings;
  const giveUp = (): void => {
    summary.keys = summary.tombstones = null;
  };
  if (!findings.isReadable) {
    report.note(`the index of shard ${shard} is not checked: not all of its slabs can be read`);
    giveUp();
    return;
  }
  try {
    const { keys, tombstones } = await verifyIndex(root, store, shard, read, {
      lost: (sequence, unit, key) =>
        findings.damage(
          findings.slabFile(sequence),
          unit * UNIT_BYTES,
          "index",
          keyText(key),
          "a start would find neither this record nor a newer one",
        ),
      damage: (text) => findings.damage(directory, null, "index", null, text),
      turn: () => new Promise((resolve) => setImmediate(resolve)),
    });
    if (summary.keys !== null) summary.keys += keys;
    if (summary.tombstones !== null) summary.tombstones += tombstones;
  } catch (error) {
    demandDescriptors(error);
    findings.damage(directory, null, "index", null, `a start would fail: ${(error as Error).message}`);
    giveUp();
  }
}

function checkChunks(findings: Findings, read: ReadShard, name: string, manifest: LiveManifest): void {
  findings.summary.manifests++;
  const file = findings.slabFile(manifest.sequence);
  for (const [number, chunk] of manifest.chunks.entries()) {
    findings.summary.chunks++;
    const why = chunkProblem(findings, read, chunk);
    if (why === null) continue;
    const where = `${slabName(chunk.sequence)}, byte ${chunk.unit * UNIT_BYTES}`;
    const text = `its chunk ${number} of ${manifest.chunks.length} (${where}) ${why}`;
    findings.damage(file, manifest.unit * UNIT_BYTES, "manifest", keyText(Buffer.from(name, "latin1")), text);
  }
}

function chunkProblem(findings: Findings, read: ReadShard, chunk: ChunkRef): string | null {
  const slab = read.bad.get(chunk.sequence);
  if (slab === undefined) return "is in a slab that is missing or cannot be read";
  if (slab.units.has(chunk.unit)) return "is damaged";
  if (chunk.unit >= slab.endUnit) return "is missing";
  const file = findings.slabFile(chunk.sequence);
  const head = recordSource(readSlab(file, chunk.unit * UNIT_BYTES, RECORD_HEADER_BYTES, () => {}));
  const isIt =
    checksumOf(head, 0) === chunk.checksum &&
    typeOf(head, 0) === TYPE_CHUNK &&
    valueBytesOf(head, 0) === chunk.bytes;
  return isIt ? null : "is another record";
}
