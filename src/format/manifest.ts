/**
 * Manifests: the value of a record that lists the chunks of a large value. FORMAT.md has the layout.
 */
import { MANIFEST_ENTRY_BYTES, MANIFEST_HEADER_BYTES } from "./offsets.ts";
import { type RecordSource, valueOffset } from "./record.ts";

/** One entry of a manifest. */
export interface ChunkRef {
  sequence: number;
  unit: number;
  bytes: number;
  checksum: number;
}

/** Writes a manifest's value at `offset` of `bytes`. */
export function writeManifest(
  bytes: Uint8Array,
  offset: number,
  totalBytes: number,
  chunks: readonly ChunkRef[],
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset);
  view.setUint32(0, totalBytes >>> 0, true);
  view.setUint32(4, Math.floor(totalBytes / 2 ** 32), true);
  view.setUint32(8, chunks.length, true);
  view.setUint32(12, 0, true);
  let at = MANIFEST_HEADER_BYTES;
  for (const chunk of chunks) {
    view.setUint32(at, chunk.sequence, true);
    view.setUint32(at + 4, chunk.unit, true);
    view.setUint32(at + 8, chunk.bytes, true);
    view.setInt32(at + 12, chunk.checksum, true);
    at += MANIFEST_ENTRY_BYTES;
  }
}

/** Size of the value of a manifest of `chunks` chunks. */
export function manifestBytes(chunks: number): number {
  return MANIFEST_HEADER_BYTES + chunks * MANIFEST_ENTRY_BYTES;
}

/** Total bytes of the value whose manifest is at `unit`. */
export function manifestTotal(source: RecordSource, unit: number): number {
  const view = new DataView(source.buffer, source.base + valueOffset(source, unit));
  return view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
}

/** Reads the chunk list of the manifest at `unit`, which must be intact. */
export function readManifest(source: RecordSource, unit: number): { totalBytes: number; chunks: ChunkRef[] } {
  const view = new DataView(source.buffer, source.base + valueOffset(source, unit));
  const count = view.getUint32(8, true);
  const chunks: ChunkRef[] = new Array(count);
  let at = MANIFEST_HEADER_BYTES;
  for (let i = 0; i < count; i++, at += MANIFEST_ENTRY_BYTES) {
    chunks[i] = {
      sequence: view.getUint32(at, true),
      unit: view.getUint32(at + 4, true),
      bytes: view.getUint32(at + 8, true),
      checksum: view.getInt32(at + 12, true),
    };
  }
  return { totalBytes: view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32, chunks };
}
