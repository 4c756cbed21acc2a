/**
 * The header of an index snapshot, as bytes. Pure: no file is touched here. FORMAT.md has the table.
 */
import { hash32 } from "../../util/hash.ts";
import {
  BYTE_ORDER_MARK,
  SNAPSHOT,
  SNAPSHOT_FORM,
  SNAPSHOT_HEADER_BYTES,
  SNAPSHOT_MAGIC,
} from "../offsets.ts";
import type { SlabIdentity } from "../slab.ts";

/** Which shard of which store, and by which start of it. */
export interface SnapshotIdentity extends Omit<SlabIdentity, "sequence"> {
  incarnation: number;
}

/** What the header says besides the identity. */
export interface SnapshotHeader {
  slabs: number;
  segments: number;
  blocks: number;
  freeBlocks: number;
  openRecords: number;
  promises: number;
  entries: number;
  keys: number;
  tombstones: number;
  /** Bytes of tombstones and forgotten records; 0 from a program that did not count them. */
  absenceBytes: number;
  clockLow: number;
  clockHigh: number;
  openClockLow: number;
  openClockHigh: number;
  openPrevious: number;
  sectionsChecksum: number;
}

/**
 * What is wrong with the snapshot of an earlier stop than the last, and with one of another release. Neither
 * is damage.
 */
export const STALE_SNAPSHOT = "it is not from the last stop";
export const OTHER_FORM = "it has another form";

const WORDS = [
  "slabs",
  "segments",
  "blocks",
  "freeBlocks",
  "openRecords",
  "promises",
  "clockLow",
  "clockHigh",
  "openClockLow",
  "openClockHigh",
] as const;
const SIGNED_WORDS = ["openPrevious", "sectionsChecksum"] as const;
const LONG_WORDS = ["entries", "keys", "tombstones", "absenceBytes"] as const;

export function encodeSnapshotHeader(identity: SnapshotIdentity, header: SnapshotHeader): Uint8Array {
  const bytes = new Uint8Array(SNAPSHOT_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < SNAPSHOT_MAGIC.length; i++) bytes[i] = SNAPSHOT_MAGIC.charCodeAt(i);
  view.setUint32(SNAPSHOT.form, SNAPSHOT_FORM, true);
  view.setUint32(SNAPSHOT.byteOrder, BYTE_ORDER_MARK, true);
  view.setUint32(SNAPSHOT.shard, identity.shard, true);
  view.setUint32(SNAPSHOT.incarnation, identity.incarnation, true);
  view.setUint32(SNAPSHOT.slabBytes, identity.slabBytes, true);
  bytes.set(identity.storeId, SNAPSHOT.storeId);
  for (const name of WORDS) view.setUint32(SNAPSHOT[name], header[name], true);
  for (const name of SIGNED_WORDS) view.setInt32(SNAPSHOT[name], header[name], true);
  for (const name of LONG_WORDS) view.setBigUint64(SNAPSHOT[name], BigInt(header[name]), true);
  view.setInt32(SNAPSHOT.checksum, hash32(bytes.subarray(0, SNAPSHOT.checksum), 0), true);
  return bytes;
}

/** The header in `bytes`, or why it is not the one of `identity`, for a person. */
export function decodeSnapshotHeader(bytes: Uint8Array, identity: SnapshotIdentity): SnapshotHeader | string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, SNAPSHOT_HEADER_BYTES);
  for (let i = 0; i < SNAPSHOT_MAGIC.length; i++)
    if (bytes[i] !== SNAPSHOT_MAGIC.charCodeAt(i)) return "it is not an index snapshot";
  if (view.getInt32(SNAPSHOT.checksum, true) !== hash32(bytes.subarray(0, SNAPSHOT.checksum), 0))
    return "the checksum of its header does not hold";
  if (view.getUint32(SNAPSHOT.form, true) !== SNAPSHOT_FORM) return OTHER_FORM;
  if (view.getUint32(SNAPSHOT.byteOrder, true) !== BYTE_ORDER_MARK) return "it has another byte order";
  if (view.getUint32(SNAPSHOT.incarnation, true) !== identity.incarnation) return STALE_SNAPSHOT;
  if (
    view.getUint32(SNAPSHOT.shard, true) !== identity.shard ||
    view.getUint32(SNAPSHOT.slabBytes, true) !== identity.slabBytes ||
    identity.storeId.some((byte, i) => bytes[SNAPSHOT.storeId + i] !== byte)
  )
    return "it belongs to another store or shard";
  const header: Partial<SnapshotHeader> = {};
  for (const name of WORDS) header[name] = view.getUint32(SNAPSHOT[name], true);
  for (const name of SIGNED_WORDS) header[name] = view.getInt32(SNAPSHOT[name], true);
  for (const name of LONG_WORDS) header[name] = Number(view.getBigUint64(SNAPSHOT[name], true));
  return header as SnapshotHeader;
}

/** What a header says of itself, right or wrong, for a person who looks at it. */
export function describeSnapshotHeader(bytes: Uint8Array): Record<string, unknown> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, SNAPSHOT_HEADER_BYTES);
  const said: Record<string, unknown> = {
    form: view.getUint32(SNAPSHOT.form, true),
    byteOrder: `0x${view.getUint32(SNAPSHOT.byteOrder, true).toString(16).padStart(8, "0")}`,
    shard: view.getUint32(SNAPSHOT.shard, true),
    incarnation: view.getUint32(SNAPSHOT.incarnation, true),
    slabBytes: view.getUint32(SNAPSHOT.slabBytes, true),
    storeId: Buffer.from(bytes.subarray(SNAPSHOT.storeId, SNAPSHOT.storeId + 16)).toString("hex"),
  };
  for (const name of WORDS) said[name] = view.getUint32(SNAPSHOT[name], true);
  for (const name of LONG_WORDS) said[name] = Number(view.getBigUint64(SNAPSHOT[name], true));
  const sum = hash32(bytes.subarray(0, SNAPSHOT.checksum), 0);
  said.checksum = view.getInt32(SNAPSHOT.checksum, true) === sum ? "good" : "bad";
  return said;
}
